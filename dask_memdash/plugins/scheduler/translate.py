"""From the scheduler's state and its hooks' arguments to the model's events.

Functions without state of their own; each makes one kind of event or a part of it.
Together with the rest of :mod:`dask_memdash.plugins` the only code that knows the
inside of ``distributed``.
"""

from __future__ import annotations

import ast
import heapq
import math
import pickle
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import chain, islice
from time import perf_counter
from typing import TYPE_CHECKING, Any

from dask_memdash.errors import EventError
from dask_memdash.flight.format import KEY_CAPACITY, is_cut, key_digest
from dask_memdash.model.event_parts import TaskInfo, TaskInputs
from dask_memdash.model.event_readers import from_dict
from dask_memdash.model.events import (
    DeathReported,
    MemoryErrorRaised,
    SpillFailed,
    TaskKilled,
    WorkerAdded,
    WorkerRemoved,
    WorkerReported,
    WorkerSampled,
    WorkerTimedOut,
)
from dask_memdash.model.evidence import MAX_PREFIXES
from dask_memdash.model.last_seconds import later, named
from dask_memdash.model.packed_report import unpack
from dask_memdash.plugins.keys import key_text
from dask_memdash.plugins.scheduler.shared_storage import is_load
from dask_memdash.text import KEY_KEPT

if TYPE_CHECKING:
    from distributed.scheduler import Scheduler, TaskState, WorkerState

    from dask_memdash.plugins.scheduler.storage_scan import Kept

#: Assigned tasks of a dead worker that are kept whole; of the others, the hash.
MAX_ASSIGNED = 256

#: Lost keys whose sizes are added up at most, and tasks to be repeated for them.
MAX_LOST = 20_000

#: Dependencies that are kept of a task that a client wants; of one with more, none.
MAX_DEPENDENCIES = 8

#: Inputs of one task that are added up at most.
MAX_INPUTS = 2_000

#: States of a task that is still to run.
TO_RUN = frozenset({"waiting", "queued", "processing", "no-worker"})

#: Difference between two hosts' clocks, in seconds, that may as well be a message's
#: time on its way to a busy scheduler: nothing is corrected for it.
CLOCK_TOLERANCE = 2.0

#: Intervals between heartbeats after which a worker is silent.
OVERDUE = 3

#: How long tasks are looked through for a key of which only a digest is known, in
#: seconds, and how many long keys are compared with it.
LOOK_SECONDS = 0.010
MAX_LONG = 5_000

#: Characters of a key that fits into a recorder's slot, whatever they are.
MOST_BYTES = KEY_CAPACITY // 4

#: Unix time in seconds beyond which a sender's clock is not taken for one.
MAX_TIME = 1e11

#: Characters of a worker's name that are kept: whoever starts a worker chooses it, and
#: it stands in notes and explanations.
NAME_KEPT = 200


def task_info(task: TaskState) -> TaskInfo:
    """Describe a task as the scheduler knows it."""
    return TaskInfo(
        key=key_text(task.key)[:KEY_KEPT],
        prefix=str(task.prefix.name)[:KEY_KEPT],
        group=str(task.group.name)[:KEY_KEPT],
        priority=priority_of(task),
        client=min((str(c.client_key) for c in task.who_wants or ()), default=""),
        dependencies=_needs(task),
    )


def _needs(task: TaskState) -> tuple[int, ...]:
    """Return what a submitted task needs, as hashes of the keys in text."""
    if not task.who_wants or len(task.dependencies) > MAX_DEPENDENCIES:
        return ()
    return tuple(hash(key_text(d.key)[:KEY_KEPT]) for d in task.dependencies)


def inputs_of(task: TaskState, worker: str) -> TaskInputs:
    """Return the inputs of a task and their sizes, as the scheduler knows them.

    Of more than `MAX_INPUTS` the first are added up, and the sums are scaled.

    Parameters
    ----------
    worker
        Address of the worker that the task is assigned to.
    """
    size = n_fetched = fetched = looked = 0
    for needed in islice(task.dependencies, MAX_INPUTS):
        looked += 1
        weight = max(0, int(needed.nbytes))
        size += weight
        if any(holder.address != worker for holder in needed.who_has or ()):
            n_fetched += 1
            fetched += weight
    count = len(task.dependencies)
    scale = count / looked if looked else 1.0
    sums = (round(part * scale) for part in (size, n_fetched, fetched))
    return TaskInputs(count, *sums)


