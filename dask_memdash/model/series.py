"""Time series with bounded memory: full resolution of late, evenly coarser before.

Imports the standard library only.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import chain, pairwise

#: Largest value that a column holds, of either sign; beyond it, it stands for it.
LARGEST = 2**63 - 1

#: Width that bins of old points begin with where points may come at any rate, in
#: seconds.
NARROWEST = 2.0**-10

#: How often stretches are halved at most where points are few and far between.
HALVED = 16


class Series:
    """Columns of integers over time; at most `capacity` points.

    The newest 3/8 of `capacity`, up to half of it, stand as they came.  What is older
    is kept in bins of one width, counted from the first point: of each its largest and
    its smallest point, by the first column.  When they are more than half of
    `capacity`, the bins become twice as wide.  So the old part covers its whole span
    evenly, and a peak is the peak of its bin for good.  The first point always stays.
    Not thread-safe.

    Parameters
    ----------
    columns
        Names of the columns beside ``time``.
    capacity
        Points kept at most, in number; at least 3.
    spacing
        Least time between two points, in seconds; a point that comes sooner
        replaces the last one's place only if its first column is larger.
    """

    def __init__(self, columns: Sequence[str], capacity: int, spacing: float) -> None:
        self.names = tuple(columns)
        self.capacity = capacity
        self.spacing = spacing
        #: How many points have been appended since the beginning: a cursor.
        self.appended = 0
        self._time = array("d")
        self._columns = [array("q") for _ in self.names]
        self._opened = float("-inf")
        # Width of the bins of old points in seconds, and how many points are in bins,
        # with the first one.
        self._width = spacing if spacing > 0 else NARROWEST
        self._binned = 1

    def __len__(self) -> int:
        return len(self._time)

    def wants(self, time: float, first: int) -> bool:
        """Whether a point would be added, or take the place of the last."""
        soon = time < self._opened + self.spacing
        return not (soon and self._time and first <= self._columns[0][-1])

    def append(self, time: float, values: Sequence[int]) -> None:
        """Add a point; an instant before the last one is put at the last one's."""
        soon = self._time and time < self._opened + self.spacing
        if soon and values[0] <= self._columns[0][-1]:
            return
        if max(values) > LARGEST or min(values) < -LARGEST:
            values = [max(-LARGEST, min(value, LARGEST)) for value in values]
        if soon:
            for column, value in zip(self._columns, values, strict=True):
                column[-1] = value
            return
        self._opened = time
        self._time.append(time)
        for column, value in zip(self._columns, values, strict=True):
            column.append(value)
        self.appended += 1
        if len(self._time) > self.capacity:
            self._coarsen()

    def columns(
        self, since: float | None = None, points: int | None = None
    ) -> dict[str, list[float]]:
        """Return the points after `since`, thinned out to at most `points`.

        Thinning is even in time: see :func:`thin`.
        """
        start = 0 if since is None else bisect_right(self._time, since)
        chosen: Sequence[int] = range(start, len(self._time))
        if points is not None and len(chosen) > points > 0:
            kept = thin(self._time[start:], self._columns[0][start:], points)
            chosen = [start + index for index in kept]
        result: dict[str, list[float]] = {"time": [self._time[i] for i in chosen]}
        for name, column in zip(self.names, self._columns, strict=True):
            result[name] = [column[i] for i in chosen]
        return result

    def recent(self, since: float) -> list[tuple[float, int]]:
        """Return time and first column of the points from an instant on."""
        first = bisect_left(self._time, since)
        return list(zip(self._time[first:], self._columns[0][first:], strict=True))

    @property
    def last(self) -> tuple[float, int] | None:
        """Time and first column of the newest point, None without one."""
        return (self._time[-1], self._columns[0][-1]) if self._time else None

    def since(
        self, instant: float, *names: str
    ) -> tuple[array[float], list[array[int]]]:
        """Return time and the named columns of the points from an instant on."""
        first = bisect_left(self._time, instant)
        columns = [self._columns[self.names.index(name)] for name in names]
        return self._time[first:], [column[first:] for column in columns]

    def before(self, instant: float) -> float | None:
        """Return the time of the last point before an instant, None without one."""
        index = bisect_left(self._time, instant) - 1
        return self._time[index] if index >= 0 else None

    def newest(self) -> list[int]:
        """Return the values of the newest point; there must be one."""
        return [column[-1] for column in self._columns]

    def at(self, time: float) -> int | None:
        """Return the first column as it stood at an instant, None before the first."""
        index = bisect_right(self._time, time) - 1
        return self._columns[0][index] if index >= 0 else None

    def stood(
        self, start: float, end: float | None = None
    ) -> tuple[float, list[int]] | None:
        """Return the point that stood at an instant, or the largest of a span.

        The largest by its first column, and its time; None before the first point.
        What stood as a span began is in it.
        """
        first = max(0, bisect_right(self._time, start) - 1)
        last = bisect_right(self._time, start if end is None else end)
        if first >= last:
            return None
        values = self._columns[0]
        index = max(range(first, last), key=values.__getitem__)
        return self._time[index], [column[index] for column in self._columns]

    @property
    def first(self) -> float | None:
        """Time of the oldest point, None without one."""
        return self._time[0] if self._time else None

    def _coarsen(self) -> None:
        """Put the older points that are in no bin yet into bins."""
        most = max(1, self.capacity // 2)
        stop = len(self._time) - max(1, self.capacity * 3 // 8)
        start = max(1, self._binned - 2)  # the newest bin may go on
        kept = self._in_bins(start, stop)
        while start - 1 + len(kept) > most:
            self._width *= 2
            start = 1
            kept = self._in_bins(start, stop)
        self._time[start:stop] = array("d", [self._time[i] for i in kept])
        for column in self._columns:
            column[start:stop] = array("q", [column[i] for i in kept])
        self._binned = start + len(kept)

    def _in_bins(self, start: int, stop: int) -> list[int]:
        """Return the points that stand for those from `start` to before `stop`."""
        sizes = self._columns[0]
        runs = _runs(self._time, start, stop, self._time[0], self._width)
        if self.capacity < 4:  # there is no room for two of each
            return [max(range(a, b), key=sizes.__getitem__) for a, b in runs]
        return list(chain.from_iterable(_ends(sizes, a, b) for a, b in runs))


def thin(times: Sequence[float], sizes: Sequence[int], points: int) -> Sequence[int]:
    """Choose points that show a curve, evenly in time.

    The first and the newest, and of each of as many stretches of equal length as fit
    the largest and the smallest.  Where points are few and far between, stretches are
    shorter.  Of less than three points the newest is one, and the largest another.

    Parameters
    ----------
    times, sizes
        Of the points, oldest first.
    points
        How many at most; at least 1.

    Returns
    -------
    sequence of int
        Indices, ascending.
    """
    last = len(times) - 1
    if last < points:
        return range(len(times))
    if points < 3:
        return [*[max(range(last), key=sizes.__getitem__)][: points - 1], last]
    room = points - 2
    stretches = (room + 1) // 2
    # A little wider, so that the last point is in the last of them.
    width = (times[last - 1] - times[1]) / stretches * (1 + 1e-9)
    runs = _runs(times, 1, last, times[1], width) if width > 0 else [(1, last)]
    chosen = [_ends(sizes, a, b) for a, b in runs]
    for _ in range(HALVED):
        if 2 * sum(map(len, chosen)) > room:
            break
        width /= 2
        runs = _runs(times, 1, last, times[1], width)
        chosen = [_ends(sizes, a, b) for a, b in runs]
    if sum(map(len, chosen)) > room:
        chosen[0] = [max(chosen[0], key=sizes.__getitem__)]
    return [0, *chain.from_iterable(chosen), last]


def _runs(
    times: Sequence[float], start: int, stop: int, origin: float, width: float
) -> list[tuple[int, int]]:
    """Return begin and end of what lies in one bin, from `start` to before `stop`."""
    bins = [(time - origin) // width for time in times[start:stop]]
    begins = [i for i, (a, b) in enumerate(pairwise(bins), start + 1) if a != b]
    return list(pairwise([start, *begins, stop])) if bins else []


def _ends(sizes: Sequence[int], start: int, stop: int) -> Sequence[int]:
    """Return where largest and smallest of a run are, or its ends if it is flat."""
    if stop - start <= 2:
        return range(start, stop)
    run = sizes[start:stop]
    largest, smallest = max(run), min(run)
    if largest == smallest:
        return [start, stop - 1]
    return sorted((start + run.index(largest), start + run.index(smallest)))
