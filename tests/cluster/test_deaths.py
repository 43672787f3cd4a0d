"""Every death of a worker becomes one incident, with what was really running."""

from __future__ import annotations

import ctypes
import os
import signal
import time

import numpy as np
import pytest
from clusters import Api, wait_for
from distributed import wait
from distributed.scheduler import KilledWorker

from dask_memdash import MemDash

pytestmark = [pytest.mark.cluster, pytest.mark.hooks]


#: What a worker's memory was beside its tasks over its last seconds.
BESIDE = (
    *("managed", "transfer", "actors", "retained", "graph", "baseline"),
    *("others", "uncounted", "unknown"),
)


def hog(_: int) -> None:
    """Take memory, block by block, until somebody ends it."""
    blocks = []
    while True:
        blocks.append(np.ones(1_000_000))
        time.sleep(0.01)


def idle(seconds: float) -> None:
    time.sleep(seconds)


def leave(status: int) -> None:
    os._exit(status)


def crash() -> None:
    ctypes.string_at(0)


def make_block() -> np.ndarray:
    return np.ones(12_500_000)


def spill_all(dask_worker) -> int:
    """Spill all that is stored, and give how much is then."""
    while dask_worker.data.fast:
        assert dask_worker.data.evict() > 0
    return dask_worker.data.spilled_total.memory


def leave_with(block: np.ndarray, status: int) -> None:
    os._exit(status)


def close_soon(dask_worker) -> None:
    dask_worker.loop.add_callback(dask_worker.close_gracefully)


def pid_of(session, address):
    return session.cluster.scheduler.workers[address].pid


def test_four_deaths_make_a_killed_worker_whose_suspect_was_executing(start):
    session = start()
    waiting = session.client.map(idle, [0.5] * 6, pure=False)
    future = session.client.submit(hog, 0, key="hog-of-this-test")
    with pytest.raises(KilledWorker):
        future.result(timeout=60)

    killed = session.api.wait_for_death("killed-worker")
    wait_for(lambda: len(session.api.deaths()) == 5, "four deaths and their sum")
    assert killed["task"]["key"] == "hog-of-this-test"
    assert len(killed["attempts"]) == 4
    earlier = []
    for number in killed["attempts"]:
        wait_for(
            lambda number=number: (
                session.api(f"incidents/{number}")["evidence"] == "flight-recorder"
            ),
            "the nanny's report",
        )
        death = session.api(f"incidents/{number}")
        assert death["kind"] == "terminated"
        assert death["exit"] == {
            "code": None,
            "signal": signal.SIGTERM,
            "by": "nanny",
        }
        assert [s["key"] for s in death["suspects"]] == ["hog-of-this-test"]
        suspect = death["suspects"][0]
        assert suspect["bytes"] > 100_000_000
        assert len(suspect["priority"]) == 3
        assert suspect["attempts"] == [
            {"incident": number, "kind": "terminated"} for number in earlier
        ]
        assert death["breakdown"]["executing"] > 100_000_000
        assert len(death["timeline"]["time"]) > 5
        last = death["last_seconds"]
        assert not last["why_not"]
        columns = [last[name] for name in BESIDE]
        columns += [task["bytes"] for task in last["tasks"]]
        for place, process in enumerate(last["process"]):
            assert sum(column[place] or 0 for column in columns) == process
        (grown,) = [t for t in last["tasks"] if t["key"] == "hog-of-this-test"]
        assert grown["bytes"][-1] == max(grown["bytes"]) > 100_000_000
        assert len({*grown["bytes"]} - {0}) > 1, "it was seen to grow"
        assert "hog-of-this-test" in death["diagnosis"]["text"]
        earlier.append(number)
    joined = session.api(f"incidents/{killed['id']}")["diagnosis"]
    assert joined["cause"] == "task-too-large"
    assert joined["responsible"]["key"] == "hog-of-this-test"
    session.client.gather(waiting)


@pytest.mark.parametrize(
    ("task", "arguments", "kind", "exit_"),
    [
        (leave, (3,), "exited", {"code": 3, "signal": None, "by": "unknown"}),
        (crash, (), "crashed", {"code": None, "signal": 11, "by": "unknown"}),
    ],
)
def test_a_task_that_ends_its_worker_is_the_suspect(
    start, task, arguments, kind, exit_
):
    session = start(n_workers=1)
    session.cluster.scheduler.allowed_failures = 0
    future = session.client.submit(task, *arguments, key="ender")
    with pytest.raises(KilledWorker):
        future.result(timeout=60)
    death = session.api.wait_for_death(kind)
    assert death["exit"] == exit_
    assert [s["key"] for s in death["suspects"]] == ["ender"]
    assert len(session.api.deaths()) == 2


