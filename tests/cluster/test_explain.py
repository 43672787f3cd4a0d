"""Incidents reach their user: note, explanation, DataFrames, event and log line."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import pickle
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from clusters import wait_for
from distributed import Client, KilledWorker, LocalCluster, Security, wait

import dask_memdash
from dask_memdash import MemDash, connect
from dask_memdash.errors import (
    NotRegisteredError,
    SchedulerGoneError,
    UnexplainedError,
    UnknownIncidentError,
)
from dask_memdash.plugins.scheduler.notifications import Notifications
from dask_memdash.terms import PARTS

pytestmark = pytest.mark.cluster


def hog(_: int) -> None:
    """Take memory, block by block, until somebody ends it."""
    blocks = []
    while True:
        blocks.append(np.ones(1_000_000))
        time.sleep(0.01)


def leave(*_: object) -> None:
    os._exit(3)


def block(i: int) -> np.ndarray:
    time.sleep(0.2)
    return np.ones(1_000_000)


def same(x: object) -> object:
    return x


def killed(future) -> KilledWorker:
    with pytest.raises(KilledWorker) as raised:
        future.result(timeout=60)
    return raised.value


@pytest.mark.hooks
def test_the_killed_worker_that_is_raised_carries_a_note(start):
    session = start()
    future = session.client.submit(hog, 0, key="hog-1")
    dependent = session.client.submit(same, future)
    for error in (killed(future), killed(dependent)):
        given_up = session.api.wait_for_death("killed-worker")
        (note,) = error.__notes__
        lines = note.splitlines()
        port = session.cluster.scheduler.http_server.port
        page = f"http://127.0.0.1:{port}/memdash#incident-{given_up['id']}"
        assert lines[0] == f"MemDash incident {given_up['id']}: {page}"
        told = [line for line in lines if line.startswith("  death ")]
        for line, number in zip(told, given_up["attempts"], strict=True):
            assert line.startswith(f"  death {number}: worker ")
        for line in told[:-1]:  # the last one's report is still to come
            assert "terminated with" in line
            assert "running: hog-1 (" in line
        assert "dask_memdash.explain(error)" in lines[-1]
        assert error.task == "hog-1"  # what Dask itself says is as it was
        assert "Attempted to run task 'hog-1' on 4 different" in str(error)
        assert pickle.loads(pickle.dumps(error)).__notes__ == [note]
    assert given_up["n_tasks"] == 1


@pytest.mark.slow
@pytest.mark.hooks
def test_explain_waits_for_the_evidence_and_tells_it_whole(start):
    session = start()
    kept = session.client.map(block, range(4), pure=False)
    wait_for(lambda: all(f.done() for f in kept), "outputs that a death can lose")
    told = dask_memdash.explain(killed(session.client.submit(hog, 0, key="hog-1")))
    assert told.kind == "killed-worker"
    assert told.incident["settled"]
    assert [d["kind"] for d in told.deaths] == ["terminated"] * 4
    assert [d["evidence"] for d in told.deaths] == ["flight-recorder"] * 4
    text = str(told)
    assert f"Incident {told.id}: task given up (KilledWorker)" in text
    assert "Tasks that were running at death" in text
    assert "Outputs that the worker stored" in text
    assert f"/memdash#incident-{told.id}" in text
    assert "<table" in told._repr_html_()
    wait_for(
        lambda: all(
            session.api(f"incidents/{d['id']}")["cost"]["seconds_away"]
            for d in told.deaths
        ),
        "a worker to be back after each death",
    )
    costs = [d["cost"] for d in connect(session.client).explain(told.id).deaths]
    assert sum(cost["keys_lost"] for cost in costs) >= 2
    assert sum(cost["bytes_lost"] for cost in costs) >= 16_000_000
    # Each block takes 0.2 s, and four of them were made at first.
    assert sum(cost["seconds_recomputed"] for cost in costs) > 0.3
    assert all(0.0 < cost["seconds_away"] < 30 for cost in costs)


@pytest.mark.slow
def test_an_exception_that_a_killed_worker_caused_is_explained_too(start):
    session = start(n_workers=1)
    session.cluster.scheduler.allowed_failures = 0
    error = killed(session.client.submit(leave, key="leaver"))
    try:
        try:
            raise error
        except KilledWorker as cause:
            raise ValueError("the pipeline failed") from cause
    except ValueError as outer:
        told = dask_memdash.explain(outer)
    assert told.incident["task"]["key"] == "leaver"
    group = ExceptionGroup("several", [TypeError("x"), outer_of(error)])
    assert dask_memdash.explain(group).id == told.id
    del error.memdash_incident  # as of a scheduler whose transition others wrapped
    assert dask_memdash.explain(error).id == told.id


def outer_of(error: BaseException) -> BaseException:
    outer = RuntimeError("outer")
    outer.__context__ = error
    return outer


def test_what_cannot_be_explained_says_why(start):
    session = start(n_workers=1)
    memdash = connect(session.client)
    for unknown in ("99", 99, "nonsense", "", "1/../2", "⁹"):
        with pytest.raises(UnknownIncidentError, match="no incident"):
            memdash.explain(unknown)
    with pytest.raises(UnexplainedError, match="read its own traceback first"):
        memdash.explain(ValueError("x"))
    with pytest.raises(UnexplainedError, match="not registered when it was raised"):
        memdash.explain(KilledWorker("x-1", None, 3))
    foreign = KilledWorker("x-1", None, 3)
    foreign.memdash_incident = ("Scheduler-of-another", "1")
    with pytest.raises(UnexplainedError, match="raised by another scheduler"):
        memdash.explain(foreign)
    with pytest.raises(TypeError, match="the id of an incident or an exception"):
        memdash.explain(None)


@pytest.mark.hooks
def test_dataframes_have_what_the_api_has(start):
    session = start()
    futures = session.client.map(block, range(4), pure=False)
    session.client.gather(futures)
    memdash = connect(session.client)
    wait_for(
        lambda: memdash.prefixes().managed.get("block", 0) > 30_000_000, "the outputs"
    )
    workers = memdash.workers()
    assert set(workers.index) == set(session.addresses())
    assert (workers.limit == 400_000_000).all()
    assert (workers[list(PARTS)].sum(axis=1) == workers.process).all()
    assert memdash.cluster().n_workers.iloc[0] == 2
    assert len(memdash.incidents()) == 0
    os.kill(int(workers.pid.iloc[0]), 9)
    session.api.wait_for_death("killed")
    incidents = memdash.incidents()
    assert list(incidents.kind) == ["killed"]
    assert incidents.worker_address.iloc[0] == workers.index[0]


def test_the_report_is_written_whole(start, tmp_path):
    session = start()
    session.client.gather(session.client.map(block, range(2)))
    path = connect(session.client).report(tmp_path / "memory.html")
    text = path.read_text(encoding="utf-8")
    assert text.lstrip().lower().startswith("<!doctype html")
    assert "block" in text
    assert " src=" not in text.split("</head>")[0].replace(' src="data:', "")


def test_clients_are_told_clearly_when_there_is_nobody_to_ask(start):
    session = start(register=False, n_workers=1)
    memdash = connect(session.client)
    with pytest.raises(NotRegisteredError, match=r"client\.register_plugin"):
        memdash.workers()
    session.register()
    assert len(memdash.workers()) == 1
    session.client.unregister_scheduler_plugin("memdash")
    wait_for(lambda: not_registered(memdash), "MemDash to be gone")
    other = Client(session.cluster.scheduler_address)
    memdash = connect(other)
    other.close()
    with pytest.raises(SchedulerGoneError, match="the client is closed"):
        memdash.workers()


def not_registered(memdash) -> bool:
    try:
        memdash.workers()
    except NotRegisteredError:
        return True
    return False


@pytest.mark.slow
def test_an_asynchronous_client_awaits(start):
    session = start(n_workers=1)
    session.cluster.scheduler.allowed_failures = 0

    async def work() -> None:
        address = session.cluster.scheduler_address
        async with Client(address, asynchronous=True) as client:
            memdash = connect(client)
            assert len(await memdash.workers()) == 1
            with pytest.raises(UnknownIncidentError):
                await memdash.explain("77")
            try:
                await client.submit(leave, key="leaver")
            except KilledWorker as error:
                told = await memdash.explain(error)
                assert told.deaths[0]["suspects"][0]["key"] == "leaver"
                assert told.incident["id"] in str(told)
            else:
                raise AssertionError("the task should have ended its worker")

    # in a thread: a browser of another test may have a loop running in this one
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, work()).result()


@pytest.mark.hooks
def test_a_failure_is_an_event_and_a_line_in_the_log_once(start, caplog):
    session = start(n_workers=1)
    session.cluster.scheduler.allowed_failures = 0
    heard: list[dict] = []
    session.client.subscribe_topic("memdash", lambda event: heard.append(event[1]))
    with caplog.at_level(logging.WARNING, logger="dask_memdash"):
        killed(session.client.submit(leave, key="leaver"))
        (event,) = wait_for(
            lambda: [e for e in heard if e.get("action") == "failure-opened"],
            "the event",
        )
        wait_for(
            lambda: session.api("cluster")["time"] > event["opened"] + 4.0,
            "some more ticks",
        )
    assert len([e for e in heard if "failure" in e.get("action", "")]) == 1
    told = session.api(f"failures/{event['id']}")
    kinds = {i["kind"] for i in session.api("incidents")}
    assert kinds == {"exited", "killed-worker"}
    assert (event["kind"], event["deaths"]) == ("killed-worker", 1)
    assert event["cause"] == told["diagnosis"]["cause"] == "crash"
    assert event["page"].endswith(f"/memdash#failure-{event['id']}")
    (line,) = (m for m in caplog.messages if "MemDash failure" in m)
    assert len(line) <= 200


@pytest.mark.slow
def test_a_note_that_cannot_be_made_leaves_dasks_exception_as_it_is(start, monkeypatch):
    session = start(n_workers=1)
    session.cluster.scheduler.allowed_failures = 0
    monkeypatch.setattr(Notifications, "_text", lambda self, incident: 1 / 0)
    error = killed(session.client.submit(leave, key="leaver"))
    assert not hasattr(error, "__notes__")
    assert error.task == "leaver"
    given_up = session.api.wait_for_death("killed-worker")
    assert given_up["n_tasks"] == 1
    wait_for(
        lambda: any(
            "a note on a KilledWorker" in notice["text"]
            for notice in session.api("cluster")["degraded"]
        ),
        "the notice",
    )


def test_removing_memdash_takes_the_notes_and_the_handler_away(start):
    session = start(n_workers=1)
    scheduler = session.cluster.scheduler
    assert "transition" in vars(scheduler)
    session.client.unregister_scheduler_plugin("memdash")
    wait_for(lambda: "memdash_query" not in scheduler.handlers, "the handler to go")
    assert "transition" not in vars(scheduler)
    scheduler.allowed_failures = 0
    assert not hasattr(killed(session.client.submit(leave)), "__notes__")
    session.client.register_plugin(MemDash())
    assert "__notes__" in vars(killed(session.client.submit(leave, pure=False)))


HOSTILE = [
    pytest.param("<img src=x onerror=alert(1)>-1", id="html"),
    pytest.param("line\nbreak\r\n\ttab-1", id="newlines"),
    pytest.param("☃🧨-1", id="emoji", marks=pytest.mark.slow),
    pytest.param(("odd-1", 1.5, (-3, "y<b>"), "x"), id="tuple", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("key", HOSTILE)
def test_hostile_keys_are_explained_like_others(start, key):
    session = start(n_workers=1)
    session.cluster.scheduler.allowed_failures = 0
    error = killed(session.client.submit(leave, key=key))
    told = dask_memdash.explain(error)
    assert told.incident["task"]["key"] == str(key)
    assert [s["key"] for s in told.deaths[0]["suspects"]] == [str(key)]
    assert len(error.__notes__[0].splitlines()) == 3
    assert "<img" not in told._repr_html_()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Sending large graph")
def test_a_key_of_ten_megabytes_is_explained_like_others(start):
    session = start(n_workers=1)
    session.cluster.scheduler.allowed_failures = 0
    key = "long-" + "x" * 10_000_000
    error = killed(session.client.submit(leave, key=key))
    assert len(error.__notes__[0]) < 2000
    told = dask_memdash.explain(error)
    (suspect,) = told.deaths[0]["suspects"]
    assert suspect["key"] == key[:1000]
    assert len(str(told)) < 10_000
    wait_for(lambda: session.client.get_events("memdash"), "it to be told of")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes a certificate")
def test_it_works_over_tls_and_without_a_dashboard(tmp_path):
    key, certificate = str(tmp_path / "key.pem"), str(tmp_path / "certificate.pem")
    request = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost"
    subprocess.run(
        [*request.split(), "-keyout", key, "-out", certificate],
        check=True,
        capture_output=True,
    )
    files = {"tls_ca_file": certificate, "require_encryption": True}
    for role in ("client", "scheduler", "worker"):
        files |= {f"tls_{role}_cert": certificate, f"tls_{role}_key": key}
    with (
        LocalCluster(
            n_workers=1,
            threads_per_worker=1,
            memory_limit="400 MB",
            protocol="tls://",
            security=Security(**files),
            dashboard_address=None,
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster) as client,
    ):
        client.register_plugin(MemDash())
        cluster.scheduler.allowed_failures = 0
        assert cluster.scheduler_address.startswith("tls://")
        error = killed(client.submit(leave, key="leaver"))
        told = dask_memdash.explain(error)
        assert [d["kind"] for d in told.deaths] == ["exited"]
        assert told.page is None
        assert error.__notes__[0].startswith(f"MemDash incident {told.id}\n")
        assert len(connect(client).workers().columns) > 20


# -- memory errors ---------------------------------------------------------------


class ArrowMemoryError(MemoryError):
    """As pyarrow has it, for where pyarrow is not installed."""


def ask_numpy(_: int) -> np.ndarray:
    return np.ones(2**45)


def ask_arrow(_: int) -> object:
    try:
        import pyarrow as pa
    except ImportError:
        raise ArrowMemoryError("malloc of size 4611686018427387904 failed") from None
    return pa.allocate_buffer(2**62)


def ask_system(_: int) -> None:
    raise OSError(errno.ENOMEM, "Cannot allocate memory")


def ask_in_vain(_: int) -> None:
    try:
        np.ones(2**45)
    except MemoryError as error:
        raise ValueError("could not load") from error


def ask_in_a_group(_: int) -> None:
    raise ExceptionGroup(
        "two", [KeyError("x"), MemoryError("Unable to allocate 9 GiB")]
    )


def part(i: int) -> np.ndarray:
    return np.full(20 * 2**20, i, dtype="u1")


def gather_all(*parts: np.ndarray) -> int:
    return sum(int(one[0]) for one in parts)


def limit_address_space(more: int) -> None:
    """Let this worker's process have so many bytes more and fail beyond them."""
    import resource

    status = Path("/proc/self/status").read_text().splitlines()
    used = next(int(n.split()[1]) for n in status if n.startswith("VmSize"))
    limit = used * 1024 + more
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def failed(future) -> BaseException:
    error = future.exception(timeout=60)
    assert error is not None
    return error


