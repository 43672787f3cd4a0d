"""The line that allocated a task's largest block, in a worker's life and its death."""

from __future__ import annotations

import inspect
import os
import signal

import dask
import numpy as np
import pytest
from clusters import wait_for
from distributed import Event, KilledWorker

import dask_memdash

pytestmark = [pytest.mark.cluster, pytest.mark.hooks]

MB = 1_000_000


@pytest.fixture(autouse=True)
def one_death_is_enough():
    with dask.config.set({"distributed.scheduler.allowed-failures": 0}):
        yield


def hold(until: str) -> int:
    """Hold one large block until an event is set."""
    block = np.ones(40 * MB, "u1")
    Event(until).wait(timeout=60)
    return len(block)


def grow(most: int) -> None:
    """Join what it has with itself, and be killed once it has that much."""
    parts = [np.ones(most // 8, "u1")]
    while parts[0].nbytes < most:
        parts = [np.concatenate([parts[0], parts[0]])]
    os.kill(os.getpid(), signal.SIGKILL)


def line_of(function, text: str) -> int:
    """Return the number of the line of a function that holds a text."""
    lines, first = inspect.getsourcelines(function)
    (found,) = (number for number, line in enumerate(lines, first) if text in line)
    return found


def test_a_line_is_known_while_its_task_runs_and_after_a_sigkill(start):
    session = start(n_workers=1)
    running = session.client.submit(hold, "done", key="hold-1")

    def told():
        tasks = [t for w in session.api("workers") for t in w["executing_tasks"]]
        return next((t for t in tasks if t["largest_block"]), None)

    task = wait_for(told, "the line of the running task")
    block, line = task["largest_block"], line_of(hold, "np.ones")
    assert task["key"] == "hold-1"
    assert (block["file"], block["line"]) == ("cluster/test_lines.py", line)
    assert (block["function"], block["called"]) == ("hold", "np.ones")
    assert block["bytes"] == pytest.approx(40 * MB, rel=0.01)
    Event("done").set()
    assert running.result(timeout=60) == 40 * MB

    future = session.client.submit(grow, 80 * MB, key="grow-1")
    with pytest.raises(KilledWorker) as raised:
        future.result(timeout=60)
    explained = dask_memdash.explain(raised.value)
    where = f"cluster/test_lines.py:{line_of(grow, 'concatenate')} in np.concatenate"
    (death,) = explained.deaths
    (suspect,) = death["suspects"]
    assert death["kind"] == "killed"
    assert suspect["largest_block"]["text"] == where
    assert suspect["largest_block"]["function"] == "grow"
    assert suspect["largest_block"]["bytes"] == pytest.approx(80 * MB, rel=0.01)
    assert f"one block, allocated at {where}" in death["diagnosis"]["text"]
    assert where in str(explained)
    assert where in explained._repr_html_()


def test_no_line_leaves_a_worker_where_lines_are_off(start):
    with dask.config.set({"memdash.lines": False}):
        session = start(n_workers=1)
    running = session.client.submit(hold, "done", key="hold-1")

    def counted():
        tasks = [t for w in session.api("workers") for t in w["executing_tasks"]]
        return [t for t in tasks if (t["bytes"] or 0) > 39 * MB]

    (task,) = wait_for(counted, "the running task")
    assert task["largest_block"] is None
    Event("done").set()
    running.result(timeout=60)


@pytest.mark.slow
def test_workers_of_one_process_count_without_lines_where_those_are_off(start):
    with dask.config.set({"memdash.lines": False}):
        session = start(processes=False, n_workers=2, memory_limit="2 GB")
        running = session.client.submit(hold, "done", key="hold-1")

        def told():
            tasks = [t for w in session.api("workers") for t in w["executing_tasks"]]
            return next((t for t in tasks if t["bytes"] > 30 * MB), None)

        task = wait_for(told, "what the running task holds")
        assert task["key"] == "hold-1"
        assert task["largest_block"] is None
        Event("done").set()
        assert running.result(timeout=60) == 40 * MB
