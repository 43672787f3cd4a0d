"""What events are made of: a task, a prefix's storage, a worker's thresholds.

The events themselves are in `events`; plain data is read by `event_readers`.  All
sizes are integers in bytes.

Imports the standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from dask_memdash.model.quantiles import QuantileSketch


class StorageRow(NamedTuple):
    """Storage of one prefix on one worker; sizes in bytes."""

    #: Keys stored, in RAM or spilled.
    keys: int
    #: In RAM, as Dask's sizeof says.
    claimed: int
    #: Spilled: size in memory, and size on disk.
    spilled: int
    spilled_disk: int


@dataclass(frozen=True, slots=True)
class GraphRow:
    """What tasks of one prefix weigh on a worker as they were sent; sizes in bytes."""

    #: Tasks that the worker was sent and has not forgotten, run or not.
    tasks: int
    #: Their functions' closures and arguments, as far as looked into.
    arguments: int
    #: Dask's own records of them, estimated.
    records: int

    @property
    def size(self) -> int:
        """All that the worker holds of them, in bytes."""
        return self.arguments + self.records


@dataclass(frozen=True, slots=True)
class ActorRow:
    """State of the actors of one prefix on a worker; sizes in bytes."""

    actors: int
    #: What they hold, as far as looked into.
    size: int
    #: By how much that has grown since each was looked at first.
    grown: int


@dataclass(frozen=True, slots=True)
class NamedMemory:
    """Memory of a worker's baseline that has a name; in bytes."""

    #: 'global' (a module's variable), 'plugin' or 'client.run'.
    group: str
    #: Which one; empty where there is but one.
    name: str
    size: int
    #: How often something of it could not be measured.
    unmeasured: int = 0


@dataclass(frozen=True, slots=True)
class ClientRow:
    """What a client has sent to the scheduler, and what its process uses; in bytes."""

    #: Graphs that it has sent since MemDash listens, and their messages' sizes.
    graphs: int = 0
    sent: int = 0
    #: The largest of these messages, and the prefix of a key that it was for.
    largest: int = 0
    largest_prefix: str = ""
    #: As the client said last; None where it has not.
    rss: int | None = None
    limit: int | None = None
    #: Whether it lives in the scheduler's process, whose RSS that is then.
    in_scheduler: bool = False


@dataclass(frozen=True, slots=True)
class ChildRow:
    """Processes that one task of a worker started; sizes in bytes.

    Beside the worker's own process, whose RSS they are no part of.
    """

    #: Of the task; both empty where it is not known which one it was.
    prefix: str
    key: str
    #: Program of the first of them.
    command: str
    #: How many there are now, and how many there were in all.
    processes: int
    started: int
    #: What they have resident now, and had at most, as far as looked at.
    rss: int
    peak: int
    #: How many were ended by SIGKILL, or when the kernel killed for memory.
    killed: int = 0


@dataclass(frozen=True, slots=True)
class SpillRoom:
    """How much more a worker can spill, in bytes; None where not known."""

    #: Most that it may have on disk (``max-spill``); None: as much as fits.
    max_spill: int | None = None
    #: Free on the disk that it spills to.
    disk_free: int | None = None
    #: Whether its P2P shuffles write to disk; None where it has none, or some do.
    shuffles_on_disk: bool | None = None


@dataclass(frozen=True, slots=True)
class TaskInputs:
    """Inputs of a task, as the scheduler knows them; sizes in bytes."""

    #: Inputs, and the sum of their sizes.
    count: int
    size: int
    #: Of them those that other workers hold: its worker has, or has to fetch, a copy.
    n_fetched: int
    fetched: int


@dataclass(frozen=True, slots=True)
class LargestBlock:
    """The largest block that a task holds, and the line that allocated it."""

    #: In bytes, as it was asked for.
    size: int
    #: Last two parts of the file's name, or the module of code that was sent by value;
    #: empty where no Python line allocated it.
    file: str
    #: Number of the line; None where it is not known.
    line: int | None
    #: Function that the line is in.
    function: str
    #: What the line called ('np.concatenate'); empty where that is not known.
    called: str


