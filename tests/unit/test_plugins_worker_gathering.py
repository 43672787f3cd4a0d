"""The probe knows a task before it begins, where its inputs are read back from disk."""

import threading
from types import SimpleNamespace

import pytest

from dask_memdash import config
from dask_memdash.flight import format as layout
from dask_memdash.plugins.worker.probe import WorkerProbe

MB = 1_000_000


class Loop:
    """An event loop on which nothing runs until the test says so."""

    def __init__(self):
        self.later = []

    def call_later(self, delay, callback):
        self.later.append(callback)

    def run(self):
        due, self.later = self.later, []
        for callback in due:
            callback()


async def run_function(comm, function):
    """Stand in for what answers `client.run`."""
    return {"status": "OK"}


@pytest.fixture
def worker(process_border, tmp_path):
    state = SimpleNamespace(
        nthreads=2,
        tasks={},
        actors={},
        executing=set(),
        transfer_incoming_count=0,
        transfer_incoming_bytes=0,
    )
    yield SimpleNamespace(
        contact_address="tcp://a:1",
        address="tcp://a:1",
        nanny=None,
        state=state,
        data={},
        local_directory=str(tmp_path),
        memory_manager=SimpleNamespace(
            memory_limit=400 * MB,
            memory_target_fraction=0.6,
            memory_spill_fraction=0.7,
            memory_pause_fraction=False,
        ),
        log_event=lambda topic, message: None,
        extensions={},
        handlers={"run": run_function},
        plugins={},
        active_threads={},
        active_threads_lock=threading.Lock(),
        active_keys=set(),
        transfer_outgoing_bytes=0,
        transfer_outgoing_count=0,
        status=SimpleNamespace(name="running"),
        loop=Loop(),
    )
    assert process_border.texts() == ()


def test_a_task_whose_inputs_must_be_read_back_is_known_before_it_begins(worker):
    class Slow:
        weight_by_key = {"part-1": (8 * MB, 8 * MB)}  # noqa: RUF012

    class Spilling(dict):
        slow = SimpleNamespace(data=Slow, cache={})

    def in_recorder():
        return list(layout.read_slots(probe._recorder.buffer, 8))

    worker.data = Spilling({"part-1": 1})
    worker.executors = {"default": type("ThreadPoolExecutor", (), {})()}
    probe = WorkerProbe(config.defaults())
    probe.setup(worker)
    try:
        part = SimpleNamespace(key="part-1", nbytes=8 * MB, prefix="part")
        for key, inputs in (("sum-1", [part]), ("sum-2", [])):
            worker.state.tasks[key] = SimpleNamespace(
                key=key,
                dependencies=inputs,
                run_spec=None,
                annotations=None,
                state="ready",
            )
        probe.transition("sum-2", "ready", "executing")
        assert in_recorder() == []
        probe.transition("sum-1", "ready", "executing")
        (slot,) = in_recorder()
        assert (slot.key, slot.gathering, slot.now) == ("sum-1", True, 0)
        assert slot.rss > 0
        probe._begin(threading.get_ident(), "sum-1")
        (slot,) = in_recorder()
        assert (slot.key, slot.gathering) == ("sum-1", False)
        probe._end(threading.get_ident())
        probe.transition("sum-2", "ready", "executing")
        probe.transition("sum-1", "ready", "executing")
        probe.transition("sum-1", "executing", "released")
        assert in_recorder() == []
    finally:
        probe.teardown(worker)
