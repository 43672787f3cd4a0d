"""A real scheduler that runs out of memory is an incident while it still lives."""

from __future__ import annotations

import resource
from typing import Any

import numpy as np
import psutil
import pytest
from clusters import Api, Processes, wait_for

import dask_memdash

pytestmark = pytest.mark.cluster

MB = 1_000_000


def first(block: np.ndarray) -> int:
    return int(block[0])


@pytest.mark.slow
def test_a_scheduler_that_fills_its_address_space_is_told_of_before_it_fails(
    processes: Processes,
) -> None:
    """As under ``ulimit -v``: here its limit is set while it runs."""
    with processes.scheduler("--preload", "dask_memdash") as client:
        (scheduler,) = processes.running
        port = client.scheduler_info()["services"]["dashboard"]
        api = Api(f"http://127.0.0.1:{port}/status")
        wait_for(lambda: api("cluster")["scheduler"], "the first look")
        size = psutil.Process(scheduler.pid).memory_info().vms
        limit = size + 400 * MB
        resource.prlimit(scheduler.pid, resource.RLIMIT_AS, (limit, limit))
        wait_for(lambda: api("cluster")["scheduler"]["limit"] == limit, "the limit")
        held: list[Any] = []

        def near() -> Any:  # there are no workers: the scheduler keeps what is sent
            for _ in range(4 if len(held) < 50 else 0):
                block = np.full(9 * MB, len(held), dtype="u1")
                held.append(client.submit(first, block, pure=False))
            own = api("cluster")["scheduler"]
            wait_for(lambda: api("cluster")["scheduler"]["rss"] != own["rss"], "a look")
            return [i for i in api("incidents") if i["kind"] == "kernel-near"]

        (incident,) = wait_for(near, "the incident")
        assert scheduler.poll() is None
        assert incident["worker"]["name"] == "scheduler"
        text = incident["diagnosis"]["text"]
        assert "its address space, which ulimit -v limits" in text
        own = api("cluster")["scheduler"]
        assert own["available"] < limit / 10
        (sent,) = own["clients"]
        assert (sent["client"], sent["rss"]) == (client.id, None)
        assert sent["bytes"] == pytest.approx(len(held) * 9 * MB, rel=0.05)
        assert sent["largest"] == pytest.approx(9 * MB, rel=0.01)
        before = psutil.Process().memory_info().rss
        dask_memdash.connect(client).cluster()
        after = psutil.Process().memory_info().rss

        def told() -> Any:
            (row,) = api("cluster")["scheduler"]["clients"]
            return row["rss"]

        rss = wait_for(told, "the client's memory")
        assert 0.95 * before < rss < 1.05 * after
