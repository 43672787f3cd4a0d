"""The examples of the causes' pages fail as their pages say, and mended do not fail.

Each is run as a reader runs it: as a program, on a cluster of its own.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dask_memdash.terms import NOT_MEMORY

pytestmark = [pytest.mark.cluster, pytest.mark.corpora, pytest.mark.timeout(170)]

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"

#: Cause → the prefix that its example makes responsible.
RESPONSIBLE = {
    "task-too-large": "build_table",
    "too-many-at-once": "regrid",
    "run-ahead": "load",
    "awaited": "part",
    "pinned": "load",
    "replicas": "table",
    "transfer": "random_sample-rechunk-transfer",
    "graph": "score",
    "actor-state": "Journal",
    "leak": "parse",
    "sizeof": "train",
    "unaccounted": None,
    "retained": "parse",
    "overcommitted": None,
    "crash": "decode",
    "unresponsive": "solve",
    "external": None,
    "unknown": None,
}

#: What nothing in the program would mend.
NOT_MENDED = {"transfer", "overcommitted", "crash", "external", "unknown"}


def run(cause: str, *options: str) -> Any:
    """Run an example; return the failures that it had."""
    program = EXAMPLES / f"{cause.replace('-', '_')}.py"
    done = subprocess.run(
        [sys.executable, str(program), "--json", *options],
        env={**os.environ, "PYTHONWARNINGS": "default"},
        capture_output=True,
        text=True,
        timeout=160,
        check=False,
    )
    if "Permission denied" in done.stderr or "Read-only file" in done.stderr:
        pytest.skip("no control group can be made here")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("cause", RESPONSIBLE)
def test_example_fails_by_the_cause_of_its_page(cause: str) -> None:
    failures = run(cause)
    assert len(failures) == 1
    (failure,) = failures
    assert failure["cause"] == cause
    assert failure["prefix"] == RESPONSIBLE[cause]
    assert (failure["relief"] is None) == (cause in NOT_MEMORY)


@pytest.mark.parametrize("cause", [c for c in RESPONSIBLE if c not in NOT_MENDED])
def test_mended_example_ends_without_a_death(cause: str) -> None:
    assert run(cause, "--mended") == []


@pytest.mark.parametrize("told", sorted((EXAMPLES / "told").glob("*.txt")), ids=str)
def test_what_is_shown_is_of_its_cause_and_pictures_are_small(told: Path) -> None:
    text = told.read_text(encoding="utf-8")
    shown = re.search(r"^Cause: .*?\((?P<cause>[\w-]+), confidence", text, re.M)
    assert (shown["cause"] if shown else "unknown") == told.stem
    picture = told.with_suffix(".png")
    assert not picture.exists() or 10_000 < picture.stat().st_size < 150_000
