"""Hundreds of damaged objects, met in every way in which a value is read.

Each is noticed by its checksum and computed again, with nothing else, or named in an
error where nobody can compute it.  ``make corpora`` runs it and prints the times.
"""

from __future__ import annotations

import os
import random
import signal
import statistics
import time

import dask
import dask.array as da
import numpy as np
import pytest
from clusters import wait_for
from distributed import Client, futures_of, wait
from test_shared_storage import Runs, noted, state, wait_stored

from dask_memdash import FSMemory, SharedStorage, open_persisted
from dask_memdash.boundary import boundary
from dask_memdash.errors import CorruptError
from dask_memdash.intermediates.object_format import check

pytestmark = [pytest.mark.cluster, pytest.mark.corpora, pytest.mark.timeout(400)]

#: Objects that are damaged for each way to read them: 4 × 150 in all.
OBJECTS = 150
SIDE = 1_000

#: Seconds after which a value that does not come is one that never comes.
PATIENCE = 60

#: Which of two objects is damaged how.
HOW = ("flipped", "cut", "swapped")


@pytest.fixture(autouse=True)
def checked():
    validate = {
        "distributed.scheduler.validate": True,
        "distributed.worker.validate": True,
    }
    with dask.config.set(validate):
        yield
    texts = boundary.texts()
    boundary.clear()
    assert texts == ()


@pytest.fixture
def runs(tmp_path):
    return Runs(tmp_path / "runs")


def array(runs, number=OBJECTS):
    x = da.ones((number, SIDE), chunks=(1, SIDE), dtype="i8")
    return x.map_blocks(noted, str(runs.path), dtype="i8", meta=x._meta)


def objects(memory):
    return sorted((memory.local_root / "objects").glob("[0-9a-f]*"))


def damage_all(memory, seed=0):
    """Damage every object, a third of them in each way."""
    chance = random.Random(seed)
    paths = objects(memory)
    chance.shuffle(paths)
    third = len(paths) // 3 // 2 * 2
    swapped, rest = paths[:third], paths[third:]
    for one, two in zip(swapped[::2], swapped[1::2], strict=True):
        contents = one.read_bytes(), two.read_bytes()
        two.write_bytes(contents[0])
        one.write_bytes(contents[1])
    for number, path in enumerate(rest):
        content = bytearray(path.read_bytes())
        if number % 2:
            path.write_bytes(content[: chance.randrange(len(content))])
        else:
            content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
            path.write_bytes(content)
    return len(paths)


def kill_all(client):
    for pid in client.run(os.getpid).values():
        os.kill(pid, signal.SIGKILL)


def add_up(value):
    return int(value.sum())


def holder(client, future):
    (found,) = client.who_has([future])[future.key]
    return found


def locally(client, future):
    where = holder(client, future)
    return client.submit(add_up, future, workers=[where], pure=False).result(PATIENCE)


def by_a_peer(client, future):
    other = set(client.scheduler_info(-1)["workers"]) - {holder(client, future)}
    return client.submit(add_up, future, workers=list(other), pure=False).result(
        PATIENCE
    )


def by_the_client(client, future):
    return add_up(future.result(PATIENCE))


@pytest.mark.parametrize(
    ("read", "killed"),
    [(locally, False), (by_a_peer, False), (by_the_client, False), (locally, True)],
    ids=["locally", "by a peer", "by the client", "after a death"],
)
def test_every_damaged_object_is_noticed_and_computed(
    start, tmp_path, runs, read, killed
):
    memory = FSMemory(tmp_path / "store", ram=None if killed else "1 kB")
    session = start(register=False)
    client = session.client
    client.register_plugin(SharedStorage(memory))
    x = array(runs).persist()
    wait_stored(client, OBJECTS)
    assert runs.count() == OBJECTS
    assert damage_all(memory) == OBJECTS
    side = session.cluster.scheduler.plugins["memdash-storage"]._side
    futures = sorted(futures_of(x), key=lambda future: future.key)
    taken = []
    if killed:
        kill_all(client)
        begun = time.perf_counter()
        # the scheduler has to hear of it: until then all is said to be there
        tasks = session.cluster.scheduler.tasks
        wait_for(
            lambda: any(tasks[future.key].state != "memory" for future in futures),
            "the deaths to be noticed",
        )
        wait(futures, timeout=PATIENCE)
        taken.append((time.perf_counter() - begun) / OBJECTS)
    for number, future in enumerate(futures):
        begun = time.perf_counter()
        if killed:
            assert by_the_client(client, future) == SIDE * (number + 1)
        else:
            assert read(client, future) == SIDE * (number + 1)
            taken.append(time.perf_counter() - begun)
    print(
        f"{OBJECTS} damaged objects: computed again in {statistics.median(taken):.3f} s"
        f" (median), {max(taken):.3f} s (most)"
    )
    # each was noticed and computed once, and nothing else was
    assert side.recomputed == runs.count() == OBJECTS
    # and is written anew: nothing is left pending
    wait_for(lambda: state(client)["keys"]["stored"] == OBJECTS, "all to be stored")
    for path in objects(memory):
        check(path.read_bytes(), path.name, "here")


@pytest.mark.parametrize("read", [locally, by_a_peer, by_the_client])
def test_a_damaged_result_of_data_that_is_gone_is_named(start, tmp_path, runs, read):
    memory = FSMemory(tmp_path / "store", ram="1 kB")
    session = start(register=False)
    client = session.client
    client.register_plugin(SharedStorage(memory))
    data = client.scatter(3)
    y = array(runs, 6).map_blocks(times, data, dtype="i8", meta=np.empty((0, 0), "i8"))
    y = y.persist()
    wait_stored(client, 6)
    data.release()
    del data
    scheduler = session.cluster.scheduler
    wait_for(
        lambda: not any("Placeholder" in str(k) or ts.run_spec is None
                        for k, ts in scheduler.tasks.items()),
        "the data to be gone",
    )  # fmt: skip
    damage_all(memory)
    for future in futures_of(y):
        with pytest.raises(CorruptError) as caught:
            read(client, future)
        text = str(caught.value)
        assert "objects/" in text
        assert "times" in text
        assert "persist" in text
    tasks = scheduler.tasks
    assert all(ts.state in ("erred", "memory") for ts in tasks.values())


def times(block, number):
    return block * number


def test_a_damaged_set_that_is_opened_is_named(start, tmp_path, runs):
    memory = FSMemory(tmp_path / "store")
    session = start(register=False)
    session.client.register_plugin(SharedStorage(memory))
    with dask.annotate(persist_as="mine"):
        x = array(runs, 6).persist()
    wait_for((memory.local_root / "names" / "mine").exists, "the name")
    del x
    wait_for(lambda: not session.cluster.scheduler.tasks, "tasks to be forgotten")
    session.client.unregister_scheduler_plugin("memdash-storage")
    damage_all(memory)
    opened = open_persisted(memory, "mine")
    for block in opened.blocks:
        with pytest.raises(CorruptError) as caught:
            block.compute()
        assert "objects/" in str(caught.value)
        assert "noted" in str(caught.value)
        assert "persist" in str(caught.value)
    assert Client.current().submit(add_up, np.ones(3)).result() == 3