def burst_and_die(_: int) -> None:
    """Take 120 MB and be gone, as if the kernel had killed the worker for it."""
    block = np.ones(15_000_000)
    os.kill(os.getpid(), signal.SIGKILL)
    block.sum()


def test_a_first_worker_that_dies_in_its_first_task_is_explained(start):
    # its nanny does not know it to be there yet, and closes
    session = start(n_workers=0)
    session.cluster.scheduler.allowed_failures = 0
    future = session.client.submit(burst_and_die, 0, key="burst")
    session.cluster.scale(1)
    with pytest.raises(KilledWorker):
        future.result(timeout=60)
    death = session.api.wait_for_death("killed")
    assert death["evidence"] == "flight-recorder"
    assert [suspect["key"] for suspect in death["suspects"]] == ["burst"]
    (suspect,) = death["suspects"]
    # what was filled at the last instant had been made, and may not have been seen yet
    assert suspect["peak"] <= 121_200_000
    assert suspect["peak"] + suspect["filling"] >= 118_800_000
    assert len([i for i in session.api.deaths() if i["kind"] != "killed-worker"]) == 1


@pytest.mark.slow
def test_workers_that_die_in_their_first_task_one_after_the_other_are_explained(start):
    session = start(n_workers=1)
    future = session.client.submit(burst_and_die, 0, key="burst")
    with pytest.raises(KilledWorker):
        future.result(timeout=120)
    session.api.wait_for_death("killed", 4)
    deaths = [i for i in session.api.deaths() if i["kind"] != "killed-worker"]
    assert [death["evidence"] for death in deaths] == ["flight-recorder"] * 4
    assert len({death["worker"]["pid"] for death in deaths}) == 4
    for death in deaths:
        suspects = session.api(f"incidents/{death['id']}")["suspects"]
        assert [suspect["key"] for suspect in suspects] == ["burst"]


def test_a_worker_that_dies_before_it_has_joined_is_an_incident(start):
    session = start(n_workers=1)
    pid = pid_of(session, session.addresses()[0])
    preload = "import os\nos._exit(5)\n"
    (nanny,) = session.cluster.workers.values()
    nanny.preload = [preload]
    nanny.process.worker_kwargs["preload"] = [preload]
    nanny.process.worker_kwargs["preload_argv"] = [[]]
    os.kill(pid, signal.SIGKILL)
    death = session.api.wait_for_death("exited")
    assert death["exit"] == {"code": 5, "signal": None, "by": "unknown"}
    assert death["worker"]["name"] == "0"
    assert death["worker"]["pid"] not in (0, pid)
    assert session.api.wait_for_death("killed")["worker"]["pid"] == pid


def test_an_idle_worker_killed_from_outside_has_no_suspects(start):
    session = start()
    address = session.addresses()[0]
    os.kill(pid_of(session, address), signal.SIGKILL)
    death = session.api.wait_for_death("killed")
    assert death["worker"]["address"] == address
    assert death["exit"] == {"code": None, "signal": 9, "by": "unknown"}
    assert death["suspects"] == []
    assert "no task was running" in death["diagnosis"]["text"]
    assert len(session.api.deaths()) == 1


@pytest.mark.slow
def test_a_death_in_an_allocation_that_holds_the_gil_is_recorded(start):
    session = start(n_workers=1, memory_limit="600 MB")
    session.cluster.scheduler.allowed_failures = 0

    def hold_the_gil() -> None:
        block = bytearray(100_000_000)
        while True:  # one call that never lets another thread run
            block.count(b"x" * 10)
            ctypes.PyDLL(None).usleep(200_000)

    future = session.client.submit(hold_the_gil, key="holder")
    wait_for(
        lambda: session.api("workers")[0]["breakdown"]["process"] > 160_000_000,
        "the worker to grow",
    )
    os.kill(pid_of(session, session.addresses()[0]), signal.SIGKILL)
    with pytest.raises(KilledWorker):
        future.result(timeout=60)
    death = session.api.wait_for_death("killed")
    assert [s["key"] for s in death["suspects"]] == ["holder"]
    assert death["suspects"][0]["bytes"] > 80_000_000


