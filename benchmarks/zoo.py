"""The zoo of ways to die, over and over: how often the diagnosis is right, and is sure.

The scenarios are those of ``tests/cluster/zoo_scenarios.py``, each with its known
truth.  Right is a run whose first incident of the right kind names the right cause and
the right prefix.  An answer that gives a memory cause to what is not memory is counted
apart.  A confidence means something if, of the answers given with about that
confidence, as many are right: the second table says so.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import common
from common import header, progress, row

from dask_memdash.terms import CAUSES, NOT_MEMORY

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "cluster"))

from zoo_scenarios import (
    ZOO,
    NotHereError,
    Scenario,
    cluster_of,
    incidents_of,
)

#: Causes that are about memory.
MEMORY = frozenset(CAUSES) - NOT_MEMORY

#: Bounds of the bins of confidence.
BINS = (0.0, 0.5, 0.7, 0.9, 1.0)

#: How long what must be no incident may take to become one, in seconds.
QUIET = 1.0


@dataclass
class Tally:
    """The runs of one scenario."""

    right: int = 0
    seconds: list[float] = field(default_factory=list)
    #: (confidence, whether it was right).
    answers: list[tuple[float, bool]] = field(default_factory=list)
    wrong: Counter[str] = field(default_factory=Counter)
    #: Runs in which a memory cause was given to what is not memory.
    false_memory: int = 0

    @property
    def runs(self) -> int:
        """How often it was run."""
        return len(self.seconds)


def run_once(scenario: Scenario) -> list[dict[str, Any]]:
    """Run a scenario; give the incidents that came of it, whole, oldest first.

    Those of the kind that is expected come first.
    """
    with cluster_of(scenario) as session:
        scenario.run(session)
        if scenario.kind is None:
            time.sleep(QUIET)
            return list(session.api("incidents"))
        expected = incidents_of(session, scenario)
        known = {incident["id"] for incident in expected}
        others = [i for i in session.api("incidents") if i["id"] not in known]
        return expected + others


def judge(scenario: Scenario, incidents: list[dict[str, Any]], tally: Tally) -> None:
    """Hold what MemDash said against the truth."""
    causes = {incident["diagnosis"]["cause"] for incident in incidents}
    if scenario.cause not in MEMORY and causes & MEMORY:
        tally.false_memory += 1
    if scenario.kind is None:
        tally.right += not incidents
        tally.wrong.update(f"an incident: {i['kind']}" for i in incidents)
        return
    said = incidents[0]["diagnosis"]
    answer = (said["cause"], said["responsible"]["prefix"])
    right = answer == (scenario.cause, scenario.prefix)
    if scenario.relief is not None:
        right = right and said["relief"] == scenario.relief
    tally.right += right
    tally.answers.append((said["confidence"], right))
    if not right:
        tally.wrong["{} of {} ({})".format(*answer, said["relief"])] += 1


def measure(scenarios: list[Scenario], runs: int) -> dict[str, Tally]:
    """Run every scenario so many times, in turns."""
    tallies = {scenario.name: Tally() for scenario in scenarios}
    for number in range(runs):
        for scenario in scenarios:
            tally = tallies[scenario.name]
            start = time.monotonic()
            try:
                incidents = run_once(scenario)
            except NotHereError as error:
                progress(f"{scenario.name} is left out: {error}")
                continue
            except AssertionError as error:
                tally.wrong[str(error)[:60]] += 1
            else:
                judge(scenario, incidents, tally)
            tally.seconds.append(time.monotonic() - start)
        right = sum(t.right for t in tallies.values())
        total = sum(t.runs for t in tallies.values())
        progress(f"round {number + 1} of {runs}: {right} of {total} right")
    return {name: tally for name, tally in tallies.items() if tally.runs}


def report(tallies: dict[str, Tally]) -> bool:
    """Print the tables; say whether the figures are met."""
    header("scenario", "right", "of", "confidence", "seconds", "wrong answers")
    for name, tally in tallies.items():
        sure = [confidence for confidence, _ in tally.answers]
        row(
            name,
            tally.right,
            tally.runs,
            f"{statistics.median(sure):.2f}" if sure else "",
            f"{statistics.median(tally.seconds):.1f}",
            "; ".join(f"{n} × {text}" for text, n in tally.wrong.most_common()),
        )
    right = sum(tally.right for tally in tallies.values())
    total = sum(tally.runs for tally in tallies.values())
    false_memory = sum(tally.false_memory for tally in tallies.values())
    row("**all**", right, total, "", "", f"{false_memory} × memory for what is not")
    calibration([answer for tally in tallies.values() for answer in tally.answers])
    return right >= 0.95 * total and not false_memory


def calibration(answers: list[tuple[float, bool]]) -> None:
    """Print how many answers of each confidence were right."""
    print()
    header("confidence", "answers", "mean confidence", "right")
    for low, high in pairwise(BINS):
        inside = [
            (sure, right)
            for sure, right in answers
            if low <= sure < high or sure == high == 1.0
        ]
        if not inside:
            continue
        mean = statistics.fmean(sure for sure, _ in inside)
        share = sum(right for _, right in inside) / len(inside)
        row(f"{low} to {high}", len(inside), f"{mean:.2f}", f"{share:.2f}")


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = common.parser(__doc__)
    parser.add_argument("--runs", type=int, help="times that each scenario is run")
    parser.add_argument("--only", help="scenarios whose name contains this")
    return parser.parse_args()


def main() -> int:
    """Run and report; fail where the figures are not met."""
    options = parse()
    scenarios = [s for s in ZOO if not options.only or options.only in s.name]
    if options.tiny and not options.only:
        scenarios = scenarios[:1]
    runs = options.runs or common.sized(options, full=10, quick=2, tiny=1)
    return 0 if report(measure(scenarios, runs)) else 1


if __name__ == "__main__":
    sys.exit(main())