@dataclass(frozen=True, slots=True)
class Executing:
    """A task that is running, or whose output is not stored yet, on a worker."""

    key: str
    #: Digest of the key's whole text where `key` was cut, else empty.
    digest: str
    prefix: str
    #: Identifier of its thread, None where it has none of its own.
    thread: int | None
    #: How long it has been running, in seconds.
    seconds: float
    #: What it holds now and held at most; None where it is not measured.
    bytes: int | None
    peak: int | None
    #: By how much these may be wrong.
    error: int | None
    method: str
    #: RSS of its worker when it began, in bytes; None where that was not read.
    rss_at_begin: int | None = None
    #: Whether it has not begun: its worker reads inputs of it back from disk.
    gathering: bool = False
    #: What it may hold beside `bytes`: of blocks that it had just made, or was filling
    #: when they were looked at last, in bytes.
    filling: int = 0
    #: Its largest block; None where it has none of 16 MiB or more, or it is not known.
    block: LargestBlock | None = None


@dataclass(frozen=True, slots=True)
class Weighed:
    """What counted tasks left behind, against what Dask believes of their outputs."""

    #: Tasks that were counted and stored an output.
    count: int = 0
    #: Sum of their outputs' sizes as Dask's sizeof says, in bytes.
    believed: int = 0
    #: Sum of what each had allocated and not freed when it ended, in bytes.
    left: int = 0
    #: What outputs are that weigh much less or more than believed, as a look into one
    #: showed ('memory maps', 'views of other arrays'…), or empty.
    because: str = ""


@dataclass(frozen=True, slots=True)
class Unseen:
    """The most that one task, looked at while it ran alone, had beside its count."""

    #: Resident and not counted, and what of it Arrow's pool held at its end, in bytes.
    native: int = 0
    arrow: int = 0
    #: Counted and never resident: reserved and not touched.
    untouched: int = 0
    #: Small objects in the place of others that had gone.
    small: int = 0


#: Nothing weighed, and nothing seen beside a count: what is usual.
NOT_WEIGHED, NOT_SEEN = Weighed(), Unseen()


@dataclass(frozen=True, slots=True)
class Finished:
    """Tasks of one prefix that finished on a worker since its last report."""

    #: Finished tasks, measured or not.
    count: int
    method: str
    #: Peaks of in-execution memory, their errors, and sizes of outputs.
    peaks: QuantileSketch
    errors: QuantileSketch
    outputs: QuantileSketch
    weighed: Weighed = NOT_WEIGHED
    unseen: Unseen = NOT_SEEN


@dataclass(frozen=True, slots=True)
class Thresholds:
    """A worker's own memory thresholds in bytes; None where off."""

    target: int | None = None
    spill: int | None = None
    pause: int | None = None
    terminate: int | None = None


@dataclass(frozen=True, slots=True)
class TaskInfo:
    """What the scheduler knows of a task."""

    key: str
    prefix: str
    group: str
    #: The scheduler's priority tuple, None where it has none.
    priority: tuple[float, ...] | None
    #: Its inputs; None where they have not been looked at.
    inputs: TaskInputs | None = None
    #: Its arguments and closures, in bytes; None where they have not been looked at.
    arguments: int | None = None
    #: A client that holds a future of it; empty where none does.
    client: str = ""
    #: Of a task that a client wants: hashes of the keys that it needs, as the model
    #: hashes a :attr:`key`.  Empty where there are many.
    dependencies: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Held:
    """Why a prefix's outputs on a worker are held, in bytes."""

    #: Wanted by a client.
    pinned: int
    #: Waited for by tasks that are still to run, of any and of each prefix.
    awaited: int
    awaited_by: dict[str, int]
    #: Copies of what another worker holds too: bytes, and number of keys.
    replicas: int = 0
    n_replicas: int = 0
    #: Every byte once, by the first of these that holds it: 'replica' (another worker
    #: has it too), 'awaited', 'pinned' (wanted by a client and awaited by nobody),
    #: 'other'.
    because: dict[str, int] = field(default_factory=dict)
    #: Types of the outputs, the first few names, as Dask prints them.
    types: tuple[str, ...] = ()
    #: Client → the 'pinned' bytes that it wants, perhaps with others.
    clients: dict[str, int] = field(default_factory=dict)
    #: Number of outputs.
    keys: int = 0
    #: Of what it holds, what other workers have a copy of, whoever had it first.
    shared: int = 0
    n_shared: int = 0
    #: Most workers that hold one of them.
    max_copies: int = 0
    #: Of what it holds, what lies in the cluster's memory of intermediates too, so that
    #: it is loaded and not computed if this worker dies; and what is to lie there.
    #: Copies, as in `because`, are in neither.
    stored: int = 0
    stored_pending: int = 0

    @property
    def size(self) -> int:
        """All of these outputs, as Dask's sizeof says, in bytes."""
        return sum(self.because.values())


