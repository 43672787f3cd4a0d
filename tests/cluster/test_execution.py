"""In-execution memory in real workers: right, and honest about how right.

What tasks hold here is known, so that the figures can be compared with the truth.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from clusters import Session, wait_for

from dask_memdash import MemDash
from dask_memdash.measure.tally import load, why_not
from dask_memdash.system.proc import HighWater

pytestmark = [pytest.mark.cluster, pytest.mark.hooks]

MB = 1_000_000

counts = pytest.mark.skipif(load() is None, reason=why_not())


def _high_water() -> bool:
    mark = HighWater()
    try:
        return mark.available
    finally:
        mark.close()


looks = pytest.mark.skipif(
    not _high_water(), reason="no high-water mark that can be set back"
)


# -- tasks -----------------------------------------------------------------------


def warm_up() -> None:
    """Import and grow whatever the first task would."""
    np.ones(1000).sum()
    ctypes.CDLL(None)


def array(megabytes: int, seconds: float = 0.2) -> int:
    block = np.ones(megabytes * MB // 8)
    time.sleep(seconds)
    return int(block[0])


def untouched(megabytes: int) -> int:
    block = np.empty(megabytes * MB // 8)
    time.sleep(0.2)
    return block.size


def native(megabytes: int) -> int:
    """Hold memory of the C library's, of which Python knows nothing."""
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.restype, libc.free.argtypes = None, [ctypes.c_void_p]
    block = libc.malloc(megabytes * MB)
    ctypes.memset(block, 1, megabytes * MB)
    time.sleep(0.2)
    libc.free(block)
    return megabytes