def priority_of(task: TaskState) -> tuple[float, ...] | None:
    """Return a task's priority as numbers; None where it has none."""
    if not task.priority:
        return None
    numbers = tuple(float(number) for number in task.priority)
    return numbers if all(map(math.isfinite, numbers)) else None


def worker_added(worker: WorkerState, time: float) -> WorkerAdded:
    """Describe a worker that has joined."""
    return WorkerAdded(
        time=time,
        address=worker.address,
        name=str(worker.name)[:NAME_KEPT],
        host=worker.host,
        pid=int(worker.pid or 0),
        nthreads=int(worker.nthreads),
        limit=int(worker.memory_limit) or None,
        nanny=bool(worker.nanny),
        status=worker.status.name,
        home=str(worker.nanny or worker.name or ""),
    )


def worker_removed(
    scheduler: Scheduler,
    address: str,
    stimulus: str,
    removal: Mapping[str, Any] | None,
    time: float,
    kept: Kept | None = None,
) -> WorkerRemoved:
    """Describe a worker that has left.

    Parameters
    ----------
    removal
        The ``remove-worker`` event that the scheduler has just logged about it,
        which alone says what was expected, assigned and lost.
    kept
        Whether a key is "stored" or "pending" in the cluster's memory; None without.
    """
    removal = removal or {}
    assigned = list(removal.get("processing-tasks", ()))
    lost = [
        key
        for name in ("lost-computed-tasks", "lost-scattered-tasks")
        for key in removal.get(name, ())
    ]
    tasks = [scheduler.tasks[key] for key in assigned if key in scheduler.tasks]
    first = heapq.nsmallest(
        MAX_ASSIGNED, tasks, key=lambda task: task.priority or (math.inf,)
    )
    gone = [scheduler.tasks.get(key) for key in lost[:MAX_LOST]]
    found = [task for task in gone if task is not None and task.nbytes > 0]
    is_all = len(lost) <= MAX_LOST
    stored = [task for task in gone if task is not None and _is_stored(task, kept)]
    return WorkerRemoved(
        time=time,
        address=address,
        expected=bool(removal.get("expected", False)),
        stimulus=stimulus,
        n_assigned=len(assigned),
        assigned=tuple(task_info(task) for task in first),
        assigned_hashes=tuple(hash(key) for key in assigned),
        keys_lost=len(lost) if removal else None,
        bytes_lost=sum(task.nbytes for task in found) if is_all else None,
        seconds_lost=seconds_to_repeat(task for task in gone if task is not None)
        if removal and is_all
        else None,
        lost=_by_prefix(found),
        keys_stored=len(stored) if is_all or kept is None else None,
        bytes_stored=sum(max(0, task.nbytes) for task in stored)
        if is_all or kept is None
        else None,
    )


def _is_stored(task: TaskState, kept: Kept | None) -> bool:
    """Return whether a lost value need not be computed again, since it is stored."""
    if kept is None or kept(task.key) != "stored":
        return False
    return task.state not in TO_RUN or is_load(task)


def _is_to_compute(task: TaskState) -> bool:
    return task.state in TO_RUN and not is_load(task)


def _by_prefix(tasks: Iterable[TaskState]) -> dict[str, tuple[int, int]]:
    """Count outputs, and sum their bytes, by prefix: those that are largest."""
    sums: dict[str, tuple[int, int]] = {}
    for task in tasks:
        name = str(task.prefix.name)[:KEY_KEPT]
        count, size = sums.get(name, (0, 0))
        sums[name] = (count + 1, size + task.nbytes)
    largest = heapq.nlargest(MAX_PREFIXES, sums.items(), key=lambda item: item[1][1])
    return dict(largest)


