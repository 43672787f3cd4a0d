"""The benchmark of a page that stays open runs; its figures here are of no worth."""

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "endurance.py"

pytestmark = [pytest.mark.browser, pytest.mark.corpora]


def test_endurance_follows_the_memory_of_scheduler_and_tab(browser):
    answer = subprocess.run(
        [sys.executable, str(BENCHMARK), "--tiny", "--seconds", "1"],
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    assert answer.returncode == 0, answer.stderr[-3000:]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in answer.stdout.splitlines()
        if line.startswith("| ")
    ]
    seen = rows[2:-1]
    assert len(seen) == 11
    assert all(float(rss) > 50 and float(heap) > 1 for _, rss, heap, _ in seen)
    assert rows[-1][0] == "an hour adds"
