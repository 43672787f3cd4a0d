"""What happens, as frozen events: the only input of :class:`ClusterModel`.

Every event can be turned into plain data with :func:`to_dict` and back with
:func:`from_dict`, which checks every field, since part of an event comes over the
network from other versions and other people's machines.  All sizes are integers in
bytes, all instants Unix seconds by the scheduler's clock unless a field says
otherwise.

Imports the standard library only.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple, TypeVar, Union

from dask_memdash.errors import EventError
from dask_memdash.model.breakdown import Reading
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
class GraphArrived:
    """A graph has reached the scheduler."""

    time: float
    graph: str
    #: Task groups that it touches.
    groups: tuple[str, ...]
    #: Priority without its last number → the last numbers, sorted.
    priorities: dict[str, tuple[float, ...]] = field(repr=False)


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


Event = (
    WorkerAdded
    | WorkerReported
    | WorkerSampled
    | WorkerStatusChanged
    | WorkerClosing
    | WorkersRestarting
    | WorkerRemoved
    | DeathReported
    | TaskKilled
    | GraphArrived
    | StorageHeld
    | Noticed
    | Ticked
)

EVENTS: tuple[type, ...] = typing.get_args(Event)


# -- plain data ----------------------------------------------------------------


def to_dict(value: Any) -> Any:
    """Turn an event, or a part of one, into dicts, lists, numbers and strings."""
    if isinstance(value, QuantileSketch):
        return value.to_dict()
    if dataclasses.is_dataclass(value):
        return {
            f.name: to_dict(getattr(value, f.name)) for f in dataclasses.fields(value)
        }
    if isinstance(value, Mapping):
        return {key: to_dict(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [to_dict(item) for item in value]
    return value


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


@cache
def _fields_of(cls: type) -> tuple[tuple[str, Any, bool], ...]:
    hints = typing.get_type_hints(cls)
    return tuple(
        (
            f.name,
            hints[f.name],
            f.default is dataclasses.MISSING
            and f.default_factory is dataclasses.MISSING,
        )
        for f in dataclasses.fields(cls)
    )


def _rebuild(kind: Any, data: object, where: str) -> Any:
    builder = _SIMPLE.get(kind)
    if builder is not None:
        return builder(data, where)
    if dataclasses.is_dataclass(kind):
        if not isinstance(data, Mapping):
            raise _wrong(where, data, "a mapping")
        values = {}
        for name, hint, required in _fields_of(typing.cast(type, kind)):
            if name in data:
                values[name] = _rebuild(hint, data[name], f"{where}.{name}")
            elif required:
                raise EventError(f"{where}.{name} is missing")
        return typing.cast(Any, kind)(**values)
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, Union):
        if data is None:
            return None
        (inner,) = (arg for arg in args if arg is not type(None))
        return _rebuild(inner, data, where)
    if origin is dict:
        if not isinstance(data, Mapping):
            raise _wrong(where, data, "a mapping")
        return {
            _text(key, where): _rebuild(args[1], item, where)
            for key, item in data.items()
        }
    if origin is tuple:
        if not isinstance(data, tuple | list):
            raise _wrong(where, data, "a list")
        if args[-1] is Ellipsis:
            return tuple(_rebuild(args[0], item, where) for item in data)
        if len(data) != len(args):
            raise _wrong(where, data, f"{len(args)} values")
        return tuple(
            _rebuild(a, item, where) for a, item in zip(args, data, strict=True)
        )
    raise EventError(f"{where} cannot be of type {kind!r}")  # pragma: no cover


def _wrong(where: str, data: object, expected: str) -> EventError:
    return EventError(f"{where} is {str(data)[:80]!r}; it must be {expected}")


def _integer(data: object, where: str) -> int:
    if isinstance(data, bool) or not isinstance(data, int):
        raise _wrong(where, data, "a whole number")
    if not -(2**63) <= data < 2**63:
        raise EventError(f"{where} is beyond what 64 bits hold")
    return data


def _number(data: object, where: str) -> float:
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


def _row(data: object, where: str) -> StorageRow:
    if not isinstance(data, tuple | list) or len(data) != len(StorageRow._fields):
        raise _wrong(where, data, f"{len(StorageRow._fields)} whole numbers")
    row = StorageRow(*(_integer(value, where) for value in data))
    if min(row) < 0:
        raise _wrong(where, data, "whole numbers of at least 0")
    return row


def _sketch(data: object, where: str) -> QuantileSketch:
    if not isinstance(data, Mapping):
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
    StorageRow: _row,
    QuantileSketch: _sketch,
}
