"""The last minute in a cell: memory of a process as a line of a few points."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

#: Length of the line in seconds, and between two of its points.
SPAN = 60
STEP = 3

#: Points that are asked of the history: readings come twice a second at most.
ASKED = 120


def since(now: float) -> float:
    """Return the instant from which on readings are needed."""
    return _last(now) - SPAN - STEP


def curve(times: Sequence[float], sizes: Sequence[int], now: float, top: int) -> str:
    """Write the last minute as numbers from 0 to 100, oldest first.

    The points stand at whole steps of the clock, so that a line moves once a step, and
    each says what was last read by then; it is empty where nothing was.

    Parameters
    ----------
    times, sizes
        Readings, oldest first, in seconds and bytes.
    now
        The newest reading of all, in seconds.
    top
        What is 100, in bytes.
    """
    if not times or top <= 0:
        return ""
    last = _last(now)
    points = []
    for step in range(SPAN // STEP, -1, -1):
        read = bisect_right(times, last - step * STEP) - 1
        value = "" if read < 0 else str(min(100, round(100 * sizes[read] / top)))
        points.append(value)
    return ",".join(points) if any(points) else ""


def _last(now: float) -> int:
    """Return the last whole step of the clock, once all that was read by it is in."""
    return int(now // STEP) * STEP