def table(megabytes: int) -> int:
    import pyarrow

    made = pyarrow.concat_arrays(
        [pyarrow.array(range(10_000), pyarrow.int64())] * (megabytes * 100 // 8)
    )
    time.sleep(0.2)
    return made.nbytes


def forks(megabytes: int) -> int:
    """Have a child that allocates and ends, beside an array of one's own."""
    block = np.ones(megabytes * MB // 8)
    child = os.fork()
    if child == 0:
        bytearray(30 * MB)
        os._exit(0)
    os.waitpid(child, 0)
    return int(block[0])


def starts_threads(megabytes: int) -> int:
    """Hold memory in a thread of one's own."""

    def hold() -> None:
        block = np.ones(megabytes * MB // 8)
        time.sleep(0.2)
        assert block[0] == 1

    threads = [threading.Thread(target=hold) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(threads)


class Liar:
    """An object that weighs much more than it says."""

    def __init__(self, megabytes: int) -> None:
        self.block = np.ones(megabytes * MB // 8)

    def __sizeof__(self) -> int:
        return 100


class Keep:
    """Where tasks put things aside for good."""

    blocks: list[Any] = []  # noqa: RUF012


def leak(number: int, megabytes: int) -> int:
    # by the module's name, as the function itself is sent by value
    from test_execution import Keep

    Keep.blocks.append(np.ones(megabytes * MB // 8))
    return number


def grow_without_giving_way(steps: int, megabytes: int, seconds: float) -> int:
    """Grow in steps and never let the event loop run, so that no heartbeat is sent."""
    sleep = ctypes.PyDLL(None).usleep  # keeps the GIL
    blocks = []
    for _ in range(steps):
        blocks.append(np.ones(megabytes * MB // 8))
        sleep(int(seconds * 1e6))
    return len(blocks)


# -- helpers ---------------------------------------------------------------------


def run(session: Session, name: str, function: Callable[..., Any], *args: Any) -> None:
    """Run a task alone and let go of its output."""
    session.client.submit(function, *args, key=f"{name}-1", pure=False).result(30)


def prefix(session: Session, name: str) -> dict[str, Any] | None:
    rows = session.api("prefixes")
    return next((row for row in rows if row["prefix"] == name), None)


def finished(session: Session, name: str, n: int = 1) -> dict[str, Any]:
    """Wait until so many tasks of a prefix have been reported, and give them."""

    def found() -> dict[str, Any] | None:
        row = prefix(session, name)
        return row if row and row["execution"]["finished"] >= n else None

    return wait_for(found, f"{n} finished tasks of {name}")["execution"]


def without_tally(start: Callable[..., Session], **options: Any) -> Session:
    session = start(register=False, n_workers=1, **options)
    session.client.register_plugin(MemDash(tally=False))
    session.wait_until_read()
    return session


# -- one task at a time ------------------------------------------------------------


@counts
@looks
def test_alone_counted_native_and_untouched_memory_are_told_apart(start):
    session = start(register=False, n_workers=1)
    session.client.register_plugin(MemDash(tally="python"))
    session.wait_until_read()
    run(session, "warm", warm_up)

    run(session, "array", array, 100)
    done = finished(session, "array")
    assert done["method"] == "exact"
    assert done["peak"]["max"] == pytest.approx(100 * MB, rel=0.01)
    assert done["error"] < 5 * MB

    run(session, "untouched", untouched, 300)
    done = finished(session, "untouched")
    assert done["method"] == "hwm"
    assert done["peak"]["max"] < 10 * MB
    assert done["unseen"]["untouched"] == pytest.approx(300 * MB, rel=0.05)

    run(session, "native", native, 100)
    done = finished(session, "native")
    assert done["method"] == "hwm"
    assert done["peak"]["max"] == pytest.approx(100 * MB, rel=0.1)
    assert done["unseen"]["native"] == pytest.approx(100 * MB, rel=0.1)

    run(session, "starts_threads", starts_threads, 40)
    done = finished(session, "starts_threads")
    assert done["peak"]["max"] == pytest.approx(80 * MB, rel=0.1)

    # …and none of this has put the count of the next one out
    run(session, "again", array, 60)
    done = finished(session, "again")
    assert done["method"] == "exact"
    assert done["peak"]["max"] == pytest.approx(60 * MB, rel=0.01)


@looks
def test_an_arrow_table_is_covered_by_its_error_bar(start):
    pytest.importorskip("pyarrow")
    session = start(n_workers=1)
    for n in range(3):  # the pool keeps what the one before has freed
        session.client.submit(table, 60, key=f"table-{n}").result(30)
    done = finished(session, "table", 3)
    assert abs(done["peak"]["p50"] - 60 * MB) <= done["error"] + 0.05 * 60 * MB
    # the bar is no excuse
    assert done["peak"]["p50"] == pytest.approx(60 * MB, rel=0.5)


@counts
def test_a_task_that_forks_is_counted_and_so_are_those_after_it(start):
    session = start(n_workers=1)
    run(session, "warm", warm_up)
    run(session, "forks", forks, 50)
    assert finished(session, "forks")["peak"]["max"] == pytest.approx(50 * MB, rel=0.1)
    run(session, "after", array, 50)
    done = finished(session, "after")
    assert (done["method"], done["finished"]) == ("exact", 1)
    assert done["peak"]["max"] == pytest.approx(50 * MB, rel=0.01)
    assert session.api("workers")[0]["degraded"] == []


# -- several at a time -------------------------------------------------------------


@counts
def test_tasks_of_four_threads_are_counted_each_for_itself(start):
    session = start(n_workers=1, threads_per_worker=4, memory_limit="900 MB")
    run(session, "warm", warm_up)
    sizes = {"small": 20, "middle": 60, "large": 100}
    futures = [
        session.client.submit(array, size, key=f"{name}-{n}")
        for n in range(4)
        for name, size in sizes.items()
    ]
    session.client.gather(futures)
    for name, size in sizes.items():
        done = finished(session, name, 4)
        assert done["method"] in ("exact", "counted")
        # quantiles are kept to one part in a hundred, the largest as it is
        assert done["peak"]["max"] == pytest.approx(size * MB, rel=0.01)
        assert done["peak"]["p50"] == pytest.approx(size * MB, rel=0.02)


@pytest.mark.slow
@looks
def test_without_the_tally_a_task_alone_has_the_kernels_figure(start):
    session = without_tally(start)
    run(session, "warm", array, 1)
    for n in range(3):
        session.client.submit(array, 80, key=f"array-{n}").result(30)
    done = finished(session, "array", 3)
    assert done["method"] == "hwm"
    assert done["peak"]["p50"] == pytest.approx(80 * MB, rel=0.02)
    assert session.api("workers")[0]["method"] == "hwm"


@pytest.mark.slow
def test_without_the_tally_four_threads_of_one_prefix_share_rightly(start):
    session = without_tally(start, threads_per_worker=4, memory_limit="900 MB")
    run(session, "warm", array, 1)
    futures = [
        session.client.submit(array, 60, 0.5, key=f"array-{n}") for n in range(16)
    ]
    session.client.gather(futures)
    done = finished(session, "array", 16)
    assert done["method"] == "estimated"
    assert done["peak"]["p50"] == pytest.approx(60 * MB, rel=0.25)


# -- what tasks leave behind -------------------------------------------------------


def flagged(session: Session, name: str, flag: str) -> dict[str, Any]:
    def found() -> dict[str, Any] | None:
        row = prefix(session, name)
        audited = row and row["storage"]["sizeof"]
        return audited if audited and audited["flag"] == flag else None

    return wait_for(found, f"the outputs of {name} to be called {flag!r}")


@counts
def test_outputs_that_lie_about_their_size_are_called_too_light(start):
    session = start(n_workers=1)
    futures = [session.client.submit(Liar, 20, key=f"liar-{n}") for n in range(6)]
    wait_for(lambda: all(f.done() for f in futures), "the outputs to be stored")
    audited = flagged(session, "liar", "too-light")
    assert audited["believed"] < 1000
    assert audited["measured"] == pytest.approx(20 * MB, rel=0.05)
    assert audited["ratio"] < 0.001


@pytest.mark.slow
@counts
def test_views_are_called_too_heavy_and_said_why(start):
    session = start(n_workers=1)
    whole = session.client.submit(np.ones, 2 * MB, key="whole-1")
    views = [
        session.client.submit(lambda a, n: a[n:], whole, n, key=f"view-{n}")
        for n in range(1, 7)
    ]
    wait_for(lambda: all(f.done() for f in views), "the views to be stored")
    audited = flagged(session, "view", "too-heavy")
    assert audited["because"] == "views of other arrays"
    assert audited["believed"] == pytest.approx(16 * MB, rel=0.01)
    assert audited["measured"] < 1 * MB


@pytest.mark.slow
@counts
def test_a_prefix_that_puts_something_aside_is_known_to_leak(start):
    session = start(n_workers=1)
    run(session, "warm", warm_up)
    run(session, "honest", array, 30)
    for n in range(8):
        session.client.submit(leak, n, 10, key=f"leak-{n}").result(30)
        session.client.submit(array, 30, 0, key=f"honest-{n}").result(30)

    def leaked() -> dict[str, Any] | None:
        row = prefix(session, "leak")
        found = row and row["execution"]["leak"]
        return found if found and found["bytes"] > 40 * MB else None

    # of the first one nothing is said: it may have imported half a library; and the
    # baseline is the least of some seconds, so that it comes after them; where the
    # first idle moment was late, it holds a part of the leak already
    found = wait_for(leaked, "the leak to show in the baseline")
    assert 40 * MB < found["bytes"] < 77 * MB
    assert 5 * MB < found["per_task"] < 11 * MB
    honest = prefix(session, "honest")
    assert honest["execution"]["leak"] == {"bytes": 0, "per_task": 0}
    assert honest["storage"]["sizeof"]["flag"] == ""


# -- live --------------------------------------------------------------------------


@pytest.mark.slow
def test_growth_is_seen_while_the_worker_cannot_speak(start):
    session = start(n_workers=1)
    run(session, "warm", warm_up)
    future = session.client.submit(grow_without_giving_way, 6, 40, 1.0, key="grower-1")
    seen: set[int] = set()

    def grown() -> bool:
        (worker,) = session.api("workers")
        for task in worker["executing_tasks"]:
            seen.add(round((task["bytes"] or 0) / (40 * MB)))
        return len(seen - {0}) >= 3

    wait_for(grown, "three steps of its growth")
    assert seen <= set(range(7))
    assert future.result(timeout=30) == 6


# -- what it costs -----------------------------------------------------------------


@pytest.mark.slow
def test_what_memdash_costs_becomes_known_everywhere(start):
    session = start(n_workers=2)

    def known() -> bool:
        places = [session.api("cluster")["self_cost"]]
        places += [worker["self_cost"] for worker in session.api("workers")]
        return all(c["cpu"] is not None for costs in places for c in costs.values())

    wait_for(known, "the cost of the scheduler, every worker and every nanny")
    costs = session.api("cluster")["self_cost"]
    for place in costs.values():
        assert 0 < place["cpu"] <= place["cpu_max"] < 0.5
    assert costs["scheduler"]["bytes"] > 1000
    assert costs["workers"]["bytes"] > 2 * 4096


@pytest.mark.slow
def test_where_the_budget_is_tiny_everybody_holds_back(start):
    session = start(register=False, n_workers=1)
    session.client.register_plugin(MemDash(budget=0.0001))

    def held_back() -> bool:
        session.client.gather(session.client.map(abs, range(50), pure=False))
        costs = session.api("cluster")["self_cost"]
        return all(cost["held_back"] == 1 for cost in costs.values())

    # A worker judges what it costs only once its start lies behind it.
    wait_for(held_back, "scheduler, worker and nanny to hold back", 90)
    # …and tasks are measured all the same
    run(session, "array", array, 50)
    assert finished(session, "array")["peak"]["max"] == pytest.approx(50 * MB, rel=0.15)


@pytest.mark.slow
def test_two_hundred_threads_are_all_seen_and_none_is_lost(start):
    session = start(n_workers=1, threads_per_worker=200, memory_limit="900 MB")
    futures = session.client.map(lambda n: n + 1, range(3000), key="tiny", pure=False)
    assert sum(session.client.gather(futures)) == 3000 * 3001 // 2
    slow = session.client.map(
        lambda n: time.sleep(0.5) or n, range(400), key="slow", pure=False
    )
    seen = []

    def many() -> bool:
        seen.append(len(session.api("workers")[0]["executing_tasks"]))
        return seen[-1] >= 150

    wait_for(many, "150 tasks to be seen at once")
    session.client.gather(slow)
    finished(session, "slow", 400)
    assert finished(session, "tiny", 3000)["finished"] == 3000
    # on a slow machine so many marks may cost more than the budget, which is said
    said = session.api("workers")[0]["degraded"]
    assert [text for text in said if "memdash.budget" not in text] == []
