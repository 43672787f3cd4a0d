"""A worker's report as one run of numbers: the way it travels with a heartbeat.

A scheduler takes in hundreds of heartbeats a second, and a message of dicts costs it
more to take apart than all that is done with it.  So what comes with every heartbeat
is packed (:mod:`dask_memdash.plugins.worker.packing`): texts into one list, `names`,
each once, and all else into one run of signed 64-bit numbers, `packed`, little-endian.
What comes now and then (limits, actors, notices…) stays plain data, and is left out
where it says nothing.

The run, in numbers:

- how many rows of storage (-1: nothing has changed), running tasks and prefixes with
  finished tasks there are, and the place of the method in `names`;
- the fields of :class:`Reading`, in their order; its time in microseconds; thresholds;
  the two :class:`SelfCost`, shares in millionths; :class:`SpillRoom`;
- places in `names`, one column after the other: of each row its prefix; of each task
  its key, digest, prefix, method, file, function and call; of each finished prefix its
  name, method and reason;
- columns of rows; columns of tasks, durations in microseconds; columns of finished
  prefixes, the last of them saying how long each of its three sketches is: so many
  buckets, or, below 0, so many values that are all 0;
- of all sketches that are not empty the least values, then the largest, then buckets,
  then how many values are in each bucket.

`ABSENT` stands for None.  What is damaged is refused whole, as plain data is by
:mod:`dask_memdash.model.event_readers`.

Imports the standard library only.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from functools import lru_cache, partial
from operator import gt, itemgetter
from struct import Struct
from typing import Any, NamedTuple

from dask_memdash.errors import EventError
from dask_memdash.model.breakdown import Reading
from dask_memdash.model.event_parts import (
    NOT_SEEN,
    NOT_WEIGHED,
    Executing,
    Finished,
    LargestBlock,
    SelfCost,
    SpillRoom,
    StorageRow,
    Thresholds,
    Unseen,
    Weighed,
)
from dask_memdash.model.event_readers import MAX_ITEMS, MAX_NAME, read_field, shown
from dask_memdash.model.events import WorkerReported
from dask_memdash.model.quantiles import MAX_BUCKET, QuantileSketch
from dask_memdash.model.quick_making import quickly

#: Bytes of a run, and characters of all its texts, that a report has at most which is
#: kept packed: 400 prefixes or so.
SMALL = 2**15

#: What stands for None.
ABSENT = -(2**63)

#: Bytes of one run at most, and texts.
MAX_BYTES = 2**20
MAX_NAMES = 8 * MAX_ITEMS

MICRO = 1_000_000

READING = tuple(field.name for field in fields(Reading))
THRESHOLDS = tuple(field.name for field in fields(Thresholds))
COST = ("cpu", "bytes", "held_back")
SPILL_ROOM = ("max_spill", "disk_free", "shuffles_on_disk")

#: Columns of tasks beside their texts; the last are of its largest block.
TASK = ("thread", "seconds", "bytes", "peak", "error", "rss_at_begin", "gathering")
TASK_COLUMNS = (*TASK, "filling", "size", "line")
SKETCHES = ("peaks", "errors", "outputs")
WEIGHED = ("count", "believed", "left")
UNSEEN = ("native", "arrow", "untouched", "small")

#: Parts that are packed, and the columns of texts of tasks and of finished prefixes.
PACKED = frozenset(
    {"reading", "rows", "executing", "finished", "thresholds", "method", "cost"}
    | {"nanny_cost", "spill_room"}
)
_TASK_TEXTS, _FINISHED_TEXTS = 7, 3
_FINISHED_COLUMNS = 1 + len(WEIGHED) + len(UNSEEN) + len(SKETCHES)

#: Where the fixed numbers are.
_AT_READING = 4
_AT_THRESHOLDS = _AT_READING + len(READING)
_AT_COST = _AT_THRESHOLDS + len(THRESHOLDS)
_AT_NANNY_COST = _AT_COST + len(COST)
_AT_SPILL_ROOM = _AT_NANNY_COST + len(COST)
_FIXED = _AT_SPILL_ROOM + len(SPILL_ROOM)

_BUSY = READING.index("busy")
_UNMANAGED_OLD = READING.index("unmanaged_old")
_needed = itemgetter(
    *(
        READING.index(field.name)
        for field in fields(Reading)
        if field.default is not None
    )
)

#: Not `_make`, which is a function in Python.
make_row = partial(tuple.__new__, StorageRow)
make_report = quickly(WorkerReported)
make_reading = quickly(Reading)
make_executing = quickly(Executing)
make_finished = quickly(Finished)
make_weighed, make_unseen = quickly(Weighed), quickly(Unseen)

_DAMAGED = (ArithmeticError, LookupError, TypeError, ValueError)

#: What every packed report has beside the run, and sentences that stand in each.
_ALWAYS = frozenset({"names", "packed", "pid", "protocol", "notices"})

_COUNTS = Struct("<3q")
_RSS = Struct("<q")
_AT_RSS = 8 * (_AT_READING + READING.index("rss"))


class Glimpse(NamedTuple):
    """What can be told of a packed report without unpacking it."""

    pid: Any
    #: Resident memory, in bytes.
    rss: int
    #: Whether it says what the worker stores; else nothing of that has changed.
    stores: bool
    #: Whether it tells more than how the worker is now: what has finished, and parts
    #: that are not in every report.
    tells_more: bool
    #: How MemDash is degraded there.
    notices: tuple[Any, ...]


def glimpse(report: Mapping[str, Any]) -> Glimpse | None:
    """Look at a packed report; None where it is none, cut short, or not `SMALL`."""
    packed, names = report.get("packed"), report.get("names")
    if type(packed) is not bytes or not 8 * _FIXED <= len(packed) <= SMALL:
        return None
    if not isinstance(names, list | tuple):
        return None
    try:
        texts = len("".join(names))  # in one go: this is on the way of every heartbeat
    except TypeError:
        return None
    if len(names) + texts > SMALL:
        return None
    rows, _, finished = _COUNTS.unpack_from(packed)
    (rss,) = _RSS.unpack_from(packed, _AT_RSS)
    more = finished != 0 or not report.keys() <= _ALWAYS
    notices = report.get("notices")
    said = tuple(notices) if isinstance(notices, list | tuple) else ()
    return Glimpse(report.get("pid"), rss, rows >= 0, more, said)


def unpack(
    report: Mapping[str, Any], time: float, address: str, unmanaged_old: int
) -> WorkerReported:
    """Rebuild a report that was packed.

    Parameters
    ----------
    report
        As :func:`pack` made it, or somebody else.
    time, address
        When it came, in Unix seconds, and from which worker.
    unmanaged_old
        What Dask takes for the old part of what it does not manage, in bytes.

    Raises
    ------
    EventError
        It is damaged, or a plain part of it is wrong.
    """
    names, run = _texts(report.get("names")), _numbers(report.get("packed"))
    pid = report.get("pid")
    if type(pid) is not int or not 0 <= pid < 2**63:
        pid = read_field(WorkerReported, "pid", pid)
    rest = {
        name: read_field(WorkerReported, name, report[name])
        for name in report
        if name in _REST
    }
    try:
        return _report(names, run, (time, address, pid), unmanaged_old, rest)
    except _DAMAGED as error:
        raise EventError(f"WorkerReported.packed is damaged: {error}") from error


#: Fields that travel as plain data.
_REST = (
    frozenset(field.name for field in fields(WorkerReported))
    - {"time", "address", "pid"}
    - PACKED
)


def _texts(names: Any) -> Sequence[str]:
    if not isinstance(names, list | tuple) or len(names) > MAX_NAMES:
        raise EventError(f"WorkerReported.names is {shown(names)}; it must be a list")
    if set(map(type, names)) - {str}:
        raise EventError("WorkerReported.names holds what is no text")
    if max(map(len, names), default=0) > MAX_NAME:
        raise EventError("WorkerReported.names holds a text that is too long")
    return names


def _numbers(packed: Any) -> list[int]:
    if type(packed) is not bytes or len(packed) > MAX_BYTES or len(packed) % 8:
        raise EventError(
            f"WorkerReported.packed is {shown(packed)}; it must be a run of numbers"
        )
    numbers = array("q", packed)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tolist()


def _report(
    names: Sequence[str],
    run: list[int],
    sender: tuple[float, str, int],
    unmanaged_old: int,
    rest: dict[str, Any],
) -> WorkerReported:
    n_rows, n_tasks, n_finished, method = run[:_AT_READING]
    rows_known, n_rows = n_rows >= 0, max(0, n_rows)
    if max(n_rows, n_tasks, n_finished) > MAX_ITEMS or min(n_tasks, n_finished) < 0:
        raise ValueError("it has too many entries, or fewer than none")
    after_rows = n_rows + _TASK_TEXTS * n_tasks
    at_rows = _FIXED + after_rows + _FINISHED_TEXTS * n_finished
    at_tasks = at_rows + len(StorageRow._fields) * n_rows
    at_finished = at_tasks + len(TASK_COLUMNS) * n_tasks
    at_sketches = at_finished + _FINISHED_COLUMNS * n_finished
    if len(run) < at_sketches:
        raise ValueError("it is cut short")
    places = run[_FIXED:at_rows]
    if method < 0 or (places and min(places) < 0):
        raise ValueError("a text is before the first")
    texts = list(map(names.__getitem__, places))
    return make_report(
        *sender,
        reading=_reading(run[_AT_READING:_AT_THRESHOLDS], unmanaged_old),
        rows=_rows(texts[:n_rows], run[at_rows:at_tasks]) if rows_known else None,
        executing=_executing(
            texts[n_rows:after_rows], run[at_tasks:at_finished], n_tasks
        ),
        finished=_finished(
            texts[after_rows:], run[at_finished:at_sketches], run[at_sketches:]
        ),
        thresholds=_thresholds(*run[_AT_THRESHOLDS:_AT_COST]),
        method=names[method],
        cost=_cost(*run[_AT_COST:_AT_NANNY_COST]),
        nanny_cost=_cost(*run[_AT_NANNY_COST:_AT_SPILL_ROOM]),
        spill_room=_spill_room(*run[_AT_SPILL_ROOM:_FIXED]),
        **rest,
    )


def _known(numbers: Sequence[int]) -> list[Any]:
    return [None if number == ABSENT else number for number in numbers]


def _reading(numbers: list[int], unmanaged_old: int) -> Reading:
    values = _known(numbers)
    if None in _needed(values):
        raise ValueError("a figure of its reading is missing")
    values[0] /= MICRO
    values[_BUSY] = bool(values[_BUSY])
    values[_UNMANAGED_OLD] = unmanaged_old
    return make_reading(*values)


@lru_cache(maxsize=500)
def _thresholds(*numbers: int) -> Thresholds:
    return Thresholds(*_known(numbers))


@lru_cache(maxsize=500)
def _cost(cpu: int, size: int, held_back: int) -> SelfCost:
    if held_back < 0:
        raise ValueError("a cost's level is below 0")
    share = None if cpu == ABSENT else cpu / MICRO
    return SelfCost(share, None if size == ABSENT else size, held_back)


@lru_cache(maxsize=500)
def _spill_room(most: int, free: int, on_disk: int) -> SpillRoom:
    room, space = _known((most, free))
    return SpillRoom(room, space, None if on_disk == ABSENT else bool(on_disk))


def _rows(prefixes: list[str], numbers: list[int]) -> dict[str, StorageRow]:
    if not prefixes:
        return {}
    if min(numbers) < 0:
        raise ValueError("a row of storage is below 0")
    n = len(prefixes)
    columns = [numbers[start : start + n] for start in range(0, 4 * n, n)]
    rows = map(make_row, zip(*columns, strict=True))
    return dict(zip(prefixes, rows, strict=True))


def _executing(texts: list[str], numbers: list[int], n: int) -> tuple[Executing, ...]:
    if not n:
        return ()
    values = _known(numbers)
    (thread, micros, size, peak, error, rss, gathering, filling, block, line) = (
        values[start : start + n] for start in range(0, len(values), n)
    )
    if None in micros or None in filling:
        raise ValueError("a figure of a task is missing")
    key, digest, prefix, method, file, function, called = (
        texts[start : start + n] for start in range(0, len(texts), n)
    )
    return tuple(
        [
            make_executing(
                key[i],
                digest[i],
                prefix[i],
                thread[i],
                micros[i] / MICRO,
                size[i],
                peak[i],
                error[i],
                method[i],
                rss[i],
                gathering[i] == 1,
                filling[i],
                None
                if block[i] is None
                else LargestBlock(block[i], file[i], line[i], function[i], called[i]),
            )
            for i in range(n)
        ]
    )


def _finished(
    texts: list[str], numbers: list[int], stream: list[int]
) -> dict[str, Finished]:
    n = len(texts) // _FINISHED_TEXTS
    if not n:
        if stream:
            raise ValueError("it goes on after its end")
        return {}
    count, weighed, believed, left, native, arrow, untouched, small, *lengths = (
        numbers[start : start + n] for start in range(0, len(numbers), n)
    )
    if min(count) < 1 or (stream and min(stream) < 0):
        raise ValueError("a count of finished tasks is too small")
    sketches = _sketches([k for column in lengths for k in column], stream)
    peaks, errors, outputs = sketches[:n], sketches[n : 2 * n], sketches[2 * n :]
    return {
        name: make_finished(
            count[i],
            method,
            peaks[i],
            errors[i],
            outputs[i],
            make_weighed(weighed[i], believed[i], left[i], because)
            if weighed[i] or because
            else NOT_WEIGHED,
            make_unseen(native[i], arrow[i], untouched[i], small[i])
            if native[i] or arrow[i] or untouched[i] or small[i]
            else NOT_SEEN,
        )
        for i, (name, method, because) in enumerate(
            zip(texts[:n], texts[n : 2 * n], texts[2 * n :], strict=True)
        )
    }


def _sketches(lengths: list[int], stream: list[int]) -> list[QuantileSketch]:
    """Make sketches; what is in the stream is checked at once, not one by one."""
    some = [length for length in lengths if length > 0]
    n, inside = len(some), sum(some)
    if len(stream) != 2 * (n + inside):
        raise ValueError("it goes on after its end, or is cut short")
    leasts, mosts = stream[:n], stream[n : 2 * n]
    buckets = stream[2 * n : 2 * n + inside]
    counts = stream[2 * n + inside :]
    if n and (
        max(buckets) > MAX_BUCKET or min(counts) < 1 or any(map(gt, leasts, mosts))
    ):
        raise ValueError("a sketch's min is more than its max")
    return _cut(lengths, zip(leasts, mosts, strict=True), buckets, counts)


def _cut(
    lengths: list[int],
    ends: Iterator[tuple[int, int]],
    buckets: list[int],
    counts: list[int],
) -> list[QuantileSketch]:
    sketches, at = [], 0
    make = QuantileSketch.__new__
    for length in lengths:
        if length <= 0:
            sketches.append(_zeros(-length))
            continue
        sketch = make(QuantileSketch)
        sketch.min, sketch.max = next(ends)
        if length == 1:  # the usual case
            sketch.count = counts[at]
            sketch.buckets = {buckets[at]: counts[at]}
        else:
            here = slice(at, at + length)
            sketch.count = sum(counts[here])
            sketch.buckets = dict(zip(buckets[here], counts[here], strict=True))
            if len(sketch.buckets) < length:
                raise ValueError("a sketch has a bucket twice")
        at += length
        sketches.append(sketch)
    return sketches


@lru_cache(maxsize=100)
def _zeros(count: int) -> QuantileSketch:
    """Return a sketch of values that are all 0, to be read and not changed."""
    sketch = QuantileSketch()
    if count:
        sketch.buckets, sketch.count, sketch.min, sketch.max = {0: count}, count, 0, 0
    return sketch
