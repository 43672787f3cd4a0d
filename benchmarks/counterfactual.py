"""Whether a record says rightly if a run would have lived, and when a worker is full.

Small computations run on small clusters, each in several setups, as
``counterfactual_cases`` lists them.  Two runs of one computation that differ in one
thing alone are a pair: what is said from the record of the first is compared with what
became of the second.  Reported are the share of right verdicts among those that were
given, the share of "cannot say", and how often the interval held the peak that was
measured from outside (each 10 ms).  Where the second run's worker was ended, its peak
was cut short: only the upper end is compared.

The time to the limit is told while slower ones run, and compared with the time at which
the worker was really paused or ended.  Runs are kept in ``--runs``, and not made again.
"""

from __future__ import annotations

import json
import logging
import statistics
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import common
import counterfactual_cases as cases
import counterfactual_runs as runs
from common import header, progress, row

from dask_memdash import open_run
from dask_memdash.counterfactual.answer import UNKNOWN


def run_all(
    chosen: Sequence[cases.Case], directory: Path
) -> Iterator[tuple[cases.Case, cases.Setup, Path]]:
    """Make the runs that are not there, and give each."""
    for case in chosen:
        for setup in case.setups():
            place = directory / f"{case.name}-{setup.name}"
            file = place / "outcome.json"
            if not file.exists():
                outcome = runs.run(case, setup, place)
                runs.write(outcome, file)
                progress(
                    f"{case.name} {setup.name}: {outcome.verdict} ({outcome.how}), "
                    f"{outcome.seconds:.1f} s, {outcome.peak / 1e6:.0f} MB"
                )
            yield case, setup, place


def judge(
    first: tuple[cases.Setup, Path], second: tuple[cases.Setup, Path]
) -> dict[str, Any] | None:
    """Compare what is said of one run with what became of the other; None: no pair."""
    (before, place), (after, other) = first, second
    changed = before.changed(after)
    if len(changed) != 1:
        return None
    truth = runs.read(other / "outcome.json")
    with open_run(place) as record:
        said = record.what_if(
            limit=after.limit / before.limit,
            threads=after.threads if "threads" in changed else None,
            chunks=after.chunks / before.chunks,
            spilling=after.spilling if "spilling" in changed else None,
            workers=after.workers - before.workers,
        )
    right = said.verdict == truth.verdict
    held = None
    if said.low is not None:
        above = truth.verdict == "died" or truth.peak >= said.low
        held = above and (said.high is None or truth.peak <= said.high)
    return {
        "change": changed[0],
        "from": before.name,
        "to": after.name,
        "said": said.verdict,
        "truth": truth.verdict,
        "how": truth.how,
        "result": "unknown"
        if said.verdict == UNKNOWN
        else "right"
        if right
        else "wrong",
        "peak": truth.peak,
        "low": said.low,
        "high": said.high,
        "held": held,
        "bounded": said.high is not None,
        "text": said.text,
    }


def timed(place: Path) -> dict[str, Any]:
    """Compare the times that were told of a run's workers with when they were full."""
    outcome = runs.read(place / "outcome.json")
    told = Counter[str]()
    ratios, early = [], []
    for looks in outcome.looks.values():
        full = next((time for time, _, status, _ in looks if status == "paused"), None)
        for time, _, status, said in looks:
            if said is None or status != "running":
                continue
            if full is None:
                told["never full"] += 1
                continue
            real = full - time
            latest = said["latest"]
            told["told"] += 1
            told["within"] += said["soonest"] <= real + 1.0 and (
                latest is None or real <= latest + 1.0
            )
            ratios.append(abs(said["seconds"] - real))
            early.append(real)
    return {**told, "errors": ratios, "ahead": early}


def main() -> None:
    """Run them, and print the tables."""
    parser = common.parser(__doc__)
    parser.add_argument("--only", action="append", help="a case by name; several times")
    parser.add_argument("--runs", type=Path, help="directory that keeps the runs")
    parser.add_argument("--json", type=Path, help="file for all that was found")
    options = parser.parse_args()
    logging.getLogger("dask_memdash").setLevel(logging.ERROR)
    number = common.sized(options, len(cases.CASES), 4, 1)
    every = cases.CASES[:number]
    slow = cases.TIMED[: common.sized(options, len(cases.TIMED), 2, 0)]
    if options.only:
        every = tuple(c for c in cases.CASES if c.name in options.only)
        slow = tuple(c for c in cases.TIMED if c.name in options.only)
    with tempfile.TemporaryDirectory() as temporary:
        directory = options.runs or Path(temporary)
        found = pairs(every, directory)
        times = {c.name: timed(place) for c, _, place in run_all(slow, directory)}
    if times:
        print_times(times)
    if options.json:
        options.json.write_text(json.dumps({"pairs": found, "times": times}, indent=1))


def pairs(every: Sequence[cases.Case], directory: Path) -> dict[str, list[Any]]:
    """Run the cases, judge all pairs, and print what came out."""
    found: dict[str, list[Any]] = {}
    for case in every:
        made = [(setup, place) for _, setup, place in run_all([case], directory)]
        judged = [judge(a, b) for a in made for b in made]
        found[case.name] = [one for one in judged if one is not None]
    header("case", "runs", "pairs", "right", "wrong", "cannot say", "interval held")
    for case in every:
        _row(case.name, str(len(case.setups())), found[case.name])
    together = [one for judged in found.values() for one in judged]
    _row("all", str(sum(len(c.setups()) for c in every)), together)
    given = [one for one in together if one["result"] != "unknown"]
    if given:
        right = sum(one["result"] == "right" for one in given)
        print(f"\n{right} of {len(given)} verdicts that were given are right.")
    for one in together:
        if one["result"] == "wrong" or one["held"] is False:
            progress(
                f"{one['result']}, interval {one['held']}: {one['from']} -> "
                f"{one['to']} {one['truth']} ({one['how']}) {one['peak']}: "
                f"{one['text']}"
            )
    return found


def _row(name: str, made: str, judged: Sequence[Any]) -> None:
    results = Counter(one["result"] for one in judged)
    held = [one["held"] for one in judged if one["held"] is not None]
    row(
        *(name, made, len(judged), results["right"], results["wrong"]),
        *(results["unknown"], f"{sum(held)} of {len(held)}"),
    )


def print_times(times: dict[str, dict[str, Any]]) -> None:
    """Print how right the told times were."""
    print("\n**Time to the limit**\n")
    header("case", "told", "within", "median error", "told ahead", "told, never full")
    for name, one in times.items():
        errors, ahead = one["errors"], one["ahead"]
        row(
            *(name, one.get("told", 0), one.get("within", 0)),
            f"{statistics.median(errors):.1f} s" if errors else "",
            f"{max(ahead):.1f} s" if ahead else "",
            one.get("never full", 0),
        )


if __name__ == "__main__":
    main()
