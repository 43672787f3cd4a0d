"""Real clusters in which nothing moves, and some that only look like it."""

from __future__ import annotations

import time

import dask
import numpy as np
import pytest
from clusters import wait_for
from distributed import Event, wait

from dask_memdash import MemDash

pytestmark = [pytest.mark.cluster, pytest.mark.hooks]

MB = 2**20

#: Seconds in which a real stall would have been noticed several times over.
LONG_ENOUGH = 8.0

NO_SPILL = {
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
}


@pytest.fixture
def quick(start):
    """Start a cluster that calls itself stuck after 3 s."""

    def begin(config=None, after="3s", **options):
        with dask.config.set(config or {}):
            session = start(register=False, memory_limit="450 MB", **options)
        session.client.register_plugin(MemDash(stuck_after=after))
        if options.get("n_workers", 2):
            session.wait_until_read()
        return session

    return begin


def stuck(session):
    return [i for i in session.api("incidents") if i["kind"] == "stuck"]


def wait_stuck(session, timeout=60):
    """Wait for the incident, and until it is known who holds what."""

    def known():
        found = stuck(session)
        return found[0] if found and found[0]["diagnosis"]["cause"] != "unknown" else 0

    return session.api("incidents/" + wait_for(known, "a stall", timeout)["id"])


def keep(i):
    # Dask looks at a worker's memory ten times a second: it must pause it in time
    time.sleep(0.05)
    return np.full(16 * MB, i % 251, dtype="u1")


def total(blocks):
    return sum(int(block[0]) for block in blocks)


# -- stuck ----------------------------------------------------------------------


@pytest.mark.slow
def test_outputs_that_a_client_holds_are_named_and_letting_go_of_them_releases(quick):
    session = quick(NO_SPILL)
    kept = session.client.map(keep, range(44))
    told = wait_stuck(session)
    diagnosis = told["diagnosis"]
    assert (diagnosis["cause"], diagnosis["responsible"]["prefix"]) == (
        "pinned",
        "keep",
    )
    assert any("del futures" in advice for advice in diagnosis["advice"])
    assert any("memory.target" in advice for advice in diagnosis["advice"])
    (holding,) = told["stuck"]["holding"]
    assert list(holding["clients"]) == [session.client.id]
    assert told["stuck"]["waiting"][0]["prefix"] == "keep"
    (graph,) = session.api("order")
    assert graph["verdict"]["kind"] == "stuck"
    assert graph["capacity"] < graph["minimum"]

    done = [future for future in kept if future.status == "finished"]
    kept = [future for future in kept if future.status != "finished"]
    del done  # as it says
    wait(kept, timeout=30)
    wait_for(lambda: stuck(session)[0]["until"], "the stall to be over")
    (graph,) = session.api("order")
    assert graph["verdict"]["kind"] != "stuck"


def test_producers_that_ran_ahead_of_what_consumes_them(quick):
    session = quick(NO_SPILL)
    blocks = session.client.map(keep, range(44))
    totals = [session.client.submit(total, blocks[i::4]) for i in range(4)]
    del blocks
    told = wait_stuck(session)
    diagnosis = told["diagnosis"]
    assert diagnosis["cause"] in ("awaited", "run-ahead")
    assert diagnosis["responsible"]["prefix"] == "keep"
    assert "`total` can run" in diagnosis["text"]
    (holding,) = [h for h in told["stuck"]["holding"] if h["prefix"] == "keep"]
    assert list(holding["awaited_by"]) == ["total"]
    (scale,) = [a for a in diagnosis["advice"] if "cluster.scale(" in a]
    session.cluster.scale(int(scale.split("scale(")[1].split(")")[0]))  # as it says
    wait(totals, timeout=60)
    wait_for(lambda: stuck(session)[0]["until"], "the stall to be over")


