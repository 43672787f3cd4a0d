"""``dask memdash demo array|dataframe|bag`` on a small scale: outcome and diagnosis."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

pytestmark = [pytest.mark.cluster, pytest.mark.demos, pytest.mark.timeout(240)]


def runs_of(*arguments: str) -> tuple[int, list[dict[str, Any]], str]:
    """Run a demo; give exit status, runs, and what it says to a person."""
    command = [sys.executable, "-m", "dask", "memdash", "demo", *arguments, "--json"]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=220
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, json.loads(done.stdout)["runs"], done.stderr


def test_arrays_grow_until_stored_chunks_kill_workers() -> None:
    size = ("--workers=2", "--memory-limit=200MB")
    _, (small, *large), said = runs_of(
        "array", "--method=tasks", "--sizes=32,88,92,96", "--timeout=40s", *size
    )
    assert (small["outcome"], small["deaths"], small["cause"]) == ("ok", 0, None)
    assert small["data_bytes"] == 8_388_608
    assert small["peaks"]["process"] > 60_000_000

    # Dask may also stop for good with all workers paused; then no more sizes are run
    assert large
    for run in large:
        assert run["outcome"] in ("KilledWorker", "timed out")
        assert run["deaths"] >= (4 if run["outcome"] == "KilledWorker" else 1)
    # a worker that dies within a second of its start leaves too little to name a
    # cause, but some of a dozen live longer; which of the two it is depends on how far
    # the root tasks ran before, and a joined chunk of 108 MiB all but fills a worker
    findings = {
        (finding["cause"], finding["responsible"]["prefix"])
        for run in large
        for incident in run["incidents"]
        for finding in incident["findings"]
    }
    assert findings & {("run-ahead", "random_sample"), ("awaited", "random_sample")}
    causes = {run["cause"] for run in large}
    assert causes <= {"run-ahead", "awaited", "task-too-large", "unknown"}
    assert "sqrt_n=88" in said


def test_small_chunks_on_the_way_keep_workers_alive() -> None:
    status, (run,), said = runs_of(
        "array", "--sizes=64", "--block-size-limit=8MiB", "--workers=2"
    )
    assert status == 0, said
    assert run["parameters"]["block_size_limit"] == 8_388_608
    assert (run["outcome"], run["deaths"], run["cause"]) == ("ok", 0, None)


def test_dataframe_is_shuffled_in_two_ways() -> None:
    pytest.importorskip("dask.dataframe")
    for method in ("p2p", "tasks"):
        status, (run,), said = runs_of(
            "dataframe",
            *(f"--method={method}", "--sizes=64", "--scale=0.0625"),
            *("--workers=1", "--memory-limit=600MB"),
        )
        assert status == 0, said
        assert run["parameters"]["nparts"] == 4
        assert run["data_bytes"] == 50_400_000
        assert (run["outcome"], run["deaths"], run["cause"]) == ("ok", 0, None)
        assert run["peaks"]["process"] > 60_000_000


def test_bag_is_grouped() -> None:
    status, (run,), said = runs_of(
        "bag", "--sizes=2", "--workers=2", "--memory-limit=500MB"
    )
    assert status == 0, said
    assert run["data_bytes"] == 25_165_760
    assert (run["outcome"], run["deaths"], run["cause"]) == ("ok", 0, None)
    assert run["seed"] == {"runtime": "00:00:08", "outcome": "success"}
    # small Python objects take several times what the bag's own count says
    assert run["peaks"]["process"] > 200_000_000
