"""Who has fetched what, as workers tell the scheduler."""

from types import SimpleNamespace

import pytest

from dask_memdash.plugins.scheduler import copies
from dask_memdash.plugins.scheduler.copies import CopyWatch
from dask_memdash.plugins.scheduler.storage_scan import look_at


def a_worker(address, *tasks):
    worker = SimpleNamespace(address=address, nbytes=0, has_what=dict.fromkeys(tasks))
    for task in tasks:
        task.who_has.append(worker)
    return worker


class Output:
    def __init__(self, key, size=900):
        self.key, self.nbytes, self.state = key, size, "memory"
        self.prefix = SimpleNamespace(name="table")
        self.who_has, self.waiters, self.who_wants = [], ["sum"], []
        self.type = None
        self.waiters = [SimpleNamespace(prefix=SimpleNamespace(name="sum"))]


@pytest.fixture
def scheduler():
    received = []
    found = SimpleNamespace(workers={}, received=received)
    found.stream_handlers = {
        "add-keys": lambda worker, keys=(), stimulus_id=None: received.append(keys)
    }
    return found


@pytest.fixture
def watch(scheduler):
    found = CopyWatch(scheduler)
    found.attach()
    yield found
    found.detach()


def tell(scheduler, worker, *keys):
    scheduler.stream_handlers["add-keys"](
        worker=worker.address, keys=list(keys), stimulus_id="s"
    )


def test_what_a_worker_fetched_is_a_copy_there_and_none_where_it_was_made(
    scheduler, watch
):
    table = Output("table-1")
    # The one whose address is smaller has the copy.
    copy, made = a_worker("tcp://a:1", table), a_worker("tcp://b:1", table)
    scheduler.workers = {w.address: w for w in (copy, made)}
    tell(scheduler, copy, "table-1")
    assert scheduler.received == [["table-1"]]
    because = [
        look_at(worker, 1.0, watch.has_fetched)[0]["table"].because
        for worker in (copy, made)
    ]
    assert because == [{"replica": 900}, {"awaited": 900}]


def test_a_copy_stays_one_when_the_worker_that_made_it_is_gone(scheduler, watch):
    table = Output("table-1")
    copy = a_worker("tcp://a:1", table)
    scheduler.workers = {copy.address: copy}
    tell(scheduler, copy, "table-1")
    held, _ = look_at(copy, 1.0, watch.has_fetched)
    assert held["table"].because == {"replica": 900}


def test_copies_that_are_gone_are_forgotten_in_time(scheduler, watch, monkeypatch):
    monkeypatch.setattr(copies, "FEW", 10)
    table = Output("table-1")
    worker = a_worker("tcp://a:1", table)
    scheduler.workers = {worker.address: worker}
    tell(scheduler, worker, "table-1")
    for n in range(100):
        tell(scheduler, worker, f"gone-{n}")
    assert watch.has_fetched(worker, table)
    assert not watch.has_fetched(worker, Output("gone-1"))
    scheduler.workers = {}
    tell(scheduler, SimpleNamespace(address="tcp://c:1"), "x")
    assert not watch.has_fetched(worker, table)


def test_nothing_is_left_wrapped(scheduler):
    before = scheduler.stream_handlers["add-keys"]
    watch = CopyWatch(scheduler)
    watch.attach()
    assert scheduler.stream_handlers["add-keys"] is not before
    watch.detach()
    assert scheduler.stream_handlers["add-keys"] is before
