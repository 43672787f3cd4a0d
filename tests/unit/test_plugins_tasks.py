"""A worker's tasks from begin to stored output, in a real flight recorder."""

import time

import pytest
from builders import MiB

from dask_memdash.plugins.tasks import RunningTasks, key_text, prefix_of
from dask_memdash.recorder import format as layout
from dask_memdash.recorder.flight import FlightRecorder, RecorderReader
from dask_memdash.recorder.meter import RssMeter


class Process:
    """A process whose RSS is whatever the test says, and its one worker."""

    def __init__(self, slots=4):
        self.rss = 100 * MiB
        self.recorder = FlightRecorder(slots, "tcp://a:1", private=True)
        self.tasks = RunningTasks(
            self.recorder, RssMeter(self.recorder), lambda: self.rss, self.measured
        )

    def measured(self):
        return [mark for mark in self.tasks.by_thread.values() if mark.measured]

    def recorded(self):
        return {
            slot.key: slot.state
            for slot in RecorderReader(self.recorder.buffer).tasks()
        }

    def run(self, key, growth=0, ident=7, *, stored=True):
        self.tasks.begin(ident, key)
        self.rss += growth
        self.tasks.end(ident, stored=lambda _: stored)


@pytest.fixture
def process(process_border):
    made = Process()
    yield made
    made.recorder.close()
    assert process_border.texts() == ()


def quantities(finished):
    return (
        finished.count,
        finished.peaks.max,
        finished.errors.max,
        finished.outputs.max,
    )


def test_a_task_is_running_then_pending_then_finished(process):
    tasks = process.tasks
    assert not tasks.busy
    tasks.begin(7, "sum-1")
    assert process.recorded() == {"sum-1": layout.RUNNING}
    assert tasks.busy
    process.rss += 30 * MiB
    tasks.end(7, stored=lambda key: key == "sum-1")
    assert process.recorded() == {"sum-1": layout.PENDING}
    assert tasks.busy
    tasks.leave("sum-1", 10 * MiB)
    assert process.recorded() == {}
    assert not tasks.busy
    done = tasks.take_finished()
    assert list(done) == ["sum"]
    # it held 30 MiB, of which its output explains 10
    assert quantities(done["sum"]) == (1, 30 * MiB, 20 * MiB, 10 * MiB)
    assert done["sum"].method == "estimated"
    assert tasks.take_finished() == {}


def test_a_peak_that_was_sampled_meanwhile_counts(process):
    process.tasks.begin(7, "sum-1")
    process.recorder.write_counters(0, 5 * MiB, 90 * MiB, 3 * MiB)
    process.tasks.end(7, stored=lambda _: False)
    assert quantities(process.tasks.take_finished()["sum"])[:3] == (
        1,
        90 * MiB,
        3 * MiB,
    )


def test_a_task_whose_output_is_larger_than_its_growth_held_at_least_that(process):
    process.run("sum-1", growth=0)
    process.tasks.leave("sum-1", 50 * MiB)
    assert quantities(process.tasks.take_finished()["sum"]) == (
        1,
        50 * MiB,
        50 * MiB,
        50 * MiB,
    )


def test_a_task_without_an_output_is_finished_at_once(process):
    process.run("actor-1", growth=MiB, stored=False)
    assert not process.tasks.busy
    assert process.recorded() == {}
    done = process.tasks.take_finished()["actor"]
    assert (done.count, done.outputs.count) == (1, 0)


def test_tasks_beside_each_other_share_the_growth(process):
    process.tasks.begin(1, "sum-1")
    process.tasks.begin(2, "sum-2")
    process.rss += 40 * MiB
    process.tasks.end(1, stored=lambda _: True)
    executing = {task.key: task for task in process.tasks.executing(time.time())}
    assert (executing["sum-1"].bytes, executing["sum-1"].error) == (20 * MiB, 20 * MiB)
    assert process.tasks.live() == 20 * MiB


def test_an_end_without_a_begin_is_nothing(process):
    process.tasks.end(7, stored=lambda _: True)
    process.tasks.leave("sum-1", 5)
    assert process.tasks.take_finished() == {}


