"""A memory for a whole cluster in a faulty world: killed processes, stores that fail.

Minutes long: ``make corpora`` runs it.  Scheduler and workers check their own state.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
import time
from functools import partial

import dask
import dask.array as da
import pytest
from clusters import wait_for
from disks import small_disk
from distributed import Client, wait
from test_shared_storage import CHUNKS, Runs, state, total, wait_stored

from dask_memdash import FSMemory, SharedStorage
from dask_memdash.boundary import boundary
from dask_memdash.errors import CorruptError, MissingError, UnreachableError

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.corpora,
    pytest.mark.timeout(240),
]


class SlowMemory(FSMemory):
    """A store of which every call takes so long."""

    seconds = 0.5

    def put(self, name, frames, new=False):
        time.sleep(self.seconds)
        super().put(name, frames, new)

    def get(self, name):
        time.sleep(self.seconds)
        return super().get(name)


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
def runs(tmp_path):
    return Runs(tmp_path / "runs")


@pytest.fixture
def memory(tmp_path):
    return FSMemory(tmp_path / "store")


@pytest.fixture
def cluster(start):
    def make(memory, **options):
        session = start(register=False, **options)
        session.client.register_plugin(SharedStorage(memory))
        return session

    return make


def objects(memory):
    return sorted((memory.local_root / "objects").glob("[0-9a-f]*"))


def kill(client, number):
    for pid in list(client.run(os.getpid).values())[:number]:
        os.kill(pid, signal.SIGKILL)


def none_asked(client):
    return state(client)["keys"]["asked"] == 0


def damage(path, how):
    content = bytearray(path.read_bytes())
    if how == "flipped":
        content[len(content) // 2] ^= 0x10
        path.write_bytes(content)
    elif how == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif how == "empty":
        path.write_bytes(b"")
    else:
        path.unlink()


def test_workers_killed_in_the_midst_of_writing(cluster, tmp_path, runs):
    memory = SlowMemory(tmp_path / "store")
    session = cluster(memory)
    x = runs.source().persist()
    wait_stored(session.client, 4)
    for _ in range(3):
        kill(session.client, 1)
        time.sleep(1)
    assert x.sum().compute() == total()
    wait_stored(session.client, CHUNKS)
    assert len(objects(memory)) == CHUNKS


def test_all_workers_killed_when_all_is_stored(cluster, memory, runs):
    session = cluster(memory)
    x = runs.source().persist()
    y = (x + 1).persist()
    wait_stored(session.client, 2 * CHUNKS)
    assert runs.count() == CHUNKS
    for _ in range(3):
        kill(session.client, 2)
        assert x.sum().compute() == total()
        assert y.sum().compute() == total() + 20_000 * CHUNKS
    assert runs.count() == 0
    del x, y
    tasks = session.cluster.scheduler.tasks
    wait_for(lambda: not tasks, "tasks to be forgotten")


@pytest.mark.parametrize("ram", [None, "1MiB"])
@pytest.mark.parametrize("how", ["flipped", "cut", "empty", "gone"])
def test_objects_that_are_damaged_are_computed(cluster, tmp_path, runs, how, ram):
    memory = FSMemory(tmp_path / "store", ram=ram)
    session = cluster(memory)
    x = runs.source(rows=1000).persist()
    wait_stored(session.client, CHUNKS)
    for path in objects(memory)[::2]:
        damage(path, how)
    if ram is None:
        kill(session.client, 2)
    begun = time.monotonic()
    assert x.sum().compute() == total(rows=1000)
    assert x.compute().sum() == total(rows=1000)
    print("healed in", time.monotonic() - begun)
    assert runs.count() <= CHUNKS + (CHUNKS + 1) // 2
    assert x.rechunk((CHUNKS, 100, 100)).sum().compute() == total(rows=1000)


@pytest.mark.parametrize("damaged", [False, True])
def test_results_of_data_that_is_lost_are_loaded_or_named(
    cluster, memory, runs, damaged
):
    session = cluster(memory)
    data = session.client.scatter(3)
    x = runs.source(4)
    y = x.map_blocks(times, data, dtype="i8", meta=x._meta).persist()
    wait_stored(session.client, 4)
    data.release()
    del data
    for path in objects(memory) if damaged else ():
        damage(path, "flipped")
    kill(session.client, 2)
    if not damaged:
        assert y.sum().compute() == 3 * total(4)
        return
    with pytest.raises(CorruptError) as caught:
        y.sum().compute()
    assert "objects/" in str(caught.value)
    assert "times" in str(caught.value)
    assert "persist" in str(caught.value)


def times(block, number):
    return block * number


def python_that_obeys_modes(folder):
    """Return a Python that may not write to what is read only, even as root's."""
    if os.geteuid() != 0:
        return sys.executable
    path = folder / "python"
    caps = "-dac_override,-dac_read_search"
    path.write_text(
        f'#!/bin/sh\nexec setpriv --bounding-set={caps} {sys.executable} "$@"\n'
    )
    path.chmod(0o755)
    return str(path)


