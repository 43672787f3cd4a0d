"""A memory for a whole cluster whose tasks are stolen and whose workers come and go."""

from __future__ import annotations

import os
import signal
import time

import dask
import pytest
from clusters import wait_for
from distributed import futures_of, wait
from test_shared_storage import CHUNKS, Runs, state, total, wait_stored

from dask_memdash import FSMemory, SharedStorage
from dask_memdash.boundary import boundary

pytestmark = [pytest.mark.cluster, pytest.mark.corpora, pytest.mark.timeout(240)]


@pytest.fixture(autouse=True)
def checked():
    validate = {
        "distributed.scheduler.validate": True,
        "distributed.worker.validate": True,
        "distributed.scheduler.work-stealing-interval": "50ms",
    }
    with dask.config.set(validate):
        yield
    texts = boundary.texts()
    boundary.clear()
    assert texts == ()


@pytest.fixture
def runs(tmp_path):
    return Runs(tmp_path / "runs")


def add_up(value, seconds):
    time.sleep(seconds)
    return int(value.sum())


@pytest.mark.parametrize("ram", [None, "100 kB"])
@pytest.mark.parametrize("killed", [False, True])
def test_tasks_that_are_stolen_find_their_stored_inputs(
    start, tmp_path, runs, ram, killed
):
    memory = FSMemory(tmp_path / "store", ram=ram)
    session = start(register=False)
    client, scheduler = session.client, session.cluster.scheduler
    client.register_plugin(SharedStorage(memory))
    one, two = scheduler.workers
    with dask.annotate(workers=[one], allow_other_workers=False):
        x = runs.source().persist(optimize_graph=False)
    wait_stored(client, CHUNKS)
    futures = futures_of(x)
    assert {w for held in client.who_has(futures).values() for w in held} == {one}
    # all begin where their inputs are, and the other worker helps itself
    sums = client.map(add_up, futures, seconds=0.2, workers=[one], pure=False)
    wait(sums[:2])
    for ts in [scheduler.tasks[future.key] for future in sums]:
        ts.worker_restrictions = set()
    if killed:
        pid = client.run(os.getpid, workers=[two])[two]
        wait_for(lambda: scheduler.extensions["stealing"].count, "a steal")
        os.kill(pid, signal.SIGKILL)
    assert sum(client.gather(sums)) == total()
    assert scheduler.extensions["stealing"].count > 0
    assert runs.count() == CHUNKS, "none of them twice"
    assert state(client)["keys"]["stored"] == CHUNKS


def test_a_cluster_that_grows_and_shrinks_computes_nothing_twice(start, tmp_path, runs):
    memory = FSMemory(tmp_path / "store", ram="1 MiB")
    session = start(register=False, n_workers=1)
    client, cluster = session.client, session.cluster
    client.register_plugin(SharedStorage(memory))
    cluster.adapt(
        minimum=1, maximum=3, interval="100ms", wait_count=2, target_duration="1s"
    )
    x = runs.source().persist()
    wait_stored(client, CHUNKS)
    for turn in range(3):
        sums = client.map(add_up, futures_of(x), seconds=0.3, pure=False)
        wait_for(lambda: len(cluster.scheduler.workers) == 3, "it to grow", 60)
        if turn == 2:
            os.kill(next(iter(client.run(os.getpid).values())), signal.SIGKILL)
        assert sum(client.gather(sums)) == total()
        del sums
        wait_for(lambda: len(cluster.scheduler.workers) == 1, "it to shrink", 60)
        assert x.sum().compute() == total()
    assert runs.count() == CHUNKS, "none of them twice"