@pytest.mark.hooks
@pytest.mark.parametrize(
    ("task", "asked", "says"),
    [
        (ask_numpy, 2**48, "256 TiB for an array of shape (35184372088832,) and dtype"),
        (ask_arrow, 2**62, "4096 PiB"),
        pytest.param(
            ask_in_vain,
            2**48,
            "256 TiB for an array of shape (35184372088832,) and",
            marks=pytest.mark.slow,
        ),
        pytest.param(ask_in_a_group, 9 * 2**30, "9 GiB", marks=pytest.mark.slow),
        (ask_system, None, "[Errno 12] Cannot allocate memory"),
    ],
)
def test_a_task_that_ran_out_of_memory_is_explained_by_its_error(
    start, task, asked, says
):
    session = start(n_workers=1)
    future = session.client.submit(task, 1, key="asks-1")
    error = failed(session.client.submit(same, future))
    told = dask_memdash.explain(error)
    assert (told.kind, told.incident["task"]["key"]) == ("memory-error", "asks-1")
    assert told.incident["request"]["bytes"] == asked
    assert told.incident["stage"] == "running"
    text = str(told)
    assert says in " ".join(text.split())
    assert "What it asked for" in text
    assert "<li>" in told._repr_html_()
    (note,) = error.__notes__
    assert note.startswith("MemDash: worker 0 used ")
    del error.memdash_task  # as of a worker that was not reached in time
    assert dask_memdash.explain(error).id == told.id
    assert repr(error) == repr(failed(future)), "what it says itself is as it was"


