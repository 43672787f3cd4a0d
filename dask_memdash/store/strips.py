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
from collections.abc import Callable, Collection, Iterable, Sequence
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

#: Most that a share is told as, in per cent.
CEILING = 999

#: Widths of which a matrix is kept: those that were looked at last.
KEPT = 3

#: Deaths that are marked, and pauses of one strip, at most: the newest.
DEATHS = 100
PAUSES = 40

Points: TypeAlias = tuple[Sequence[float], Sequence[int], Sequence[int]]
Matrix: TypeAlias = npt.NDArray[np.int64]
Row: TypeAlias = npt.NDArray[np.int64]
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


def width_for(start: float, end: float) -> float:
    """Return the width of bins for a stretch of time, in seconds."""
    least = (end - start) / (BINS - 2)
    return float(next((w for w in WIDTHS if w >= least), math.ceil(least)))


class StripBook:
    """What is kept between two looks, for each width of bins."""

    def __init__(self) -> None:
        self._pages: OrderedDict[float, _Page] = OrderedDict()

    def answer(
        self, tracks: Collection[Track], start: float, end: float, newest: float
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
        """
        step = width_for(start, end)
        last = math.floor(end / step)
        bins = min(BINS, last - math.floor(start / step) + 1)
        page = self._pages.pop(step, None) or _Page(step)
        self._pages[step] = page
        while len(self._pages) > KEPT:
            self._pages.popitem(last=False)
        page.move_to(last)
        page.take_in(tracks)
        process, spilled = page.held(tracks, math.floor(newest / step))
        process, spilled = process[:, BINS - bins :], spilled[:, BINS - bins :]
        first = last - bins + 1
        lives = [t.left is None or t.left >= first * step for t in tracks]
        if not all(lives):
            tracks = [t for t, lived in zip(tracks, lives, strict=True) if lived]
            process, spilled = process[lives], spilled[lives]
        return _strips(list(tracks), process, spilled, first * step, step)


class _Page:
    """All processes in bins of one width, the newest `BINS` of them."""

    def __init__(self, step: float) -> None:
        self.step = step
        self.last: int | None = None
        # Column 0 is what was last seen before the first bin; -1 is nothing.
        self.process = np.full((0, BINS + 1), -1, np.int64)
        self.spilled = np.full((0, BINS + 1), -1, np.int64)
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
            self.process = np.full((0, BINS + 1), -1, np.int64)
            self.spilled = np.full((0, BINS + 1), -1, np.int64)
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
            more = np.full((len(new), BINS + 1), -1, np.int64)
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
                    matrix[row, column_of] = max(int(matrix[row, column_of]), value)
        return float(times[-1]) if len(times) else since

    def held(self, tracks: Iterable[Track], newest: int) -> tuple[Matrix, Matrix]:
        """Return both matrices, where each bin without a point has the last one's."""
        order = [self.rows[track.key] for track in tracks]
        process, spilled = self.process[order], self.spilled[order]
        filled = np.where(process >= 0, np.arange(BINS + 1), 0)
        np.maximum.accumulate(filled, axis=1, out=filled)
        process = np.take_along_axis(process, filled, axis=1)
        spilled = np.take_along_axis(spilled, filled, axis=1)
        ends = np.array(
            [
                newest if track.left is None else math.floor(track.left / self.step)
                for track in tracks
            ],
            np.int64,
        ).reshape(-1, 1)
        after = np.arange(BINS + 1) > ends - (self.last or 0) + BINS
        process[after] = spilled[after] = -1
        for row, track in enumerate(tracks):
            if track.last_moments:
                self._add_moments(process[row], track)
        return process[:, 1:], spilled[:, 1:]

    def _add_moments(self, process: Row, track: Track) -> None:
        """Put the last moments of a process upon what was read of it."""
        known = self.moments.get(track.key)
        if known is None or known[0] is not track.last_moments:
            moments = np.array(track.last_moments, np.float64)
            known = self.moments[track.key] = (track.last_moments, moments)
        moments = known[1]
        columns = np.floor(moments[:, 0] / self.step).astype(np.int64)
        columns += BINS - (self.last or 0)
        inside = (columns >= 1) & (columns <= BINS)
        if inside.any():
            seen = np.full(BINS + 1, -1, np.int64)
            np.maximum.at(seen, columns[inside], moments[inside, 1].astype(np.int64))
            first, last = int(columns[inside].min()), int(columns[inside].max())
            filled = np.where(seen >= 0, np.arange(BINS + 1), 0)
            held = seen[np.maximum.accumulate(filled)][first : last + 1]
            process[first : last + 1] = np.maximum(process[first : last + 1], held)


def _moved(matrix: Matrix, by: int) -> Matrix:
    """Move a matrix on by some bins; the last value that goes is kept in column 0."""
    gone = matrix[:, : by + 1]
    filled = np.where(gone >= 0, np.arange(by + 1), 0).max(axis=1, initial=0)
    moved = np.full_like(matrix, -1)
    moved[:, 1 : BINS + 1 - by] = matrix[:, by + 1 :]
    moved[:, 0] = np.take_along_axis(gone, filled[:, None], axis=1)[:, 0]
    return moved


def _strips(
    tracks: Sequence[Track],
    process: Matrix,
    spilled: Matrix,
    start: float,
    step: float,
) -> Strips:
    """Join tracks of one name, rank them, and sum up those that get no row."""
    bins = process.shape[1]
    most = max(1, int(process.max(initial=0)))
    of = np.array([track.limit or most for track in tracks], np.int64).reshape(-1, 1)
    shares = np.where(process >= 0, np.minimum(100 * process // of, CEILING), -1)
    on_disk = np.where(spilled >= 0, np.minimum(100 * spilled // of, CEILING), -1)
    groups: dict[str, list[int]] = {}
    for number, track in enumerate(tracks):
        groups.setdefault(track.name, []).append(number)
    members = list(groups.values())
    if len(members) < len(tracks):
        shares = np.array([shares[g].max(axis=0) for g in members], np.int64)
        on_disk = np.array([on_disk[g].max(axis=0) for g in members], np.int64)
    names = list(groups)
    end = start + bins * step
    died = [
        [d for n in group for d in tracks[n].deaths if start <= d["time"] < end]
        for group in members
    ]
    fullest = shares.max(axis=1, initial=-1) // CALM
    ranked = sorted(
        range(len(members)),
        key=lambda g: (not died[g], -int(fullest[g]), natural(names[g])),
    )
    shown = ranked if len(ranked) <= ALL else ranked[:MOST]
    rest = ranked[len(shown) :]
    rows = [
        _strip(
            [tracks[n] for n in members[g]],
            shares[g],
            on_disk[g],
            most,
            died[g],
            (start, end),
        )
        for g in shown
    ]
    levels = np.minimum(shares[rest] // (100 // LEVELS), LEVELS - 1)
    levels[shares[rest] < 0] = -1
    return {
        "start": start,
        "step": step,
        "bins": bins,
        "rows": rows,
        "rest": len(rest),
        "density": [(levels == k).sum(axis=0).tolist() for k in range(LEVELS)]
        if rest
        else [],
    }


def _strip(
    tracks: Sequence[Track],
    shares: Matrix,
    on_disk: Matrix,
    most: int,
    died: list[StripDeath],
    span: tuple[float, float],
) -> Strip:
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
