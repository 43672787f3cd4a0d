"""Which prefix has what no count says: non-negative least squares over prefixes.

Of several tasks that run together only the sum of what they use beyond their counts
can be read (or, without a tally, the sum of all that they use).  Seen often enough,
with ever other tasks together, the sums tell what a task of each prefix has:
:class:`PrefixRegression` solves ``total = sum of x[prefix] over running tasks`` for
``x >= 0``.

Solved by coordinate descent on the normal equations with a pinch of ridge, which for
the handful of prefixes that run on one worker takes well under a millisecond and
needs no SciPy (method: Franc, Hlavac and Navara, "Sequential Coordinate-Wise
Algorithm for the Non-negative Least Squares Problem", 2005).

Observing only appends, from any thread; solving belongs to one thread off the hot
path.  All sizes are in bytes.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import NamedTuple

#: Observations that count, and those of a prefix that are needed to speak of it.
WINDOW = 256
ENOUGH = 6

#: Prefixes told apart; those seen less often are left out with what they ran beside.
MAX_PREFIXES = 12

#: Rounds over all prefixes at most, and the change in bytes at which to stop.
MAX_ROUNDS = 200
TOLERANCE = 1024.0

#: Weight of the ridge, in observations: prefixes that only ever run together share.
RIDGE = 0.01


class Share(NamedTuple):
    """What one running task of a prefix has, on average, in bytes.

    Negative throughout where the sums are: then less is there than was counted.
    """

    bytes: int
    #: Nine observations in ten are explained to within this, per task.
    error: int


class PrefixRegression:
    """Observes sums over running tasks, and solves them for each prefix."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, tuple[str, ...]]] = deque(maxlen=WINDOW)
        self._new = 0
        self._shares: Mapping[str, Share] = {}

    def observe(self, total: float, running: Sequence[str]) -> None:
        """Note a sum in bytes (of either sign) and the prefixes of all that run."""
        self._seen.append((total, tuple(sorted(running))))
        self._new += 1

    def of(self, prefix: str) -> Share | None:
        """Return what a task of a prefix has, as last solved; None when not known."""
        return self._shares.get(prefix)

    def solve(self) -> None:
        """Work the shares out again, if anything has been observed since."""
        if not self._new:
            return
        self._new = 0
        kinds = _kinds(list(self._seen))
        often: Counter[str] = Counter()
        for running, totals in kinds.items():
            for prefix in set(running):
                often[prefix] += len(totals)
        names = [n for n, k in often.most_common(MAX_PREFIXES) if k >= ENOUGH]
        known = set(names)
        sign = 1
        if sum(sum(t) for kind, t in kinds.items() if known.issuperset(kind)) < 0:
            sign = -1
        rows = [
            _Row([running.count(n) for n in names], [sign * t for t in totals])
            for running, totals in kinds.items()
            if known.issuperset(running)
        ]
        if not rows or not names:
            self._shares = {}
            return
        solution = _non_negative(rows, len(names))
        self._shares = {
            name: Share(
                sign * int(solution[i]),
                _spread(rows, solution, i) + _doubt(rows, solution, i),
            )
            for i, name in enumerate(names)
            if any(row.counts[i] for row in rows)
        }


class _Row(NamedTuple):
    """All observations in which as many tasks of each prefix ran."""

    #: How many of each prefix.
    counts: list[int]
    #: The sums that were observed, in bytes.
    totals: list[float]


def _kinds(
    seen: Sequence[tuple[float, tuple[str, ...]]],
) -> dict[tuple[str, ...], list[float]]:
    """Put together what was observed with the same tasks running: there is little else.

    Of as many tasks of one prefix as there are threads, say.
    """
    kinds: dict[tuple[str, ...], list[float]] = {}
    for total, running in seen:
        kinds.setdefault(running, []).append(total)
    return kinds


def _non_negative(rows: list[_Row], n: int) -> list[float]:
    """Minimise the squares of ``total - counts @ x`` over ``x >= 0``."""
    products = [[0.0] * n for _ in range(n)]
    target = [0.0] * n
    for counts, totals in rows:
        weight, total = len(totals), sum(totals)
        for i, count in enumerate(counts):
            if count:
                target[i] += count * total
                row = products[i]
                for j, other in enumerate(counts):
                    row[j] += weight * count * other
    observed = sum(len(row.totals) for row in rows)
    for i in range(n):
        products[i][i] += RIDGE * max(1.0, products[i][i] / observed)
    x = [_mean(rows, i) for i in range(n)]
    for _ in range(MAX_ROUNDS):
        largest = 0.0
        for i in range(n):
            row = products[i]
            gradient = target[i] - sum(row[j] * x[j] for j in range(n))
            moved = max(0.0, x[i] + gradient / row[i])
            largest = max(largest, abs(moved - x[i]))
            x[i] = moved
        if largest < TOLERANCE:
            break
    return x


def _mean(rows: list[_Row], index: int) -> float:
    """Return what a task has on average where one of a prefix runs: where to start.

    Prefixes that only ever run together stay there, as nothing moves them apart.
    """
    own = [row for row in rows if row.counts[index]]
    observed = sum(len(row.totals) for row in own)
    shares = sum(sum(row.totals) / sum(row.counts) for row in own)
    return max(0.0, shares / observed) if observed else 0.0


def _doubt(rows: list[_Row], x: list[float], index: int) -> int:
    """Return by how much a share may be wrong as others always run beside it.

    Of prefixes that only ever run together only the sum is known.
    """
    others = [
        i
        for i in range(len(x))
        if i != index and all(row.counts[i] == row.counts[index] for row in rows)
    ]
    return int(max(x[index], sum(x[i] for i in others))) if others else 0


def _spread(rows: list[_Row], x: list[float], index: int) -> int:
    """Return what 9 in 10 observations of a prefix leave unexplained, per task."""
    left: list[float] = []
    for counts, totals in rows:
        if counts[index]:
            tasks = sum(counts)
            explained = sum(c * b for c, b in zip(counts, x, strict=True))
            left += [abs(total - explained) / tasks for total in totals]
    left.sort()
    return int(left[min(len(left) - 1, 9 * len(left) // 10)])
