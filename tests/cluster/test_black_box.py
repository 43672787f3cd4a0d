"""Whatever goes wrong with the evidence itself, a death is told once, and honestly."""

from __future__ import annotations

import os
import signal
import time

import dask
import pytest
from clusters import Api, wait_for
from distributed.scheduler import KilledWorker

import dask_memdash
from dask_memdash import MemDash, connect

pytestmark = pytest.mark.cluster


def idle(seconds: float) -> None:
    time.sleep(seconds)


def leave(*_: object) -> None:
    os._exit(3)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.slow
@pytest.mark.hooks
def test_when_the_nanny_dies_too_the_last_heartbeat_is_the_evidence(processes):
    with processes.scheduler() as client:
        nanny = processes.worker()
        client.wait_for_workers(1, timeout=30)
        client.register_plugin(MemDash())
        api = Api(client.dashboard_link)
        future = client.submit(idle, 60, key="orphan")
        wait_for(lambda: api("workers")[0]["executing_tasks"], "the task to be seen")
        worker = api("workers")[0]["pid"]
        assert worker != nanny.pid
        os.kill(nanny.pid, signal.SIGKILL)
        os.kill(worker, signal.SIGKILL)
        death = api.wait_for_death("lost")
        assert death["evidence"] == "heartbeat"
        assert death["exit"] is None
        assert [s["key"] for s in death["suspects"]] == ["orphan"]
        assert death["breakdown"]["process"] > 30_000_000
        # The nanny's report never comes; an explanation waits, but not for ever.
        began = time.monotonic()
        told = connect(client).explain(death["id"], timeout=20)
        assert time.monotonic() - began < 15
        assert "the worker's last heartbeat" in str(told)
        assert len(api.deaths()) == 1
        future.release()


def test_reports_that_are_lost_on_the_way_are_sent_again_and_counted_once(start):
    session = start(n_workers=1)
    scheduler = session.cluster.scheduler
    scheduler.allowed_failures = 0
    real = scheduler.handlers["memdash_report"]
    calls: list[str] = []

    def unreliable(comm, message):
        if message["kind"] != "death":
            return real(comm=comm, message=message)
        calls.append(message["kind"])
        if len(calls) == 1:
            return None  # lost on the way
        answer = real(comm=comm, message=message)
        return None if len(calls) == 2 else answer  # then the acknowledgement is lost

    scheduler.handlers["memdash_report"] = unreliable
    future = session.client.submit(leave, key="leaver")
    with pytest.raises(KilledWorker):
        future.result(timeout=60)
    wait_for(lambda: len(calls) >= 3, "the report to be sent again")
    told = dask_memdash.explain(future.exception())
    assert [d["kind"] for d in told.deaths] == ["exited"]
    time.sleep(1.0)  # in which a report might be sent once more
    assert len(calls) == 3
    assert sorted(i["kind"] for i in session.api.deaths()) == [
        "exited",
        "killed-worker",
    ]
    scheduler.handlers["memdash_report"] = real


@pytest.mark.slow
def test_two_schedulers_on_one_host_tell_of_their_own_workers_only(start):
    first, second = start(n_workers=1), start(n_workers=1)
    for session in (first, second):
        session.cluster.scheduler.allowed_failures = 0
    future = first.client.submit(leave, key="of-the-first")
    with pytest.raises(KilledWorker) as raised:
        future.result(timeout=60)
    first.api.wait_for_death("exited")
    assert second.api.deaths() == []
    assert second.client.submit(sum, [1, 2]).result(timeout=30) == 3
    # The default client is the second's by now; the exception is the first's.
    with pytest.raises(LookupError, match="another scheduler"):
        dask_memdash.explain(raised.value)
    told = connect(first.client).explain(raised.value)
    assert told.incident["task"]["key"] == "of-the-first"


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting takes root")
@pytest.mark.parametrize("options", ["size=4k", "ro"])
def test_a_recorder_directory_that_is_full_or_read_only_leaves_memory(
    start, tmp_path, options
):
    folder = tmp_path / "mounted"
    folder.mkdir()
    if os.system(f"mount -t tmpfs -o {options} tmpfs {folder}") != 0:
        pytest.skip("nothing can be mounted here")
    try:
        with dask.config.set({"memdash.recorder.directory": str(folder)}):
            session = start(n_workers=1, register=False)
            session.client.register_plugin(MemDash())
        (notice,) = wait_for(
            lambda: [
                text
                for worker in session.api("workers")
                for text in worker["degraded"]
                if "recorder" in text
            ],
            "the worker's notice",
        )
        assert "in memory only" in notice
        session.cluster.scheduler.allowed_failures = 0
        future = session.client.submit(leave, key="leaver")
        with pytest.raises(KilledWorker):
            future.result(timeout=60)
        death = session.api.wait_for_death("exited")
        assert death["kind"] == "exited"
        session.client.close()
        session.cluster.close()
    finally:
        os.system(f"umount {folder}")
