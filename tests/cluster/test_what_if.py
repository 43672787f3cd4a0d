"""A worker that fills says when it is full; its record, what would have been."""

from __future__ import annotations

import time

import dask
import numpy as np
import pytest
from clusters import wait_for

import dask_memdash


def kept(number):
    time.sleep(0.2)
    return np.ones(500_000)  # 4 MB


@pytest.mark.slow
@pytest.mark.timeout(90)
def test_a_worker_that_fills_says_when_and_its_record_what_would_have_been(
    start, tmp_path
):
    memory = {
        "distributed.worker.memory.target": False,
        "distributed.worker.memory.spill": False,
    }
    with dask.config.set(memory):
        session = start(n_workers=1, memory_limit="500 MB", register=False)
    session.client.register_plugin(dask_memdash.MemDash(record=str(tmp_path)))
    session.wait_until_read()
    futures = session.client.map(kept, range(100), pure=False)

    def told():
        (worker,) = session.api("workers")
        return worker["time_to_limit"]

    found = wait_for(told, "the time to the limit", 40)
    assert (found["line"], found["grows"]) == ("pause", "storage")
    assert found["bytes"] == 400_000_000
    assert found["soonest"] <= found["seconds"]
    assert found["rate"] > 0
    run = wait_for(lambda: list(tmp_path.glob("*/run.json")), "the record")[0].parent

    def recorded():
        with dask_memdash.open_run(run) as opened:
            (row,) = opened.workers().itertuples()
            return str(row.limit_reached) == "pause" and opened.what_if(limit=0.2)

    answer = wait_for(recorded, "the record of it", 20)
    # 100 MB is less than the idle process has.
    assert answer.verdict == "died"
    living = dask_memdash.connect(session.client).what_if(limit=0.2)
    assert (living.verdict, living.limit) == ("died", 100_000_000)
    session.client.cancel(futures)
