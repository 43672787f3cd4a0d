"""Shapes of what the store says of all workers over time: strips and a density.

See :mod:`dask_memdash.store.base` for units and for what ``None`` means.
"""

from __future__ import annotations

from typing import TypedDict


class StripDeath(TypedDict):
    """The death of a worker, where its strip has it."""

    time: float
    incident: str
    kind: str


class Strip(TypedDict):
    """One worker process over time, with those that took its place under its name."""

    name: str
    """Of its worker, or of the first of those that share the process."""
    others: int
    """How many other workers live in the same process."""
    address: str
    """Of the newest worker of that name."""
    there: bool
    """Whether that one was connected at the end."""
    limit: int | None
    of: int
    """What its shares are of, in bytes: its limit, or where it has none the most that
    any process had."""
    process: list[int | None]
    """Per cent of `of` in each bin: the most that was seen in it, else what was seen
    last; ``None`` where it was not there or had not been read."""
    spilled: list[int | None]
    """The same of what it had spilled to disk."""
    pauses: list[list[float | None]]
    """``[from, until]`` of each pause; ``until`` is ``None`` while it lasts."""
    deaths: list[StripDeath]


class Strips(TypedDict):
    """All workers over one stretch of time, in bins of one width.

    Bins begin at whole multiples of their width, so that they stay where they are as
    time goes on.  However many workers there are, rows are few.
    """

    start: float
    """Where the first bin begins."""
    step: float
    """Width of a bin, in seconds."""
    bins: int
    rows: list[Strip]
    """The fullest and the dead first."""
    rest: int
    """How many processes have no row."""
    density: list[list[int]]
    """Of these, how many were how full in each bin: one list for each tenth of the
    limit, emptiest first; the last holds all from nine tenths on."""
