"""WorkerErrors on a worker: which are seen, what is said of them, and how often."""

import errno
import pickle
import subprocess
from types import SimpleNamespace

import numpy as np
import pytest
from distributed.protocol import to_serialize
from distributed.spill import SpillBuffer
from tblib import pickling_support

from dask_memdash.plugins.worker.worker_errors import ErrorWatch

pytestmark = pytest.mark.hooks


class Unpicklable:
    def __sizeof__(self):
        return 600

    def __reduce__(self):
        raise ValueError("not this one")


class Worker:
    """What the watch uses of a worker."""

    name, address = "w1", "tcp://a:1"
    memory_manager = SimpleNamespace(memory_limit=400 * 2**20)
    monitor = SimpleNamespace(get_process_memory=lambda: 100 * 2**20)

    def __init__(self, data):
        self.data = data
        self.state = SimpleNamespace(tasks={})
        self.sent = []

    def log_event(self, topic, message):
        assert topic == "memdash"
        self.sent.append(message)

    def erred(self, key, error):
        self.state.tasks[key] = SimpleNamespace(
            exception=to_serialize(pickle.dumps(error)), exception_text=repr(error)
        )


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def make_watch(data, clock):
    worker = Worker(data)
    return worker, ErrorWatch(worker, clock)


# -- tasks ---------------------------------------------------------------------


def numpys_error():
    with pytest.raises(MemoryError) as raised:
        np.ones(2**50)
    return raised.value


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (MemoryError(), "MemoryError"),
        (MemoryError("line\n  break"), "MemoryError: line break"),
        (numpys_error(), "MemoryError: Unable to allocate 8.00 PiB for an array"),
    ],
)
def test_a_memory_error_is_told_in_its_own_words(clock, process_border, error, text):
    worker, watch = make_watch({}, clock)
    worker.erred(("load-1", 3), error)
    watch.task_erred(("load-1", 3))
    (message,) = worker.sent
    assert message["action"] == "memory-error"
    assert (message["key"], message["prefix"]) == ("('load-1', 3)", "load")
    assert message["text"].startswith(text)
    assert process_border.texts() == ()


@pytest.mark.parametrize(
    "error",
    [
        ValueError("MemoryError"),
        KeyError("x"),
        RuntimeError("MemoryError()"),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        OSError(errno.ENOSPC, "No space left on device"),
    ],
)
def test_other_errors_are_no_trouble(clock, process_border, error):
    worker, watch = make_watch({}, clock)
    worker.erred("load-1", error)
    before = worker.state.tasks["load-1"].exception.data
    watch.task_erred("load-1")
    watch.task_erred("never-heard-of")
    assert worker.sent == []
    assert worker.state.tasks["load-1"].exception.data is before
    assert process_border.texts() == ()


def from_memory_error():
    error = ValueError("could not load")
    error.__cause__ = MemoryError("cannot allocate memory for array")
    return error


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "OSError: [Errno 12] Cannot"),
        (RuntimeError("std::bad_alloc"), "RuntimeError: std::bad_alloc"),
        (ValueError("Maximum allowed dimension exceeded"), "ValueError: Maximum"),
        (from_memory_error(), "MemoryError: cannot allocate memory for array"),
        (ExceptionGroup("two", [KeyError(1), MemoryError("x")]), "MemoryError: x"),
    ],
)
def test_memory_that_ran_out_is_told_whatever_the_class(
    clock, process_border, error, text
):
    pickling_support.install(error)
    worker, watch = make_watch({}, clock)
    worker.erred("load-1", error)
    watch.task_erred("load-1")
    assert [m["text"].startswith(text) for m in worker.sent] == [True]
    assert [m["stage"] for m in worker.sent] == ["running"]
    assert process_border.texts() == ()


def test_the_error_that_is_sent_has_a_note_and_says_whose_it_is(clock):
    worker, watch = make_watch({}, clock)
    worker.erred(("load-1", 3), numpys_error())
    watch.task_erred(("load-1", 3))
    error = pickle.loads(worker.state.tasks["load-1", 3].exception.data)
    assert isinstance(error, MemoryError)
    assert error.memdash_task == ("('load-1', 3)", "tcp://a:1")
    assert error.__notes__ == [
        "MemDash: worker w1 used 100 MiB of its limit of 400 MiB then. "
        "dask_memdash.explain(error) says what was asked for and what to change."
    ]
    assert str(error).startswith("Unable to allocate 8.00 PiB for an array")


def test_an_input_that_does_not_fit_is_told_of_the_task_that_waits_for_it(clock):
    worker, watch = make_watch({}, clock)
    worker.erred("part-1", numpys_error())
    task = worker.state.tasks["part-1"]
    task.waiters, task.nbytes = [SimpleNamespace(key="sum-1")], 200 * 2**20
    before = task.exception.data
    watch.task_erred("part-1", "flight")
    (message,) = worker.sent
    assert (message["key"], message["prefix"]) == ("sum-1", "sum")
    assert message["stage"] == "receiving"
    assert message["text"].endswith(", for input part-1 of 200 MiB")
    assert task.exception.data is before


def test_a_memory_error_that_cannot_be_read_again_is_told_by_its_name(
    clock, process_border
):
    worker, watch = make_watch({}, clock)
    worker.state.tasks["load-1"] = SimpleNamespace(
        exception=to_serialize(b"no pickle"), exception_text="MemoryError('x')"
    )
    watch.task_erred("load-1")
    assert [m["text"] for m in worker.sent] == ["MemoryError('x')"]


# -- spilling ------------------------------------------------------------------


