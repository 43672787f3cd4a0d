"""A computation that fails is one failure: one row, two lines of the log."""

from __future__ import annotations

import logging
import time

import numpy as np
import pytest
from clusters import wait_for
from distributed import KilledWorker, wait

import dask_memdash
from dask_memdash.client.failure_explanation import FailureExplanation

pytestmark = pytest.mark.cluster


def grow(number: int) -> float:
    """Need more memory than a worker has."""
    blocks = []
    for _ in range(60):
        blocks.append(np.ones(2_000_000))
        time.sleep(0.005)
    return float(sum(block[0] for block in blocks))


@pytest.mark.parametrize("allowed", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_quick_deaths_of_one_graph_are_one_row_and_two_lines(start, caplog, allowed):
    session = start(n_workers=2, memory_limit="300 MB")
    session.cluster.scheduler.allowed_failures = allowed
    heard: list[dict] = []
    session.client.subscribe_topic("memdash", lambda event: heard.append(event[1]))
    with caplog.at_level(logging.WARNING, logger="dask_memdash"):
        futures = session.client.map(grow, range(2), key="hog", pure=False)
        wait(futures, timeout=120)
        assert any(isinstance(f.exception(), KilledWorker) for f in futures)
        del futures
        closed = wait_for(
            lambda: [e for e in heard if e.get("action") == "failure-closed"],
            "the failure to be over",
            timeout=90,
        )
    (failure,) = session.api("failures")
    assert failure["kind"] == "killed-worker"
    assert failure["deaths"] > allowed
    assert failure["responsible"]["prefix"] == "hog"
    assert [e["action"] for e in heard if "failure" in e.get("action", "")] == [
        "failure-opened",
        "failure-closed",
    ]
    assert closed[0]["deaths"] == failure["deaths"]
    incidents = session.api("incidents")
    assert {i["failure"] for i in incidents} == {failure["id"]}
    assert failure["count"] == len(incidents)
    lines = [m for m in caplog.messages if m.startswith("MemDash failure")]
    assert len(lines) == 2
    assert max(map(len, lines)) <= 200
    memdash = dask_memdash.connect(session.client)
    assert list(memdash.failures().index) == [failure["id"]]
    explained = memdash.explain(f"failure-{failure['id']}")
    assert isinstance(explained, FailureExplanation)
    assert explained.cause == failure["diagnosis"]["cause"]


@pytest.mark.slow
def test_submits_of_two_prefixes_are_two_failures(start):
    session = start(n_workers=2, nthreads=1, memory_limit="300 MB")
    session.cluster.scheduler.allowed_failures = 1
    one = session.client.submit(grow, 1, key="hog-1")
    two = session.client.submit(grow, 2, key="cat-2")
    wait([one, two], timeout=120)
    failures = wait_for(
        lambda: f if len(f := session.api("failures")) == 2 else None,
        "both failures",
    )
    assert {f["responsible"]["prefix"] for f in failures} == {"hog", "cat"}
