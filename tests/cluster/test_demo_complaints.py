"""The complaints of practitioners as demos: outcome, diagnosis and remedy of each."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

pytestmark = [pytest.mark.cluster, pytest.mark.demos, pytest.mark.timeout(240)]


def played(name: str) -> list[dict[str, Any]]:
    """Play a demo as a person would, and give its stages."""
    command = [sys.executable, "-m", "dask", "memdash", "demo", name, "--json"]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=220
    )
    assert done.returncode == 0, done.stderr + done.stdout
    document = json.loads(done.stdout)
    assert document["demo"] == name
    assert "Traceback" not in done.stderr
    runs: list[dict[str, Any]] = document["runs"]
    return runs


def causes_of_deaths(run: dict[str, Any]) -> set[tuple[str, str | None]]:
    return {
        (finding["cause"], finding["responsible"]["prefix"])
        for incident in run["incidents"]
        for finding in incident["findings"]
    }


def test_what_is_persisted_pins_until_it_may_be_spilled_or_is_released() -> None:
    kept, spilled, released = played("pinned")
    assert kept["outcome"] == "KilledWorker"
    assert kept["cause"] == "pinned"
    assert ("pinned", "load_day") in causes_of_deaths(kept)
    assert kept["peaks"]["spilled"] == 0

    assert (spilled["outcome"], spilled["deaths"]) == ("ok", 0)
    assert spilled["peaks"]["spilled"] >= 18_000_000
    assert (released["outcome"], released["deaths"]) == ("ok", 0)
    assert released["peaks"]["spilled"] == 0


def test_workers_of_one_host_cannot_lend_memory_and_threads_can() -> None:
    several, one = played("shared")
    assert several["outcome"] == "KilledWorker"
    assert several["deaths"] >= 4
    assert several["cause"] == "task-too-large"
    assert several["responsible"] == "read_huge_file"

    assert (one["workers"], one["threads"]) == (1, 4)
    assert (one["outcome"], one["deaths"], one["cause"]) == ("ok", 0, None)
    assert one["peaks"]["executing"] > 300_000_000
    assert one["peaks"]["baseline"] < several["peaks"]["baseline"] / 2


def test_leak_is_named_whether_workers_pause_or_die_of_it() -> None:
    stuck, killed, bounded = played("leak")
    assert (stuck["outcome"], stuck["deaths"]) == ("stuck", 0)
    assert stuck["pauses"] >= 2
    assert (stuck["cause"], stuck["responsible"]) == ("leak", "parse_log")

    assert killed["deaths"] >= 1
    assert killed["pauses"] == 0
    assert (killed["cause"], killed["responsible"]) == ("leak", "parse_log")

    assert (bounded["outcome"], bounded["deaths"]) == ("ok", 0)
    assert bounded["peaks"]["baseline"] < stuck["peaks"]["baseline"]


def test_garbage_in_cycles_stays_and_a_silent_worker_is_still_read() -> None:
    garbage, collected, broken, locked = played("gc")
    for remedy in (collected, broken):
        assert (remedy["outcome"], remedy["deaths"]) == ("ok", 0)
        assert remedy["peaks"]["baseline"] < 120_000_000
    assert garbage["peaks"]["baseline"] > 160_000_000
    if garbage["cause"] is not None:  # Python's collector may have come by in time
        assert (garbage["cause"], garbage["responsible"]) == ("leak", "parse_cycle")

    figures = locked["figures"]
    assert figures["silence"] > 2
    assert figures["longest_gap"] < figures["silence"]
    assert figures["process"] > 80_000_000


def test_skew_is_seen_and_repartitioning_by_size_evens_it_out() -> None:
    pytest.importorskip("dask.dataframe")
    uneven, even = played("skew")
    assert uneven["outcome"] == even["outcome"] == "ok"
    sizes = uneven["figures"]["output_bytes"]
    assert uneven["figures"]["partitions"] == 4
    assert sizes["min"] < 10_000
    assert sizes["max"] > 5_000_000
    sizes = even["figures"]["output_bytes"]
    assert sizes["min"] > 500_000
    assert sizes["max"] < 2_500_000


def test_what_is_stored_outlives_worker_and_cluster() -> None:
    stored, alone = played("storage")
    assert (stored["store"], alone["store"]) == (True, False)
    assert [step["computed"] for step in stored["steps"]] == [24, 0, 0, 0]
    assert [step["computed"] for step in alone["steps"]][::2] == [24, 24]
    assert alone["steps"][3]["computed"] is None
    steps = stored["steps"] + alone["steps"][:3]
    assert len({step["total"] for step in steps}) == 1
