"""A graph's tasks as they were read, made into columns by rank.

What is read off the scheduler must be read on its event loop, so it is only copied
there (:class:`RawTasks`); sorting and joining happens here, with numpy, wherever the
caller likes.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from dask_memdash.model.graph_columns import (
    GIVEN,
    LEFT,
    MAX_PREFIXES,
    PINNED,
    GraphColumns,
)

Ints = npt.NDArray[np.int64]


class PackError(ValueError):
    """Tasks that cannot be made into columns; says why in a sentence."""


@dataclass(slots=True)
class RawTasks:
    """Tasks in any order, one entry each, as they were copied."""

    hashes: array[int] = field(default_factory=lambda: array("q"))
    #: The three numbers of their priorities.
    users: array[float] = field(default_factory=lambda: array("d"))
    generations: array[float] = field(default_factory=lambda: array("d"))
    orders: array[float] = field(default_factory=lambda: array("d"))
    #: Number of the prefix; names by number are in `prefixes`.
    prefix: array[int] = field(default_factory=lambda: array("I"))
    prefixes: list[str] = field(default_factory=list)
    #: Number of dependencies, and hashes of all dependencies one task after another.
    degrees: array[int] = field(default_factory=lambda: array("I"))
    dependencies: array[int] = field(default_factory=lambda: array("q"))
    flags: bytearray = field(default_factory=bytearray)

    def __len__(self) -> int:
        return len(self.hashes)


def pack(raw: RawTasks, moves: array[int] | None = None) -> GraphColumns:
    """Make columns by rank.

    Dependencies on tasks that are not among them are left out.

    Parameters
    ----------
    moves
        Hash and size by turns, as in ``OutputsMoved``, of what moved since the graph
        arrived.  A task that was stored meanwhile was not given, whatever its flag
        says: it was looked at too late.

    Raises
    ------
    PackError
        They have too many prefixes, or two keys with one hash.
    """
    if len(raw.prefixes) > MAX_PREFIXES:
        raise PackError(
            f"Its tasks have {len(raw.prefixes):,} prefixes; at most "
            f"{MAX_PREFIXES:,} are told apart."
        )
    users, generations = _of(raw.users, "f8"), _of(raw.generations, "f8")
    numbers, hashes = _of(raw.orders, "f8"), _of(raw.hashes, "i8")
    by_rank = np.lexsort((numbers, generations, users))
    rank_of = np.empty(len(hashes), np.int32)
    rank_of[by_rank] = np.arange(len(hashes), dtype=np.int32)
    by_hash = np.argsort(hashes, kind="stable")
    sorted_hashes = hashes[by_hash]
    if (sorted_hashes[1:] == sorted_hashes[:-1]).any():
        raise PackError("Two of its keys have the same hash.")
    offsets, dependencies = _join(raw, sorted_hashes, rank_of[by_hash], by_rank)
    heads, orders, first = _heads(
        users[by_rank], generations[by_rank], numbers[by_rank]
    )
    flags = _flags(raw, moves, hashes)[by_rank]
    _mark_unneeded(flags, offsets, dependencies)
    return GraphColumns(
        hashes=sorted_hashes.tobytes(),
        ranks=rank_of[by_hash].tobytes(),
        prefixes=tuple(raw.prefixes),
        prefix=_of(raw.prefix, "u4")[by_rank].astype(np.uint16).tobytes(),
        offsets=offsets.astype(np.uint32).tobytes(),
        dependencies=dependencies.astype(np.uint32).tobytes(),
        flags=flags.tobytes(),
        heads=heads,
        orders=orders,
        first=first,
    )


def _join(
    raw: RawTasks,
    sorted_hashes: npt.NDArray[Any],
    ranks: npt.NDArray[Any],
    by_rank: npt.NDArray[Any],
) -> tuple[Ints, Ints]:
    """Return where each task's dependencies begin, and their ranks, by rank."""
    wanted = _of(raw.dependencies, "i8")
    degrees = _of(raw.degrees, "u4").astype(np.int64)
    place = np.searchsorted(sorted_hashes, wanted)
    place[place == len(sorted_hashes)] = 0
    known = sorted_hashes[place] == wanted if len(wanted) else np.empty(0, bool)
    begins = np.zeros(len(degrees) + 1, np.int64)
    if not known.all():
        ends = np.cumsum(degrees)
        count = np.concatenate(([0], np.cumsum(known)))
        degrees = count[ends] - count[ends - degrees]
        place = place[known]
    np.cumsum(degrees, out=begins[1:])
    counts = degrees[by_rank]
    offsets = np.zeros(len(degrees) + 1, np.int64)
    np.cumsum(counts, out=offsets[1:])
    # the dependencies of a task stay together: only blocks change places
    source = np.arange(offsets[-1]) + np.repeat(begins[by_rank] - offsets[:-1], counts)
    return offsets, ranks[place[source]].astype(np.int64)


def _heads(
    users: npt.NDArray[Any], generations: npt.NDArray[Any], numbers: npt.NDArray[Any]
) -> tuple[dict[str, int], bytes, float]:
    """Return the heads of the priorities with their counts, and the last numbers."""
    changes = np.flatnonzero((np.diff(users) != 0) | (np.diff(generations) != 0)) + 1
    begins = [0, *changes.tolist()]
    heads = {
        f"{float(users[begin])},{float(generations[begin])}": end - begin
        for begin, end in zip(begins, [*begins[1:], len(users)], strict=True)
    }
    first = float(numbers[0])
    if len(heads) == 1 and first.is_integer() and (np.diff(numbers) == 1).all():
        return heads, b"", first
    if np.abs(numbers).max() < 2**31 and (numbers == np.floor(numbers)).all():
        return heads, numbers.astype(np.int32).tobytes(), 0.0
    return heads, numbers.tobytes(), 0.0


def _flags(
    raw: RawTasks, moves: array[int] | None, hashes: npt.NDArray[Any]
) -> npt.NDArray[np.uint8]:
    flags = np.frombuffer(bytes(raw.flags), np.uint8).copy()
    if moves:
        moved = np.frombuffer(moves, np.int64).reshape(-1, 2)
        stored = moved[moved[:, 1] != LEFT, 0]
        flags[np.isin(hashes, stored)] &= ~np.uint8(GIVEN)
    return flags


def _mark_unneeded(
    flags: npt.NDArray[np.uint8], offsets: Ints, dependencies: Ints
) -> None:
    """Mark what only leads to outputs that are there as given: it is not run."""
    given = (flags & GIVEN) > 0
    if not (np.diff(offsets)[given] > 0).any():
        return
    is_needed = np.zeros(len(flags), bool)
    is_needed[dependencies] = True
    wanted = ~given & (~is_needed | ((flags & PINNED) > 0))
    seen = bytearray(wanted.tobytes())
    stack = np.flatnonzero(wanted).tolist()
    while stack:
        rank = stack.pop()
        for dependency in dependencies[offsets[rank] : offsets[rank + 1]].tolist():
            if not seen[dependency] and not given[dependency]:
                seen[dependency] = 1
                stack.append(dependency)
    flags[np.frombuffer(seen, np.uint8) == 0] |= np.uint8(GIVEN)


def _of(column: array[Any], dtype: str) -> npt.NDArray[Any]:
    return np.frombuffer(column, dtype) if len(column) else np.empty(0, dtype)
