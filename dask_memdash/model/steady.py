"""What a process holds beside its running tasks, over the last minute.

Storage and what was left behind go on growing until they do not fit; what running tasks
hold goes when they end.  So their counted bytes, and buffers on the move, are taken
away before anything is said of a trend.

Imports the standard library only.
"""

from __future__ import annotations

from array import array
from itertools import islice

#: Seconds that are looked back, and least seconds between two points.
MINUTE = 60.0
SPACING = 1.0

#: Values of a point: time, what is held beside running tasks, storage in RAM, and what
#: running tasks hold.
WIDTH = 4

#: Points that are kept at most.
KEPT = 64


class Steady:
    """The last minute of a process; 32 bytes a point.  Not thread-safe."""

    __slots__ = ("_values",)

    def __init__(self) -> None:
        self._values = array("d")

    def add(self, time: float, held: int, managed: int, tasks: int) -> None:
        """Note what was read; of points that are close, the one with least held.

        Parameters
        ----------
        time
            In Unix time.
        held, managed, tasks
            In bytes: all beside running tasks, of that storage in RAM, running tasks.
        """
        values = self._values
        if values and time < values[-WIDTH]:
            if time > values[-WIDTH] - MINUTE:
                return  # it came late
            del values[:]  # the clock went back
        if values and time < values[-WIDTH] + SPACING:
            if held < values[-WIDTH + 1]:
                values[-WIDTH + 1] = held
                values[-WIDTH + 2] = managed
            values[-1] = max(values[-1], tasks)
            return
        values.extend((time, held, managed, tasks))
        if len(values) > KEPT * WIDTH:
            del values[:WIDTH]

    def points(self, now: float) -> list[tuple[float, float, float, float]]:
        """Return the points of the last minute, oldest first."""
        values = self._values
        rows = zip(
            *(islice(values, column, None, WIDTH) for column in range(WIDTH)),
            strict=True,
        )
        return [row for row in rows if row[0] >= now - MINUTE]

    def rise(self) -> float:
        """Return by how much more is held than at the least that is kept, in bytes."""
        held = self._values[1::WIDTH]
        return held[-1] - min(held) if held else 0.0
