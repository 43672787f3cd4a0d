"""Which segments of a run go: by age, and by the limit of its size.  Pure."""

from __future__ import annotations

from collections.abc import Iterable

from dask_memdash.runs.directory import Segment
from dask_memdash.text import format_bytes, format_instant

#: Seconds for which the history at a resolution is kept; that at 60 s is kept.
KEPT = {"s1": 600.0, "s10": 3 * 3600.0}

#: What goes first where a run is too large: detail, and the oldest of it.
FIRST_TO_GO = ("s1", "s10", "s60", "main")

WORDS = {
    "s1": "memory by the second",
    "s10": "memory each 10 s",
    "s60": "memory each minute",
    "main": "states, incidents, graphs and tasks",
}


def too_old(segments: Iterable[Segment], now: float) -> list[Segment]:
    """Return the segments whose detail is no longer kept."""
    return [one for one in segments if one.last < now - KEPT.get(one.kind, now + 1)]


def too_much(segments: Iterable[Segment], size: int, limit: int) -> list[Segment]:
    """Return the segments that go so that a run keeps to its limit.

    Parameters
    ----------
    segments
        The closed ones.
    size
        Of the live ones together, in bytes.
    limit
        Of the run, in bytes.
    """
    ranked = sorted(segments, key=lambda s: (FIRST_TO_GO.index(s.kind), s.last))
    total = size + sum(one.bytes for one in ranked)
    gone = []
    for one in ranked:
        if total <= limit:
            break
        gone.append(one)
        total -= one.bytes
    return gone


def sentences(gone: Iterable[Segment], limit: int) -> dict[str, str]:
    """Say what the limit has taken: kind → a sentence."""
    until: dict[str, float] = {}
    for one in gone:
        until[one.kind] = max(until.get(one.kind, one.last), one.last)
    return {
        kind: f"{WORDS[kind]} up to {format_instant(last)} were dropped, since the run "
        f"had reached its limit of {format_bytes(limit)} (memdash.record.limit)"
        for kind, last in until.items()
    }
