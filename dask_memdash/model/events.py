"""What happens, as frozen events: the only input of :class:`ClusterModel`.

Every event can be turned into plain data with :func:`to_dict` and back with
:func:`from_dict`, which checks every field, since part of an event comes over the
network from other versions and other people's machines.  All sizes are integers in
bytes, all instants Unix seconds by the scheduler's clock unless a field says
otherwise.

Imports the standard library only.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import math
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple, TypeVar, Union

from dask_memdash.errors import EventError
from dask_memdash.model.breakdown import Reading
from dask_memdash.model.graph_columns import GraphColumns, RootGroup
from dask_memdash.model.limit_facts import LimitReport
from dask_memdash.model.quantiles import QuantileSketch

T = TypeVar("T")


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
class SpillRoom:
    """How much more a worker can spill, in bytes; None where not known."""

    #: Most that it may have on disk (``max-spill``); None: as much as fits.
    max_spill: int | None = None
    #: Free on the disk that it spills to.
    disk_free: int | None = None


@dataclass(frozen=True, slots=True)
class TaskInputs:
    """Inputs of a task, as the scheduler knows them; sizes in bytes."""

    #: Inputs, and the sum of their sizes.
    count: int
    size: int
    #: Of them copies that its worker has, or has to fetch, of what others hold too.
    n_fetched: int
    fetched: int


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


@dataclass(frozen=True, slots=True)
class Weighed:
    """What counted tasks left behind, against what Dask believes of their outputs."""

    #: Tasks that were counted and stored an output.
    count: int = 0
    #: Sum of their outputs' sizes as Dask's sizeof says, in bytes.
    believed: int = 0
    #: Sum of what each had allocated and not freed when it ended, in bytes.
    left: int = 0
    #: What outputs are that weigh much less than believed ('memory maps'), or empty.
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
    weighed: Weighed = Weighed()
    unseen: Unseen = Unseen()


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

    @property
    def size(self) -> int:
        """All of these outputs, as Dask's sizeof says, in bytes."""
        return sum(self.because.values())


@dataclass(frozen=True, slots=True)
class SelfCost:
    """What MemDash itself costs at one place; None where not known (yet)."""

    #: Share of a core.
    cpu: float | None = None
    #: Memory, in bytes, estimated.
    bytes: int | None = None
    #: How far it holds back to keep within its budget; 0: not at all.
    held_back: int = 0


# -- events --------------------------------------------------------------------


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
    spill_room: SpillRoom = SpillRoom()


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
    #: Prefix → arguments and records of the assigned tasks.
    graph: dict[str, GraphRow] = field(default_factory=dict)


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


@dataclass(frozen=True, slots=True)
class DeathReported:
    """A nanny's report on the end of its worker's process."""

    time: float
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
    #: What the scheduler knows of the executing tasks.
    known: tuple[TaskInfo, ...] = ()
    #: Seconds by which the nanny's clock was behind the scheduler's; they have been
    #: added to every instant here.  0 where the clocks agree, or nothing is known.
    clock_offset: float = 0.0


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
    """A task has raised ``MemoryError``; its worker lives on."""

    time: float
    address: str
    task: TaskInfo
    #: The error as Python prints it.
    text: str


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


@dataclass(frozen=True, slots=True)
class GraphChecked:
    """A look at how the scheduler sees a graph now."""

    time: float
    graph: str
    roots: tuple[RootGroup, ...]
    #: Whether the scheduler has forgotten all its tasks.
    ended: bool


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
    | OutputsMoved
    | StorageHeld
    | Noticed
    | Ticked
)

EVENTS: tuple[type, ...] = typing.get_args(Event)


# -- plain data ----------------------------------------------------------------

#: Turns plain data into a value of one type, or raises EventError.
Reader = Callable[[Any], Any]

#: Types that are plain data already.
_PLAIN = frozenset({int, float, str, bool, type(None)})

