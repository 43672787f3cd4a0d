"""What happens, as frozen events: the only input of :class:`ClusterModel`.

All sizes are integers in bytes, all instants Unix seconds by the scheduler's clock
unless a field says otherwise.  What events are made of is in `event_parts`.  Those
that come over the network are read by `event_readers`; the others never leave the
scheduler.

Imports the standard library only.
"""

from __future__ import annotations

import typing
from dataclasses import dataclass, field

from dask_memdash.model.breakdown import Reading
from dask_memdash.model.event_parts import (
    ActorRow,
    ChildRow,
    ClientRow,
    Executing,
    Finished,
    GraphRow,
    GuardAction,
    Guarding,
    Held,
    NamedMemory,
    SelfCost,
    SpillRoom,
    StorageRow,
    Storing,
    TaskInfo,
    Thresholds,
    WaitingTasks,
)
from dask_memdash.model.graph_columns import GraphColumns, RootGroup
from dask_memdash.model.last_seconds import LastSeconds
from dask_memdash.model.limit_facts import LimitReport


@dataclass(frozen=True, slots=True)
class WorkerAdded:
    """A worker has joined."""

    time: float
    address: str
    name: str
    host: str
    pid: int
    nthreads: int
    #: Memory limit, None without one.
    limit: int | None
    nanny: bool
    status: str
    #: What stays the same when it is restarted: its nanny's address, else its name.
    home: str = ""


@dataclass(frozen=True, slots=True)
class WorkerReported:
    """A worker's heartbeat: its reading and what it did since the last one."""

    time: float
    address: str
    pid: int
    reading: Reading
    #: Storage by prefix; None when nothing has changed.
    rows: dict[str, StorageRow] | None
    executing: tuple[Executing, ...]
    finished: dict[str, Finished]
    thresholds: Thresholds
    #: How peaks are measured on this worker.
    method: str
    #: How MemDash is degraded on this worker, in sentences.
    notices: tuple[str, ...] = ()
    #: What it costs on this worker, and on its nanny.
    cost: SelfCost = field(default_factory=SelfCost)
    nanny_cost: SelfCost = field(default_factory=SelfCost)
    #: What limits the worker's memory; None when nothing has changed.
    limits: LimitReport | None = None
    #: Arguments and records of its tasks, and state of its actors, by prefix: the
    #: largest; None when nothing has changed.
    graph: dict[str, GraphRow] | None = None
    actors: dict[str, ActorRow] | None = None
    #: What of its baseline has a name; None when nothing has changed.
    named: tuple[NamedMemory, ...] | None = None
    spill_room: SpillRoom = field(default_factory=SpillRoom)
    #: Processes that its tasks started, by task: the largest.
    children: tuple[ChildRow, ...] = ()
    #: What it does for the cluster's memory of intermediates; None without one.
    storing: Storing | None = None
    #: What its guard does; None without one.
    guard: Guarding | None = None
    #: What that has done since the last report, the oldest first.
    guard_actions: tuple[GuardAction, ...] = ()


@dataclass(frozen=True, slots=True)
class WorkerSampled:
    """A nanny's look at its worker: live even when the worker cannot speak."""

    time: float
    address: str
    pid: int
    #: RSS of the worker's process now.
    rss: int
    #: The worker's last reading in its flight recorder, None without one.
    reading: Reading | None
    executing: tuple[Executing, ...]
    #: How MemDash is degraded on this nanny, in sentences.
    notices: tuple[str, ...] = ()
    #: Processes that its tasks started, by task; None where that was not looked at.
    children: tuple[ChildRow, ...] | None = None


@dataclass(frozen=True, slots=True)
class WorkerStatusChanged:
    """Dask has changed a worker's status (running, paused, closing…)."""

    time: float
    address: str
    status: str


@dataclass(frozen=True, slots=True)
class WorkerClosing:
    """A worker has said that it closes in good order, and why."""

    time: float
    address: str
    reason: str


@dataclass(frozen=True, slots=True)
class WorkerTimedOut:
    """The scheduler gives a worker up: it has not been heard of for ``worker-ttl``."""

    time: float
    address: str
    #: For how long, in seconds.
    silent: float


@dataclass(frozen=True, slots=True)
class WorkerLeaving:
    """What a worker holds at the instant before the scheduler lets go of it."""

    time: float
    address: str
    #: Prefix → its outputs, and why they are held.
    held: dict[str, Held]
    #: Share of its outputs that was looked at; `held` is scaled up from it.
    held_share: float = 1.0
    #: The first of its assigned tasks by priority, with their inputs.
    assigned: tuple[TaskInfo, ...] = ()
    #: Prefix → arguments and records of the tasks that were sent to it.
    graph: dict[str, GraphRow] = field(default_factory=dict)
    #: Prefixes of the actors on it.
    actors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WorkersRestarting:
    """All workers are about to be restarted on purpose."""

    time: float


