"""Collections that are stored apart from the workers, on real clusters."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import dask.dataframe as dd
import pandas as pd
import pytest
from clusters import wait_for
from distributed import Client, LocalCluster, futures_of, get_worker, progress, wait

from dask_memdash import FSMemory, open_persisted, persist
from dask_memdash.errors import (
    CorruptError,
    MissingError,
    NameTakenError,
    StorageError,
    UnreachableError,
)

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(120)]

#: Chunks of what `Runs.source` returns, unless told otherwise.
CHUNKS = 30


class Runs:
    """Counts how often a task really ran, in whatever process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()

    def source(self, seconds: float = 0.0, chunks: int = CHUNKS) -> da.Array:
        """Return an array of 2 × 100 × chunks numbers; every chunk is noted."""
        x = da.ones((chunks, 200, 100), chunks=(1, 200, 100), dtype="i8")
        meta = x._meta
        path = str(self.path)
        return x.map_blocks(expensive, path, seconds, dtype="i8", meta=meta)

    def count(self) -> int:
        """Return the runs since the last look."""
        size = self.path.stat().st_size
        os.truncate(self.path, 0)
        return size


def expensive(block: Any, path: str, seconds: float, block_id: Any = None) -> Any:
    with Path(path).open("ab") as file:
        file.write(b".")
    time.sleep(seconds)
    return block * (block_id[0] + 1) if block_id else block


def note_worker(block: Any, path: str) -> Any:
    with contextlib.suppress(ValueError), Path(path).open("a") as file:
        file.write(get_worker().address + "\n")
    return block


def count_held(dask_worker: Any) -> int:
    return len(dask_worker.data)


@pytest.fixture
def runs(tmp_path):
    return Runs(tmp_path / "runs")


@pytest.fixture
def memory(tmp_path):
    return FSMemory(tmp_path / "store")


@pytest.fixture
def cluster(start):
    def make(**options):
        return start(register=False, **options)

    return make


def stored(memory) -> int:
    folder = memory.local_root / "objects"
    if not folder.exists():
        return 0
    return sum(not path.name.startswith(".") for path in folder.iterdir())


def named(memory, name: str) -> bool:
    return (memory.local_root / "names" / name).exists()


def total(chunks: int = CHUNKS) -> int:
    return 20_000 * chunks * (chunks + 1) // 2


def kill(client: Client, how_many: int) -> None:
    for pid in list(client.run(os.getpid).values())[:how_many]:
        os.kill(pid, signal.SIGKILL)


@pytest.mark.slow
def test_a_new_cluster_opens_and_persists_with_nothing_recomputed(
    cluster, memory, runs
):
    first = cluster()
    y = persist(runs.source(), memory=memory, name="x")
    assert len(futures_of(y)) == CHUNKS
    assert y.sum().compute() == total()
    assert runs.count() == CHUNKS
    wait_for(lambda: named(memory, "x"), "the name")
    first.client.close()
    first.cluster.close()

    cluster()
    assert open_persisted(memory, "x").sum().compute() == total()
    again = persist(runs.source(), memory=memory, name="x")
    assert futures_of(again) == []
    assert (again.rechunk((30, 20, 100)) + 1).sum().compute() == total() + 600_000
    assert runs.count() == 0


def test_a_cluster_killed_half_way_computes_only_the_rest(cluster, memory, runs):
    first = cluster()
    y = persist(runs.source(0.1), memory=memory, name="x")
    wait_for(lambda: stored(memory) >= 10, "ten chunks")
    kill(first.client, 2)
    first.client.cancel(futures_of(y))
    del y
    first.client.close()
    first.cluster.close()
    before = stored(memory)
    assert 10 <= before < CHUNKS
    with pytest.raises(MissingError, match=f"{before} of {CHUNKS} chunks"):
        open_persisted(memory, "x")

    runs.count()
    cluster()
    again = persist(runs.source(0.1), memory=memory, name="x")
    assert again.sum().compute() == total()
    assert runs.count() == CHUNKS - before