@pytest.mark.slow
def test_a_cluster_whose_last_worker_died_says_that_none_is_left(processes):
    with processes.scheduler() as client:
        worker = processes.worker("--no-nanny")
        client.wait_for_workers(1, timeout=30)
        client.register_plugin(MemDash(stuck_after="2s"))
        gate = Event("never", client=client)
        waiting = client.map(lambda _: gate.wait(), range(3), pure=False)
        wait_for(lambda: any(client.processing().values()), "tasks to run")
        worker.kill()

        def found():
            import dask_memdash

            frame = dask_memdash.connect(client).incidents()
            rows = frame[frame["kind"] == "stuck"]
            return list(rows["text"]) or None

        (text,) = wait_for(found, "a stall")
        assert "3 tasks of `lambda` are ready, and no worker is left." in text
        del waiting


# -- not stuck ------------------------------------------------------------------


def never_stuck(session, seconds=LONG_ENOUGH):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert stuck(session) == []
        time.sleep(0.1)


@pytest.mark.slow
def test_filled_workers_and_a_client_that_waits_for_nothing_are_not_stuck(quick):
    session = quick(NO_SPILL, after="2s")
    kept = session.client.map(keep, range(16))
    wait(kept, timeout=60)
    more = session.client.map(keep, range(100, 104))
    wait(more, timeout=60)
    never_stuck(session)


def grind(seconds):
    block = np.ones(300 * MB // 8)  # above the pause threshold
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        block[: 2**20].sum()
    return float(block[0])


@pytest.mark.slow
def test_a_long_task_on_a_paused_worker_that_others_wait_for_is_not_stuck(quick):
    session = quick(NO_SPILL, n_workers=1, after="2s")
    future = session.client.submit(grind, LONG_ENOUGH)
    session.client.map(keep, range(3))
    wait_for(
        lambda: session.api("workers")[0]["status"] == "paused", "the worker to pause"
    )
    while not future.done():
        assert stuck(session) == []
        time.sleep(0.1)
    assert future.result() == 1.0


def pause(dask_worker):
    from distributed.core import Status

    dask_worker.status = Status.paused


@pytest.mark.slow
def test_workers_that_somebody_has_paused_are_not_stuck(quick):
    off = {"distributed.worker.memory.pause": False}
    session = quick(off, n_workers=1, after="2s")
    session.client.run(pause)
    waiting = session.client.map(keep, range(5))
    never_stuck(session)
    assert session.api("workers")[0]["status"] == "paused"
    assert all(future.status == "pending" for future in waiting)


@pytest.mark.slow
def test_a_cluster_that_has_no_worker_yet_is_not_stuck(quick):
    session = quick(n_workers=0, after="2s")
    waiting = session.client.map(keep, range(5))
    never_stuck(session)
    session.cluster.scale(1)
    wait(waiting, timeout=60)
    assert stuck(session) == []


@pytest.mark.slow
def test_an_input_that_could_not_be_received_is_stuck_until_its_worker_restarts(quick):
    session = quick()
    sender, receiver = session.addresses()
    big = session.client.submit(ones, 150 * MB, workers=[sender], key="big-1")
    wait(big)
    session.client.run(limit_address_space, 50 * MB, workers=[receiver])
    waiting = session.client.submit(
        last, big, workers=[receiver], key="last-1", allow_other_workers=True
    )
    incident = wait_stuck(session)
    assert incident["stuck"]["unreceived"] == 1
    assert "did not fit into memory when it came" in incident["diagnosis"]["text"]
    assert incident["diagnosis"]["cause"] == "task-too-large"
    (failure,) = session.api("failures")
    assert sorted(failure["kinds"]) == ["memory-error", "stuck"]
    restart = next(a for a in incident["diagnosis"]["advice"] if "restart" in a)
    exec(restart.split("`")[1], {"client": session.client})
    assert waiting.result(timeout=60) == 1
    wait_for(lambda: stuck(session)[0]["until"], "the end of it")


def ones(size):
    return np.ones(size, dtype="u1")


def last(block):
    return int(block[-1])


def limit_address_space(more):
    import resource

    import psutil

    size = psutil.Process().memory_info().vms + more
    resource.setrlimit(resource.RLIMIT_AS, (size, size))