@dataclass(frozen=True, slots=True)
class WorkerRemoved:
    """The scheduler has let go of a worker, whatever the reason."""

    time: float
    address: str
    #: Whether the scheduler had asked for it.
    expected: bool
    stimulus: str
    #: How many tasks were assigned to it, and the first of them by priority.
    n_assigned: int
    assigned: tuple[TaskInfo, ...]
    #: Hash of every assigned key, good within the scheduler's process.
    assigned_hashes: tuple[int, ...]
    #: Keys whose only copy was lost, and their bytes; None where not known.
    keys_lost: int | None
    bytes_lost: int | None
    #: Seconds of work to repeat for what was lost and is still wanted, as tasks of
    #: the same prefixes have taken; None where not known.
    seconds_lost: float | None = None
    #: Prefix → how many of these keys and bytes are of it: the largest prefixes.
    lost: dict[str, tuple[int, int]] = field(default_factory=dict)
    #: Of the keys lost, those that lie in the cluster's memory of intermediates and are
    #: loaded where they are still needed; and their bytes.  None where not known.
    keys_stored: int | None = 0
    bytes_stored: int | None = 0


@dataclass(frozen=True, slots=True)
class DeathReported:
    """A nanny's report on the end of its worker's process."""

    time: float
    #: Address of the worker; empty where the nanny cannot be sure of it.
    address: str
    pid: int
    #: Unix time of the death by the nanny's clock.
    died: float
    #: Exit status (0 or more), or None.
    code: int | None
    #: Signal that ended it, or None.
    signal: int | None
    #: 'nanny', 'kernel' or 'unknown': who ended it.
    by: str
    #: Whether its nanny had asked it to end (restart, close, retirement).
    asked: bool
    #: Whether it was closing in good order by itself.
    closing: bool
    #: The worker's last reading in its flight recorder, with the RSS at the end.
    reading: Reading | None
    executing: tuple[Executing, ...]
    #: RSS before the end, oldest first: (nanny's Unix time, bytes).
    samples: tuple[tuple[float, int], ...]
    #: Whether the flight recorder could be read.
    recorded: bool
    #: Processes that its tasks had started, by task: the largest.
    children: tuple[ChildRow, ...] = ()
    #: What the scheduler knows of the executing tasks.
    known: tuple[TaskInfo, ...] = ()
    #: Seconds by which the nanny's clock was behind the scheduler's; they have been
    #: added to every instant here.  0 where the clocks agree, or nothing is known.
    clock_offset: float = 0.0
    #: The nanny's address, which with the pid says whose death it is: a worker that
    #: died early may not be known by its own address.  Empty where not said.
    nanny: str = ""
    #: Name that the nanny gives its workers, and its host.
    name: str = ""
    host: str = ""
    #: What the process was made of at samples of its last minute, and whose execution
    #: was; None where that was not sampled.
    last_seconds: LastSeconds | None = None


@dataclass(frozen=True, slots=True)
class TaskKilled:
    """The scheduler has given up on a task: ``KilledWorker``."""

    time: float
    task: TaskInfo
    #: Hash of the key, as in :class:`WorkerRemoved`.
    hash: int
    #: The worker whose death was one too many.
    address: str
    #: How many deaths the scheduler allows a task.
    allowed_failures: int


@dataclass(frozen=True, slots=True)
class MemoryErrorRaised:
    """A task has failed for want of memory; its worker lives on."""

    time: float
    #: The worker that it ran on, was to run on, or that was receiving its inputs.
    address: str
    task: TaskInfo
    #: The error as Python prints it.
    text: str
    #: 'running' (the task raised it), 'refused' (the scheduler did, as its inputs
    #: exceed the worker's limit), 'receiving' (an input did not fit when it came) or
    #: 'child' (a process that it started was killed).
    stage: str = "running"


@dataclass(frozen=True, slots=True)
class SpillFailed:
    """A worker could not spill an output, which stays in memory."""

    time: float
    address: str
    key: str
    prefix: str
    #: 'max-spill', 'disk-full', 'disk-error' or 'unpicklable'.
    reason: str
    #: Size of the output in bytes, None where not known.
    size: int | None
    #: What the system said.
    text: str
    #: How often it has failed for this reason since the last such event.
    count: int = 1


@dataclass(frozen=True, slots=True)
class GraphArrived:
    """A graph has reached the scheduler."""

    time: float
    graph: str
    #: Task groups that it touches.
    groups: tuple[str, ...]
    #: Priority without its last number → the last numbers, sorted.  Empty where
    #: `columns` say it.
    priorities: dict[str, tuple[float, ...]] = field(repr=False)
    #: What it is called, and how many tasks are to run for it.
    name: str = ""
    tasks: int = 0
    #: Its tasks; None where it is not covered, and then `uncovered` says why.
    columns: GraphColumns | None = None
    uncovered: str = ""
    #: How the scheduler takes the tasks at its roots.
    roots: tuple[RootGroup, ...] = ()
    #: Outputs of its tasks that have moved meanwhile, as in :class:`OutputsMoved`.
    moved: bytes = field(default=b"", repr=False)
    #: Whether these are single submits that came one after another.
    submits: bool = False


