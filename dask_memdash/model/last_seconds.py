"""A process's last seconds: what it was made of at each sample, whose execution was.

Covers what a nanny tells of them at a death, whether that makes sense, and sharing out
each sample's RSS so that it sums.  Where they are sampled, see
:mod:`dask_memdash.measure.moments`.

Imports the standard library only.  All sizes are integers in bytes.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sized
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from dask_memdash.model.breakdown import PARTS, scale
from dask_memdash.model.event_readers import from_dict, to_dict

#: Rows of tasks, and samples, taken in at most; a nanny sends fewer.
MOST_ROWS = 32
MOST_SAMPLES = 240

#: Characters of a key and of a prefix.
MOST_TEXT = 1_000

#: No size is as large.
_BEYOND = 2**56


@dataclass(frozen=True, slots=True)
class TaskSeconds:
    """What a task held at each sample, or tasks of one prefix that ended before."""

    #: Empty: the tasks of this prefix that were no longer there at the end.
    key: str
    #: Digest of the whole key in hexadecimal, empty where `key` is whole.
    digest: str
    prefix: str
    #: How many tasks that is.
    tasks: int
    #: Unix time at which (the first of) it began, in seconds.
    begin: float
    #: Number of the sample that `bytes` begins with; before and after, it held nothing.
    first: int
    #: As counted; None where it was not among the largest and is in `others`.
    bytes: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class LastSeconds:
    """Columns with one value for each sample, oldest first."""

    #: Unix time in seconds.
    time: tuple[float, ...]
    #: RSS.
    process: tuple[int, ...]
    #: Part of the breakdown → its size; None where only the RSS is known.  A part that
    #: is missing was 0 wherever others are known.
    parts: dict[str, tuple[int | None, ...]]
    tasks: tuple[TaskSeconds, ...] = ()
    #: Sum of what further tasks held, as counted, and how many they were.
    others: tuple[int, ...] = ()
    n_others: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Stacked:
    """The samples' RSS shared out: at each, all columns but `time` sum to the RSS."""

    time: tuple[float, ...]
    process: tuple[int, ...]
    #: Parts other than execution, every one of them; 0 where not known.
    parts: dict[str, tuple[int, ...]]
    #: One for each of `LastSeconds.tasks`; None where it is in `others`, and 0 in sums.
    tasks: tuple[tuple[int | None, ...], ...]
    others: tuple[int, ...]
    #: Executing, and counted for no task.
    uncounted: tuple[int, ...]
    #: Of what nothing is known but its size.
    unknown: tuple[int, ...]


def is_small(data: object) -> bool:
    """Tell whether what has arrived is small enough to be read: it is not, yet."""
    if not isinstance(data, Mapping):
        return True
    rows, parts = data.get("tasks"), data.get("parts")
    lists: list[object] = [*data.values()]
    for more, most in ((rows, MOST_ROWS), (parts, len(PARTS))):
        if isinstance(more, Sized) and len(more) > most:
            return False
    lists += parts.values() if isinstance(parts, Mapping) else ()
    for row in rows if isinstance(rows, list | tuple) else ():
        lists += row.values() if isinstance(row, Mapping) else ()
    return all(
        len(column) <= MOST_SAMPLES
        for column in lists
        if isinstance(column, list | tuple)
    )


def sound(last: LastSeconds, since: float, until: float) -> LastSeconds | None:
    """Return what makes sense of what a nanny told; None where it contradicts itself.

    Parameters
    ----------
    since, until
        Samples from before and after these instants are left out.
    """
    number = len(last.time)
    columns = [last.process, last.others, last.n_others, *last.parts.values()]
    if not number or any(len(column) != number for column in columns):
        return None
    if not all(before <= after for before, after in pairwise(last.time)):
        return None
    if not set(last.parts) <= set(PARTS):
        return None
    if not all(_sizes(column) for column in columns):
        return None
    for place, process in enumerate(last.process):
        sizes = [column[place] for column in last.parts.values()]
        known = [size for size in sizes if size is not None]
        if known and (len(known) < len(sizes) or sum(known) != process):
            return None
    if not all(_sizes(row.bytes) and _fits(row, number) for row in last.tasks):
        return None
    kept = [i for i, time in enumerate(last.time) if since < time <= until]
    if not kept:
        return None
    cut = slice(kept[0], kept[-1] + 1)
    return LastSeconds(
        last.time[cut],
        last.process[cut],
        {name: column[cut] for name, column in last.parts.items()},
        tuple(_cut(row, cut) for row in last.tasks),
        last.others[cut],
        last.n_others[cut],
    )


def later(last: LastSeconds, seconds: float) -> LastSeconds:
    """Return the same by a clock that is ahead by so much."""
    return replace(
        last,
        time=tuple(time + seconds for time in last.time),
        tasks=tuple(replace(row, begin=row.begin + seconds) for row in last.tasks),
    )


def named(last: LastSeconds, names: dict[str, str]) -> LastSeconds:
    """Return the same with whole keys in the place of those that were cut.

    Parameters
    ----------
    names
        Digest → whole key.
    """
    rows = tuple(replace(r, key=names.get(r.digest, r.key)) for r in last.tasks)
    return replace(last, tasks=rows)


def pack(last: LastSeconds) -> bytes:
    """Return it as some kilobytes: many are kept, and few are ever looked at."""
    return zlib.compress(json.dumps(to_dict(last)).encode(), 1)


def unpack(packed: bytes) -> LastSeconds:
    """Return what :func:`pack` was given."""
    return from_dict(LastSeconds, json.loads(zlib.decompress(packed)))


def stacked(last: LastSeconds) -> Stacked:
    """Share out each sample's RSS: tasks get at most what was executing then."""
    number = len(last.time)
    tasks: list[list[int | None]] = []
    for row in last.tasks:
        after = number - row.first - len(row.bytes)
        tasks.append([*[0] * row.first, *row.bytes, *[0] * after])
    others, uncounted, unknown = [], [], []
    executing = last.parts.get("executing", (0,) * number)
    for place, process in enumerate(last.process):
        known = any(column[place] is not None for column in last.parts.values())
        room = (executing[place] or 0) if known else process
        counted = {n: size for n, row in enumerate(tasks) if (size := row[place])}
        counted[-1] = last.others[place]
        held = scale(counted, min(sum(counted.values()), room))
        for n, size in held.items():
            if n >= 0:
                tasks[n][place] = size
        others.append(held[-1])
        left = room - sum(held.values())
        uncounted.append(left if known else 0)
        unknown.append(0 if known else left)
    return Stacked(
        time=last.time,
        process=last.process,
        parts={
            name: tuple(size or 0 for size in last.parts.get(name, (0,) * number))
            for name in PARTS
            if name != "executing"
        },
        tasks=tuple(tuple(row) for row in tasks),
        others=tuple(others),
        uncounted=tuple(uncounted),
        unknown=tuple(unknown),
    )


def _sizes(column: tuple[Any, ...]) -> bool:
    return all(size is None or 0 <= size < _BEYOND for size in column)


def _fits(row: TaskSeconds, number: int) -> bool:
    return row.tasks > 0 and 0 <= row.first <= number - len(row.bytes)


def _cut(row: TaskSeconds, cut: slice) -> TaskSeconds:
    first = max(row.first, cut.start)
    sizes = row.bytes[first - row.first : max(0, cut.stop - row.first)]
    return replace(
        row,
        key=row.key[:MOST_TEXT],
        prefix=row.prefix[:MOST_TEXT],
        first=min(first, cut.stop) - cut.start,
        bytes=sizes,
    )