def test_a_read_only_store_stores_nothing_and_breaks_nothing(
    processes, memory, tmp_path, runs
):
    folders = [memory.local_root, memory.local_root / "objects"]
    with processes.scheduler() as client:
        client.register_plugin(SharedStorage(memory))
        folders[1].mkdir(exist_ok=True)
        processes.worker(python=python_that_obeys_modes(tmp_path))
        client.wait_for_workers(1, timeout=60)
        for folder in folders:
            folder.chmod(0o500)
        try:
            x = runs.source().persist()
            assert x.sum().compute() == total()
            wait_for(lambda: state(client)["keys"]["failed"] == CHUNKS, "failed writes")
            assert "permission denied" in state(client)["error"]
            assert not objects(memory)
            assert runs.count() == CHUNKS
        finally:
            for folder in folders:
                folder.chmod(0o700)
        # and once it may be written to, nobody has to do anything
        wait_stored(client, CHUNKS)
        assert runs.count() == 0


def test_a_full_store_is_tried_again(cluster, tmp_path, runs):
    with small_disk(tmp_path / "disk", "40m") as disk:
        session = cluster(FSMemory(disk.folder / "store"))
        disk.fill()
        x = runs.source().persist()
        assert x.sum().compute() == total()
        wait_for(lambda: state(session.client)["keys"]["failed"], "failed writes")
        disk.free()
        wait_stored(session.client, CHUNKS)
        assert runs.count() == CHUNKS
        del x


@pytest.mark.parametrize("ram", [None, "1MiB"])
def test_a_store_that_goes_away_and_comes_back(cluster, tmp_path, runs, ram):
    memory = FSMemory(tmp_path / "store", ram=ram)
    session = cluster(memory)
    x = runs.source().persist()
    wait_stored(session.client, CHUNKS)
    root, away = memory.local_root, tmp_path / "away"
    root.rename(away)
    y = (x + 1).persist()
    if ram is None:
        kill(session.client, 1)
    assert x.sum().compute() == total()
    assert y.sum().compute() == total() + CHUNKS * 20_000
    if root.exists():
        shutil.rmtree(root)
    away.rename(root)
    wait_for(
        lambda: state(session.client)["keys"]["stored"] == 2 * CHUNKS,
        "all to be stored again",
        90,
    )
    assert x.sum().compute() == total()


def test_two_clusters_on_one_store_with_gc_in_between(cluster, start, memory, runs):
    from dask_memdash.intermediates import inventory

    one, two = cluster(memory), cluster(memory)
    x = one.client.persist(runs.source())
    wait_stored(one.client, CHUNKS)
    y = two.client.persist(runs.source())
    wait(y)
    inventory.collect(memory, 0.0)
    assert not objects(memory)
    kill(one.client, 1)
    assert one.client.compute(x.sum()).result(60) == total()
    kill(two.client, 2)
    assert two.client.compute(y.sum()).result(60) == total()


def test_a_client_that_leaves_while_writes_are_pending(cluster, tmp_path, runs):
    memory = SlowMemory(tmp_path / "store")
    session = cluster(memory)
    x = runs.source(8).persist()
    wait(x)
    wait_for(lambda: state(session.client)["keys"]["asked"], "writes to be asked for")
    session.client.close()
    wait_for(lambda: len(objects(memory)) == 8, "what was left behind to be written")
    scheduler = session.cluster.scheduler
    wait_for(lambda: not scheduler.tasks, "tasks to be forgotten")
    session.cluster.close()
    session = cluster(FSMemory(tmp_path / "store"))
    assert runs.count() == 8
    assert runs.source(8).persist().sum().compute() == total(8)
    assert runs.count() == 0


