"""A memory for a whole cluster, on real clusters that check their own state."""

from __future__ import annotations

import operator
import os
import signal
from functools import partial
from pathlib import Path

import dask
import dask.array as da
import dask.bag as db
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from clusters import wait_for
from distributed import wait

from dask_memdash import FSMemory, SharedStorage, connect, open_persisted
from dask_memdash.boundary import boundary

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(120)]

CHUNKS = 30


class Runs:
    """Counts how often a task really ran, in whatever process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()

    def source(self, chunks: int = CHUNKS, rows: int = 200) -> da.Array:
        x = da.ones((chunks, rows, 100), chunks=(1, rows, 100), dtype="i8")
        return x.map_blocks(noted, str(self.path), dtype="i8", meta=x._meta)

    def count(self) -> int:
        """Return the runs since the last look."""
        size = self.path.stat().st_size
        os.truncate(self.path, 0)
        return size


def noted(value, path, block_id=None):
    with Path(path).open("ab") as file:
        file.write(b".")
    return value if block_id is None else value * (block_id[0] + 1)


def total(chunks: int = CHUNKS, rows: int = 200) -> int:
    return 100 * rows * chunks * (chunks + 1) // 2


@pytest.fixture
def runs(tmp_path):
    return Runs(tmp_path / "runs")


@pytest.fixture
def memory(tmp_path):
    return FSMemory(tmp_path / "store")


@pytest.fixture(autouse=True)
def checked():
    """Scheduler and workers check their own state; no wrapper of ours may fail."""
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
def cluster(start):
    """Start a cluster that has a memory."""

    def make(memory, *, by_scheduler=False, **options):
        if by_scheduler:
            options["scheduler_kwargs"] = {"plugins": [SharedStorage(memory)]}
        session = start(register=False, **options)
        if not by_scheduler:
            session.client.register_plugin(SharedStorage(memory))
        return session

    return make


def state(client):
    return client.sync(client.scheduler.memdash_storage_state)


def wait_stored(client, number):
    wait_for(lambda: state(client)["keys"]["stored"] >= number, f"{number} stored")


def close(session):
    session.client.close()
    session.cluster.close()


def everything(path):
    """Return collections of every kind, each of which notes its runs."""
    x = da.ones((4, 5), chunks=(1, 5)).map_blocks(
        noted, path, dtype=float, meta=np.ones(())
    )
    frame = dd.from_pandas(pd.DataFrame({"a": range(8)}), npartitions=4)
    return [
        x,
        frame.map_partitions(noted, path, meta=frame._meta),
        db.from_sequence(range(4), npartitions=4).map_partitions(noted, path),
        dask.delayed(noted, pure=True)(np.ones(3), path),
        xr.Dataset({"v": (("i", "j"), x + 1)}),
    ]


@pytest.mark.slow
def test_plain_persist_is_found_again_by_a_new_cluster(cluster, memory, runs):
    path = str(runs.path)
    for number in range(2):
        session = cluster(memory, by_scheduler=bool(number), n_workers=1)
        array, frame, bag, delayed, dataset = everything(path)
        array, bag, delayed = dask.persist(array, bag, delayed)
        frame, dataset = frame.persist(), dataset.persist()
        with dask.annotate(persist_as=f"turn-{number}"):
            again = session.client.persist(runs.source())
        assert again.sum().compute() == total()
        assert array.sum().compute() == 50
        assert frame.a.sum().compute() == sum(range(8))
        assert bag.sum().compute() == sum(range(4))
        assert delayed.compute().tolist() == [1, 1, 1]
        assert dataset.v.sum().compute() == 70
        wait([array, frame, bag, delayed, dataset, again])
        if number == 0:
            assert runs.count() >= CHUNKS + 13
            wait_stored(session.client, CHUNKS + 17)
        else:
            assert runs.count() == 0
            opened = open_persisted(memory, "turn-0")
            assert (opened.chunks, opened.dtype) == (again.chunks, again.dtype)
            assert opened.sum().compute() == total()
        names = memory.local_root / "names"
        wait_for((names / f"turn-{number}").exists, "a name for what was persisted")
        close(session)


@pytest.mark.slow
def test_what_writes_elsewhere_writes_again(cluster, memory, tmp_path, runs):
    frame = pd.DataFrame({"a": range(20)})
    session = cluster(memory, n_workers=1)
    for _ in range(2):
        for name, write in {
            "parquet": lambda: [
                dd.from_pandas(frame, npartitions=4).to_parquet(
                    str(tmp_path / "parquet"), compute=False
                )
            ],
            "text": lambda: db.from_sequence("abcd", npartitions=4).to_textfiles(
                str(tmp_path / "text" / "*.txt"), compute=False
            ),
            "store": lambda: [
                da.ones((4, 2), chunks=(1, 2)).store(
                    Target(tmp_path / "store-of-user"), compute=False, lock=False
                )
            ],
        }.items():
            pending = dask.persist(*write())
            folder = tmp_path / ("store-of-user" if name == "store" else name)

            wait_for(partial(has_files, folder, 4), f"files of {name}")
            wait(pending)
            del pending
            for target in folder.iterdir():
                target.unlink()
        future = session.client.submit(noted, 1, str(runs.path))
        impure = dask.delayed(noted)(2, str(runs.path)).persist()
        wait([future, impure])
        assert runs.count() == 2
        assert state(session.client)["keys"]["stored"] == 0
        del future, impure
        has_none = partial(operator.not_, session.cluster.scheduler.tasks)
        wait_for(has_none, "tasks to be forgotten")


def has_files(folder, number):
    return len(list(folder.glob("*"))) == number


class Target:
    """An array of a user's own, one file a chunk."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir(exist_ok=True)

    def __setitem__(self, key, value):
        (self.folder / str(key[0].start)).write_bytes(value.tobytes())

    def __getitem__(self, key):
        return np.frombuffer((self.folder / str(key[0].start)).read_bytes())

    def __dask_tokenize__(self):
        return "Target", str(self.folder)


