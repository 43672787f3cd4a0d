"""Time series with bounded memory: full resolution now, coarser before.

Imports the standard library only.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import pairwise

#: Largest value that a column holds, of either sign; beyond it, it stands for it.
LARGEST = 2**63 - 1


class Series:
    """Columns of integers over time; at most `capacity` points.

    When it is full, every two neighbouring points of its older half become one: the
    one with the larger first column, so that peaks stay.  Not thread-safe.

    Parameters
    ----------
    columns
        Names of the columns beside ``time``.
    capacity
        Points kept at most, in number.
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

        Thinning keeps, of each run of neighbours, the one with the largest first
        column, and always the newest point.
        """
        start = 0 if since is None else bisect_right(self._time, since)
        chosen: Sequence[int] = range(start, len(self._time))
        if points is not None and len(chosen) > points > 0:
            chosen = self._thin(chosen, points)
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

    def _thin(self, chosen: Sequence[int], points: int) -> list[int]:
        first = self._columns[0]
        *rest, last = chosen
        step = len(rest) / max(1, points - 1)
        bounds = [round(k * step) for k in range(points)]
        runs = [rest[a:b] for a, b in pairwise(bounds) if a < b]
        return [max(run, key=first.__getitem__) for run in runs] + [last]

    def _coarsen(self) -> None:
        half = len(self._time) // 2 // 2 * 2
        first = self._columns[0]
        keep = [i if first[i] >= first[i + 1] else i + 1 for i in range(0, half, 2)]
        self._time = array("d", [self._time[i] for i in keep]) + self._time[half:]
        self._columns = [
            array("q", [column[i] for i in keep]) + column[half:]
            for column in self._columns
        ]