def test_released_results_are_not_written(cluster, tmp_path, runs):
    memory = SlowMemory(tmp_path / "store")
    session = cluster(memory)
    x = runs.source(40).persist()
    wait(x)
    del x
    scheduler = session.cluster.scheduler
    wait_for(lambda: not scheduler.tasks, "tasks to be forgotten")
    side = scheduler.plugins["memdash-storage"]._side
    wait_for(lambda: not side.ledger.asked or not any(side.ledger.asked.values()), "")
    time.sleep(2)
    assert len(objects(memory)) < 20


def test_retirement_and_scaling(cluster, memory, runs):
    session = cluster(memory)
    x = runs.source().persist()
    wait_stored(session.client, CHUNKS)
    session.client.retire_workers([next(iter(session.cluster.scheduler.workers))])
    session.cluster.scale(1)
    assert x.sum().compute() == total()
    session.cluster.scale(3)
    session.client.wait_for_workers(3, timeout=60)
    session.cluster.scale(0)
    wait_for(lambda: not session.cluster.scheduler.workers, "no workers")
    session.cluster.scale(2)
    assert x.sum().compute() == total()
    assert runs.count() == CHUNKS


def test_a_persist_that_is_partly_stored_computes_the_rest(cluster, memory, runs):
    for _ in range(2):
        session = cluster(memory)
        x = runs.source()
        half = x[: CHUNKS // 2].persist()
        wait(half)
        y = x.rechunk((CHUNKS // 3, 50, 100)).persist()
        assert y.sum().compute() == total()
        wait_for(partial(none_asked, session.client), "writes")
        for path in objects(memory)[::3]:
            path.unlink()
        session.client.close()
        session.cluster.close()


def test_registered_and_unregistered_under_load(cluster, start, memory, runs):
    session = start(register=False)
    client = session.client
    x = da.random.default_rng(1).random((CHUNKS, 200, 100), chunks=(1, 200, 100))
    expected = x.sum().compute()
    stop = threading.Event()
    wrong = []

    def work():
        while not stop.is_set():
            y = x.persist()
            if abs(y.sum().compute() - expected) > 1e-6:
                wrong.append(1)

    with dask.config.set(scheduler=client):
        worker = threading.Thread(target=work)
        worker.start()
        for _ in range(6):
            client.register_plugin(SharedStorage(FSMemory(memory.url, ram="1MiB")))
            time.sleep(1)
            client.unregister_scheduler_plugin("memdash-storage")
            time.sleep(0.5)
        stop.set()
        worker.join(60)
    assert not worker.is_alive()
    assert not wrong


def test_a_worker_that_does_not_share_the_store_is_named(start, tmp_path):
    session = start(register=False)
    hidden = FSMemory("memory://private")
    with pytest.raises((UnreachableError, MissingError, RuntimeError)) as caught:
        session.client.register_plugin(SharedStorage(hidden))
    assert "tcp://" in str(caught.value)
    x = da.ones(10, chunks=5).persist()
    assert x.sum().compute() == 10
    assert Client.current().run(lambda dask_worker: len(dask_worker.extensions))


def test_the_scheduler_killed_half_way(processes, tmp_path, runs):
    env = {
        "DASK_MEMDASH__STORAGE__URL": str(tmp_path / "store"),
        "DASK_DISTRIBUTED__SCHEDULER__PRELOAD": "dask_memdash",
    }
    with processes.scheduler(env=env) as client:
        processes.worker(env=env)
        client.wait_for_workers(1, timeout=60)
        x = runs.source().persist()
        wait(x)
        wait_stored(client, CHUNKS)
        for process in processes.running:
            process.kill()
            process.wait()
        processes.running.clear()
    (tmp_path / "scheduler.json").unlink(missing_ok=True)
    assert runs.count() == CHUNKS
    with processes.scheduler(env=env) as client:
        processes.worker(env=env)
        client.wait_for_workers(1, timeout=60)
        assert runs.source().persist().sum().compute() == total()
        assert runs.count() == 0