@pytest.mark.slow
@pytest.mark.hooks
def test_a_killed_worker_costs_nothing_that_is_stored(cluster, memory, runs):
    session = cluster(memory)
    client, scheduler = session.client, session.cluster.scheduler
    x = runs.source().persist()
    wait_stored(client, CHUNKS)
    assert runs.count() == CHUNKS
    y = (x + 1).persist()
    wait_stored(client, 2 * CHUNKS)
    damaged = sorted((memory.local_root / "objects").iterdir())[:5]
    for path in damaged:
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
    os.kill(next(iter(client.run(os.getpid).values())), signal.SIGKILL)
    assert y.sum().compute() == total() + CHUNKS * 20_000
    assert x.sum().compute() == total()
    # what was damaged is computed, and with it what it needs, nothing else
    assert runs.count() <= len(damaged)
    del x, y
    wait_for(lambda: not scheduler.tasks, "tasks to be forgotten")


@pytest.mark.slow
@pytest.mark.hooks
def test_stored_results_take_their_share_of_ram_and_are_all_there_again(
    cluster, tmp_path, runs
):
    memory = FSMemory(tmp_path / "store", ram="1 MiB")
    session = cluster(memory)
    client = session.client
    x = runs.source(rows=1000).persist()
    wait_stored(client, CHUNKS)
    away = client.run(lambda dask_worker: len(dask_worker.data.away))
    assert sum(away.values()) >= CHUNKS - 4
    damaged = sorted((memory.local_root / "objects").iterdir())[:10]
    for path in damaged[:5]:
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
    for path in damaged[5:]:
        path.unlink()
    assert runs.count() == CHUNKS
    assert x.sum().compute() == total(rows=1000)
    again = runs.count()
    assert 4 <= again <= len(damaged)
    wait_stored(client, CHUNKS)
    assert x.rechunk((CHUNKS, 100, 100)).sum().compute() == total(rows=1000)
    assert x.compute().sum() == total(rows=1000)
    client.unregister_scheduler_plugin("memdash-storage")

    def are_back():
        kinds = client.run(lambda dask_worker: type(dask_worker.data).__name__)
        return set(kinds.values()) == {"SpillBuffer"}

    wait_for(are_back, "Dask's own mappings")
    assert x.sum().compute() == total(rows=1000)
    assert again + runs.count() <= len(damaged)


def test_configuration_alone_gives_a_cluster_a_memory(processes, tmp_path, runs):
    env = {
        "DASK_MEMDASH__STORAGE__URL": str(tmp_path / "store"),
        "DASK_DISTRIBUTED__SCHEDULER__PRELOAD": "dask_memdash",
        "DASK_DISTRIBUTED__SCHEDULER__VALIDATE": "True",
    }
    with processes.scheduler(env=env) as client:
        processes.worker(env=env)
        client.wait_for_workers(1, timeout=60)
        x = runs.source(4).persist()
        wait_stored(client, 4)
        assert x.sum().compute() == total(4)
        client.unregister_scheduler_plugin("memdash-storage")
        assert x.sum().compute() == total(4)
        y = (x * 2).persist()
        assert y.sum().compute() == 2 * total(4)
        assert len(list((tmp_path / "store" / "objects").iterdir())) == 4


@pytest.mark.slow
def test_a_death_costs_only_what_is_computed_again_and_says_so(cluster, memory, runs):
    session = cluster(memory)
    session.register()
    client, api = session.client, session.api
    stored = runs.source().persist()
    wait_stored(client, CHUNKS)
    # futures of submit are not stored
    kept = client.map(lambda n: np.ones(1_000_000 + n), range(8), pure=False)
    wait(kept)
    session.wait_until_read()
    wait_for(lambda: api("cluster")["stored"] == CHUNKS * 160_000, "a look at outputs")
    assert api("cluster")["intermediates"]["state"] == "stored"
    worker = max(api("workers"), key=lambda one: one["stored"])
    here = len(client.has_what([worker["address"]])[worker["address"]])
    n_stored = worker["stored"] // 160_000
    os.kill(worker["pid"], signal.SIGKILL)
    death = api.wait_for_death("killed")
    cost = api(f"incidents/{death['id']}")["cost"]
    assert cost["keys_lost"] == here
    assert (cost["keys_stored"], cost["bytes_stored"]) == (n_stored, worker["stored"])
    assert cost["bytes_lost"] > cost["bytes_stored"]
    assert "lost are stored and not computed again" in death["diagnosis"]["text"]
    assert stored.sum().compute() == total()
    assert runs.count() == CHUNKS, "none of them twice"
    text = str(connect(client).explain(death["id"]))
    assert "stored and not computed again" in " ".join(text.split())
    assert connect(client).storage().stored.iloc[0] == CHUNKS
    del stored, kept
