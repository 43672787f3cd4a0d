"""Memory of a worker that is no task's execution: maps of files, children, buffers.

What each program has is known, so that the figures can be compared with the truth.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from clusters import Session, wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.hooks]

MB = 1_000_000


def warm_up() -> None:
    """Import whatever the first task would."""
    np.ones(1000).sum()
    time.sleep(0.2)


def read_map(path: str, seconds: float) -> int:
    """Read a memory map through, and let it go again."""
    mapped = np.memmap(path, dtype="u1", mode="r")
    total = int(mapped[::4096].sum())
    time.sleep(seconds)
    return total


def prefix(session: Session, name: str) -> Any:
    """The prefix once it has finished a task."""

    def found() -> Any:
        return next(
            (
                p
                for p in session.api("prefixes")
                if p["prefix"] == name and p["execution"]["finished"]
            ),
            None,
        )

    return wait_for(found, f"tasks of {name}")


@pytest.fixture
def one(start: Any) -> Session:
    made: Session = start(n_workers=1, threads_per_worker=2, memory_limit="600MB")
    made.client.submit(warm_up).result()
    time.sleep(1)
    return made


def test_a_memory_map_that_a_task_reads_is_reclaimable_and_not_execution(
    one: Session, tmp_path: Any
) -> None:
    path = tmp_path / "data"
    path.write_bytes(bytes(300 * MB))
    running = one.client.submit(read_map, str(path), 3)

    def mapped() -> Any:
        (worker,) = one.api("workers")
        file = worker["rss"]["file"]
        return worker if file and file > 290 * MB else None

    worker = wait_for(mapped, "the map's pages")
    assert worker["rss"]["anon"] < 150 * MB
    assert worker["breakdown"]["reclaimable"] > 290 * MB
    assert worker["breakdown"]["executing"] < 20 * MB
    assert worker["breakdown"]["error"] < 20 * MB
    (task,) = worker["executing_tasks"]
    assert task["bytes"] + task["error"] < 20 * MB
    assert running.result() == 0
    execution = prefix(one, "read_map")["execution"]
    assert execution["peak"]["max"] < 5 * MB
    assert execution["error"] < 30 * MB
