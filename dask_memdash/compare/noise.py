"""How far the figure of a run may be off: by chance, by the measure, from run to run.

Tasks of one prefix are taken for a sample of what such a task needs. Between which
bounds a quantile of all such tasks lies is told by order statistics, without any
assumption on how they are distributed (G. J. Hahn and W. Q. Meeker, "Statistical
Intervals", Wiley 1991, section 5.2). The bounds of a difference of two figures follow
from those of the two by MOVER (G. Y. Zou and A. Donner, "Construction of confidence
limits about effect measures: a general approach", Statistics in Medicine 27, 2008);
what each figure may be off by, for the measure's own error, is added in quadrature,
as errors are that have nothing to do with each other (JCGM 100:2008, section 5.1).
Two counts are compared given their sum (J. Przyborowski and H. Wilenski, "Homogeneity
of results in testing samples from Poisson series", Biometrika 31, 1940).

Imports the standard library only.  Sizes in bytes, or any other unit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

#: Chance that bounds do not hold the figure that they are of.
ALPHA = 0.01

#: Quantiles that are compared: what is usual, and what is much.
TYPICAL, HIGH = 0.5, 0.95

#: Number of values from which a binomial distribution is taken for a normal one.
MANY = 2_000


@dataclass(frozen=True, slots=True)
class Sample:
    """What was counted of a figure, smallest first.

    Parameters
    ----------
    bins
        Least and largest value, and how many lie from the one to the other.
    error
        By how much each value may be off.
    """

    bins: tuple[tuple[float, float, int], ...]
    error: float = 0.0

    @classmethod
    def of(cls, values: Iterable[float], error: float = 0.0) -> Sample:
        """Make a sample of single values."""
        return cls(tuple((v, v, 1) for v in sorted(values)), error)

    @classmethod
    def of_bins(
        cls, bins: Iterable[Sequence[float]] | None, error: float | None = None
    ) -> Sample:
        """Make a sample of bins as a record has them."""
        kept = ((float(b[0]), float(b[1]), int(b[2])) for b in bins or ())
        return cls(tuple(sorted(b for b in kept if b[2] > 0)), error or 0.0)

    @property
    def count(self) -> int:
        """How many values there are."""
        return sum(n for _, _, n in self.bins)

    def at(self, rank: int) -> tuple[float, float]:
        """Return between which values the one of a rank (from 1 up) lies."""
        seen = 0
        for low, high, n in self.bins:
            seen += n
            if seen >= rank:
                return low, high
        raise IndexError(rank)

    def quantile(self, q: float) -> float | None:
        """Return a quantile: the middle of the bin that it lies in; None of nothing."""
        if not self.bins:
            return None
        low, high = self.at(min(self.count, math.floor(q * (self.count - 1)) + 1))
        return (low + high) / 2

    def bounds(self, q: float) -> tuple[float, float]:
        """Return between which values that quantile of all such tasks lies.

        The measure's error is in them.  Too few values have infinite bounds.
        """
        lower, upper = ranks(self.count, q)
        middle = self.quantile(q)
        if middle is None or lower is None or upper is None:
            return -math.inf, math.inf
        return (
            middle - math.hypot(middle - self.at(lower)[0], self.error),
            middle + math.hypot(self.at(upper)[1] - middle, self.error),
        )


def ranks(count: int, q: float, alpha: float = ALPHA) -> tuple[int | None, int | None]:
    """Return the ranks (from 1 up) of the values that a quantile lies between.

    Parameters
    ----------
    count
        Number of values.
    q
        The quantile, above 0 and below 1.
    alpha
        Chance that it does not, shared by both ends.

    Returns
    -------
    tuple
        ``None`` for an end that so few values do not have.
    """
    if count > MANY:
        wide = 2.5758293 if alpha == ALPHA else _normal(1 - alpha / 2)
        middle, spread = count * q, wide * math.sqrt(count * q * (1 - q))
        low, high = math.floor(middle - spread), math.ceil(middle + spread) + 1
        return (low if low >= 1 else None, high if high <= count else None)
    below, lower, upper = 0.0, None, None
    for hits in range(count + 1):
        # chance that at most `hits` values are at most the quantile
        below += _binomial(count, hits, q)
        if below <= alpha / 2:
            lower = hits + 1
        if upper is None and 1 - below <= alpha / 2 and hits + 1 <= count:
            upper = hits + 1
    return lower, upper


def highest_told(count: int, alpha: float = ALPHA) -> float | None:
    """Return the highest quantile, up to `HIGH`, that so many values have bounds of.

    ``None`` where they are too few for what is usual.
    """
    found = (alpha / 2) ** (1 / count) if count else 0.0
    return None if found < TYPICAL else min(HIGH, math.floor(found * 100) / 100)


#: Fewest values that tell what is usual.
FEWEST = next(n for n in range(1, 100) if highest_told(n) is not None)


def difference(
    a: float, of_a: tuple[float, float], b: float, of_b: tuple[float, float]
) -> tuple[float, float]:
    """Return the bounds of ``b - a`` from two figures and the bounds of each."""
    (low_a, high_a), (low_b, high_b) = of_a, of_b
    low = b - a - math.hypot(b - low_b, high_a - a)
    high = b - a + math.hypot(high_b - b, a - low_a)
    return low, high


def chance_of(a: int, b: int, share: float = 0.5) -> float:
    """Return the chance of counts at least as far apart, were there no difference.

    Parameters
    ----------
    a, b
        What was counted in either run.
    share
        Of all that was tried, what the second run did.
    """
    total = a + b
    if not total:
        return 1.0
    seen = _binomial(total, b, share) * (1 + 1e-9)
    each = (_binomial(total, k, share) for k in range(total + 1))
    return min(1.0, sum(p for p in each if p <= seen))


def _binomial(n: int, k: int, p: float) -> float:
    if p <= 0 or p >= 1:
        return float(k == (n if p >= 1 else 0))
    return math.exp(
        math.lgamma(n + 1)
        - math.lgamma(k + 1)
        - math.lgamma(n - k + 1)
        + k * math.log(p)
        + (n - k) * math.log1p(-p)
    )


def _normal(share: float) -> float:
    from statistics import NormalDist

    return NormalDist().inv_cdf(share)
