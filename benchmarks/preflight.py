"""Whether preflight says rightly, before a graph runs, that it will fit.

Each graph of ``preflight_cases`` runs once where there is room, recorded.  Then it is
asked on other clusters, from that record, whether it will fit; and then it runs there.
*Right* is "fits" of a run in which no worker died and nothing stopped, and "does not
fit" of one in which that happened.  What the fullest worker was said to have is
compared with the peak of any worker process, as the kernel tells it each 10 ms; where a
worker died it was cut short, and only the upper end is compared.  *If not met*: it was
said to hold if chunks are as large as those that ran, and they were not.
"""

from __future__ import annotations

import json
import logging
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import common
import counterfactual_runs as runs
import preflight_cases as cases
from common import header, progress, row
from counterfactual_cases import Setup

import dask_memdash
from dask_memdash import MemDash

#: Seconds without a move after which a run is stuck, on a machine that others use too;
#: and longest that one may take.
STUCK, PATIENCE = 15.0, 120.0


def learn(case: cases.Case, place: Path) -> Path:
    """Run a case where there is room, and return the directory of its record."""
    with runs.cluster(cases.ROOMY) as (cluster, client):
        client.register_plugin(MemDash(record=str(place), run=case.name))
        api = runs.api_of(cluster)
        runs.ready(api, cases.ROOMY.workers)
        client.compute(case.graph(1.0)).result(timeout=runs.PATIENCE)
        runs.settle(api)
        runs.ask(api, "order")  # the sizes of its inputs are worked out when asked for
        time.sleep(3.0)
    return place


def ask_and_run(case: cases.Case, setup: Setup, record: Path) -> dict[str, Any]:
    """Ask whether a case fits a cluster, run it there, and compare."""
    with runs.cluster(setup) as (cluster, client):
        client.register_plugin(MemDash())
        api = runs.api_of(cluster)
        runs.ready(api, setup.workers)
        graph = case.graph(setup.chunks)
        asked = time.perf_counter()
        said = dask_memdash.order(graph, client=client, run=str(record)).preflight
        asked = time.perf_counter() - asked
        begun = time.time()
        with runs.Peak(cluster) as peak:
            futures = [client.compute(graph)]
            outcome = runs.watch(cluster, futures, api, begun)
        client.cancel(futures)
    lived = outcome.verdict == "lived"
    result = "unknown"
    if said.kind != "unknown":
        result = "right" if (said.kind == "fits") == lived else "wrong"
        if said.assumed and setup.chunks != 1.0:
            result = "if not met"
    idle, load = said.space.idle or 0, said.load
    held = (not lived or peak.most >= load.low) and (
        load.high is None or peak.most <= idle + load.high
    )
    return {
        "case": case.name,
        "setup": setup.name,
        "said": said.kind,
        "reason": said.reason,
        "assumed": list(said.assumed),
        "truth": outcome.verdict,
        "how": outcome.how,
        "result": result,
        "peak": peak.most,
        "low": load.low,
        "high": None if load.high is None else idle + load.high,
        "held": held,
        "asked": asked,
        "text": dask_memdash_text(said),
    }


def dask_memdash_text(said: Any) -> str:
    """Return what a preflight says, in words."""
    from dask_memdash.analysis.order.preflight_words import in_words

    return in_words(said)


def main() -> None:
    """Run them, and print the table."""
    parser = common.parser(__doc__)
    parser.add_argument("--only", action="append", help="a case by name; several times")
    parser.add_argument("--json", type=Path, help="file for all that was found")
    options = parser.parse_args()
    logging.getLogger("dask_memdash").setLevel(logging.ERROR)
    runs.STUCK, runs.PATIENCE = STUCK, PATIENCE
    number = common.sized(options, len(cases.CASES), 4, 1)
    chosen = cases.CASES[:number]
    if options.only:
        chosen = tuple(c for c in cases.CASES if c.name in options.only)
    found = []
    with tempfile.TemporaryDirectory() as directory:
        for case in chosen:
            record = learn(case, Path(directory) / case.name)
            for setup in case.setups[: 1 if options.tiny else None]:
                one = ask_and_run(case, setup, record)
                found.append(one)
                progress(
                    f"{one['case']} {one['setup']}: said {one['said']} "
                    f"{one['reason']}, {one['truth']} ({one['how']}): {one['result']}; "
                    f"{one['low'] / 1e6:.0f} to {(one['high'] or 0) / 1e6:.0f}, was "
                    f"{one['peak'] / 1e6:.0f} MB"
                )
                if options.json:
                    options.json.write_text(json.dumps(found, indent=1))
    print_table(found)


def print_table(found: Sequence[dict[str, Any]]) -> None:
    """Print what was said of each case, and of all."""
    header(
        *("case", "runs", "died", "right", "wrong", "if not met", "cannot say"),
        "interval held",
    )
    for name in [*dict.fromkeys(one["case"] for one in found), "all"]:
        these = [one for one in found if name in (one["case"], "all")]
        results = Counter(one["result"] for one in these)
        row(
            *(name, len(these), sum(one["truth"] == "died" for one in these)),
            *(results["right"], results["wrong"], results["if not met"]),
            results["unknown"],
            f"{sum(one['held'] for one in these)} of {len(these)}",
        )
    for one in found:
        if one["result"] == "wrong":
            progress(f"wrong: {one['case']} {one['setup']}: {one['text']}")


if __name__ == "__main__":
    main()
