"""What a worker holds at the instant before the scheduler lets go of it.

Hooks hear of a removal when it is over: by then the scheduler has emptied its books of
that worker, and what they said of who wants each output is lost.  So ``remove_worker``
is wrapped, on the instance; the look is bounded in time, and in a row of removals too.

Runs on the scheduler's event loop.
"""

from __future__ import annotations

import functools
import heapq
import math
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from dask_memdash.boundary import boundary
from dask_memdash.model.events import Event, WorkerLeaving
from dask_memdash.plugins.scheduler.shared_storage import kept_by
from dask_memdash.plugins.scheduler.storage_scan import look_at
from dask_memdash.plugins.scheduler.translate import (
    MAX_ASSIGNED,
    inputs_of,
    task_info,
)
from dask_memdash.plugins.worker.graph_bytes import SentTasks
from dask_memdash.text import KEY_KEPT

if TYPE_CHECKING:
    from distributed.scheduler import Scheduler, TaskState, WorkerState

    from dask_memdash.plugins.scheduler.storage_scan import Fetched, Kept

#: How long a look at outputs may take, and one at assigned tasks, in seconds: at most,
#: and at least however many workers are removed at once.
STORAGE_SECONDS = 0.010
TASKS_SECONDS = 0.005
LEAST = 0.1

#: Seconds that looks may take in a row, and what comes back of them in a second.
CREDIT = 0.1
COMES_BACK = 0.05

#: Assigned and stored tasks whose arguments are weighed, at most.
MAX_TASKS = 2_000


class RemovalWatch:
    """Looks at each worker as it is about to be removed.

    Parameters
    ----------
    scheduler
        Whose workers.
    handle
        Takes in an event.
    wanted
        Whether a worker is to be looked at, by its address.
    fetched
        Whether a worker is known to hold an output as a copy.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        handle: Callable[[Event], None],
        wanted: Callable[[str], bool],
        fetched: Fetched | None = None,
    ) -> None:
        self._scheduler = scheduler
        self._handle = handle
        self._wanted = wanted
        self._fetched = fetched
        self._wrapped: Callable[..., Any] | None = None
        self._credit = CREDIT
        self._since = 0.0

    def attach(self) -> None:
        """Begin to look at workers that are removed."""
        scheduler = self._scheduler
        remove_worker = scheduler.remove_worker
        look = boundary.guarded(self._look, "looking at a worker that is removed")

        @functools.wraps(remove_worker)
        async def removing(*args: Any, **kwargs: Any) -> Any:
            if self._wrapped is not None:
                look(*args, **kwargs)
            return await remove_worker(*args, **kwargs)

        self._wrapped = removing
        scheduler.remove_worker = removing  # type: ignore[method-assign]
        # Workers that go by themselves call it by this name.
        if scheduler.handlers.get("unregister") == remove_worker:
            scheduler.handlers["unregister"] = removing

    def detach(self) -> None:
        """Look at no more workers."""
        scheduler = self._scheduler
        wrapped, self._wrapped = self._wrapped, None
        if wrapped and vars(scheduler).get("remove_worker") is wrapped:
            del scheduler.remove_worker  # so that the class's shows again
        if wrapped and scheduler.handlers.get("unregister") is wrapped:
            scheduler.handlers["unregister"] = scheduler.remove_worker

    def _look(self, address: str, *, expected: bool = False, **_: Any) -> None:
        scheduler = self._scheduler
        worker = scheduler.workers.get(address)
        closing = scheduler.status.name.startswith("clos")
        if worker is None or expected or closing or not self._wanted(address):
            return
        begun = time.perf_counter()
        self._credit = min(CREDIT, self._credit + COMES_BACK * (begun - self._since))
        pace = max(LEAST, self._credit / CREDIT)
        kept = kept_by(scheduler)
        event = worker_leaving(worker, pace, time.time(), self._fetched, kept)
        self._since = time.perf_counter()
        self._credit = max(0.0, self._credit - (self._since - begun))
        self._handle(event)


def worker_leaving(
    worker: WorkerState,
    pace: float,
    now: float,
    fetched: Fetched | None = None,
    kept: Kept | None = None,
) -> WorkerLeaving:
    """Describe what a worker holds and was to do.

    Parameters
    ----------
    worker
        As the scheduler knows it, while it still does.
    pace
        Share of the usual time that this may take.
    now
        Unix time in seconds.
    fetched
        Whether a worker is known to hold an output as a copy.
    kept
        Whether a key is "stored" or "pending" in the cluster's memory.
    """
    held, share = look_at(worker, pace * STORAGE_SECONDS, fetched, kept)
    deadline = time.perf_counter() + pace * TASKS_SECONDS
    tasks = list(islice(worker.processing, MAX_TASKS))
    first = heapq.nsmallest(
        MAX_ASSIGNED, tasks, key=lambda task: task.priority or (math.inf,)
    )
    sent = SentTasks(time.perf_counter, deadline)
    assigned = []
    for task in first:
        info = task_info(task)
        arguments = sent.add(_prefix(task), task.run_spec)
        inputs = None
        if time.perf_counter() < deadline:
            inputs = inputs_of(task, worker.address)
        assigned.append(replace(info, inputs=inputs, arguments=arguments))
    seen = set(first)
    # What it has run stays there as long as its output does; a copy came without.
    ran = (task for task in worker.has_what if len(task.who_has or ()) <= 1)
    others = chain((task for task in tasks if task not in seen), ran)
    for task in islice(others, MAX_TASKS):
        sent.add(_prefix(task), task.run_spec)
    total = len(worker.processing) + len(worker.has_what)
    scale = total / MAX_TASKS if total > MAX_TASKS else 1.0
    return WorkerLeaving(
        time=now,
        address=worker.address,
        held=held,
        held_share=share,
        assigned=tuple(assigned),
        graph=sent.rows(scale),
        actors=tuple(sorted({_prefix(task) for task in worker.actors})),
    )


def _prefix(task: TaskState) -> str:
    return str(task.prefix.name)[:KEY_KEPT]