@pytest.mark.slow
def test_a_worker_that_dies_takes_nothing_stored_with_it(cluster, memory, runs):
    session = cluster()
    y = persist(runs.source(), memory=memory, name="x")
    wait(y)
    wait_for(lambda: futures_of(y) == [], "all to be settled")
    runs.count()
    kill(session.client, 2)
    assert y.sum().compute() == total()
    assert runs.count() == 0


@pytest.mark.slow
def test_a_worker_killed_in_the_midst_costs_only_what_it_was_doing(
    cluster, memory, runs
):
    session = cluster()
    y = persist(runs.source(0.1), memory=memory, name="x")
    wait_for(lambda: stored(memory) >= 15, "half of the chunks")
    kill(session.client, 1)
    wait(y, timeout=60)
    wait_for(lambda: named(memory, "x"), "the name")
    # it computed one, and may have stored one that the client had not heard of
    assert CHUNKS <= runs.count() <= CHUNKS + 2
    assert y.sum().compute() == total()


@pytest.mark.slow
def test_no_value_stays_with_the_workers(cluster, memory, runs):
    session = cluster()
    y = persist(runs.source(), memory=memory, name="x")
    wait(y)
    wait_for(lambda: futures_of(y) == [], "all to be settled")

    def held() -> int:
        return sum(
            session.client.run(lambda dask_worker: len(dask_worker.data)).values()
        )

    wait_for(lambda: held() == 0, "workers to hold nothing")


@pytest.mark.slow
def test_progress_and_waiting_work_as_dasks_own(cluster, memory, runs, capsys):
    cluster()
    y = persist(runs.source(0.01), memory=memory, name="x")
    progress(y, notebook=False)
    wait(y)
    assert "100% Completed" in capsys.readouterr().out


@pytest.mark.slow
def test_dropping_it_cancels_the_rest(cluster, memory, runs):
    session = cluster()
    y = persist(runs.source(0.2), memory=memory, name="x")
    wait_for(lambda: stored(memory) >= 2, "two chunks")
    del y
    scheduler = session.cluster.scheduler
    wait_for(lambda: not scheduler.tasks, "the scheduler to forget the tasks")
    assert stored(memory) < CHUNKS
    assert not named(memory, "x")


@pytest.mark.parametrize(
    "method", ["p2p", pytest.param("tasks", marks=pytest.mark.slow)]
)
def test_a_shuffled_frame_resumes_with_nothing_recomputed(
    cluster, memory, runs, method
):
    cluster()

    def frame() -> Any:
        table = pd.DataFrame({"k": [n % 7 for n in range(700)], "s": ["ü"] * 700})
        return dd.from_pandas(table, npartitions=5).shuffle("k", shuffle_method=method)

    y = persist(frame(), memory=memory, name="t")
    assert len(y) == 700
    wait_for(lambda: named(memory, "t"), "the name")
    half = sorted((memory.local_root / "objects").iterdir())[:2]
    for path in half:
        path.unlink()
    (memory.local_root / "names" / "t").unlink()
    again = persist(frame(), memory=memory, name="t")
    assert again.k.sum().compute() == 2100
    assert sorted(again.compute().k.value_counts().tolist()) == [100] * 7


@pytest.mark.slow
def test_a_p2p_rechunk_is_stored(cluster, memory, runs):
    cluster()
    with dask.config.set({"array.rechunk.method": "p2p"}):
        y = persist(runs.source().rechunk((30, 20, 50)), memory=memory, name="x")
        assert y.sum().compute() == total()
        wait_for(lambda: named(memory, "x"), "the name")
        again = persist(runs.source().rechunk((30, 20, 50)), memory=memory, name="x")
    assert again.sum().compute() == total()
    assert runs.count() == CHUNKS


