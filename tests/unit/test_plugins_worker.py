"""How the probe sits on a worker, with a stand-in for the worker."""

import threading
from types import SimpleNamespace

import pytest

from dask_memdash import config
from dask_memdash.plugins.worker import WorkerProbe
from dask_memdash.recorder.marks import MarkedThreads


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


@pytest.fixture
def worker(process_border):
    state = SimpleNamespace(
        nthreads=2,
        tasks={},
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
        extensions={},
        active_threads={},
        active_threads_lock=threading.Lock(),
        active_keys=set(),
        transfer_outgoing_bytes=0,
        transfer_outgoing_count=0,
        status=SimpleNamespace(name="running"),
        loop=Loop(),
    )
    assert process_border.texts() == ()


def probe_on(worker):
    probe = WorkerProbe(config.defaults())
    probe.setup(worker)
    return probe


def test_a_probe_leaves_the_worker_as_it_found_it(worker):
    before = {name: vars(worker)[name] for name in vars(worker)}
    threads = threading.active_count()
    probe = probe_on(worker)
    assert isinstance(worker.active_threads, MarkedThreads)
    assert worker.extensions == {"memdash": probe}
    probe.teardown(worker)
    assert type(worker.active_threads) is dict
    assert vars(worker) == before
    assert threading.active_count() == threads


def test_the_thread_dict_stays_until_no_task_would_miss_its_entry(worker):
    probe = probe_on(worker)
    worker.active_threads[7] = "sum-1"
    probe.teardown(worker)
    worker.loop.run()
    assert isinstance(worker.active_threads, MarkedThreads)
    assert worker.active_threads[7] == "sum-1"
    del worker.active_threads[7]
    worker.loop.run()
    assert type(worker.active_threads) is dict
    assert worker.loop.later == []


def test_a_probe_that_goes_late_leaves_its_successors_thread_dict_alone(worker):
    first = probe_on(worker)
    marks = worker.active_threads
    marks[7] = "sum-1"
    first.teardown(worker)
    second = probe_on(worker)
    assert dict(worker.active_threads) == {7: "sum-1"}
    del marks[7]
    worker.loop.run()
    assert worker.active_threads is second._marks
    second.teardown(worker)
    assert type(worker.active_threads) is dict
