"""The benchmarks run from a clean checkout: seconds each, figures of no worth."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dask_memdash.measure import tally

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

pytestmark = pytest.mark.cluster


def tables_of(name: str, *options: str) -> list[list[str]]:
    """Run a benchmark as small as it goes; give the cells of its rows."""
    answer = subprocess.run(
        [sys.executable, str(BENCHMARKS / f"{name}.py"), "--tiny", *options],
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    assert answer.returncode == 0, answer.stderr[-3000:]
    lines = [line for line in answer.stdout.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.slow
@pytest.mark.skipif(tally.load() is None, reason="the tally is not built here")
def test_accuracy_tells_how_far_figures_are_from_the_truth() -> None:
    rows = tables_of("accuracy", "--kinds", "numpy_array")
    own = [row for row in rows if row[0] == "numpy_array" and len(row) == 12]
    assert [row[2] for row in own] == ["auto", "off"]
    assert own[0][4:7] == ["2", "10.0", "10.0"]
    # What Python's small objects beside the array take is counted too.
    assert float(own[0][8].removesuffix("%")) <= 0.5
    assert own[0][10] == "0"


@pytest.mark.slow
def test_overhead_compares_each_tool_with_bare_runs() -> None:
    rows = tables_of("overhead", "--workloads", "1", "--no-peers")
    assert [row[:2] for row in rows if row[0] == "empty tasks"] == [
        ["empty tasks", "bare"],
        ["empty tasks", "MemDash"],
        ["empty tasks", "bare again (A/A)"],
    ]
    assert all("(" in row[3] and "(" in row[5] for row in rows[-2:])


@pytest.mark.slow
def test_scheduler_cost_tells_what_the_hooks_add() -> None:
    rows = tables_of("scheduler_cost")
    beats = [row for row in rows if row[0].startswith(("idle, ", "busy, "))]
    assert len(beats) == 2
    assert all(float(row[4]) > float(row[3]) > 0 for row in beats)
    assert any("live graph" in row[0] for row in rows)


def test_metrics_tells_what_a_scrape_costs() -> None:
    pytest.importorskip("prometheus_client")
    rows = tables_of("metrics")
    assert [row[:2] for row in rows[2:]] == [["4", "8"]]
    assert 100 < int(rows[2][2]) <= 200


@pytest.mark.slow
def test_intermediates_says_what_is_computed_again() -> None:
    rows = tables_of("intermediates", "--no-s3")
    stored = next(row for row in rows if row[0] == "file://" and len(row) == 8)
    assert (stored[2], stored[4]) == ("4", "0")
    killed = next(row for row in rows if row[0] == "file://" and len(row) == 4)
    assert int(killed[2]) + int(killed[3]) == 12


@pytest.mark.slow
def test_diff_compares_two_simulated_days() -> None:
    rows = {row[0]: row[1] for row in tables_of("diff", "--only", "day")}
    # Of 40 prefixes peak, output and stored, and figures of workers and the cluster.
    assert int(rows["figures compared"]) >= 120
    assert float(rows["time of a diff"].removesuffix(" s")) > 0
    # The two days are alike but for chance.
    assert "worse" not in rows["said"]


def test_a_benchmark_that_does_not_exist_is_refused_by_name() -> None:
    answer = subprocess.run(
        [sys.executable, str(BENCHMARKS), "owerhead"],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert answer.returncode == 1
    assert "there is no 'owerhead' among accuracy, " in answer.stderr
