"""Task marks: a mapping in the place of ``active_threads``."""

import sys
import threading

import pytest

from dask_memdash.measure.marked_threads import MarkedThreads


class Log(list):
    """Notes every begin and end, with the thread that it came in."""

    def begin(self, ident, key):
        self.append(("begin", ident, key, threading.get_ident()))

    def end(self, ident):
        self.append(("end", ident, threading.get_ident()))


@pytest.fixture
def log():
    return Log()


@pytest.fixture
def hasty_switches():
    """Let threads take turns as often as they can."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


def marked(log, before=None):
    return MarkedThreads({} if before is None else before, log.begin, log.end)


def test_begin_and_end_are_called_in_the_tasks_own_thread(log):
    marks = marked(log)
    idents = []

    def run():
        ident = threading.get_ident()
        idents.append(ident)
        marks[ident] = "sum-1"
        del marks[ident]

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    (ident,) = idents
    assert log == [("begin", ident, "sum-1", ident), ("end", ident, ident)]
    assert ident != threading.get_ident()


def test_a_begin_without_an_end_before_it_ends_the_former_task(log):
    marks = marked(log)
    marks[1] = "actor-1"
    marks[1] = "sum-2"
    assert [entry[:2] for entry in log] == [("begin", 1), ("end", 1), ("begin", 1)]
    assert marks[1] == "sum-2"


def test_tasks_that_were_running_are_shown_until_they_end(log):
    before = {5: "old-5", 6: "old-6"}
    marks = marked(log, before)
    marks[1] = "new-1"
    assert dict(marks) == {1: "new-1", 5: "old-5", 6: "old-6"}
    assert len(marks) == 3
    del before[5]
    assert dict(marks) == {1: "new-1", 6: "old-6"}
    assert 5 not in marks


def test_the_end_of_a_task_that_was_running_is_no_mark(log):
    before = {5: "old-5"}
    marks = marked(log, before)
    del marks[5]
    assert (before, dict(marks), log) == ({}, {}, [])


def test_a_new_task_in_the_thread_of_an_old_one_hides_it(log):
    marks = marked(log, {5: "old-5"})
    marks[5] = "new-5"
    assert marks[5] == "new-5"
    assert dict(marks) == {5: "new-5"}
    assert log == [("begin", 5, "new-5", threading.get_ident())]


def test_what_is_not_there_cannot_be_deleted_or_read(log):
    marks = marked(log)
    with pytest.raises(KeyError):
        del marks[1]
    with pytest.raises(KeyError):
        marks[1]
    assert marks.get(1) is None


def test_a_disarmed_mapping_ends_what_has_begun_and_goes_on_as_a_mapping(log):
    marks = marked(log)
    marks[1] = "sum-1"
    marks.disarm()
    del marks[1]
    marks[2] = "sum-2"
    marks[2] = "sum-3"
    assert [entry[:2] for entry in log] == [("begin", 1), ("end", 1)]
    assert dict(marks) == {2: "sum-3"}
    assert len(marks) == 1


def test_it_does_what_the_host_does_with_its_dict(log):
    marks = marked(log, {5: "old-5"})
    assert marks
    marks[1] = "sum-1"
    copy = marks.copy()
    assert (type(copy), copy) == (dict, {5: "old-5", 1: "sum-1"})
    assert sorted(marks.items()) == [(1, "sum-1"), (5, "old-5")]
    assert sorted(marks.values()) == ["old-5", "sum-1"]
    assert sorted(marks) == [1, 5]
    copy[9] = "not in the original"
    assert 9 not in marks
    del marks[1], marks[5]
    assert not marks
    assert len(marks) == 0


def test_a_mapping_may_take_the_place_of_another(log):
    first = marked(log)
    first[1] = "sum-1"
    first.disarm()
    second = marked(log, first)
    second[2] = "sum-2"
    assert dict(second) == {1: "sum-1", 2: "sum-2"}
    del second[1]
    assert not first


@pytest.mark.parametrize("layers", [1, 2])
def test_somebody_who_looks_at_it_all_the_time_never_fails(log, layers, hasty_switches):
    """As the profiler and get_current_task do, with more haste."""
    before = {}
    for _ in range(layers - 1):
        before = marked(log, before)
    marks = marked(log, before)
    failures, done = [], threading.Event()

    def look():
        try:
            while not done.is_set():
                marks.copy()
                list(marks.items())
                list(marks)
                len(marks)
                bool(marks)
                marks.get(3)
        except Exception as error:  # noqa: BLE001
            failures.append(error)

    def run(place, ident):
        for n in range(1500):
            place[ident] = n
            del place[ident]

    lookers = [threading.Thread(target=look) for _ in range(2)]
    runners = [threading.Thread(target=run, args=(marks, n)) for n in range(3)]
    # a task that began before goes on in the mapping's predecessor
    runners.append(threading.Thread(target=run, args=(before, 9)))
    for thread in (*lookers, *runners):
        thread.start()
    for thread in runners:
        thread.join()
    done.set()
    for thread in lookers:
        thread.join()
    assert failures == []
    assert not marks


def test_disarming_while_tasks_begin_and_end_never_fails(log, hasty_switches):
    failures = []
    for _ in range(300):
        marks = marked(log)
        started = threading.Event()

        def run(marks=marks, started=started):
            try:
                started.set()
                for n in range(20):
                    marks[1] = n
                    del marks[1]
            except Exception as error:  # noqa: BLE001
                failures.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        started.wait()
        marks.disarm()
        thread.join()
    assert failures == []
