"""Memory of a worker that is no task's execution: maps of files, children, buffers.

What each program has is known, so that the figures can be compared with the truth.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import subprocess
import sys
import time
import warnings
from typing import Any

import numpy as np
import psutil
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


def _child(megabytes: int, seconds: float) -> str:
    return (
        f"import time; block = bytearray({megabytes} * 10**6)\n"
        f"for at in range(0, len(block), 4096): block[at] = 1\n"
        f"time.sleep({seconds})"
    )


def start_child(megabytes: int, seconds: float) -> int:
    return subprocess.run(
        [sys.executable, "-c", _child(megabytes, seconds)], check=True
    ).returncode


def start_child_that_is_killed(megabytes: int) -> None:
    command = [sys.executable, "-c", _child(megabytes, 30)]
    with subprocess.Popen(command) as child:
        time.sleep(2)
        child.kill()  # as the kernel would
    raise subprocess.CalledProcessError(child.returncode, "convert")


def start_pool(megabytes: int) -> int:
    """Fork two processes, each of which fills memory of its own."""
    # A worker with a nanny is a daemon, which `multiprocessing` lets have no children.
    multiprocessing.current_process()._config["daemon"] = False  # type: ignore[attr-defined]
    context = multiprocessing.get_context("fork")
    with context.Pool(2) as pool:
        pool.map(_fill, [megabytes] * 2)
    return megabytes


def _fill(megabytes: int) -> None:
    block = np.ones(megabytes * MB, dtype="u1")
    time.sleep(2.5)
    del block


def idle(seconds: float) -> None:
    time.sleep(seconds)


def test_a_process_that_a_task_starts_is_measured_and_is_the_tasks(
    one: Session,
) -> None:
    beside = one.client.submit(idle, 6)
    running = one.client.submit(start_child, 300, 5)

    def children() -> Any:
        (worker,) = one.api("workers")
        held = worker["children"]
        alone = held["processes"] == 1  # others are gone that loading it started
        return worker if alone and held["rss"] > 300 * MB else None

    worker = wait_for(children, "the child's memory")
    # loading it may have started others, which are gone
    family = max(worker["children"]["tasks"], key=lambda family: family["peak"])
    assert family["key"] == running.key
    assert family["prefix"] == "start_child"
    assert family["command"].startswith("python")
    assert worker["children"]["processes"] == 1
    assert 300 * MB < family["rss"] < 340 * MB
    assert worker["breakdown"]["process"] < 200 * MB, "it is no part of the process"
    running.result()
    found = prefix(one, "start_child")
    assert 300 * MB < found["children"]["peak"] < 340 * MB
    assert found["execution"]["peak"]["max"] < 5 * MB
    beside.result()

    def gone() -> Any:
        (worker,) = one.api("workers")
        return worker["children"]["processes"] == 0

    wait_for(gone, "the child to be gone")
    assert prefix(one, "start_child")["children"]["rss"] == 0


@pytest.mark.slow
def test_a_forked_pool_counts_without_what_it_shares_with_the_worker(
    one: Session,
) -> None:
    running = one.client.submit(start_pool, 80)

    def children() -> Any:
        (worker,) = one.api("workers")
        held = worker["children"]
        return held if held["rss"] > 150 * MB else None

    held = wait_for(children, "the pool's memory")
    assert held["tasks"][0]["key"] == running.key
    assert held["processes"] == 2
    assert held["rss"] < 230 * MB
    running.result()


def test_a_child_that_is_killed_is_an_incident_of_its_task(one: Session) -> None:
    failing = one.client.submit(start_child_that_is_killed, 200, retries=0)
    assert isinstance(failing.exception(), subprocess.CalledProcessError)
    incident = one.api.wait_for_death("memory-error")
    assert incident["stage"] == "child"
    assert incident["diagnosis"]["responsible"] == {
        "prefix": "start_child_that_is_killed",
        "key": failing.key,
    }
    assert incident["diagnosis"]["cause"] == "overcommitted"
    assert "does not" in incident["diagnosis"]["text"]


@pytest.mark.slow
def test_what_children_had_is_known_after_the_workers_death(one: Session) -> None:
    running = one.client.submit(start_child, 200, 60, retries=0)

    def children() -> Any:
        (worker,) = one.api("workers")
        return worker["pid"] if worker["children"]["rss"] > 190 * MB else None

    pid = wait_for(children, "the child's memory")
    os.kill(pid, signal.SIGKILL)
    death = one.api.wait_for_death("killed")
    family = max(death["children"], key=lambda family: family["peak"])
    assert family["prefix"] == "start_child"
    assert family["peak"] > 190 * MB
    running.release()


def native(megabytes: int, seconds: float) -> int:
    """Hold memory of the C library's, of which Python knows nothing."""
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.restype, libc.free.argtypes = None, [ctypes.c_void_p]
    block = libc.malloc(megabytes * MB)
    ctypes.memset(block, 1, megabytes * MB)
    time.sleep(seconds)
    libc.free(block)
    return megabytes


def test_no_running_task_is_exact_while_nobody_counts_what_the_process_has(
    one: Session,
) -> None:
    running = [one.client.submit(native, 200, 4), one.client.submit(idle, 4)]

    def both() -> Any:
        (worker,) = one.api("workers")
        tasks = worker["executing_tasks"]
        grown = worker["breakdown"]["process"] > 270 * MB
        return tasks if len(tasks) == 2 and grown else None

    wait_for(both, "both tasks and the memory")
    tasks = wait_for(both, "both tasks and the memory")
    time.sleep(1)
    tasks = wait_for(both, "both tasks and the memory")
    for task in tasks:
        truth = 200 * MB if task["prefix"] == "native" else 0
        assert abs(task["bytes"] - truth) <= task["error"] + 5 * MB
        if task["error"] > 30 * MB:
            assert task["method"] != "exact"
    one.client.gather(running)


