"""Workers and the processes they live in, and the cluster's running totals.

A process is the unit of memory: its breakdown is worked out from the readings of
all workers that live in it (one, but with ``processes=False``), and its storage by
prefix is scaled so that prefixes sum to ``managed``.  Totals are kept by taking the
old figures of a process away and adding the new ones, so that they cost the same
however large the cluster is.

Imports the standard library only.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from operator import attrgetter, is_

from dask_memdash.model.breakdown import (
    EMPTY,
    Breakdown,
    Reading,
    break_down,
    exchange,
    join_readings,
    scale,
)
from dask_memdash.model.event_parts import (
    ActorRow,
    ChildRow,
    Executing,
    GraphRow,
    Guarding,
    Held,
    NamedMemory,
    SelfCost,
    SpillRoom,
    StorageRow,
    Storing,
    TaskInfo,
    Thresholds,
)
from dask_memdash.model.events import WorkerAdded
from dask_memdash.model.exactness import method_shown, weakest
from dask_memdash.model.limit_facts import LimitFacts, LimitReport, LiveFigures
from dask_memdash.model.pauses import PauseLog
from dask_memdash.model.series import Series
from dask_memdash.model.steady import Steady
from dask_memdash.model.task_history import TaskHistory

#: Columns of every history; the first decides which points survive thinning.
HISTORY = (
    "process",
    "managed",
    "transfer",
    "actors",
    "executing",
    "retained",
    "graph",
    "baseline",
    "spilled",
)

_history_figures = attrgetter(*HISTORY)

#: Points of all workers' histories, about: a worker that joins many others has fewer.
#: (A point takes 80 bytes.)
MAX_POINTS = 192_000
LEAST_POINTS = 120

#: Workers that have left whose history is kept, the newest.
MAX_DEPARTED = 50

ProcessKey = tuple[str, int]

#: The sums of no rows of storage.
NONE = (0, 0, 0, 0)


@dataclass(slots=True)
class WorkerState:
    """A worker as it is known now."""

    info: WorkerAdded
    status: str
    last_seen: float
    reading: Reading | None = None
    #: What MemDash costs there, and on its nanny.
    cost: SelfCost = field(default_factory=SelfCost)
    nanny_cost: SelfCost = field(default_factory=SelfCost)
    #: Baseline of its first report that had one, and what of it was pages of files, in
    #: bytes.
    first_base: int | None = None
    first_base_file: int | None = None
    #: What of it had come with tasks that were about to begin, in bytes.
    first_loaded: int = 0
    rows: dict[str, StorageRow] = field(default_factory=dict)
    executing: tuple[Executing, ...] = ()
    #: Of each of these, what its process's execution has room for; None where nothing
    #: is known of it.
    shares: tuple[int | None, ...] = ()
    #: What it was seen to run lately.
    task_history: TaskHistory = field(default_factory=TaskHistory)
    held: dict[str, Held] = field(default_factory=dict)
    #: Of what it holds, bytes that are stored, and that are to be, in the cluster's
    #: memory of intermediates; and what it does for that.
    stored: tuple[int, int] = (0, 0)
    storing: Storing | None = None
    guard: Guarding | None = None
    #: Share of its outputs that was looked at for `held` as it was about to be removed;
    #: None until then.
    held_share: float | None = None
    #: Assigned tasks as it was about to be removed, with their inputs.
    leaving: tuple[TaskInfo, ...] = ()
    #: Arguments and records of its tasks, and state of its actors, by prefix.
    graph: dict[str, GraphRow] = field(default_factory=dict)
    actors: dict[str, ActorRow] = field(default_factory=dict)
    #: What of its baseline has a name.
    named: tuple[NamedMemory, ...] = ()
    spill_room: SpillRoom = field(default_factory=SpillRoom)
    #: Processes that its tasks started, and how many of each task's were told killed.
    children: tuple[ChildRow, ...] = ()
    killed_children: dict[tuple[str, str], int] = field(default_factory=dict)
    #: Seconds since its last heartbeat while that is overdue; else None.
    stale_for: float | None = None
    #: Seconds without a word for which the scheduler gave it up; None if it did not.
    unresponsive: float | None = None
    thresholds: Thresholds = field(default_factory=Thresholds)
    method: str = "none"
    #: Where its own figures come from: 'heartbeat' or 'scheduler' (none yet).
    notices: tuple[str, ...] = ()
    nanny_notices: tuple[str, ...] = ()
    #: Why it said that it closes; empty while it does not.
    closing: str = ""
    #: Whether it is being restarted on purpose.
    restarting: bool = False
    #: When it was above its pause threshold.
    pauses: PauseLog = field(default_factory=PauseLog)
    #: What limits its memory: read at first, and as it is now.
    facts: LimitFacts | None = None
    live: LiveFigures = field(default_factory=LiveFigures)
    #: RSS of this machine's worker processes when the facts were read, by process.
    beside: dict[ProcessKey, int] = field(default_factory=dict)

    @property
    def key(self) -> ProcessKey:
        """The process that it lives in."""
        return self.info.host, self.info.pid

    @property
    def method_shown(self) -> str:
        """How its tasks are measured: as the least exact of those that run now."""
        running = (method_shown(t.method, t.peak, t.error) for t in self.executing)
        return weakest((self.method, *running))

    @property
    def idle(self) -> int | None:
        """What it needs when idle, with the modules that tasks have loaded since.

        In bytes; None before a report that says so.
        """
        return None if self.first_base is None else self.first_base + self.loaded

    @property
    def loaded(self) -> int:
        """What came with tasks that were about to begin since that report, in bytes."""
        now = None if self.reading is None else self.reading.loaded
        return max(0, (now or 0) - self.first_loaded)

    def hold(self, held: dict[str, Held]) -> None:
        """Take in why its outputs are held."""
        self.held = held
        stored = sum(why.stored for why in held.values())
        pending = sum(why.stored_pending for why in held.values())
        if (stored, pending) != self.stored:
            self.stored = stored, pending


def larger_rows(
    reported: dict[str, GraphRow], counted: dict[str, GraphRow]
) -> dict[str, GraphRow]:
    """Join what a worker said of its graph with what was counted where it was sent.

    Each is a part of the whole: a report misses what arrived since, the count what the
    scheduler has no books of any more.  So the larger of the two rows is nearer.
    """
    joined = dict(reported)
    for name, row in counted.items():
        if name not in joined or row.size > joined[name].size:
            joined[name] = row
    return joined


@dataclass(slots=True)
class ProcessState:
    """A worker process: one worker, or several that share it."""

    members: dict[str, WorkerState]
    history: Series
    #: The last minute of what is held beside running tasks.
    steady: Steady = field(default_factory=Steady)
    breakdown: Breakdown | None = None
    #: Managed bytes by prefix, scaled so that they sum to ``breakdown.managed``.
    managed: dict[str, int] = field(default_factory=dict)
    #: The storage that `managed` was scaled from, of each worker.
    scaled: list[dict[str, StorageRow]] = field(default_factory=list)
    #: Bytes of running tasks by prefix, together at most ``breakdown.executing``: the
    #: rest of that nothing counts.
    counted: dict[str, int] = field(default_factory=dict)

    @property
    def limit(self) -> int | None:
        """Least limit of its workers, in bytes: each applies its own to the process."""
        limits = [m.info.limit for m in self.members.values()]
        known = [limit for limit in limits if limit is not None]
        return min(known, default=None)

    def keep_steady(self, time: float, breakdown: Breakdown) -> None:
        """Note what is held beside running tasks: these as far as they are counted."""
        live = sum(
            m.reading.live for m in self.members.values() if m.reading is not None
        )
        tasks = min(max(0, live), breakdown.executing)
        held = breakdown.process - breakdown.transfer - tasks
        self.steady.add(time, held, breakdown.managed, tasks)

    def work_out(self) -> tuple[Breakdown | None, dict[str, int]]:
        """Work the breakdown and the managed bytes by prefix out from the readings."""
        readings = [m.reading for m in self.members.values() if m.reading is not None]
        if not readings:
            return None, {}
        breakdown = break_down(join_readings(readings))
        rows = [m.rows for m in self.members.values()]
        if (
            self.breakdown is not None
            and self.breakdown.managed == breakdown.managed
            and len(rows) == len(self.scaled)
            and all(map(is_, rows, self.scaled))
        ):
            return breakdown, self.managed
        self.scaled = rows
        first, *others = rows
        claimed = {prefix: row.claimed for prefix, row in first.items()}
        for stored in others:
            for prefix, row in stored.items():
                claimed[prefix] = claimed.get(prefix, 0) + row.claimed
        return breakdown, scale(claimed, breakdown.managed)

    def share_out(self, executing: int) -> dict[str, int]:
        """Give each running task what it counts, scaled down to what is executing.

        Counts of what is not resident may exceed it.  What they leave of it belongs to
        no task.

        Parameters
        ----------
        executing
            The breakdown's, in bytes.

        Returns
        -------
        dict of str to int
            Bytes by prefix.
        """
        counted: dict[str, int] = {}
        known = [w for w in self.members.values() if w.executing]
        sizes = [
            None if task.bytes is None else max(0, task.bytes)
            for worker in known
            for task in worker.executing
        ]
        if sum(filter(None, sizes)) > executing:
            parts = {n: size for n, size in enumerate(sizes) if size is not None}
            scaled = scale(parts, executing)
            sizes = [scaled.get(n) for n in range(len(sizes))]
        at = 0
        for worker in self.members.values():
            if not worker.executing:
                worker.shares = ()
                continue
            end = at + len(worker.executing)
            worker.shares = tuple(sizes[at:end])
            for task, share in zip(worker.executing, worker.shares, strict=True):
                if share is not None:
                    counted[task.prefix] = counted.get(task.prefix, 0) + share
            at = end
        return counted


@dataclass(frozen=True, slots=True)
class Changes:
    """By how many bytes prefixes have changed as a process was worked out again."""

    managed: Mapping[str, int]
    executing: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Departed:
    """A worker that has left: what stays readable of it."""

    worker: WorkerState
    #: Its process's breakdown over time, up to its end.
    history: Series
    #: Last breakdown of its process; None where it never reported.
    breakdown: Breakdown | None
    #: When it left, as Unix time.
    left: float


class Processes:
    """All workers and processes, with the cluster's totals."""

    def __init__(self, points: int, spacing: float) -> None:
        self.workers: dict[str, WorkerState] = {}
        self.by_key: dict[ProcessKey, ProcessState] = {}
        #: Address → what stays of a worker that has left, oldest first.
        self.departed: OrderedDict[str, Departed] = OrderedDict()
        self.total: Breakdown = EMPTY
        #: What running tasks count of what is executing, in bytes.
        self.counted = 0
        self.history = Series(HISTORY, points, spacing)
        self._points = points
        self._spacing = spacing
        # Processes whose breakdown is known.
        self._read = 0

    def add(self, info: WorkerAdded) -> WorkerState:
        """Take a worker in; one of the same address has been removed before."""
        worker = WorkerState(info, info.status, info.time)
        self.workers[info.address] = worker
        self.departed.pop(info.address, None)
        process = self.by_key.get(worker.key)
        if process is None:
            points = max(
                min(self._points, LEAST_POINTS),
                min(self._points, MAX_POINTS // (len(self.by_key) + 1)),
            )
            history = Series(HISTORY, points, self._spacing)
            process = self.by_key[worker.key] = ProcessState({}, history)
        process.members[info.address] = worker
        return worker

    def remove(self, address: str) -> Changes:
        """Let a worker go; the process goes with its last worker."""
        worker = self.workers.pop(address)
        process = self.by_key[worker.key]
        self.departed[address] = Departed(
            worker, process.history, process.breakdown, worker.last_seen
        )
        while len(self.departed) > MAX_DEPARTED:
            self.departed.popitem(last=False)
        del process.members[address]
        changes = self.refresh(worker.key, worker.last_seen)
        if not process.members:
            del self.by_key[worker.key]
        return changes

    def refresh(self, key: ProcessKey, time: float) -> Changes:
        """Work a process out again after its readings changed."""
        process = self.by_key[key]
        breakdown, managed = process.work_out()
        old = process.breakdown
        changes = (
            {} if managed is process.managed else _difference(process.managed, managed)
        )
        if breakdown != old:
            self.total = exchange(self.total, old or EMPTY, breakdown or EMPTY)
        if breakdown is not None:
            process.history.append(time, history_row(breakdown))
            process.keep_steady(time, breakdown)
        self._read += (breakdown is not None) - (old is not None)
        counted = process.share_out(0 if breakdown is None else breakdown.executing)
        executing = _difference(process.counted, counted)
        self.counted += sum(executing.values())
        process.breakdown, process.managed = breakdown, managed
        process.counted = counted
        if self._read and self.history.wants(time, self.total.process):
            self.history.append(time, history_row(self.total))
        return Changes(changes, executing)

    def take_limits(self, worker: WorkerState, report: LimitReport) -> None:
        """Keep what a worker says about its limit."""
        worker.live = report.live
        if report.facts is None:
            return
        worker.facts = report.facts
        worker.beside = {
            other.key: other.reading.rss
            for other in self.workers.values()
            if other.reading is not None and same_machine(other, worker)
        }

    def idle_growth(self) -> int:
        """Sum by how much processes have grown from idle to idle, first to last.

        Without pages of files, which are no leak.  In bytes; processes that have
        shrunk count as nothing.
        """
        grown: dict[ProcessKey, int] = {}
        for worker in self.workers.values():
            now = None if worker.reading is None else worker.reading.base
            if now is not None and worker.idle is not None:
                mapped = 0
                if worker.first_base_file is not None:
                    file = worker.reading.base_file if worker.reading else None
                    mapped = max(0, (file or 0) - worker.first_base_file)
                grown[worker.key] = max(0, now - worker.idle - mapped)
        return sum(grown.values())

    def breakdown_of(self, address: str) -> Breakdown | None:
        """Return the breakdown of the process that a worker lives in."""
        return self.by_key[self.workers[address].key].breakdown


def as_rows_say(reading: Reading, rows: Collection[StorageRow]) -> Reading:
    """Return a reading whose storage is the sum of a worker's rows.

    What is spilled stays unknown where it is not told.
    """
    _, claimed, in_memory, disk = map(sum, zip(*rows, strict=True)) if rows else NONE
    spilled = None if reading.spilled is None else in_memory
    on_disk = None if reading.spilled_disk is None else disk
    told = (reading.managed_claimed, reading.spilled, reading.spilled_disk)
    if told == (claimed, spilled, on_disk):
        return reading
    return replace(
        reading, managed_claimed=claimed, spilled=spilled, spilled_disk=on_disk
    )


def same_machine(one: WorkerState, other: WorkerState) -> bool:
    """Whether two workers run on one machine, be it in containers of their own."""
    names = [w.facts.machine for w in (one, other) if w.facts is not None]
    if len(names) == 2 and None not in names:
        return names[0] == names[1]
    return one.info.host == other.info.host


def history_row(breakdown: Breakdown) -> tuple[int, ...]:
    """Return a breakdown as a point of a history: its figures that `HISTORY` names."""
    row: tuple[int, ...] = _history_figures(breakdown)
    return row if None not in row else tuple([figure or 0 for figure in row])


def _difference(old: Mapping[str, int], new: Mapping[str, int]) -> dict[str, int]:
    if old == new:
        return {}
    changes = {
        name: change
        for name, size in new.items()
        if (change := size - old.get(name, 0))
    }
    for name in old.keys() - new.keys():
        if old[name]:
            changes[name] = -old[name]
    return changes
