"""Verdicts on the difference of two figures: :class:`Difference`, :func:`judge`.

A difference is *worse* or *better* if it is larger than the margin even when chance,
the measure's own error and what repeats of one job differ by all work for it; *the
same* if chance and error cannot make it larger than the margin; else it cannot be told,
and the reason is the largest of the three.  Testing against a margin in both directions
is equivalence testing (D. J. Schuirmann, Journal of Pharmacokinetics and
Biopharmaceutics 15, 1987).

Imports the standard library only.  More is always worse: figures are of memory, time
and failures.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from dask_memdash.compare import noise
from dask_memdash.compare.noise import Sample
from dask_memdash.text import count, format_bytes, format_duration, format_share

WORSE, BETTER, SAME, CANNOT_SAY = "worse", "better", "same", "cannot say"

#: Verdicts in the order in which they are told.
VERDICTS = (WORSE, BETTER, CANNOT_SAY, SAME)

#: Share of the first run's figure that a difference must have to matter.
MARGIN = 0.10

#: Share of the first run's most from which on one that had more is told.
RARE = 0.5

#: Least difference that matters, by unit: in bytes, seconds, or number.
FLOOR = {"bytes": float(2**21), "seconds": 1.0, "count": 0.0}

#: Measure → share of the larger figure by which repeats of one job differ, beside what
#: chance among its tasks explains (``benchmarks/diff.py`` measures it); and the most
#: that was stored of one prefix, which hangs on the moment more than the sum does.
STORED_OF_PREFIX = 0.70
REPEATS = {
    "peak": 0.05,
    "output": 0.02,
    "stored": 0.40,
    "memory": 0.20,
    "spilled": 0.60,
    "duration": 0.60,
}

#: What is counted needs no such chance to be chance.
CHANCE = 0.05


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of one run."""

    #: What is usual, what is much and the most; of a figure of one value all are it.
    typical: float
    high: float
    most: float
    #: Values that it rests on, and by how much each may be off.
    count: int
    error: float = 0.0
    #: Whether it is known from below only: tasks were cut short.
    at_least: bool = False


@dataclass(frozen=True, slots=True)
class Test:
    """One comparison: two figures, and bounds of the second less the first."""

    what: str
    a: float
    b: float
    low: float
    high: float

    def verdict(self, margin: float, floor: float, repeats: float) -> str:
        """Return the verdict at a margin, as a share of the first figure."""
        step = max(margin * abs(self.a), floor)
        beside = repeats * max(abs(self.a), abs(self.b))
        if self.low - beside > step:
            return WORSE
        if self.high + beside < -step:
            return BETTER
        if self.low >= -step and self.high <= step:
            return SAME
        return CANNOT_SAY


@dataclass(frozen=True, slots=True)
class Difference:
    """One figure of both runs, and what is to be said of it."""

    #: 'failures', 'prefix', 'workers', 'storage' or 'duration'.
    area: str
    #: Name of the prefix, group or graph in the second run; of the first where gone.
    subject: str
    measure: str
    #: 'bytes', 'seconds' or 'count'.
    unit: str
    a: Figure | None
    b: Figure | None
    verdict: str
    #: Why it cannot be told; empty otherwise.
    reason: str = ""
    #: One sentence.
    text: str = ""
    #: How much it matters, to order by: 1 is a worker's whole limit.
    weight: float = 0.0
    tests: tuple[Test, ...] = ()
    #: What it was called in the first run, if otherwise.
    was: str | None = None
    #: Least difference that matters; None for that of its unit.
    least: float | None = None

    @property
    def floor(self) -> float:
        """Least difference that matters."""
        return FLOOR[self.unit] if self.least is None else self.least

    @property
    def change(self) -> float | None:
        """The second figure less the first, of what is compared first."""
        return None if not self.tests else self.tests[-1].b - self.tests[-1].a

    @property
    def share(self) -> float | None:
        """The change as a share of the first figure."""
        if not self.tests or not self.tests[-1].a:
            return None
        return (self.tests[-1].b - self.tests[-1].a) / self.tests[-1].a

    @property
    def repeats(self) -> float:
        """By how much repeats of one job may differ: a share of the larger figure."""
        if (self.area, self.measure) == ("prefix", "stored"):
            return STORED_OF_PREFIX
        return REPEATS[self.measure]

    def worse_by(self, share: float) -> bool:
        """Whether it is worse by more than a share of the first figure."""
        if self.was is not None or not self.tests or self.unit == "count":
            return self.verdict == WORSE
        return any(
            t.verdict(share, self.floor, self.repeats) == WORSE for t in self.tests
        )


def written(value: float | None, unit: str) -> str:
    """Write a figure of some unit."""
    if unit == "bytes":
        return format_bytes(value)
    if unit == "seconds":
        return format_duration(value)
    return "–" if value is None else f"{value:,.0f}"


def figure_of(sample: Sample, most: float | None, at_least: float | None) -> Figure:
    """Return the figure of a sample that has a value.

    Parameters
    ----------
    most
        The largest value, where it is known better than the bin that it lies in.
    at_least
        What a task that was cut short is known to need.
    """
    high = sample.quantile(noise.HIGH) or 0.0
    largest = max(sample.bins[-1][1] if most is None else most, 0.0)
    cut = at_least is not None and at_least > largest
    return Figure(
        min(sample.quantile(noise.TYPICAL) or 0.0, largest),
        min(high, largest),
        max(largest, at_least or 0),
        sample.count,
        sample.error,
        cut,
    )