def receive(block: Any) -> int:
    time.sleep(0.1)
    return len(block)


def make(n: int) -> Any:
    return np.full(40 * MB, n, dtype="u1")


def test_a_task_that_only_receives_its_inputs_has_no_peak(start: Any) -> None:
    two: Session = start(n_workers=2, threads_per_worker=1, memory_limit="700MB")
    addresses = [worker["address"] for worker in two.api("workers")]
    two.client.run(warm_up)
    time.sleep(1)
    made = two.client.map(make, range(6), workers=addresses[0], pure=False)
    done = two.client.map(
        receive, made, workers=addresses[1], allow_other_workers=False, pure=False
    )
    assert two.client.gather(done) == [40 * MB] * 6
    execution = prefix(two, "receive")["execution"]
    assert execution["peak"]["max"] < 10 * MB
    if execution["error"] > 4 * MB:
        assert execution["method"] != "exact"


def score(block: Any, n: int) -> float:
    return float(block[n])


def other(session: Session, name: str) -> Any:
    rows = session.api("cluster")["others"]
    return next((row for row in rows if row["name"] == name), None)


def test_what_each_task_carries_is_the_graphs_and_comes_with_advice(
    one: Session,
) -> None:
    blocks = [np.full(24 * MB, n, dtype="u1") for n in range(6)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Dask's own, on large graphs
        kept = [one.client.submit(score, block, 3, pure=False) for block in blocks]
    one.client.gather(kept)

    def weighed() -> Any:
        found = prefix(one, "score")
        return found if found["graph_bytes"] > 140 * MB else None

    found = wait_for(weighed, "the arguments to be weighed")
    assert found["graph_bytes"] < 150 * MB
    assert "scatter" in found["advice"]
    assert "6 tasks" in found["advice"]
    row = other(one, "graph arguments")
    assert 140 * MB < row["bytes"] < 150 * MB
    assert (row["kind"], row["part"], row["method"]) == (
        "other",
        "graph",
        "looked into",
    )
    del kept

    def gone() -> Any:
        return prefix(one, "score")["graph_bytes"] == 0

    wait_for(gone, "the tasks to be forgotten")


@pytest.mark.slow
def test_what_quick_tasks_gather_in_a_global_is_not_what_they_were_sent_with(
    one: Session,
) -> None:
    gathered: dict[str, Any] = {"np": np, "kept": []}
    exec("def gather(n): kept.append(np.ones(n)); return n", gathered)
    futures = one.client.map(gathered["gather"], [1_000_001 + n for n in range(16)])
    one.client.gather(futures)  # 128 MB stay behind

    done = time.time()

    def heard_again() -> bool:
        return bool(one.api("workers")[0]["last_seen"] > done + 1)

    wait_for(heard_again, "a heartbeat after the tasks were weighed")
    found = prefix(one, "gather")
    assert found["graph_bytes"] < 2 * MB
    assert found["execution"]["finished"] == 16


def fill_arrow(megabytes: int) -> int:
    import pyarrow

    block = pyarrow.allocate_buffer(megabytes * MB)
    ctypes.memset(block.address, 1, megabytes * MB)
    # Beside many small ones, so that the pool has pages that it does not give back.
    small = [pyarrow.allocate_buffer(60_000) for _ in range(megabytes * 1000 // 60)]
    for one in small:
        ctypes.memset(one.address, 1, 60_000)
    return megabytes


def import_arrow() -> None:
    import pyarrow

    pyarrow.allocate_buffer(1000)


def test_what_arrow_keeps_is_retained_with_advice(one: Session) -> None:
    pytest.importorskip("pyarrow")
    one.client.submit(import_arrow).result()
    time.sleep(2)
    one.client.submit(fill_arrow, 100).result()
    pid = one.api("workers")[0]["pid"]
    time.sleep(1)
    rss = psutil.Process(pid).memory_info().rss
    if rss < 230 * MB:
        pytest.skip("this Arrow gave all of it back at once")

    def kept() -> Any:
        return (row := other(one, "arrow pool")) and row["bytes"] > 80 * MB and row

    row = wait_for(kept, "what Arrow keeps")
    assert row["part"] == "retained"
    assert "release_unused" in row["advice"]
    breakdown = one.api("workers")[0]["breakdown"]
    assert breakdown["retained"] >= row["bytes"]
    one.client.run(lambda: __import__("pyarrow").default_memory_pool().release_unused())

    def freed() -> Any:
        row = other(one, "arrow pool")
        return row is None or row["bytes"] < 40 * MB

    if psutil.Process(pid).memory_info().rss < rss - 80 * MB:
        wait_for(freed, "what Arrow keeps no more")


@pytest.mark.slow
def test_the_scheduler_says_what_its_tasks_carry(one: Session) -> None:
    blocks = [np.full(24 * MB, n, dtype="u1") for n in range(4)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Dask's own, on large graphs
        kept = [one.client.submit(score, block, 3, pure=False) for block in blocks]
    one.client.gather(kept)

    def weighed() -> Any:
        found = one.api("cluster")["scheduler"]
        return found if found and found["graph_bytes"] > 90 * MB else None

    found = wait_for(weighed, "the scheduler's tasks to be weighed")
    assert found["pid"] == os.getpid()
    assert found["graph_bytes"] < 100 * MB
    assert (found["graph"][0]["prefix"], found["graph"][0]["tasks"]) == ("score", 4)
    assert found["largest"]["prefix"] == "score"
    assert 24 * MB <= found["largest"]["bytes"] < 25 * MB
    assert found["warns_above"] == 10 * MB
    assert found["rss"] > 90 * MB
    assert found["limit"]
    assert found["available"]
