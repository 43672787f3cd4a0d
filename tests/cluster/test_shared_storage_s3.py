"""A memory for a whole cluster on S3 that has a bad day: late, failing, and gone."""

from __future__ import annotations

import os
import signal

import dask
import pytest
from clusters import wait_for
from stores import bad_day, s3_options, s3_server
from test_shared_storage import CHUNKS, Runs, state, total, wait_stored

from dask_memdash import FSMemory, SharedStorage
from dask_memdash.boundary import boundary

pytestmark = [pytest.mark.cluster, pytest.mark.corpora, pytest.mark.timeout(400)]


class Day:
    """Which requests fail: every so many-th, or all."""

    def __init__(self):
        self.every = 6
        self.failed = 0

    def __call__(self, number):
        fails = number % self.every == 0
        self.failed += fails
        return fails


@pytest.fixture(autouse=True)
def checked():
    validate = {
        "distributed.scheduler.validate": True,
        "distributed.worker.validate": True,
    }
    with dask.config.set(validate):
        yield
    boundary.clear()


@pytest.fixture
def day():
    return Day()


@pytest.fixture
def options(day):
    with s3_server() as endpoint, bad_day(endpoint, day, late=0.05) as worse:
        yield s3_options(worse)


@pytest.fixture
def runs(tmp_path):
    return Runs(tmp_path / "runs")


def kill(client, number):
    for pid in list(client.run(os.getpid).values())[:number]:
        os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("ram", [None, "1 MiB"])
def test_a_store_on_a_bad_day_stores_all_and_gives_all_back(
    start, options, day, runs, ram
):
    for turn in range(2):
        memory = FSMemory("s3://bucket/store", options, ram=ram)
        session = start(register=False)
        session.client.register_plugin(SharedStorage(memory))
        x = runs.source().persist()
        assert x.sum().compute() == total()
        wait_stored(session.client, CHUNKS)
        kill(session.client, 2)
        assert x.sum().compute() == total()
        assert x.compute().sum() == total()
        assert runs.count() == (0 if turn else CHUNKS)
        session.client.close()
        session.cluster.close()
    assert day.failed > 10


def test_a_store_that_fails_for_a_while_holds_nobody_up(start, options, day, runs):
    memory = FSMemory("s3://bucket/store", options)
    session = start(register=False)
    client = session.client
    client.register_plugin(SharedStorage(memory))
    x = runs.source().persist()
    wait_stored(client, CHUNKS)
    day.every = 1
    y = (x + 1).persist()
    assert y.sum().compute() == total() + CHUNKS * 20_000
    kill(client, 1)
    # what cannot be loaded is computed
    assert x.sum().compute() == total()
    wait_for(lambda: state(client)["keys"]["failed"], "failed writes")
    wait_for(told(session, "unreachable"), "the store to be told as unreachable", 60)
    day.every = 6
    wait_stored(client, 2 * CHUNKS)
    wait_for(lambda: not told(session, "unreachable")(), "it to answer again", 60)


def told(session, what):
    side = session.cluster.scheduler.plugins["memdash-storage"]
    return lambda: side.figures()[what]
