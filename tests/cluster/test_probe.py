"""What the probe sees on every kind of worker and task."""

from __future__ import annotations

import asyncio
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

import dask
import numpy as np
import pytest
from clusters import Api, wait_for
from distributed import WorkerPlugin, get_client, secede

from dask_memdash import MemDash
from dask_memdash.measure.tally import load, why_not

pytestmark = [pytest.mark.cluster, pytest.mark.hooks]

MB = 1_000_000


def hold(megabytes: int, seconds: float) -> int:
    block = np.ones(megabytes * MB // 8)
    time.sleep(seconds)
    return int(block[0])


def prefix(api: Api, name: str) -> dict:
    return next((p for p in api("prefixes") if p["prefix"] == name), None)


def finished(api: Api, name: str, n: int) -> dict:
    def found():
        row = prefix(api, name)
        return row if row and row["execution"]["finished"] >= n else None

    return wait_for(found, f"{n} finished tasks of {name}")


@pytest.fixture(params=["exact", "estimated"])
def method(request) -> Iterator[str]:
    """Each way to measure, as it is registered."""
    if request.param == "exact" and load() is None:
        pytest.skip(why_not())
    with dask.config.set({"memdash.tally": request.param == "exact"}):
        yield request.param


#: What a task that had the process to itself is measured by in the end.
ALONE = {"exact": "exact", "estimated": "hwm"}

#: By how much its peak may be off, as a share of it.
TOLERANCE = {"exact": 0.011, "estimated": 0.02}


def test_a_task_alone_is_measured(start, method):
    session = start(n_workers=1)
    session.client.gather(
        [session.client.submit(hold, 100, 0.4, pure=False) for _ in range(4)]
    )
    execution = finished(session.api, "hold", 4)["execution"]
    assert execution["method"] == ALONE[method]
    tolerance = TOLERANCE[method]
    assert execution["peak"]["p50"] == pytest.approx(100 * MB, rel=tolerance)
    assert session.api("workers")[0]["method"] == ALONE[method]


@pytest.mark.skipif(load() is None, reason=why_not())
def test_several_threads_are_told_apart_by_the_tally(start):
    session = start(n_workers=1, threads_per_worker=4, memory_limit="900 MB")
    # What the first tasks load beside them is nobody's, and would be in their errors.
    session.client.submit(hold, 1, 1.5, key="warm-1").result(30)
    futures = [
        session.client.submit(hold, size, 0.4, key=f"hold_{size}-{i}")
        for size in (20, 60, 100)
        for i in range(3)
    ]
    session.client.gather(futures)
    for size in (20, 60, 100):
        execution = finished(session.api, f"hold_{size}", 3)["execution"]
        # "counted" where a busy machine's RSS is late to agree
        assert execution["method"] in ("exact", "counted")
        assert execution["peak"]["p50"] == pytest.approx(size * MB, rel=0.011)


@pytest.mark.slow
def test_without_the_tally_the_page_and_whoever_registers_are_told(start, monkeypatch):
    session = start(n_workers=1, register=False)
    session.client.run(hide_the_tally)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        session.client.register_plugin(MemDash())
        wait_for(lambda: caught, "the warning")
    assert "estimated from the RSS instead" in str(caught[0].message)
    worker = wait_for(
        lambda: (w := session.api("workers")[0])["degraded"] and w, "the notice"
    )
    assert "the tally was not built" in worker["degraded"][0]
    assert worker["method"] == "hwm"


def hide_the_tally() -> None:
    """Make this process believe that the tally was never built."""
    import sys

    from dask_memdash.measure import native_tally, tally

    for module, name in ((tally, "_tally"), (native_tally, "_native")):
        sys.modules[f"dask_memdash.measure.{name}"] = None
        module._load.cache_clear()


def test_a_running_task_is_shown_with_what_it_holds(start, method):
    session = start(n_workers=1)
    future = session.client.submit(hold, 100, 3, key="seen-while-running")

    def grown():
        worker = session.api("workers")[0]
        tasks = worker["executing_tasks"]
        if not tasks or (tasks[0]["bytes"] or 0) < 90 * MB:
            return None
        # What is counted already may still have to be touched.
        return worker if worker["breakdown"]["executing"] > 75 * MB else None

    worker = wait_for(grown, "the running task to be measured")
    (task,) = worker["executing_tasks"]
    assert task["key"] == "seen-while-running"
    assert task["prefix"] == "seen-while-running"
    # A worker that has just started may still load what the task needs.
    agrees = task["error"] <= 2 * 2**20 + task["peak"] // 20
    assert task["method"] == (method if agrees or method != "exact" else "counted")
    assert isinstance(task["thread"], int)
    assert worker["breakdown"]["executing"] == pytest.approx(100 * MB, rel=0.25)
    assert session.api("cluster")["breakdown"]["executing"] >= 70 * MB
    future.result(timeout=30)


@pytest.mark.slow
def test_several_threads_share_the_growth_and_say_how_wrong_that_may_be(start):
    with dask.config.set({"memdash.tally": False}):
        session = start(n_workers=1, threads_per_worker=4, memory_limit="600 MB")
    session.client.gather(
        [session.client.submit(hold, 50, 0.5, pure=False) for _ in range(8)]
    )
    execution = finished(session.api, "hold", 8)["execution"]
    peak, error = execution["peak"]["p50"], execution["error"]
    assert peak - error <= 50 * MB <= peak + error
    assert peak <= 4 * 50 * MB * 1.2


@pytest.mark.slow
def test_workers_that_share_a_process_are_counted_once(start):
    session = start(processes=False, n_workers=3, memory_limit="2 GB")
    futures = [
        session.client.submit(np.ones, MB, pure=False, key=f"array-{i}")
        for i in range(6)
    ]
    session.client.gather([session.client.submit(len, f) for f in futures])
    wait_for(
        lambda: (
            (session.api("cluster")["breakdown"]["managed_claimed"] or 0) >= 48 * MB
        ),
        "all outputs to be reported",
    )
    cluster = session.api("cluster")
    assert cluster["n_workers"] == 3
    assert cluster["n_processes"] == 1
    workers = session.api("workers")
    assert {w["shares_process_with"] for w in workers} == {2}

    def one_process_and_one_sum() -> bool:
        """Whether the answers agree; a report between two of them may differ."""
        before = session.api("cluster")["breakdown"]
        read = {w["breakdown"]["process"] for w in session.api("workers")}
        rows = [p for p in session.api("prefixes") if p["kind"] == "task"]
        managed = sum(row["storage"]["managed"] for row in rows)
        return read == {before["process"]} and managed == before["managed"]

    wait_for(one_process_and_one_sum, "answers of one moment")


@pytest.mark.slow
def test_a_worker_without_a_nanny_samples_itself(processes):
    with processes.scheduler() as client:
        processes.worker("--no-nanny")
        client.wait_for_workers(1, timeout=30)
        client.register_plugin(MemDash())
        api = Api(client.dashboard_link)
        wait_for(lambda: api("workers")[0]["breakdown"]["process"], "a report")
        future = client.submit(hold, 100, 2)
        wait_for(
            lambda: any(
                (t["bytes"] or 0) > 90 * MB
                for t in api("workers")[0]["executing_tasks"]
            ),
            "the running task to be measured",
        )
        assert api("workers")[0]["thresholds"]["terminate"] is None
        future.result(timeout=30)


@pytest.mark.slow
def test_async_tasks_are_shown_and_not_measured(start):
    session = start(n_workers=1)

    async def nap() -> int:
        await asyncio.sleep(1.5)
        return 1

    future = session.client.submit(nap, key="napper")
    task = wait_for(
        lambda: session.api("workers")[0]["executing_tasks"], "the task to be seen"
    )[0]
    assert task["key"] == "napper"
    assert task["method"] == "unmeasured"
    assert task["bytes"] is task["peak"] is task["error"] is task["thread"] is None
    assert future.result(timeout=30) == 1
    execution = finished(session.api, "napper", 1)["execution"]
    assert execution["method"] == "unmeasured"
    assert execution["peak"] == dict.fromkeys(("p50", "p95", "max", "at_least"))
    wait_for(
        lambda: not session.api("workers")[0]["executing_tasks"], "the task to leave"
    )


class Pool(WorkerPlugin):
    """Gives a worker an executor of processes."""

    def setup(self, worker) -> None:
        worker.executors["pool"] = ProcessPoolExecutor(1)

    def teardown(self, worker) -> None:
        worker.executors.pop("pool").shutdown()


@pytest.mark.slow
def test_a_task_in_another_process_is_shown_and_not_measured(start, monkeypatch):
    monkeypatch.setenv("DASK_DISTRIBUTED__WORKER__DAEMON", "False")
    with dask.config.set({"distributed.worker.daemon": False}):
        session = start(n_workers=1)
        session.client.register_plugin(Pool(), name="pool")
        with dask.annotate(executor="pool"):
            future = session.client.submit(time.sleep, 1.5, key="in-a-pool")
        task = wait_for(
            lambda: session.api("workers")[0]["executing_tasks"], "the task to be seen"
        )[0]
        assert (task["key"], task["method"]) == ("in-a-pool", "unmeasured")
        future.result(timeout=30)
        assert finished(session.api, "in-a-pool", 1)["execution"]["peak"]["max"] is None
        session.client.unregister_worker_plugin("pool")


class Counter:
    """An actor."""

    def __init__(self) -> None:
        self.n = 0

    def increment(self, seconds: float = 0) -> int:
        block = np.ones(10 * MB)
        time.sleep(seconds)
        self.n += int(block[0])
        return self.n

    def fail(self) -> None:
        raise RuntimeError("on purpose")


@pytest.mark.slow
def test_calls_of_an_actor_are_tasks_of_their_own_and_end_even_if_they_fail(start):
    session = start(n_workers=1)
    counter = session.client.submit(Counter, actor=True).result(timeout=30)
    call = counter.increment(1.5)
    wait_for(
        lambda: any(
            t["key"] == "Counter.increment"
            for t in session.api("workers")[0]["executing_tasks"]
        ),
        "the call to be seen",
    )
    assert call.result(timeout=30) == 1
    with pytest.raises(RuntimeError, match="on purpose"):
        counter.fail().result(timeout=30)
    assert counter.increment().result(timeout=30) == 2
    wait_for(
        lambda: not session.api("workers")[0]["executing_tasks"], "all calls to end"
    )


def secedes(megabytes: int) -> int:
    secede()
    block = np.ones(megabytes * MB // 8)
    inner = get_client().submit(hold, 20, 0.2, pure=False).result()
    time.sleep(1.0)
    return int(block[0]) + inner


def test_a_task_that_secedes_stays_measured_to_its_end(start):
    session = start(n_workers=1)
    future = session.client.submit(secedes, 100)

    def seen():
        tasks = session.api("workers")[0]["executing_tasks"]
        return [t for t in tasks if t["prefix"] == "secedes" and t["bytes"]]

    wait_for(seen, "the task to be seen after it has seceded")
    assert future.result(timeout=30) == 2
    assert finished(session.api, "secedes", 1)["execution"]["peak"]["max"] > 90 * MB
    finished(session.api, "hold", 1)


def count_threads(dask_worker) -> int:
    return len(dask_worker.active_threads)


@pytest.mark.slow
def test_tasks_that_were_running_at_registration_are_shown_and_not_measured(start):
    session = start(n_workers=1, register=False)
    future = session.client.submit(hold, 10, 3, key="early")
    wait_for(
        lambda: any(session.client.run(count_threads).values()),
        "the task to begin",
    )
    session.client.register_plugin(MemDash())
    task = wait_for(
        lambda: session.api("workers")[0]["executing_tasks"], "the task to be seen"
    )[0]
    assert (task["key"], task["method"]) == ("early", "unmeasured")
    # Dask's own profiler and call stacks go on reading the marks.
    assert "hold" in str(session.client.call_stack())
    future.result(timeout=30)
    wait_for(
        lambda: not session.api("workers")[0]["executing_tasks"], "the task to leave"
    )


def test_hostile_keys_are_recorded_as_text(start):
    session = start(n_workers=1)
    keys = [
        "<img src=x onerror=alert(1)>",
        "line\nbreak",
        "\N{SNOWMAN}" * 300,
        ("tuple", 1, ("nested", 2.5)),
        "k" * 100_000,
    ]
    futures = [session.client.submit(time.sleep, 1.2, key=key) for key in keys]
    shown = set()

    def all_shown():
        for task in session.api("workers")[0]["executing_tasks"]:
            shown.add(task["key"])
        return len(shown) == len(keys)

    wait_for(all_shown, "every key to be shown")
    assert shown == {str(key)[:1000] for key in keys}
    session.client.gather(futures)