@dataclass(frozen=True, slots=True)
class GraphChecked:
    """A look at how the scheduler sees a graph now."""

    time: float
    graph: str
    roots: tuple[RootGroup, ...]
    #: Whether the scheduler has forgotten all its tasks.
    ended: bool


@dataclass(frozen=True, slots=True)
class FailureChecked:
    """A look whether tasks that a failure cut short are still to run."""

    time: float
    failure: str
    alive: bool


@dataclass(frozen=True, slots=True)
class OutputsMoved:
    """Outputs of tasks have been stored, or have left, in this order."""

    time: float
    #: Hash of a key and size of its output in bytes, or `LEFT`, by turns (``q``).
    moves: bytes = field(repr=False)
    #: The graph that alone has to know of them: the others do already; empty for all.
    graph: str = ""


@dataclass(frozen=True, slots=True)
class StorageHeld:
    """A look at why a worker's outputs are held, by prefix."""

    time: float
    address: str
    held: dict[str, Held]


@dataclass(frozen=True, slots=True)
class IntermediatesTold:
    """What the scheduler knows of the cluster's memory of intermediates."""

    time: float
    #: Where it is; no password is in it.  Empty where it has been taken away.
    address: str
    #: Objects in the store, those of other sessions too.
    objects: int
    #: Results that are followed: stored, waiting to be, failed for now, never stored.
    stored: int
    pending: int
    failed: int
    never: int
    #: Of the stored ones, what has a load in its task's place.
    stand_ins: int
    #: Results that were found stored when their graph came, in all.
    resumed: int = 0
    #: Loads that failed, so that the value was computed, in all.
    recomputed: int = 0
    #: Name → how many of its results are stored, and how many there are.
    names: dict[str, tuple[int, int]] = field(default_factory=dict)
    #: Why names were not given that something else has; the first few.
    refused: tuple[str, ...] = ()
    #: The newest error of the store, or None.
    error: str | None = None
    #: What it said instead of its list when it was asked last; None if it answered.
    unreachable: str | None = None


@dataclass(frozen=True, slots=True)
class ClusterStuck:
    """Tasks are ready and nothing moves; told again while it lasts."""

    time: float
    #: Unix time of the last progress.
    since: float
    #: The prefixes with most tasks that wait; how many tasks wait in all.
    waiting: tuple[WaitingTasks, ...]
    n_waiting: int
    #: Paused workers: the first addresses, and how many.
    paused: tuple[str, ...]
    n_paused: int
    n_workers: int
    #: How many of the paused are below their pause threshold: somebody paused them.
    by_hand: int = 0
    #: Tasks that run, and use no processor.
    running: int = 0
    #: Tasks for which an input did not fit when it came, where these are why; then
    #: `paused` are their workers, which are not paused.
    unreceived: int = 0


@dataclass(frozen=True, slots=True)
class ClusterMoving:
    """A cluster that was stuck moves again, or has nothing left to do."""

    time: float


@dataclass(frozen=True, slots=True)
class SchedulerLooked:
    """The scheduler's own process at an instant; sizes in bytes, None: not known."""

    time: float
    address: str
    pid: int
    rss: int
    #: The least cap of its cgroups, and what counts against that.
    cgroup: int | None
    cgroup_used: int | None
    #: The machine's memory, and what of it is available.
    host: int | None
    available: int | None
    #: How many tasks it knows.
    tasks: int
    #: Prefix → what they carry, about: arguments and closures; the largest.
    graph: dict[str, GraphRow] = field(default_factory=dict)
    #: The task that carries most of those looked into; empty where none was.
    largest_key: str = ""
    largest_prefix: str = ""
    largest: int = 0
    #: From which size of a graph on Dask warns.
    warns_above: int | None = None
    #: The rlimit of its process that has least left (``ulimit -v``), at which
    #: allocations fail, and what counts against that; None without one.
    rlimit: int | None = None
    rlimit_used: int | None = None
    #: Client → what it has sent and uses: those with the largest graphs.
    clients: dict[str, ClientRow] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Noticed:
    """MemDash is degraded somewhere; an empty tuple takes back what was said."""

    time: float
    where: str
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ticked:
    """Time has passed."""

    time: float
    #: What MemDash costs on the scheduler; None when nothing new is known.
    cost: SelfCost | None = None
    #: Workers that have sent no heartbeat for more than three of its intervals, and for
    #: how many seconds; None where that could not be judged.
    silent: tuple[tuple[str, float], ...] | None = None


Event = (
    WorkerAdded
    | WorkerReported
    | WorkerSampled
    | WorkerStatusChanged
    | WorkerClosing
    | WorkerTimedOut
    | WorkerLeaving
    | WorkersRestarting
    | WorkerRemoved
    | DeathReported
    | TaskKilled
    | MemoryErrorRaised
    | SpillFailed
    | GraphArrived
    | GraphChecked
    | FailureChecked
    | OutputsMoved
    | StorageHeld
    | IntermediatesTold
    | ClusterStuck
    | ClusterMoving
    | SchedulerLooked
    | Noticed
    | Ticked
)

EVENTS: tuple[type, ...] = typing.get_args(Event)
