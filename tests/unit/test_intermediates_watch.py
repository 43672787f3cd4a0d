"""Whether a cluster's store answers is looked at while nothing is written."""

from __future__ import annotations

import queue
import threading

import pytest

from dask_memdash import FSMemory, WorkerMemory
from dask_memdash.boundary import boundary
from dask_memdash.errors import UnreachableError
from dask_memdash.intermediates.shared.index import StoreIndex
from dask_memdash.intermediates.shared.store_watch import StoreWatch


class Answers(WorkerMemory):
    """A store of which a test says what it answers, and when."""

    def __init__(self):
        super().__init__()
        self.error = self.list_error = None
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.listings = 0

    def exists(self, name):
        self.may_answer.wait(10)
        if self.error is not None:
            raise self.error
        return super().exists(name)

    def list(self, prefix=""):
        self.listings += 1
        if self.list_error is not None:
            raise self.list_error
        return super().list(prefix)


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def watched():
    memory, told, clock = Answers(), queue.SimpleQueue(), Clock()
    index = StoreIndex(memory)
    index.refresh()
    watch = StoreWatch(memory, index, lambda *call: told.put(call), clock)

    def after(seconds, *, answers=1):
        clock.now += seconds
        watch.tick()
        for _ in range(answers):
            take, answer = told.get(timeout=10)
            take(answer)
        watch.tick()
        return watch.unreachable

    yield memory, after
    memory.may_answer.set()
    watch.stop()
    boundary.clear()


def test_a_store_that_goes_is_noticed_while_nothing_is_written(watched):
    memory, after = watched
    assert after(1, answers=0) is None
    assert after(10) is None
    memory.error = UnreachableError("it is gone. Mount it.")
    assert after(10) == "it is gone. Mount it."
    memory.error = None
    assert after(10) is None
    after(0, answers=1)
    assert memory.listings == 2, "what it holds may have changed meanwhile"


def test_a_store_that_took_long_to_fail_is_looked_at_again_before_long(watched):
    memory, after = watched
    memory.error = UnreachableError("it is late. Wait.")
    memory.may_answer.clear()
    after(10, answers=0)
    memory.may_answer.set()
    assert after(19) == "it is late. Wait."
    memory.error = None
    assert after(10) is None


def test_a_listing_that_failed_is_done_anew_once_the_store_answers(watched):
    memory, after = watched
    memory.list_error = UnreachableError("it is late. Wait.")
    memory.error = memory.list_error
    after(10)
    memory.error = None
    after(10)
    # listed as the store answered again, which came to nothing
    assert after(0) == "it is late. Wait."
    assert memory.listings == 2
    # looked at and listed once more, and not at every look
    assert after(10) == "it is late. Wait."
    assert after(0) == "it is late. Wait."
    assert after(10) == "it is late. Wait."
    assert memory.listings == 3
    memory.list_error = None


def test_an_error_that_is_not_ours_is_told_too(watched):
    memory, after = watched
    memory.error = ZeroDivisionError()
    assert after(10) == "ZeroDivisionError"


def test_a_store_that_hangs_is_told_until_it_answers(watched):
    memory, after = watched
    memory.may_answer.clear()
    assert after(10, answers=0) is None
    assert "not answered for 20 seconds" in after(20, answers=0)
    memory.may_answer.set()
    assert after(1) is None


def test_a_directory_that_is_exchanged_for_another_store_is_noticed(tmp_path):
    memory = FSMemory(tmp_path / "store")
    memory.create()
    memory.check()
    (tmp_path / "store").rename(tmp_path / "away")
    with pytest.raises(UnreachableError, match="not mounted"):
        memory.check()
    FSMemory(tmp_path / "store").create()
    with pytest.raises(UnreachableError, match="another store"):
        memory.check()
