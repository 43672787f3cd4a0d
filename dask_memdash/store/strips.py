"""All workers over time, in few rows: how full each was, who paused, who died.

A :class:`StripBook` keeps, for the widths of bins that are looked at, a matrix of all
workers' memory by bin.  As time goes on it moves on by whole bins and takes in only
what is new, so that 1,000 workers cost little at each look; what it answers has the
same size however many workers there are.  Where the points come from is the store's to
say, by :class:`Track`.

Not thread-safe.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from dask_memdash.store.natural_order import natural
from dask_memdash.store.strip_shapes import Strip, StripDeath, Strips

#: Bins of an answer at most, and the widths that they may have, in seconds.
BINS = 160
WIDTHS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600, 86400)

#: All workers have rows where there are no more than so many; else so many have.
ALL = 24
MOST = 16

#: Tenths of the limit that the density tells apart.
LEVELS = 10

#: Per cent of the limit by which one worker has to be fuller to stand above another.
CALM = 10

#: Most that a share is told as, in per cent, and what is added before it is cut to a
#: whole one: sizes are kept to seven digits.
CEILING = 999
ROUNDED = 0.001

#: Widths of which a matrix is kept: those that were looked at last.
KEPT = 3

#: Deaths that are marked, and pauses of one strip, at most: the newest.
DEATHS = 100
PAUSES = 40

Points: TypeAlias = tuple[Sequence[float], Sequence[int], Sequence[int]]
#: Bytes by process and bin; -1 is nothing.
Matrix: TypeAlias = npt.NDArray[np.float32]
Shares: TypeAlias = npt.NDArray[np.int16]
Moments: TypeAlias = npt.NDArray[np.float64]


@dataclass(slots=True)
class Track:
    """One worker process, as far as strips are concerned."""

    #: Tells it from every other; the same for as long as it lives.
    key: tuple[Any, ...]
    name: str
    address: str
    limit: int | None
    #: Changes when it has new points.
    cursor: object
    #: Gives times, processes and spilled bytes from an instant on, and what was last
    #: seen before it.
    read: Callable[[float], Points]
    #: When it left; None while it is there.
    left: float | None = None
    others: int = 0
    pauses: Sequence[Sequence[float | None]] = ()
    #: RSS of its last moments, as a sampler outside it saw them.
    last_moments: Sequence[tuple[float, int]] = ()
    deaths: list[StripDeath] = field(default_factory=list)


def unseen_death(incident: str, time: float, address: str, name: str) -> Track:
    """Return a process of which nothing but its death is known.

    It never reported, or all that was kept of it has gone.
    """
    return Track(
        key=(address, "death", incident),
        name=name,
        address=address,
        limit=None,
        cursor=0,
        read=lambda since: ((), (), ()),
        left=time,
    )


def width_for(start: float, end: float, least: float = 0.0) -> float:
    """Return the width of bins for a stretch of time, at least so many seconds."""
    least = max(least, (end - start) / (BINS - 2))
    return float(next((w for w in WIDTHS if w >= least), math.ceil(least)))


class StripBook:
    """What is kept between two looks, for each width of bins."""

    def __init__(self) -> None:
        self._pages: OrderedDict[float, _Page] = OrderedDict()

    def answer(
        self,
        tracks: Collection[Track],
        start: float,
        end: float,
        newest: float,
        least: float = 0.0,
    ) -> Strips:
        """Return the strips of a stretch of time.

        Parameters
        ----------
        tracks
            All processes, those that have left too.
        start, end
            Of what is shown, in seconds since the epoch.
        newest
            Instant of the newest reading: nothing is held on beyond it.
        least
            Least width of a bin, in seconds.
        """
        step = width_for(start, end, least)
        last = math.floor(end / step)
        bins = min(BINS, last - math.floor(start / step) + 1)
        page = self._pages.pop(step, None) or _Page(step)
        self._pages[step] = page
        while len(self._pages) > KEPT:
            self._pages.popitem(last=False)
        page.move_to(last)
        page.take_in(tracks)
        first = last - bins + 1
        there = [t for t in tracks if t.left is None or t.left >= first * step]
        return _strips(
            there, page.held(there, bins, math.floor(newest / step)), first * step, step
        )


class _Page:
    """All processes in bins of one width, the newest `BINS` of them."""

    def __init__(self, step: float) -> None:
        self.step = step
        self.last: int | None = None
        # Column 0 is what was last seen before the first bin; -1 is nothing.
        self.process = np.full((0, BINS + 1), -1, np.float32)
        self.spilled = np.full((0, BINS + 1), -1, np.float32)
        self.rows: dict[tuple[Any, ...], int] = {}
        self.seen: dict[tuple[Any, ...], tuple[object, float]] = {}
        self.moments: dict[tuple[Any, ...], tuple[object, Moments]] = {}

    @property
    def origin(self) -> float:
        """Instant at which the first bin begins."""
        return ((self.last or 0) - BINS + 1) * self.step

    def move_to(self, last: int) -> None:
        """Make a bin the last; what lies before the first is known by its last value.

        A page that went on by more than its length, or back, is begun anew.
        """
        before, self.last = self.last, last
        if before is None or not 0 <= last - before < BINS:
            self.rows.clear()
            self.seen.clear()
            self.process = np.full((0, BINS + 1), -1, np.float32)
            self.spilled = np.full((0, BINS + 1), -1, np.float32)
            return
        moved = last - before
        if moved:
            self.process = _moved(self.process, moved)
            self.spilled = _moved(self.spilled, moved)

    def take_in(self, tracks: Collection[Track]) -> None:
        """Add what is new of each process; forget those that are gone."""
        keys = {track.key for track in tracks}
        if gone := [key for key in self.rows if key not in keys]:
            for key in gone:
                del self.rows[key], self.seen[key]
                self.moments.pop(key, None)
            kept = list(self.rows.values())
            self.process, self.spilled = self.process[kept], self.spilled[kept]
            self.rows = {key: number for number, key in enumerate(self.rows)}
        new = [track.key for track in tracks if track.key not in self.rows]
        if new:
            more = np.full((len(new), BINS + 1), -1, np.float32)
            self.process = np.concatenate((self.process, more))
            self.spilled = np.concatenate((self.spilled, more))
            for key in new:
                self.rows[key] = len(self.rows)
        for track in tracks:
            cursor, upto = self.seen.get(track.key, (None, self.origin))
            if cursor != track.cursor or cursor is None:
                upto = self._read(self.rows[track.key], track, upto)
                self.seen[track.key] = (track.cursor, upto)

    def _read(self, row: int, track: Track, since: float) -> float:
        times, process, spilled = track.read(since)
        if len(times) > 8:
            column = np.clip(
                np.floor(np.asarray(times) / self.step).astype(np.int64)
                - (self.last or 0)
                + BINS,
                0,
                BINS + 1,
            )
            inside = column <= BINS
            first = int(np.searchsorted(column, 1))  # what lies before the first bin
            if first:
                self.process[row, 0] = process[first - 1]
                self.spilled[row, 0] = spilled[first - 1]
            inside[:first] = False
            for matrix, sizes in ((self.process, process), (self.spilled, spilled)):
                np.maximum.at(matrix[row], column[inside], np.asarray(sizes)[inside])
            return float(times[-1])
        for time, size, on_disk in zip(times, process, spilled, strict=True):
            column_of = math.floor(time / self.step) - (self.last or 0) + BINS
            if column_of < 1:
                self.process[row, 0], self.spilled[row, 0] = size, on_disk
            elif column_of <= BINS:
                for matrix, value in ((self.process, size), (self.spilled, on_disk)):
                    matrix[row, column_of] = max(float(matrix[row, column_of]), value)
        return float(times[-1]) if len(times) else since

    def held(self, tracks: Sequence[Track], bins: int, newest: int) -> Held:
        """Return the last bins of some processes, each up to its end."""
        order = np.array([self.rows[track.key] for track in tracks], np.intp)
        whole = len(order) == len(self.process) and bool((np.diff(order) == 1).all())
        process = self.process if whole else self.process[order]
        first = BINS + 1 - bins
        # The last bin with a point up to each bin.
        last = np.where(process >= 0, np.arange(BINS + 1, dtype=np.int16), np.int16(0))
        np.maximum.accumulate(last, axis=1, out=last)
        from_bin = last[:, first:].astype(np.intp)
        sizes = np.take_along_axis(process, from_bin, axis=1)
        now = self.last or 0
        ends = np.full(len(tracks), newest - now + BINS, np.int64)
        for row, track in enumerate(tracks):
            if track.left is not None:
                ends[row] = math.floor(track.left / self.step) - now + BINS
        over = np.arange(first, BINS + 1) > ends[:, None]
        sizes[over] = -1
        for row, track in enumerate(tracks):
            if track.last_moments:
                self._add_moments(sizes[row], track, first)
        return Held(sizes, self.spilled, order, from_bin, over)

    def _add_moments(
        self, process: npt.NDArray[np.float32], track: Track, first: int
    ) -> None:
        """Put the last moments of a process upon what was read of it."""
        known = self.moments.get(track.key)
        if known is None or known[0] is not track.last_moments:
            moments = np.array(track.last_moments, np.float64)
            known = self.moments[track.key] = (track.last_moments, moments)
        moments = known[1]
        columns = np.floor(moments[:, 0] / self.step).astype(np.int64)
        columns += BINS - (self.last or 0) - first
        inside = (columns >= 0) & (columns < len(process))
        if inside.any():
            seen = np.full(len(process), -1, np.float32)
            np.maximum.at(seen, columns[inside], moments[inside, 1].astype(np.float32))
            start, end = int(columns[inside].min()), int(columns[inside].max()) + 1
            filled = np.where(seen >= 0, np.arange(len(process)), 0)
            held = seen[np.maximum.accumulate(filled)][start:end]
            process[start:end] = np.maximum(process[start:end], held)


@dataclass(frozen=True, slots=True)
class Held:
    """Some processes in bins, each bin without a point as the last one before it."""

    #: Bytes of each process; -1 where nothing is known.
    process: Matrix
    #: What all had spilled, which of these they are, and the bins to take it from.
    all_spilled: Matrix
    order: npt.NDArray[np.intp]
    from_bin: npt.NDArray[np.intp]
    over: npt.NDArray[np.bool_]

    def spilled(self, rows: Sequence[int]) -> Matrix:
        """Return what some of them had spilled."""
        chosen = self.all_spilled[self.order[rows]]
        sizes = np.take_along_axis(chosen, self.from_bin[rows], axis=1)
        sizes[self.over[rows]] = -1
        return sizes


def _moved(matrix: Matrix, by: int) -> Matrix:
    """Move a matrix on by some bins; the last value that goes is kept in column 0."""
    gone = matrix[:, : by + 1]
    filled = np.where(gone >= 0, np.arange(by + 1), 0).max(axis=1, initial=0)
    moved = np.full_like(matrix, -1)
    moved[:, 1 : BINS + 1 - by] = matrix[:, by + 1 :]
    moved[:, 0] = np.take_along_axis(gone, filled[:, None], axis=1)[:, 0]
    return moved


def _shares(sizes: Matrix, of: npt.NDArray[np.float32]) -> Shares:
    """Return sizes in whole per cent; -1 where nothing is known."""
    shares = np.minimum(sizes * (100 / of)[:, None] + ROUNDED, CEILING)
    found: Shares = np.where(sizes >= 0, shares, -1).astype(np.int16)
    return found


def _strips(tracks: Sequence[Track], held: Held, start: float, step: float) -> Strips:
    """Join tracks of one name, rank them, and sum up those that get no row."""
    bins = held.process.shape[1]
    most = max(1, int(held.process.max(initial=0)))
    of = np.array([track.limit or most for track in tracks], np.float32)
    shares = _shares(held.process, of)
    groups: dict[str, list[int]] = {}
    for number, track in enumerate(tracks):
        groups.setdefault(track.name, []).append(number)
    names, members = list(groups), list(groups.values())
    if len(members) < len(tracks):
        shares = np.array([shares[g].max(axis=0) for g in members], np.int16)
    end = start + bins * step
    died = {
        track.name
        for track in tracks
        if any(start <= death["time"] < end for death in track.deaths)
    }
    fullest = (shares.max(axis=1, initial=-1) // CALM).tolist()
    ranked = sorted(
        range(len(members)),
        key=lambda g: (names[g] not in died, -fullest[g], natural(names[g])),
    )
    shown = ranked if len(ranked) <= ALL else ranked[:MOST]
    rows = []
    for g in shown:
        on_disk = _shares(held.spilled(members[g]), of[members[g]]).max(axis=0)
        found = [tracks[n] for n in members[g]]
        rows.append(_strip(found, shares[g], on_disk, most, (start, end)))
    rest = ranked[len(shown) :]
    return {
        "start": start,
        "step": step,
        "bins": bins,
        "rows": rows,
        "rest": len(rest),
        "density": _density(shares[rest]) if rest else [],
    }


def _density(shares: Shares) -> list[list[int]]:
    """Count for each tenth and each bin how many are in it."""
    bins = shares.shape[1]
    levels = np.minimum(shares // (100 // LEVELS), LEVELS - 1)
    places = levels.astype(np.intp) * bins + np.arange(bins)
    counted = np.bincount(places[shares >= 0], minlength=LEVELS * bins)
    return [row.tolist() for row in counted.reshape(LEVELS, bins)]


def _strip(
    tracks: Sequence[Track],
    shares: Shares,
    on_disk: Shares,
    most: int,
    span: tuple[float, float],
) -> Strip:
    died = [d for t in tracks for d in t.deaths if span[0] <= d["time"] < span[1]]
    newest = max(tracks, key=lambda t: math.inf if t.left is None else t.left)
    pauses = [
        [begun, ended]
        for track in tracks
        for begun, ended in track.pauses
        if (begun or 0.0) < span[1] and (ended is None or ended > span[0])
    ]
    return {
        "name": newest.name,
        "others": newest.others,
        "address": newest.address,
        "there": newest.left is None,
        "limit": newest.limit,
        "of": newest.limit or most,
        "process": [None if share < 0 else share for share in shares.tolist()],
        "spilled": [None if share < 0 else share for share in on_disk.tolist()],
        "pauses": sorted(pauses, key=lambda p: p[0] or 0.0)[-PAUSES:],
        "deaths": sorted(died, key=lambda d: d["time"])[-PAUSES:],
    }
