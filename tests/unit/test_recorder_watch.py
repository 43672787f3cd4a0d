"""Watching a process: its RSS, the shares of its tasks, and what a death leaves."""

import os

import pytest

from dask_memdash.errors import RecorderError
from dask_memdash.recorder import format as layout
from dask_memdash.recorder import watch as module
from dask_memdash.recorder.flight import FlightRecorder, RecorderReader
from dask_memdash.recorder.watch import RecorderSearch, WorkerWatch

T = 1_760_000_000.0


class Rss:
    """A process whose RSS is whatever the test says."""

    def __init__(self, pid=0):
        self.now = 0

    def read(self):
        return self.now

    def close(self):
        self.now = None


@pytest.fixture
def recorder():
    made = FlightRecorder(4, "tcp://a:1", private=True)
    yield made
    made.close()


@pytest.fixture
def watch(recorder, monkeypatch):
    monkeypatch.setattr(module, "RssReader", Rss)
    made = WorkerWatch(17, [RecorderReader(recorder.buffer)])
    yield made
    made.close()


def look(watch, time, rss):
    watch._rss.now = rss
    return watch.tick(time)


def test_a_process_without_tasks_is_sampled(watch):
    glance = look(watch, T, 100)
    assert (glance.time, glance.rss, glance.tasks) == (T, 100, ())
    look(watch, T + 1, 200)
    assert list(watch.samples) == [(T, 100), (T + 1, 200)]


def test_a_process_that_is_gone_gives_nothing(watch):
    look(watch, T, 100)
    assert look(watch, T + 1, None) is None
    assert list(watch.samples) == [(T, 100)]


def test_samples_of_the_last_minute_are_kept(watch):
    for second in range(100):
        look(watch, T + second, second)
    assert watch.samples[0] == (T + 39, 39)
    assert watch.samples[-1] == (T + 99, 99)


def test_samples_are_bounded_whatever_the_rate(watch):
    for n in range(3000):
        look(watch, T + n / 1000, n)
    assert len(watch.samples) == 2400


def test_a_task_alone_has_the_growth_and_its_peak_stays(watch, recorder):
    slot = recorder.begin("sum-1", 7, T, 1000)
    (task,) = look(watch, T, 5000).tasks
    assert (task.now, task.peak, task.error) == (4000, 4000, 0)
    (task,) = look(watch, T, 2000).tasks
    assert (task.now, task.peak) == (1000, 4000)
    assert recorder.counters(slot) == (1000, 4000, 0)


def test_tasks_beside_each_other_share_the_growth_and_keep_the_largest_error(
    watch, recorder
):
    recorder.begin("sum-1", 7, T, 1000)
    other = recorder.begin("sum-2", 8, T, 1000)
    first, second = look(watch, T, 5000).tasks
    assert (first.now, first.error) == (2000, 2000)
    assert (second.now, second.error) == (2000, 2000)
    recorder.release(other)
    (first,) = look(watch, T, 5000).tasks
    assert (first.now, first.error) == (4000, 2000)


def test_pending_and_unmeasured_tasks_get_no_share(watch, recorder):
    pending = recorder.begin("sum-1", 7, T, 1000)
    recorder.write_counters(pending, 10, 20, 1)
    recorder.pend(pending)
    recorder.begin("async-1", 0, T, 0, measured=False)
    recorder.begin("sum-2", 8, T, 1000)
    tasks = {task.key: task for task in look(watch, T, 5000).tasks}
    assert (tasks["sum-1"].now, tasks["sum-1"].peak) == (10, 20)
    assert (tasks["async-1"].now, tasks["async-1"].measured) == (0, False)
    assert tasks["sum-2"].now == 4000


def test_what_native_code_counts_is_left_alone(watch, recorder):
    recorder.buffer[40] = layout.COUNTERS_FROM_TALLY
    watch.recorders = [RecorderReader(recorder.buffer)]
    slot = recorder.begin("sum-1", 7, T, 1000)
    recorder.write_counters(slot, 10, 20, 1)
    (task,) = look(watch, T, 5000).tasks
    assert (task.now, task.peak, task.error) == (10, 20, 1)


def test_workers_that_share_a_process_share_its_growth(watch, recorder):
    second = FlightRecorder(4, "tcp://b:1", private=True)
    watch.recorders.append(RecorderReader(second.buffer))
    recorder.begin("sum-1", 7, T, 1000)
    second.begin("sum-2", 8, T, 3000)
    # growth 4000; own growths 4000 and 2000
    assert [task.now for task in look(watch, T, 5000).tasks] == [2666, 1333]
    assert [task.key for task in watch.last_tasks()] == ["sum-1", "sum-2"]
    second.close()


def test_the_last_tasks_are_there_after_the_death(watch, recorder):
    recorder.begin("sum-1", 7, T, 1000)
    look(watch, T, 5000)
    assert look(watch, T + 1, None) is None
    (task,) = watch.last_tasks()
    assert (task.key, task.now) == ("sum-1", 4000)


def test_closing_lets_go_of_everything(watch):
    watch.close()
    assert watch.recorders == []
    assert watch.tick(T) is None
    watch.close()


def test_a_real_process_can_be_watched():
    watch = WorkerWatch(os.getpid())
    assert watch.tick(T).rss > 1_000_000
    watch.close()


# -- search --------------------------------------------------------------------


@pytest.fixture
def found(monkeypatch):
    """Say what a search finds, and count how often it looks."""

    class Found:
        looks = 0
        result = None

        def find(self, pid, directory):
            self.looks += 1
            if isinstance(self.result, Exception):
                raise self.result
            return self.result

    made = Found()
    monkeypatch.setattr(module.RecorderReader, "find", made.find)
    return made


def test_a_search_looks_now_and_then(found):
    search = RecorderSearch(17, None)
    assert [search.look(T + n / 10) for n in range(11)] == [None] * 11
    assert found.looks == 3


def test_a_search_says_what_is_wrong_until_it_is_not_any_more(found):
    search = RecorderSearch(17, None)
    found.result = RecorderError("it has format 2")
    assert search.look(T) is None
    assert search.trouble == "it has format 2"
    found.result = "a reader"
    assert search.look(T + 0.1) is None
    assert search.look(T + 0.6) == "a reader"
    assert search.trouble == ""
