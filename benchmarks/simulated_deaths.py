"""Thousands of simulated deaths, told to the real model: what is said of them.

``python benchmarks simulated_deaths [--deaths 3000] [--seed N]``.  Each death has a
seed: a cause, a relief, threads, an old or a young worker, and evidence that arrives
whole or not.  The truth is the simulation's.  With ``--seed`` one death is told at
length.
"""

from __future__ import annotations

import sys
import time
from collections import Counter, defaultdict
from collections.abc import Sequence

import common
from corpus.judging import NONE, Verdict, simulate

from dask_memdash.terms import NOT_MEMORY

#: Figures to be met: shares of all.
RIGHT = 1.0

#: Wrong ones that are told, of each kind.
TOLD = 5


def matrix(verdicts: Sequence[Verdict]) -> None:
    """Print what is true against what was said."""
    table: dict[str, Counter[str]] = defaultdict(Counter)
    for verdict in verdicts:
        table[verdict.true_cause][verdict.cause] += 1
    common.header("true cause", "deaths", "said right", "said", "else said")
    for true in sorted(table):
        of_it = [v for v in verdicts if v.true_cause == true]
        exact = sum(v.exact for v in of_it)
        right = sum(v.right for v in of_it)
        wrong = [v for v in of_it if not v.right]
        others = Counter(v.cause for v in of_it if v.right and not v.exact)
        allowed = ", ".join(f"{n} × {c}" for c, n in others.most_common())
        errors = ", ".join(
            f"{n} × {c}" for c, n in Counter(v.cause for v in wrong).most_common()
        )
        common.row(
            true,
            len(of_it),
            right,
            f"{exact} × it" + (f", {allowed}" if allowed else ""),
            errors,
        )


def calibration(verdicts: Sequence[Verdict]) -> None:
    """Print confidence in tenths against how often it was right."""
    print()
    common.header("confidence", "deaths", "mean confidence", "true cause", "right")
    for tenth in range(10):
        inside = [
            v
            for v in verdicts
            if v.confidence and min(9, int(v.confidence * 10)) == tenth
        ]
        if not inside:
            continue
        n = len(inside)
        common.row(
            f"{tenth / 10:.1f} to {tenth / 10 + 0.1:.1f}",
            n,
            f"{sum(v.confidence for v in inside) / n:.2f}",
            f"{sum(v.exact for v in inside) / n:.2f}",
            f"{sum(v.right for v in inside) / n:.2f}",
        )


def share(right: Sequence[bool | None]) -> str:
    """Print how many of those that can be judged are right."""
    judged = [r for r in right if r is not None]
    return f"{sum(judged)} of {len(judged)}"


def report(verdicts: Sequence[Verdict], seconds: float) -> bool:
    """Print the tables; say whether the figures are met."""
    matrix(verdicts)
    calibration(verdicts)
    whole = [v for v in verdicts if not v.lost]
    right = sum(v.right for v in verdicts)
    blind = sum(v.missed for v in verdicts)
    print()
    common.header("what", "of simulated deaths")
    common.row("right", f"{right} of {len(verdicts)}")
    common.row("right, nothing lost", f"{sum(v.right for v in whole)} of {len(whole)}")
    seen = sum(v.blind for v in verdicts)
    common.row("unknown, though a flight recorder was read", seen)
    common.row("of these, nothing lost that the cause rests on", blind)
    controls = [v for v in verdicts if not v.truth.memory]
    fair = [v.cause == NONE or v.cause in NOT_MEMORY for v in controls]
    common.row("no memory cause for what is not memory", share(fair))
    pairs = [v.together in v.truth.causes for v in verdicts if v.together is not None]
    common.row("true cause of tasks that Dask gave up", share(pairs))
    common.row("relief right", share([v.relief_right for v in verdicts]))
    common.row("responsible right", share([v.responsible_right for v in verdicts]))
    common.row("seconds", f"{seconds:.1f}")
    failures(verdicts)
    return right >= RIGHT * len(verdicts) and not blind


def failures(verdicts: Sequence[Verdict]) -> None:
    """Print the wrong ones by kind, with the line that repeats each."""
    kinds: dict[str, list[Verdict]] = defaultdict(list)
    for v in verdicts:
        where = f"{v.scenario}, {v.fault}"
        if not v.right or v.missed:
            said = v.cause if v.together is None else f"{v.cause}, {v.together}"
            kinds[f"{where}: {v.true_cause} → {said}"].append(v)
        elif v.relief_right is False:
            kinds[f"{where}: relief {v.relief} → {v.said_relief}"].append(v)
        elif v.responsible_right is False:
            who = f"responsible {v.truth.prefix} → {v.prefix}"
            kinds[f"{where}: {who}"].append(v)
    for kind, of_it in sorted(kinds.items(), key=lambda item: -len(item[1])):
        print(f"\n{len(of_it)} × {kind}")
        for v in of_it[:TOLD]:
            print(f"  python benchmarks simulated_deaths --seed {v.seed}")


def main() -> int:
    """Run and report; fail where the figures are not met."""
    parser = common.parser(__doc__)
    parser.add_argument("--deaths", type=int, help="how many deaths")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="tell one death at length")
    options = parser.parse_args()
    if options.seed is not None:
        verdict = simulate(options.seed)
        for name in verdict.__dataclass_fields__:
            print(f"{name:12}", getattr(verdict, name))
        print(f"{'right':12}", verdict.right)
        return 0 if verdict.right else 1
    n = options.deaths or common.sized(options, full=3000, quick=600, tiny=150)
    begun = time.perf_counter()
    verdicts = [simulate(options.first + seed) for seed in range(n)]
    return 0 if report(verdicts, time.perf_counter() - begun) else 1


if __name__ == "__main__":
    sys.exit(main())