_LISTS = (tuple, list)

#: Whole numbers are at least the one, and less than the other.
_LEAST, _BEYOND = -(2**63), 2**63

_MISSING: Any = object()


def to_dict(value: Any) -> Any:
    """Turn an event, or a part of one, into dicts, lists, numbers and strings."""
    kind: Any = type(value)
    if kind in _PLAIN:
        return value
    if kind is QuantileSketch:
        return value.to_dict()
    names = _names_of(kind)
    if names:
        return {
            name: part if type(part) in _PLAIN else to_dict(part)
            for name in names
            for part in (getattr(value, name),)
        }
    if isinstance(value, Mapping):
        return {key: to_dict(item) for key, item in value.items()}
    if isinstance(value, _LISTS):
        return [to_dict(item) for item in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value


@cache
def _names_of(kind: type) -> tuple[str, ...]:
    """Return the names of a dataclass's fields; none of another type."""
    if not dataclasses.is_dataclass(kind):
        return ()
    return tuple(field.name for field in dataclasses.fields(kind))


def from_dict(cls: type[T], data: object) -> T:
    """Rebuild an event, or a part of one, from plain data.

    Unknown fields are ignored, so that a newer sender is understood; missing ones
    without a default, and values of a wrong type, are errors.

    Raises
    ------
    EventError
        Says which field is wrong.
    """
    try:
        return typing.cast(T, _rebuild(cls, data, cls.__name__))
    except RecursionError:
        raise EventError(f"{cls.__name__} is nested too deeply") from None


def _rebuild(kind: Any, data: object, where: str) -> Any:
    return _reader(kind, where)(data)


@cache
def _reader(kind: Any, where: str) -> Reader:
    """Make what reads values of a type, once for each place that they occur in.

    Type hints are walked here only: a scheduler reads hundreds of heartbeats a second.

    Parameters
    ----------
    kind
        The type, or a type hint.
    where
        The place as errors name it, such as ``WorkerReported.reading.rss``.
    """
    if kind in _SIMPLE:
        return _simple_reader(kind, where)
    if dataclasses.is_dataclass(kind):
        return _dataclass_reader(typing.cast(type, kind), where)
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, Union):
        (inner,) = (arg for arg in args if arg is not type(None))
        return _optional_reader(inner, where)
    if origin is dict:
        return _dict_reader(args[1], where)
    if origin is tuple and args[-1] is Ellipsis:
        return _list_reader(args[0], where)
    if origin is tuple:
        return _tuple_reader(args, where)
    raise EventError(f"{where} cannot be of type {kind!r}")  # pragma: no cover


def _simple_reader(kind: Any, where: str) -> Reader:
    """Read numbers and texts, the most of all, with one look at the usual ones."""
    check = _SIMPLE[kind]

    def read(data: Any) -> Any:
        return check(data, where)

    def read_integer(data: Any) -> Any:
        usual = type(data) is int and _LEAST <= data < _BEYOND
        return data if usual else check(data, where)

    def read_same(data: Any) -> Any:
        return data if type(data) is kind else check(data, where)

    if kind is int:
        return read_integer
    return read_same if kind in (str, bool) else read


def _dataclass_reader(kind: type, where: str) -> Reader:
    hints = typing.get_type_hints(kind)
    fields = [
        (f.name, _reader(hints[f.name], f"{where}.{f.name}"), _default_of(f))
        for f in dataclasses.fields(kind)
    ]

    def read(data: Any) -> Any:
        if type(data) is not dict and not isinstance(data, Mapping):
            raise _wrong(where, data, "a mapping")
        values = []
        for name, inner, default in fields:
            value = data.get(name, _MISSING)
            if value is not _MISSING:
                values.append(inner(value))
            elif default is not None:
                values.append(default())
            else:
                raise EventError(f"{where}.{name} is missing")
        return kind(*values)

    return read