def seconds_to_repeat(lost: Iterable[TaskState]) -> float | None:
    """Sum how long it takes to make lost outputs again, and what they are made of.

    Only what the scheduler means to run again counts: outputs that nobody wants any
    more are not made again, and inputs that are still held need not be.  What is
    loaded from the cluster's memory of intermediates does not count either.

    Parameters
    ----------
    lost
        Tasks whose only output was lost, as they are after the scheduler has
        decided what becomes of them.

    Returns
    -------
    float or None
        In seconds, from the mean duration of each task's prefix; None where there
        are more than `MAX_LOST` of them, or a prefix has none.
    """
    todo = [task for task in lost if _is_to_compute(task) and _is_wanted(task)]
    seen = set(todo)
    seconds = 0.0
    while todo:
        task = todo.pop()
        duration = float(task.prefix.duration_average)
        if duration < 0 or len(seen) > MAX_LOST:
            return None
        seconds += duration
        fresh = [d for d in task.dependencies if _is_to_compute(d) and d not in seen]
        seen.update(fresh)
        todo += fresh
    return seconds


def _is_wanted(task: TaskState) -> bool:
    """Return whether a client or a task waits for it: loads need nothing before them.

    The scheduler releases what only a load's own task had needed a moment later.
    """
    return bool(task.who_wants or task.waiters)


def timed_out(
    scheduler: Scheduler, message: Mapping[str, Any], time: float
) -> list[WorkerTimedOut]:
    """Describe workers that the scheduler gives up, not having heard of them.

    Parameters
    ----------
    message
        The ``worker-ttl-timed-out`` event that the scheduler has just logged.
    """
    known = [scheduler.workers.get(address) for address in message.get("workers", ())]
    return [
        WorkerTimedOut(time, worker.address, max(0.0, time - worker.last_seen))
        for worker in known
        if worker is not None
    ]


def silent_workers(scheduler: Scheduler, time: float) -> tuple[tuple[str, float], ...]:
    """Return workers whose heartbeat is overdue, and for how long each was silent.

    Overdue is what took more than `OVERDUE` of the intervals that Dask asks for.
    """
    from distributed.scheduler import heartbeat_interval

    # Of all workers, twice a second: a sorted dict's own views take four times as long.
    workers = dict.values(scheduler.workers)
    oldest = time - OVERDUE * heartbeat_interval(len(workers))
    silent = [worker for worker in workers if worker.last_seen < oldest]
    return tuple((worker.address, time - worker.last_seen) for worker in silent)


def task_killed(
    scheduler: Scheduler, key: Any, exception: Any, worker: str, time: float
) -> TaskKilled | None:
    """Describe a task that was given up, if that is what an error means.

    Parameters
    ----------
    exception
        As the scheduler's transition has it.  ``KilledWorker`` is made and pickled
        by the scheduler itself; what comes from a worker is serialized otherwise
        and never unpickled here.
    """
    from distributed.scheduler import KilledWorker

    if type(exception) is not bytes:
        return None
    error = pickle.loads(exception)
    task = scheduler.tasks.get(key)
    if not isinstance(error, KilledWorker) or task is None:
        return None
    return TaskKilled(
        time=time,
        task=task_info(task),
        hash=hash(key),
        address=worker,
        allowed_failures=int(error.allowed_failures),
    )


def worker_reported(
    worker: WorkerState, data: Mapping[str, Any], time: float
) -> WorkerReported:
    """Turn a heartbeat into an event.

    Raises
    ------
    EventError
        It is malformed.
    """
    old = int(worker.memory.unmanaged_old)
    if "packed" in data:
        return unpack(data, time, worker.address, old)
    data = {**data, "time": time, "address": worker.address}
    reading = data.get("reading")
    if isinstance(reading, Mapping):
        data["reading"] = {**reading, "unmanaged_old": old}
    return from_dict(WorkerReported, data)


def nanny_reported(
    scheduler: Scheduler, message: object, time: float
) -> DeathReported | WorkerSampled:
    """Turn a nanny's message into an event.

    Raises
    ------
    EventError
        It is malformed.
    """
    if not isinstance(message, Mapping):
        raise EventError("a nanny's message must be a mapping")
    kind = message.get("kind")
    data = {**message, "time": time}
    if kind == "sample":
        return from_dict(WorkerSampled, data)
    if kind != "death":
        raise EventError(f"a nanny's message is of kind {str(kind)[:40]!r}")
    offset = _clock_offset(message.get("sent"), time)
    event = from_dict(DeathReported, {**data, "known": [], "clock_offset": offset})
    if offset:
        event = replace(
            event,
            died=event.died + offset,
            samples=tuple((at + offset, size) for at, size in event.samples),
            last_seconds=event.last_seconds and later(event.last_seconds, offset),
        )
    known, names = find_tasks(
        scheduler, [(e.key, e.digest) for e in event.executing], event.address
    )
    executing = tuple(
        replace(task, key=names.get(task.digest, task.key)) for task in event.executing
    )
    last = event.last_seconds and named(event.last_seconds, names)
    return replace(event, executing=executing, known=known, last_seconds=last)


