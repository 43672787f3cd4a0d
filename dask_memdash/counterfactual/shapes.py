"""Shapes of what is said of a run that might have gone otherwise.

Sizes are in bytes; ``None`` is not known, or as it was.
"""

from __future__ import annotations

from typing import TypedDict


class Changed(TypedDict):
    """What is taken to be different."""

    limit: float
    """Each worker's limit, as a multiple of what it was."""
    threads: int | None
    chunks: float
    """Size of chunks, as a multiple of what it was."""
    spilling: bool | None
    workers: int
    """Workers more, or below 0 fewer."""


class WhatIfAnswer(TypedDict):
    """Whether it would have lived with one change."""

    change: Changed
    verdict: str
    """'lived', 'died' (or stopped for good) or 'unknown'."""
    low: int | None
    high: int | None
    """Between what the fullest worker would have had at its peak."""
    limit: int | None
    line: int | None
    """Where a worker ends."""
    reason: str
    because: str
    """Of 'unknown': why in a few words."""
    text: str


class WouldHaveLived(TypedDict):
    """With what the run of a failure would have lived."""

    failure: str
    lived: list[WhatIfAnswer]
    """Two at most."""
    because: str | None
    """Why nothing can be said; ``None`` where something can or need not be."""
    lines: list[str]
    """The same in words; none where there is no question."""