def _default_of(field: dataclasses.Field[Any]) -> Callable[[], Any] | None:
    """Return what makes a field's default, None if it has none."""
    if field.default is not dataclasses.MISSING:
        value = field.default
        return lambda: value
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory
    return None


def _optional_reader(kind: Any, where: str) -> Reader:
    inner = _reader(kind, where)

    def read(data: Any) -> Any:
        return None if data is None else inner(data)

    def read_integer(data: Any) -> Any:
        if data is None or (type(data) is int and _LEAST <= data < _BEYOND):
            return data
        return inner(data)

    return read_integer if kind is int else read


def _dict_reader(kind: Any, where: str) -> Reader:
    inner = _reader(kind, where)

    def read(data: Any) -> Any:
        if type(data) is not dict and not isinstance(data, Mapping):
            raise _wrong(where, data, "a mapping")
        return {_text(key, where): inner(item) for key, item in data.items()}

    return read


def _list_reader(kind: Any, where: str) -> Reader:
    inner = _reader(kind, where)

    def read(data: Any) -> Any:
        if not isinstance(data, _LISTS):
            raise _wrong(where, data, "a list")
        return tuple([inner(item) for item in data])

    return read


def _tuple_reader(kinds: tuple[Any, ...], where: str) -> Reader:
    inners = [_reader(kind, where) for kind in kinds]

    def read(data: Any) -> Any:
        if not isinstance(data, _LISTS):
            raise _wrong(where, data, "a list")
        if len(data) != len(inners):
            raise _wrong(where, data, f"{len(inners)} values")
        return tuple([inner(item) for inner, item in zip(inners, data, strict=True)])

    return read


def _wrong(where: str, data: object, expected: str) -> EventError:
    return EventError(f"{where} is {str(data)[:80]!r}; it must be {expected}")


def _integer(data: object, where: str) -> int:
    if isinstance(data, bool) or not isinstance(data, int):
        raise _wrong(where, data, "a whole number")
    if not _LEAST <= data < _BEYOND:
        raise EventError(f"{where} is beyond what 64 bits hold")
    return data


def _number(data: object, where: str) -> float:
    if type(data) is float and math.isfinite(data):
        return data
    if isinstance(data, bool) or not isinstance(data, int | float):
        raise _wrong(where, data, "a number")
    if isinstance(data, int):
        return _integer(data, where)
    if not math.isfinite(data):
        raise _wrong(where, data, "a finite number")
    return data


def _text(data: object, where: str) -> str:
    if not isinstance(data, str):
        raise _wrong(where, data, "a text")
    return data


def _truth(data: object, where: str) -> bool:
    if not isinstance(data, bool):
        raise _wrong(where, data, "true or false")
    return data


def _bytes(data: object, where: str) -> bytes:
    try:
        return base64.b64decode(_text(data, where), validate=True)
    except (binascii.Error, ValueError):
        raise _wrong(where, data, "bytes in base64") from None


def _row(data: object, where: str) -> StorageRow:
    if not isinstance(data, _LISTS) or len(data) != len(StorageRow._fields):
        raise _wrong(where, data, f"{len(StorageRow._fields)} whole numbers")
    for value in data:
        if type(value) is not int or not 0 <= value < _BEYOND:
            _integer(value, where)
            if value < 0:
                raise _wrong(where, data, "whole numbers of at least 0")
    return StorageRow._make(data)


def _sketch(data: object, where: str) -> QuantileSketch:
    if type(data) is not dict and not isinstance(data, Mapping):
        raise _wrong(where, data, "a quantile sketch")
    try:
        return QuantileSketch.from_dict(data)
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        TypeError,
        ValueError,
    ) as error:
        raise EventError(f"{where} is no quantile sketch: {error}") from error


_SIMPLE: dict[Any, Any] = {
    int: _integer,
    float: _number,
    str: _text,
    bool: _truth,
    bytes: _bytes,
    StorageRow: _row,
    QuantileSketch: _sketch,
}