@pytest.mark.hooks
def test_a_task_that_the_scheduler_refuses_is_explained_by_its_error(start):
    session = start()
    parts = session.client.map(part, range(25))
    wait(parts)
    future = session.client.submit(gather_all, *parts, key="gather_all-1")
    error = failed(session.client.submit(same, future))
    assert isinstance(error, MemoryError)
    told = dask_memdash.explain(error)
    assert told.incident["stage"] == "refused"
    assert told.incident["task"]["inputs"]["count"] == 25
    assert told.incident["task"]["inputs"]["size"] >= 25 * 20 * 2**20
    assert told.incident["cluster_limit"] == 800_000_000
    assert [i["kind"] for i in session.api("incidents")] == ["memory-error"]
    text = " ".join(str(told).split())
    assert "The scheduler refused to run task gather_all-1 of 25 inputs" in text
    assert "take 500 MiB at once, more than the worker's limit of 381 MiB" in text
    assert "All workers together have 763 MiB, so storage fits. No worker died." in text
    (note,) = error.__notes__
    assert note.splitlines()[0].endswith(f"/memdash#incident-{told.id}")
    assert "Its inputs take 500 MiB at once" in note
    del error.memdash_incident
    assert dask_memdash.explain(error).id == told.id


@pytest.mark.hooks
def test_an_input_that_does_not_fit_belongs_to_the_worker_that_receives_it(start):
    session = start()
    sender, receiver = session.addresses()
    big = session.client.submit(big_part, workers=[sender], key="big-1")
    wait(big)
    session.client.submit(limit_address_space, 50 * 2**20, workers=[receiver]).result(
        timeout=30
    )
    waiting = session.client.submit(same, big, workers=[receiver], key="same-1")
    (incident,) = wait_for(
        lambda: [i for i in session.api("incidents") if i["kind"] == "memory-error"],
        "the incident",
    )
    assert incident["worker"]["address"] == receiver
    told = connect(session.client).explain(incident["id"])
    assert told.incident["stage"] == "receiving"
    assert told.incident["task"]["key"] == "same-1"
    assert "while it received input big-1 of 150 MiB for task same-1" in " ".join(
        str(told).split()
    )
    assert waiting.status == "pending"


def big_part() -> np.ndarray:
    return np.ones(150 * 2**20, dtype="u1")