def test_executing_tasks_come_with_thread_time_and_method(process):
    process.tasks.begin(7, ("sum", 1, 2))
    process.tasks.begin_elsewhere("async-1")
    now = time.time()
    measured, unmeasured = process.tasks.executing(now + 5)
    assert (measured.key, measured.prefix) == ("('sum', 1, 2)", "sum")
    assert (measured.thread, measured.method) == (7, "estimated")
    assert 5 <= measured.seconds < 6
    assert (measured.bytes, measured.peak, measured.error) == (0, 0, 0)
    assert (unmeasured.key, unmeasured.thread) == ("async-1", None)
    assert (unmeasured.bytes, unmeasured.peak, unmeasured.error) == (None, None, None)
    assert unmeasured.method == "unmeasured"


def test_a_task_elsewhere_is_counted_and_not_measured(process):
    process.tasks.begin_elsewhere("async-1")
    assert process.recorded() == {"async-1": layout.RUNNING}
    process.tasks.leave("async-1", 10)
    done = process.tasks.take_finished()["async"]
    assert (done.count, done.peaks.count, done.outputs.max) == (1, 0, 10)
    assert done.method == "unmeasured"


def test_a_task_that_was_running_already_is_not_measured(process):
    process.tasks.adopt(7, "sum-1", begin=1.5e9)
    (task,) = process.tasks.executing(1.5e9 + 60)
    assert (task.seconds, task.bytes, task.thread) == (60, None, 7)
    process.tasks.leave("sum-1", 5)
    assert process.recorded() == {}
    done = process.tasks.take_finished()["sum"]
    assert (done.count, done.peaks.count, done.outputs.count) == (1, 0, 1)


def test_tasks_without_a_slot_are_counted_and_not_measured(process):
    for n in range(6):
        process.tasks.begin(n, f"sum-{n}")
    assert process.tasks.without_slot == 2
    assert len(process.tasks.executing(time.time())) == 6
    assert sum(t.bytes is None for t in process.tasks.executing(time.time())) == 2
    for n in range(6):
        process.tasks.end(n, stored=lambda _: False)
    done = process.tasks.take_finished()["sum"]
    assert (done.count, done.peaks.count) == (6, 4)


def test_without_an_rss_nothing_is_measured(process):
    process.rss = None
    process.tasks.begin(7, "sum-1")
    (task,) = process.tasks.executing(time.time())
    assert (task.bytes, task.method) == (None, "unmeasured")


def test_what_the_worker_has_forgotten_is_let_go(process):
    process.run("sum-1")
    process.run("sum-2")
    process.tasks.begin_elsewhere("async-1")
    process.tasks.begin(9, "sum-3")
    process.tasks.drop_forgotten(lambda key: key == "sum-2")
    assert process.recorded() == {
        "sum-2": layout.PENDING,
        "sum-3": layout.RUNNING,
    }
    done = process.tasks.take_finished()
    assert {prefix: d.count for prefix, d in done.items()} == {"sum": 1, "async": 1}


def test_slots_are_never_lost(process):
    for n in range(100):
        process.run(f"sum-{n}", stored=n % 2 == 0)
        process.tasks.leave(f"sum-{n}", 5)
    assert process.tasks.without_slot == 0
    assert process.tasks.take_finished()["sum"].count == 100


def test_a_key_too_long_for_a_slot_is_known_by_the_same_digest_everywhere(process):
    for n, key in enumerate(["k" * 2000, "ü" * 300, "ü" * 20]):
        process.tasks.begin(n, key)
    slots = RecorderReader(process.recorder.buffer).tasks()
    executing = process.tasks.executing(time.time())
    assert [slot.digest for slot in slots] == [task.digest for task in executing]
    assert [bool(slot.digest) for slot in slots] == [True, True, False]
    assert [len(task.key) for task in executing] == [1000, 300, 20]


# -- keys ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "text", "prefix"),
    [
        ("sum-0123456789abcdef0123456789abcdef", None, "sum"),
        (("x-0123456789abcdef0123456789abcdef", 1, 2), None, "x"),
        (5, "5", "Other"),
        (None, "None", "Other"),
    ],
)
def test_keys_are_printed_as_dask_prints_them(key, text, prefix):
    assert key_text(key) == (text or str(key))
    assert prefix_of(key) == prefix


def test_a_key_that_cannot_be_printed_does_no_harm(process_border):
    class Unprintable:
        def __str__(self):
            raise ValueError("no")

    assert key_text(Unprintable()) == "<a key that cannot be printed>"
    assert process_border.texts() == (
        "MemDash failed in printing a key once: ValueError: no",
    )


def test_a_prefix_is_never_longer_than_what_travels():
    assert len(prefix_of("p" * 5000)) == 1000