@dataclass(frozen=True, slots=True)
class Storing:
    """What a worker has done for the cluster's memory of intermediates so far."""

    #: Values that it wrote: how many, bytes as they lie there, seconds together.
    stored: int = 0
    stored_bytes: int = 0
    seconds: float = 0.0
    #: Values that wait to be written or are under way: how many, and bytes in RAM.
    pending: int = 0
    pending_bytes: int = 0
    #: Writes that failed, and that were left out since the value was released.
    failed: int = 0
    cancelled: int = 0
    #: Values that it loaded: how many, bytes in RAM, seconds together; and loads that
    #: failed.
    read_back: int = 0
    read_back_bytes: int = 0
    read_back_seconds: float = 0.0
    read_back_failed: int = 0
    #: Stored values that were dropped from RAM to make room: how many, and bytes.
    dropped: int = 0
    dropped_bytes: int = 0
    #: Bytes that stored values may take in RAM; None without a share.
    ram: int | None = None
    #: The newest error of a write, or None.
    error: str | None = None


@dataclass(frozen=True, slots=True)
class GuardWaiting:
    """Tasks of one prefix that a guard holds."""

    tasks: int
    #: For how long the first has waited, in seconds, and the most that one needs, in
    #: bytes.
    seconds: float
    need: int


@dataclass(frozen=True, slots=True)
class Guarding:
    """What the guard of a worker does: it starts tasks when they fit."""

    #: 'on', 'dry-run' (it notes what would have waited), or 'off' where it can do
    #: nothing.
    mode: str
    #: Tasks that were held so far, and how long they waited together, in seconds.
    held: int = 0
    seconds: float = 0.0
    #: Tasks that it started although they did not fit since nothing got on, that ran on
    #: while the worker was paused, and that went before a held one.
    opened: int = 0
    drained: int = 0
    passed: int = 0
    #: Decisions that failed, so that Dask's own was taken.
    failed: int = 0
    #: Whether fewer inputs are fetched at a time, for want of room.
    fetch_limited: bool = False
    #: Prefix → the tasks that wait now: those that have waited longest.
    waiting: dict[str, GuardWaiting] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GuardAction:
    """One thing that a guard did to a task; in a dry run, would have done."""

    #: Unix time, in seconds.
    time: float
    #: 'waited', 'opened', 'drained', 'passed', 'refused', 'braked', 'would-wait': see
    #: :mod:`dask_memdash.guard.actions`.
    kind: str
    key: str
    prefix: str
    #: What the task needs and what there was for it, in bytes; room may be negative.
    need: int = 0
    room: int = 0
    #: For how long it had waited.
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Braked:
    """A task that was stopped before it could end its worker, and is to run again."""

    key: str
    prefix: str
    #: What it had and asked for, and its inputs in memory, in bytes.
    needs: int
    inputs: int
    #: What its worker has in use when it is idle, in bytes; 0 where not known.
    idle: int
    #: The line that asked for it; empty where not known.
    where: str = ""


@dataclass(frozen=True, slots=True)
class SelfCost:
    """What MemDash itself costs at one place; None where not known (yet)."""

    #: Share of a core.
    cpu: float | None = None
    #: Memory, in bytes, estimated.
    bytes: int | None = None
    #: How far it holds back to keep within its budget; 0: not at all.
    held_back: int = 0


@dataclass(frozen=True, slots=True)
class WaitingTasks:
    """Tasks of one prefix that could run now, and do not."""

    prefix: str
    #: Those that wait on the scheduler, and those that were sent to a paused worker.
    queued: int
    assigned: int

    @property
    def count(self) -> int:
        """How many there are."""
        return self.queued + self.assigned
