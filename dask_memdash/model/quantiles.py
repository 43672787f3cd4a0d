"""A mergeable quantile sketch of sizes with bounded memory.

The method is DDSketch (C. Masson, J. E. Rim, H. K. Lee, "DDSketch: a fast and
fully-mergeable quantile sketch with relative-error guarantees", PVLDB 12(12),
2019): values are counted in buckets whose bounds grow by a constant factor, so that
every quantile is off by at most `ACCURACY` of its value.  Sizes from 0 to 2**63
need fewer than 2,200 buckets, so none ever has to be collapsed.

Imports the standard library only.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

#: Largest relative error of a quantile.
ACCURACY = 0.01
_GAMMA = (1 + ACCURACY) / (1 - ACCURACY)
_LOG_GAMMA = math.log(_GAMMA)
#: The largest bucket: that of 2**63.
MAX_BUCKET = math.ceil(math.log(2**63) / _LOG_GAMMA)


class QuantileSketch:
    """Counts sizes in bytes; gives quantiles to within `ACCURACY`.  Not thread-safe."""

    __slots__ = ("buckets", "count", "max", "min")

    def __init__(self) -> None:
        #: Bucket → count; bucket 0 holds what is at most 1 byte.
        self.buckets: dict[int, int] = {}
        self.count = 0
        self.min: int | None = None
        self.max: int | None = None

    def add(self, value: int) -> None:
        """Count a size in bytes (negative counts as 0)."""
        self._add(value, 1)

    def _add(self, value: int, times: int) -> None:
        value = max(0, value)
        bucket = math.ceil(math.log(value) / _LOG_GAMMA) if value > 1 else 0
        self.buckets[bucket] = self.buckets.get(bucket, 0) + times
        self.count += times
        self.min = value if self.min is None else min(self.min, value)
        self.max = value if self.max is None else max(self.max, value)

    def merge(self, other: QuantileSketch) -> None:
        """Count all that `other` has counted."""
        if not other.count:
            return
        buckets = self.buckets
        for bucket, count in other.buckets.items():
            buckets[bucket] = buckets.get(bucket, 0) + count
        self.count += other.count
        least, largest = other.min, other.max
        if least is not None and (self.min is None or least < self.min):
            self.min = least
        if largest is not None and (self.max is None or largest > self.max):
            self.max = largest

    def quantile(self, q: float) -> int | None:
        """Return the `q`-quantile (0 to 1) in bytes; None when nothing was counted."""
        if self.min is None or self.max is None:
            return None
        rank = q * (self.count - 1)
        seen = 0
        for bucket in sorted(self.buckets):
            seen += self.buckets[bucket]
            if seen > rank:
                middle = 2 * _GAMMA**bucket / (_GAMMA + 1) if bucket else 0
                return min(max(round(middle), self.min), self.max)
        return self.max

    def bins(self, most: int) -> list[tuple[int, int, int]]:
        """Return the distribution as at most `most` bins beside that of empty outputs.

        Returns
        -------
        list of (int, int, int)
            Least and largest size in bytes and how many were counted from the one to
            the other, smallest first, without gaps: a bin may be empty.  Bounds grow
            by one factor.  What is at most 1 byte has a bin of its own, ``(0, 1, n)``.
        """
        found = sorted(bucket for bucket in self.buckets if bucket)
        result = [(0, 1, self.buckets[0])] if self.buckets.get(0) else []
        if not found:
            return result
        first, last = found[0], found[-1]
        width = -(-(last - first + 1) // most)
        counts = [0] * ((last - first) // width + 1)
        for bucket in found:
            counts[(bucket - first) // width] += self.buckets[bucket]
        for number, count in enumerate(counts):
            low = first + number * width
            bounds = round(_GAMMA ** (low - 1)), round(_GAMMA ** (low + width - 1))
            result.append((*bounds, count))
        return result

    def to_dict(self) -> dict[str, Any]:
        """Return the sketch as plain data."""
        return {
            "buckets": {str(b): n for b, n in self.buckets.items()},
            "min": self.min,
            "max": self.max,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> QuantileSketch:
        """Rebuild a sketch from :meth:`to_dict`.

        Raises
        ------
        ValueError, TypeError, LookupError, AttributeError, ArithmeticError
            It is not one.
        """
        sketch = cls()
        for bucket, count in data["buckets"].items():
            number, times = int(bucket), int(count)
            if not 0 <= number <= MAX_BUCKET or times <= 0:
                raise ValueError(f"no sketch has {times} values in bucket {number}")
            sketch.buckets[number] = times
            sketch.count += times
        if sketch.count:
            sketch.min, sketch.max = int(data["min"]), int(data["max"])
            if not 0 <= sketch.min <= sketch.max:
                raise ValueError("a sketch's min must be from 0 to its max")
        return sketch

    @classmethod
    def of(cls, values: Iterable[int]) -> QuantileSketch:
        """Make a sketch of some sizes in bytes."""
        sketch = cls()
        for value, times in Counter(values).items():  # tasks are much alike
            sketch._add(value, times)
        return sketch