def trouble(
    scheduler: Scheduler, message: Mapping[str, Any], time: float
) -> MemoryErrorRaised | SpillFailed:
    """Turn what a worker says of a trouble into an event.

    Raises
    ------
    EventError
        It is malformed.
    """
    data = {**message, "time": time, "address": message.get("worker")}
    if message.get("action") == "spill-failed":
        return from_dict(SpillFailed, data)
    key = str(message.get("key"))[:KEY_KEPT]
    known, _ = find_tasks(scheduler, [(key, "")])
    task = {"key": key, "prefix": message.get("prefix"), "group": "", "priority": None}
    event = from_dict(MemoryErrorRaised, {**data, "task": task})
    if not known:
        return event
    found = task_of(scheduler, key)
    inputs = None if found is None else inputs_of(found, event.address)
    return replace(event, task=replace(known[0], inputs=inputs))


def task_of(scheduler: Scheduler, key: str) -> TaskState | None:
    """Return the task of a key's text; None where there is none, or it was cut."""
    return scheduler.tasks.get(key) or scheduler.tasks.get(_tuple_key(key))


def _clock_offset(sent: object, time: float) -> float:
    """Return how many seconds a sender's clock is behind; 0 where that is a trifle."""
    if isinstance(sent, bool) or not isinstance(sent, int | float):
        return 0.0
    if not 0 < sent < MAX_TIME:  # NaN is not, either
        return 0.0
    offset = time - sent
    return offset if abs(offset) > CLOCK_TOLERANCE else 0.0


def find_tasks(
    scheduler: Scheduler, texts: Iterable[tuple[str, str]], address: str = ""
) -> tuple[tuple[TaskInfo, ...], dict[str, str]]:
    """Find the tasks that a flight recorder names by their text.

    Parameters
    ----------
    texts
        ``(text of the key, digest)``; the digest is empty where the text is whole.
    address
        The worker that ran them, whose tasks are looked through first.

    Returns
    -------
    tuple of TaskInfo
        Those that the scheduler still knows.
    dict
        Digest → the text that the incident shows, for keys that were cut.
    """
    known: list[TaskInfo] = []
    names: dict[str, str] = {}
    cut = set()
    for text, digest in texts:
        if digest:
            cut.add(digest)
            continue
        task = scheduler.tasks.get(text)
        if task is None and (key := _tuple_key(text)) is not None:
            task = scheduler.tasks.get(key)
        if task is not None:
            known.append(task_info(task))
    for task in islice(_with_long_keys(scheduler, address), len(cut) and MAX_LONG):
        digest = key_digest(key_text(task.key)).hex()
        if digest in cut:
            cut.discard(digest)
            info = task_info(task)
            known.append(info)
            names[digest] = info.key
        if not cut:
            break
    return tuple(known), names


def _with_long_keys(scheduler: Scheduler, address: str) -> Iterator[TaskState]:
    """Yield tasks whose keys do not fit into a recorder's slot, for a limited time.

    Those assigned to a worker come first, then all, from the newest on: nothing else
    leads from a digest to its key.
    """
    worker = scheduler.workers.get(address)
    deadline = perf_counter() + LOOK_SECONDS
    newest = map(scheduler.tasks.__getitem__, reversed(scheduler.tasks))
    for number, task in enumerate(chain(worker.processing if worker else (), newest)):
        if number % 64 == 0 and perf_counter() > deadline:
            return
        key = task.key
        if type(key) is str and len(key) <= MOST_BYTES:
            continue
        if not isinstance(key, int | float) and is_cut(key_text(key)):
            yield task


def _tuple_key(text: str) -> Any:
    if not text.startswith("(") or len(text) > KEY_KEPT:
        return None
    try:
        key = ast.literal_eval(text)
        hash(key)
        return key
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None