def of_samples(base: Difference, a: Sample, b: Sample) -> Difference:
    """Judge what many tasks or workers of each run had.

    Both what is usual and what is much must agree: the highest quantile up to 0.95
    that the smaller number of values has bounds of.
    """
    assert base.a is not None
    assert base.b is not None
    told = noise.highest_told(min(a.count, b.count))
    if told is None:
        few = (
            f"{min(a.count, b.count):,} in one run, {max(a.count, b.count):,} in the "
            f"other: too few to say (at least {noise.FEWEST} in each)"
            if a.count != b.count
            else f"{count(a.count, 'value')} in each run are too few to say "
            f"(at least {noise.FEWEST})"
        )
        usual = _test("what is usual", a, b, noise.TYPICAL)
        return replace(base, verdict=CANNOT_SAY, reason=few, tests=(usual,))
    tests = tuple(
        _test(what, a, b, q)
        for what, q in (("what is usual", noise.TYPICAL), ("what is much", told))
    )
    judged = judge(replace(base, tests=tests))
    step = max(RARE * base.a.most, FLOOR[base.unit]) + math.hypot(a.error, b.error)
    if judged.verdict == SAME and base.b.most - base.a.most > step:
        largest = written(base.b.most, base.unit)
        reason = f"most are alike, but one had {largest}, and one tells no more"
        return replace(judged, verdict=CANNOT_SAY, reason=reason)
    return judged


def _test(what: str, a: Sample, b: Sample, q: float) -> Test:
    first, second = a.quantile(q) or 0.0, b.quantile(q) or 0.0
    low, high = noise.difference(first, a.bounds(q), second, b.bounds(q))
    return Test(what, first, second, low, high)


def of_values(base: Difference, a: float, b: float, error: float = 0.0) -> Difference:
    """Judge a figure that each run has one value of.

    Parameters
    ----------
    error
        By how much the difference may be off.
    """
    test = Test("it", a, b, b - a - error, b - a + error)
    return judge(replace(base, tests=(test,)))


def judge(base: Difference, margin: float = MARGIN) -> Difference:
    """Give a difference its verdict, from its tests."""
    repeats, floor = base.repeats, base.floor
    found = [test.verdict(margin, floor, repeats) for test in base.tests]
    if WORSE in found:
        return replace(base, verdict=WORSE, reason="")
    if CANNOT_SAY not in found:
        return replace(base, verdict=BETTER if BETTER in found else SAME, reason="")
    test = base.tests[found.index(CANNOT_SAY)]
    return replace(base, verdict=CANNOT_SAY, reason=_why(base, test, margin))


def _why(base: Difference, test: Test, margin: float) -> str:
    """Say which kind of noise is largest."""
    assert base.a is not None
    assert base.b is not None
    repeats = base.repeats * max(abs(test.a), abs(test.b))
    error = math.hypot(base.a.error, base.b.error)
    wide = (test.high - test.low) / 2
    chance = wide if math.isinf(wide) else math.sqrt(max(0.0, wide**2 - error**2))
    if error > max(chance, repeats):
        return f"the measure itself may be off by {written(error, base.unit)}"
    if chance > repeats or math.isinf(chance):
        return "they differ too much among themselves"
    share = format_share(base.repeats)
    return f"repeats of one job may differ by {share}"


def of_counts(base: Difference, a: int, b: int, share: float) -> Difference:
    """Judge what was counted in each run.

    Parameters
    ----------
    share
        Of all the work of both runs, what the second did.
    """
    chance = noise.chance_of(a, b, share)
    expected = share * (a + b)
    if chance > CHANCE:
        if not a and not b:
            return replace(base, verdict=SAME, reason="")
        reason = f"{a:,} and {b:,} may be chance (p = {chance:.2f})"
        return replace(base, verdict=SAME if a == b else CANNOT_SAY, reason=reason)
    return replace(base, verdict=WORSE if b > expected else BETTER, reason="")


def as_dict(one: Difference) -> dict[str, Any]:
    """Return a difference as plain data, for JSON."""
    return {
        "area": one.area,
        "subject": one.subject,
        "was": one.was,
        "measure": one.measure,
        "unit": one.unit,
        "a": _figure(one.a),
        "b": _figure(one.b),
        "compared_a": one.tests[-1].a if one.tests else None,
        "compared_b": one.tests[-1].b if one.tests else None,
        "change": one.change,
        "share": one.share,
        "bounds": None if not one.tests else _bounds(one.tests[-1]),
        "verdict": one.verdict,
        "reason": one.reason or None,
        "text": one.text,
        "weight": one.weight,
    }


def _figure(figure: Figure | None) -> dict[str, Any] | None:
    if figure is None:
        return None
    return {
        "p50": figure.typical,
        "p95": figure.high,
        "max": figure.most,
        "at_least": figure.at_least,
        "count": figure.count,
        "error": figure.error,
    }


def _bounds(test: Test) -> list[float | None]:
    return [v if math.isfinite(v) else None for v in (test.low, test.high)]
