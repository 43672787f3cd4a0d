"""Sizes that are known to lie between two bounds, of which the upper may be missing.

Pure.  All sizes are integers in bytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Interval:
    """From `low` to `high`; `high` is None where nothing bounds it."""

    low: int
    high: int | None

    def __add__(self, other: Interval) -> Interval:
        """Return the interval of the sum."""
        if self.high is None or other.high is None:
            return Interval(self.low + other.low, None)
        return Interval(self.low + other.low, self.high + other.high)

    def times(self, low: float, high: float | None = None) -> Interval:
        """Return the interval of the product with a factor between two bounds."""
        high = low if high is None else high
        most = None if self.high is None else round(self.high * high)
        return Interval(round(self.low * low), most)

    def at_most(self, size: int) -> Interval:
        """Return what is left of it where no more than `size` is possible."""
        high = size if self.high is None else min(self.high, size)
        return Interval(min(self.low, high), high)


NOTHING = Interval(0, 0)


def total(parts: Iterable[Interval]) -> Interval:
    """Return the interval of a sum."""
    result = NOTHING
    for part in parts:
        result = result + part
    return result