@pytest.mark.slow
def test_annotations_reach_the_tasks_that_store(cluster, memory, tmp_path):
    session = cluster()
    chosen, other = sorted(session.client.scheduler_info()["workers"])
    path = tmp_path / "addresses"
    with dask.annotate(workers=[chosen]):
        x = da.ones(8, chunks=1).map_blocks(note_worker, str(path), dtype="f8")
    # Dask's own optimization of arrays loses annotations, with its own persist too
    y = persist(x, memory=memory, name="x", optimize_graph=False)
    assert y.sum().compute() == 8
    # Dask calls the function once itself, to learn the type of its result
    ran = path.read_text().split()
    assert ran.count(chosen) == 8
    assert other not in ran


@pytest.mark.slow
async def test_an_asynchronous_client_persists(memory, runs):
    async with (
        LocalCluster(
            n_workers=1,
            processes=False,
            asynchronous=True,
            dashboard_address="127.0.0.1:0",
        ) as cluster,
        Client(cluster, asynchronous=True) as client,
    ):
        y = await persist(runs.source(), memory=memory, name="x")
        assert await client.compute(y.sum()) == total()
        while not named(memory, "x"):
            await asyncio.sleep(0.02)
        again = await persist(runs.source(), memory=memory, name="x")
        assert await client.compute(again.sum()) == total()
    assert runs.count() == CHUNKS


@pytest.mark.slow
def test_memory_of_one_process_is_refused_by_workers_of_their_own(cluster, runs):
    cluster(n_workers=1)
    y = persist(runs.source(chunks=2), memory=FSMemory("memory://one"), name="x")
    with pytest.raises(UnreachableError, match="belongs to one process"):
        y.compute()


def test_a_store_that_is_full_fails_the_task_and_is_named(cluster, memory, runs):
    session = cluster(n_workers=1)

    def fill() -> None:
        import errno
        import os

        def full(*_: Any) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        os.writev = full

    session.client.run(fill)
    y = persist(runs.source(chunks=2), memory=memory, name="x")
    with pytest.raises(StorageError, match="it is full"):
        y.compute()
    assert not named(memory, "x")


@pytest.mark.slow
def test_a_writer_killed_in_the_midst_of_a_put_leaves_no_object(cluster, memory, runs):
    session = cluster(n_workers=1)

    def die_half_way() -> None:
        import os
        import signal

        real = os.writev

        def part(descriptor: int, views: list[Any]) -> int:
            real(descriptor, [views[0]])
            os.kill(os.getpid(), signal.SIGKILL)
            return 0

        os.writev = part

    session.client.run(die_half_way)
    y = persist(runs.source(chunks=3), memory=memory, name="x")
    # the nanny starts another worker, which writes as it should
    assert y.sum().compute() == total(3)
    assert stored(memory) == 3
    left = list((memory.local_root / "objects").glob(".unfinished-*"))
    assert len(left) == 1
    assert open_persisted(memory, "x").sum().compute() == total(3)


@pytest.mark.slow
def test_damage_is_noticed_by_workers_and_the_error_reaches_the_client(
    cluster, memory, runs
):
    cluster()
    y = persist(runs.source(), memory=memory, name="x")
    wait(y)
    wait_for(lambda: futures_of(y) == [], "all to be settled")
    chunk_of = {
        y.dask[key].args[0].object_id: y.blocks[key[1]]
        for key in dask.core.flatten(y.__dask_keys__())
    }
    names, draw, seen = sorted(chunk_of), random.Random(7), Counter()
    for _ in range(40):
        name = draw.choice(names)
        path = memory.local_root / "objects" / name
        whole = path.read_bytes()
        kind = draw.choice(["flipped", "cut", "swapped", "gone"])
        if kind == "flipped":
            damaged = bytearray(whole)
            damaged[draw.randrange(len(damaged))] ^= 1 << draw.randrange(8)
            path.write_bytes(damaged)
        elif kind == "cut":
            path.write_bytes(whole[: draw.randrange(len(whole))])
        elif kind == "swapped":
            other = draw.choice([one for one in names if one != name])
            path.write_bytes((path.parent / other).read_bytes())
        else:
            path.unlink()
        with pytest.raises((CorruptError, MissingError)) as caught:
            chunk_of[name].compute()
        assert name in str(caught.value)
        assert "ersist the collection again" in str(caught.value)
        seen[kind] += 1
        path.write_bytes(whole)
    assert set(seen) == {"flipped", "cut", "swapped", "gone"}
    assert y.sum().compute() == total()


