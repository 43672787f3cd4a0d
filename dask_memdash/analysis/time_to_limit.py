"""How long until a worker does not fit any more, at the rate at which it fills.

Pure.  Only storage and what is left behind count, never the swings of running tasks;
and nothing is said of what is no steady growth.  The slope is Theil and Sen's: the
median of the slopes between pairs of points (P. K. Sen, "Estimates of the regression
coefficient based on Kendall's tau", JASA 63, 1968), which a third of wild points cannot
move.  All sizes are in bytes, times in seconds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from dask_memdash.model.processes import ProcessState

Point = tuple[float, float, float, float]

#: Points, and seconds between the first and the last, that anything is said of.
LEAST_POINTS = 6
LEAST_SPAN = 5.0

#: Points that are looked at: more are thinned out.
MOST_POINTS = 16

#: Growth over the span that is none: bytes, and a share of the line.
TRIFLE = 4_000_000
TRIFLE_SHARE = 0.02

#: Share of the slopes that must be near the median for it to be said, and how near.
CONFIDENT = 0.85
NEAR = 2.0

#: How far ahead is looked, as a multiple of what was seen, and in seconds.
AHEAD = 30.0
FORESEEABLE = 3600.0

STORAGE, LEFT_BEHIND = "storage", "left-behind"


@dataclass(frozen=True, slots=True)
class TimeToLimit:
    """When a worker reaches a line at its rate."""

    #: Seconds from now: most likely, and between what.
    seconds: float
    soonest: float
    latest: float | None
    #: The line: 'pause', 'terminate' or 'limit', and where it is.
    line: str
    bytes: int
    #: Bytes a second.
    rate: int
    #: What grows: 'storage' or 'left-behind'.
    grows: str
    #: 0 to 1: how steady it is.
    confidence: float


def time_to_limit(
    points: Sequence[Point],
    lines: Sequence[tuple[str, int | None]],
    *,
    spills: bool,
    longest_task: float,
) -> TimeToLimit | None:
    """Return when a process reaches a line; None where nothing steady takes it there.

    Parameters
    ----------
    points
        Time, what is held beside running tasks, storage in RAM, running tasks.
    lines
        Name and place of what ends its work, the first first.
    spills
        Whether storage goes to disk before it comes there.
    longest_task
        For how long the longest of the running tasks has run.
    """
    line = next(((name, at) for name, at in lines if at is not None), None)
    if line is None or len(points) < LEAST_POINTS:
        return None
    chosen = _thin(points)
    span = chosen[-1][0] - chosen[0][0]
    if span < LEAST_SPAN:
        return None
    name, at = line
    assert at is not None
    times = [p[0] for p in chosen]
    held = [p[1] - p[2] if spills else p[1] for p in chosen]
    if held[-1] - held[0] < max(TRIFLE, TRIFLE_SHARE * at):
        return None
    slopes = _slopes(times, held, span)
    rate = median(slopes)
    if rate * span < max(TRIFLE, TRIFLE_SHARE * at):
        return None
    near = sum(rate / NEAR <= slope <= rate * NEAR for slope in slopes)
    confidence = near / len(slopes)
    if confidence < CONFIDENT:
        return None
    stored = (chosen[-1][2] - chosen[0][2]) / span
    grows = STORAGE if not spills and stored > rate / 2 else LEFT_BEHIND
    if grows == LEFT_BEHIND and longest_task > span * 0.8:
        return None  # one task that grows, and will give it back
    level = median(h - rate * (t - times[-1]) for t, h in zip(times, held, strict=True))
    left = at - level - median(p[3] for p in chosen)
    if left <= 0:
        return None
    low, high = _quartiles(slopes)
    seconds = left / rate
    if seconds > min(FORESEEABLE, AHEAD * span):
        return None
    return TimeToLimit(
        seconds=round(seconds, 1),
        soonest=round(left / max(high, rate), 1),
        latest=round(left / low, 1) if low > 0 else None,
        line=name,
        bytes=at,
        rate=round(rate),
        grows=grows,
        confidence=round(confidence, 2),
    )


def full_in(
    process: ProcessState, now: float, lines: Sequence[tuple[str, int | None]]
) -> TimeToLimit | None:
    """Return when a process reaches a line; None where nothing steady takes it there.

    Parameters
    ----------
    now
        In Unix time.
    lines
        Name and place of what ends its work, the first first.
    """
    if process.steady.rise() < TRIFLE:
        return None  # most workers, most of the time
    workers = process.members.values()
    return time_to_limit(
        process.steady.points(now),
        lines,
        spills=any(
            w.thresholds.target is not None or w.thresholds.spill is not None
            for w in workers
        ),
        longest_task=max((t.seconds for w in workers for t in w.executing), default=0),
    )


def _thin(points: Sequence[Point]) -> Sequence[Point]:
    if len(points) <= MOST_POINTS:
        return points
    step = (len(points) - 1) / (MOST_POINTS - 1)
    return [points[round(k * step)] for k in range(MOST_POINTS)]


def _slopes(times: Sequence[float], held: Sequence[float], span: float) -> list[float]:
    """Return the slopes between pairs of points that are not close to each other."""
    least = span / 4
    return [
        (held[j] - held[i]) / (times[j] - times[i])
        for i in range(len(times))
        for j in range(i + 1, len(times))
        if times[j] - times[i] >= least
    ]


def _quartiles(slopes: list[float]) -> tuple[float, float]:
    """Return what nine tenths of the slopes lie between."""
    ordered = sorted(slopes)
    cut = math.floor(len(ordered) / 20)
    return ordered[cut], ordered[-1 - cut]
