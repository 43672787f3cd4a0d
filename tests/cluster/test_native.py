"""The native tally on real workers: what tasks hold, with neighbours, and fallbacks.

What tasks hold here is known, so that the figures can be compared with the truth.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import queue
import signal
import threading
import time
from multiprocessing.pool import ThreadPool
from typing import Any

import dask
import numpy as np
import pytest
from clusters import Session, wait_for

from dask_memdash import MemDash
from dask_memdash.measure.native_tally import load, why_not

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(load() is None, reason=why_not()),
]

MB = 1_000_000

#: Methods of a figure that was counted: ``exact`` only while the RSS agrees, which on a
#: busy machine it may be late to do.
COUNTS = ("exact", "counted")


def grab(megabytes: int) -> int:
    """Hold memory of the C library's, of which Python knows nothing."""
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.restype, libc.free.argtypes = None, [ctypes.c_void_p]
    block = libc.malloc(megabytes * MB)
    ctypes.memset(block, 1, megabytes * MB)
    time.sleep(0.3)
    libc.free(block)
    return megabytes


def in_a_thread(megabytes: int) -> int:
    def hold() -> None:
        block = np.ones(megabytes * MB // 8)
        time.sleep(0.3)
        del block

    thread = threading.Thread(target=hold)
    thread.start()
    thread.join()
    return megabytes


def untouched(megabytes: int) -> int:
    block = np.empty(megabytes * MB // 8)
    time.sleep(0.3)
    return int(block.nbytes)


def little(number: int) -> int:
    block = np.ones(MB)
    time.sleep(0.1)
    return int(block[0]) + number


def strings(rows: int) -> int:
    import pyarrow as pa
    import pyarrow.compute as pc

    words = pa.array([f"word number {i % 5000}" for i in range(rows)])
    made = pc.utf8_upper(words)
    time.sleep(0.3)
    return int(made.nbytes)


def hold(megabytes: int) -> None:
    block = np.ones(megabytes * MB // 8)
    time.sleep(0.3)
    os.kill(os.getpid(), signal.SIGKILL)
    del block


def with_tally(start: Any, mode: str, **options: Any) -> Session:
    session = start(register=False, n_workers=1, **options)
    session.client.register_plugin(MemDash(tally=mode))
    session.wait_until_read()
    return session


def finished(session: Session, name: str, n: int) -> dict[str, Any]:
    """Wait until so many tasks of a prefix have been reported, and give them."""

    def found() -> dict[str, Any] | None:
        rows = session.api("prefixes")
        row = next((row for row in rows if row["prefix"] == name), None)
        return row if row and row["execution"]["finished"] >= n else None

    return wait_for(found, f"{n} finished tasks of {name}")["execution"]


def test_neighbours_of_all_kinds_are_told_apart(start):
    session = with_tally(start, "auto", threads_per_worker=4, memory_limit="1200 MB")
    client = session.client
    assert not session.api("workers")[0]["degraded"]
    client.gather(
        [
            client.submit(grab, 1, key="warm-1"),
            client.submit(strings, 1000, key="warm-2"),
            client.submit(in_a_thread, 1, key="warm-3"),
        ]
    )
    futures = [
        client.submit(function, amount, key=f"{name}-{i}")
        for i in range(3)
        for name, function, amount in (
            ("grab", grab, 240),
            ("thread", in_a_thread, 200),
            ("untouched", untouched, 300),
            ("little", little, i),
        )
    ]
    client.gather(futures)
    for name, truth in (("grab", 240), ("thread", 200), ("untouched", 0)):
        execution = finished(session, name, 3)
        assert execution["method"] in COUNTS
        most, least = execution["peak"]["max"], execution["peak"]["p50"]
        assert most == pytest.approx(truth * MB, rel=0.02, abs=2.5 * MB)
        assert least == pytest.approx(truth * MB, rel=0.02, abs=2.5 * MB)
    assert finished(session, "little", 3)["peak"]["max"] == pytest.approx(
        8 * MB, rel=0.05
    )


@pytest.mark.slow
def test_strings_of_arrow_are_counted(start):
    pytest.importorskip("pyarrow")
    session = with_tally(start, "native", threads_per_worker=2)
    session.client.submit(strings, 1000, key="warm-1").result()
    session.client.gather(
        [session.client.submit(strings, 500_000, key=f"strings-{i}") for i in range(2)]
    )
    execution = finished(session, "strings", 2)
    assert execution["method"] in COUNTS
    # the list of 500,000 strings (67 bytes each and 8) and two arrays of 18 bytes each
    assert 40 * MB < execution["peak"]["p50"] < 68 * MB


@pytest.mark.slow
def test_what_fails_its_trial_leaves_the_first_generation_and_says_why(start):
    session = start(n_workers=1, register=False)
    session.client.run(spoil_the_trial)
    session.client.register_plugin(MemDash(tally="auto"))
    worker = wait_for(
        lambda: (w := session.api("workers")[0])["degraded"] and w, "the notice"
    )
    assert "not in native libraries: its trial ended with signal 6" in str(
        worker["degraded"]
    )
    assert worker["method"] == "exact"


def spoil_the_trial() -> None:
    from dask_memdash.measure import trial

    trial.outcome = lambda tally: os.abort()


@pytest.mark.slow
def test_environment_of_a_worker_forbids_it_there(start, monkeypatch):
    monkeypatch.setenv("DASK_MEMDASH__TALLY", "off")
    # a server that forks workers has read its environment already
    with dask.config.set({"distributed.worker.multiprocessing-method": "spawn"}):
        session = with_tally(start, "native")
    assert session.api("workers")[0]["method"] == "hwm"


def test_counts_are_right_at_a_sigkill(start):
    session = with_tally(start, "native", threads_per_worker=2)
    session.client.submit(little, 1, key="warm-1").result()
    future = session.client.submit(hold, 160, key="hold-1", retries=0)

    def settled() -> Any:
        return [i for i in session.api("incidents") if i["settled"]]

    (incident, *_) = wait_for(settled, "the recorder's evidence")
    future.cancel()
    death = session.api(f"incidents/{incident['id']}")
    (suspect,) = [s for s in death["suspects"] if s["key"] == "hold-1"]
    assert suspect["bytes"] == pytest.approx(160 * MB, rel=0.01)


def serve() -> None:
    """Start a thread that allocates whatever anybody asks for by a queue."""
    import builtins

    builtins.asked = asked = queue.SimpleQueue()  # type: ignore[attr-defined]

    def run() -> None:
        while True:
            size, done = asked.get()
            np.ones(size // 8)  # gone before anybody looks
            done.set()

    threading.Thread(target=run, daemon=True).start()


def asks(megabytes: int) -> None:
    import builtins

    done = threading.Event()
    time.sleep(0.1)
    builtins.asked.put((megabytes * MB, done))  # type: ignore[attr-defined]
    assert done.wait(20)
    time.sleep(0.1)


def holds(megabytes: int) -> int:
    block = np.ones(megabytes * MB // 8)
    time.sleep(0.5)
    return len(block)


async def waits(megabytes: int) -> None:
    block = np.ones(megabytes * MB // 8)
    await asyncio.sleep(0.2)
    del block


def by_thread_pool(megabytes: int) -> None:
    import builtins

    builtins.pool.map(grab, [megabytes])  # type: ignore[attr-defined]


def make_pool() -> None:
    import builtins

    builtins.pool = ThreadPool(1)  # type: ignore[attr-defined]
    builtins.pool.apply(int)  # type: ignore[attr-defined]


def test_what_threads_of_before_do_for_tasks_is_counted_or_in_the_error(start):
    session = with_tally(start, "native", threads_per_worker=2)
    client = session.client
    client.run(serve)
    client.run(make_pool)
    client.gather([client.submit(holds, 1, key="w-1"), client.submit(asks, 1, key="v")])
    for i in range(2):
        client.submit(by_thread_pool, 80, key=f"pooled-{i}").result()
    for name, function in (("asking", asks), ("async", waits)):
        for i in range(2):
            with_company = client.submit(holds, 8, key=f"beside_{name}-{i}")
            client.submit(function, 80, key=f"{name}-{i}").result()
            with_company.result()
    pooled = finished(session, "pooled", 2)
    assert pooled["peak"]["p50"] == pytest.approx(80 * MB, rel=0.02)
    for name, truth in (("asking", 80), ("beside_asking", 8), ("beside_async", 8)):
        execution = finished(session, name, 2)
        peak, error = execution["peak"]["p50"] or 0, execution["error"]
        assert execution["method"] == "counted", name
        assert peak - error <= truth * MB * 1.02
        assert peak + error >= truth * MB * 0.98
    rows = {row["prefix"]: row["execution"] for row in session.api("prefixes")}
    assert rows["async"]["method"] == "unmeasured"