WRITER = """
    import sys, time
    import dask.array as da
    from distributed import Client, LocalCluster, wait
    from dask_memdash import FSMemory, persist
    from dask_memdash.errors import NameTakenError

    def slow(block, factor):
        time.sleep(0.02)
        return block * factor

    if __name__ == "__main__":
        url, factor = sys.argv[1], int(sys.argv[2])
        with LocalCluster(n_workers=1, threads_per_worker=2, processes=False,
                          dashboard_address="127.0.0.1:0") as c, Client(c):
            x = da.ones(40, chunks=2).map_blocks(slow, factor, dtype="f8")
            print("ready", flush=True)
            sys.stdin.readline()
            try:
                y = persist(x, memory=FSMemory(url), name="x")
            except NameTakenError as error:
                print("taken", flush=True)
            else:
                wait(y)
                print("won", flush=True)
"""


@pytest.mark.slow
def test_of_two_clusters_that_write_one_name_one_wins_whole(tmp_path, memory):
    memory.create()
    script = tmp_path / "writer.py"
    script.write_text(textwrap.dedent(WRITER))
    with contextlib.ExitStack() as stack:
        writers = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, script, memory.url, str(factor)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            for factor in (2, 3)
        ]
        for writer in writers:
            assert writer.stdout.readline() == "ready\n"
        for writer in writers:
            writer.stdin.write("go\n")
            writer.stdin.flush()
        said = [writer.stdout.readline().strip() for writer in writers]
        for writer in writers:
            writer.stdin.close()
            assert writer.wait(60) == 0
    assert sorted(said) == ["taken", "won"]
    factor = (2, 3)[said.index("won")]
    with dask.config.set(scheduler="synchronous"):
        assert open_persisted(memory, "x").sum().compute() == 40 * factor


@pytest.mark.slow
def test_a_script_that_ends_after_waiting_has_given_the_name(tmp_path, memory):
    script = tmp_path / "writer.py"
    script.write_text(textwrap.dedent(WRITER))
    done = subprocess.run(
        [sys.executable, script, memory.url, "2"],
        input="go\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.splitlines() == ["ready", "won"]
    assert named(memory, "x")


@pytest.mark.slow
def test_workers_memory_persists_as_dask_does(cluster, runs):
    from dask_memdash import WorkerMemory

    cluster()
    y = persist(runs.source(), memory=WorkerMemory(), name="x")
    assert y.sum().compute() == total()
    assert open_persisted(WorkerMemory(), "x").sum().compute() == total()
    assert runs.count() == CHUNKS


@pytest.mark.slow
def test_overwriting_while_another_writes_tells_the_other_in_the_log(
    cluster, memory, runs, caplog
):
    cluster()
    first = persist(runs.source(0.05), memory=memory, name="x")
    second = persist(runs.source(chunks=3), memory=memory, name="x", overwrite=True)
    with pytest.raises(NameTakenError):
        persist(runs.source(chunks=4), memory=memory, name="x")
    # LocalCluster has silenced all handlers
    with caplog.at_level(logging.ERROR, logger="dask_memdash"):
        wait([first, second])
        wait_for(lambda: "something else" in caplog.text, "the line in the log")
    assert open_persisted(memory, "x").sum().compute() == total(3)
    assert first.sum().compute() == total()


def test_nothing_is_left_running(memory, runs, cluster):
    cluster(n_workers=1)
    y = persist(runs.source(chunks=2), memory=memory, name="x")
    wait(y)
    wait_for(
        lambda: not [t for t in threading.enumerate() if t.name == "MemDash naming"],
        "the thread that names to end",
    )