def buffer(tmp_path, **more):
    return SpillBuffer(str(tmp_path), target=1000, **more)


def test_a_buffer_that_is_full_is_told_with_the_key_that_stays(clock, tmp_path):
    data = buffer(tmp_path, max_spill=10)
    worker, _ = make_watch(data, clock)
    data["old-1"] = b"x" * 600
    data["new-1"] = b"y" * 600
    (message,) = worker.sent
    assert {**message, "size": 0} == {
        "action": "spill-failed",
        "reason": "max-spill",
        "key": "old-1",
        "prefix": "old",
        "size": 0,
        "text": "",
        "count": 1,
    }
    assert 600 <= message["size"] < 700
    assert set(data.fast) == {"old-1", "new-1"}


def test_what_cannot_be_pickled_is_told_and_handled_as_before(clock, tmp_path):
    data = buffer(tmp_path)
    worker, _ = make_watch(data, clock)
    data["odd-1"] = Unpicklable()
    data["new-1"] = b"y" * 600
    assert [(m["reason"], m["key"]) for m in worker.sent] == [("unpicklable", "odd-1")]
    assert "not this one" in worker.sent[0]["text"]
    assert data.logged_pickle_errors == {"odd-1"}


def test_what_cannot_be_pickled_and_is_too_large_to_keep_still_raises(clock, tmp_path):
    class Large(Unpicklable):
        def __sizeof__(self):
            return 5000

    data = buffer(tmp_path)
    worker, _ = make_watch(data, clock)
    with pytest.raises(TypeError, match="odd-1"):
        data["odd-1"] = Large()
    assert [(m["reason"], m["key"]) for m in worker.sent] == [("unpicklable", "odd-1")]


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.ENOSPC, "disk-full"),
        (errno.EDQUOT, "disk-full"),
        (errno.EIO, "disk-error"),
        (errno.EACCES, "disk-error"),
    ],
)
@pytest.mark.parametrize("how", ["insert", "evict"])
def test_an_error_of_the_disk_is_told_with_the_key_that_was_being_written(
    clock, tmp_path, monkeypatch, number, reason, how
):
    data = buffer(tmp_path)
    worker, _ = make_watch(data, clock)
    data["old-1"] = b"x" * 600

    def fail(key, value):
        raise OSError(number, "as the disk says")

    monkeypatch.setattr(
        type(data._slow_uncached.d), "__setitem__", lambda s, k, v: fail(k, v)
    )
    if how == "insert":
        data["new-1"] = b"y" * 600
    else:
        assert data.evict() == -1
    (message,) = worker.sent
    assert (message["reason"], message["key"]) == (reason, "old-1")
    assert "as the disk says" in message["text"]
    assert "old-1" in data.fast


def test_failures_that_follow_each_other_are_counted_and_told_now_and_then(
    clock, tmp_path
):
    data = buffer(tmp_path, max_spill=10)
    worker, _ = make_watch(data, clock)
    for number in range(50):
        data[f"k-{number}"] = b"x" * 600
        clock.now += 0.01
    assert len(worker.sent) == 1
    clock.now += 2.0
    data["last-1"] = b"x" * 600
    assert len(worker.sent) == 2
    assert worker.sent[0]["count"] == 1
    assert worker.sent[1]["count"] > 40


def test_what_is_spilled_well_is_no_trouble(clock, tmp_path):
    data = buffer(tmp_path)
    worker, _ = make_watch(data, clock)
    for number in range(5):
        data[f"k-{number}"] = b"x" * 600
    assert len(data.slow) == 4
    assert data["k-0"] == b"x" * 600
    with pytest.raises(KeyError):
        data["missing"]
    assert worker.sent == []


def test_removing_the_watch_leaves_the_buffer_as_it_was(clock, tmp_path):
    data = buffer(tmp_path, max_spill=10)
    before = set(vars(data))
    worker, watch = make_watch(data, clock)
    assert set(vars(data)) != before
    watch.remove()
    watch.remove()
    assert set(vars(data)) == before
    for number in range(3):
        data[f"k-{number}"] = b"x" * 600
    assert worker.sent == []


@pytest.mark.parametrize("data", [{}, SimpleNamespace(), None])
def test_data_of_another_kind_is_left_alone(clock, data):
    worker, watch = make_watch(data, clock)
    watch.remove()
    assert worker.sent == []


def test_a_watch_that_fails_harms_no_insertion(clock, tmp_path, process_border):
    data = buffer(tmp_path, max_spill=10)
    worker, _ = make_watch(data, clock)
    worker.log_event = lambda *arguments: 1 / 0
    data["old-1"] = b"x" * 600
    data["new-1"] = b"y" * 600
    assert set(data.fast) == {"old-1", "new-1"}
    assert "noting a failure to spill" in process_border.texts()[0]


@pytest.mark.parametrize(
    "error",
    [
        subprocess.CalledProcessError(-9, "convert"),
        subprocess.CalledProcessError(137, "sh -c convert"),
        RuntimeError("workers were terminated, exit codes are {SIGKILL(-9)}"),
    ],
)
def test_a_child_that_was_killed_is_told_of_its_task(error):
    worker = Worker({})
    watch = ErrorWatch(worker)
    worker.erred("convert-1", error)
    watch.task_erred("convert-1")
    (sent,) = worker.sent
    assert (sent["stage"], sent["prefix"]) == ("child", "convert")


def test_a_child_that_failed_by_itself_is_no_concern_of_ours():
    worker = Worker({})
    watch = ErrorWatch(worker)
    worker.erred("convert-1", subprocess.CalledProcessError(1, "convert"))
    watch.task_erred("convert-1")
    assert worker.sent == []