@pytest.mark.slow
def test_innocent_tasks_are_listed_apart(start):
    session = start(n_workers=1)
    running = session.client.submit(idle, 60, key="running-one")
    others = session.client.map(
        idle, [0.0] * 5, key=[f"assigned-{i}" for i in range(5)]
    )
    wait_for(
        lambda: session.api("workers")[0]["executing_tasks"], "the task to be seen"
    )
    os.kill(pid_of(session, session.addresses()[0]), signal.SIGKILL)
    death = session.api.wait_for_death("killed")
    assert [s["key"] for s in death["suspects"]] == ["running-one"]
    assert death["innocent"]["count"] == len(death["innocent"]["keys"])
    assert set(death["innocent"]["keys"]) <= {f"assigned-{i}" for i in range(5)}
    assert death["innocent"]["count"] >= 1
    assert death["suspects"][0]["order_position"] is None  # a graph of one task
    running.release()
    session.client.gather(others)


@pytest.mark.slow
def test_a_worker_without_a_nanny_is_lost_and_the_heartbeat_is_the_evidence(
    processes,
):
    with processes.scheduler() as client:
        worker = processes.worker("--no-nanny")
        client.wait_for_workers(1, timeout=30)
        client.register_plugin(MemDash())
        api = Api(client.dashboard_link)
        future = client.submit(idle, 60, key="on-the-lost-one")
        wait_for(lambda: api("workers")[0]["executing_tasks"], "the task to be seen")
        worker.kill()
        death = api.wait_for_death("lost")
        assert death["evidence"] == "heartbeat"
        assert death["exit"] is None
        assert [s["key"] for s in death["suspects"]] == ["on-the-lost-one"]
        assert death["breakdown"]["process"] > 30_000_000
        future.release()


def test_restarting_retiring_and_scaling_are_no_incidents(start):
    session = start()
    futures = session.client.map(idle, [0.01] * 20, pure=False)
    session.client.gather(futures)
    session.client.restart(timeout=60)
    session.wait_until_read()
    session.client.restart_workers(session.addresses()[:1], timeout=60)
    session.client.wait_for_workers(2, timeout=30)
    session.client.retire_workers(session.addresses()[:1])
    wait_for(lambda: len(session.api("workers")) == 1, "the retired worker to leave")
    session.client.run(close_soon)
    wait_for(lambda: not session.api("workers"), "the last worker to leave")
    time.sleep(1.0)  # the time that an incident is allowed to take
    assert session.api.deaths() == []


@pytest.mark.slow
def test_a_pause_is_a_band_that_ends_and_no_incident(start):
    session = start(n_workers=1, memory_limit="300 MB")

    def fill() -> None:
        blocks = [np.ones(1_000_000) for _ in range(24)]
        time.sleep(1.0)
        del blocks

    session.client.submit(fill, pure=False).result(timeout=30)
    wait_for(
        lambda: [p for p in session.api("history")["pauses"] if p[1] is not None],
        "the pause to end",
    )
    (worker,) = session.api("workers")
    history = session.api(f"history?worker={worker['address']}")
    since, until = history["pauses"][0]
    assert since < until
    assert worker["n_pauses"] == history["n_pauses"] == len(history["pauses"])
    assert session.api("incidents") == []


@pytest.mark.slow
def test_a_graph_gives_each_suspect_its_place_in_the_order(start):
    dask = pytest.importorskip("dask")
    session = start(n_workers=1)
    session.cluster.scheduler.allowed_failures = 0

    @dask.delayed
    def part(i: int) -> int:
        if i == 3:
            os._exit(1)
        return i

    total = dask.delayed(sum)([part(i, dask_key_name=f"part-{i}") for i in range(6)])
    with pytest.raises(KilledWorker):
        session.client.compute(total).result(timeout=60)
    death = session.api.wait_for_death("exited")
    suspect = death["suspects"][0]
    assert suspect["key"] == "part-3"
    assert suspect["order_total"] == 7
    assert 1 <= suspect["order_position"] <= 7


@pytest.mark.slow
def test_inputs_that_have_just_come_back_from_disk_are_stored_in_memory(start):
    session = start(n_workers=1, memory_limit="600 MB")
    session.cluster.scheduler.allowed_failures = 0
    block = session.client.submit(make_block, key="block")
    wait(block)
    (spilled,) = session.client.run(spill_all).values()
    assert spilled >= 100_000_000
    wait_for(
        lambda: session.api("cluster")["breakdown"]["spilled"] == spilled,
        "the worker to tell that it is spilled",
    )
    with pytest.raises(KilledWorker):
        session.client.submit(leave_with, block, 3).result(timeout=30)
    death = session.api.wait_for_death("exited")
    wait_for(
        lambda: (
            session.api(f"incidents/{death['id']}")["evidence"] == "flight-recorder"
        ),
        "the nanny's report",
    )
    parts = session.api(f"incidents/{death['id']}")["breakdown"]
    assert (parts["managed"], parts["spilled"]) == (spilled, 0)
