"""A worker's tasks from begin to stored output, in a real flight recorder."""

import sys
import threading
import time

import pytest
from builders import MiB

from dask_memdash.flight import format as layout
from dask_memdash.flight.reader import RecorderReader
from dask_memdash.flight.writer import FlightRecorder
from dask_memdash.measure import isolated
from dask_memdash.measure.isolated import CloseLook, Traffic
from dask_memdash.measure.meter import RssMeter, TallyMeter
from dask_memdash.measure.regression import PrefixRegression
from dask_memdash.plugins.keys import key_text, prefix_of
from dask_memdash.plugins.worker.tasks import RunningTasks


class Process:
    """A process whose RSS is whatever the test says, and its one worker.

    It is its own tally, high-water mark and room: all of them say what they are told.
    """

    def __init__(self, slots=4, *, counted=False):
        self.rss = 100 * MiB
        #: What the kernel's mark says; None where it cannot be set back.
        self.high = None
        self.beyond_now = None
        #: … and with company.
        self.marked = None
        self.arrow_now = self.room_now = self.storage = self.free = 0
        self.ages = []
        self.recorder = FlightRecorder(slots, "tcp://a:1", private=True)
        self.shares = PrefixRegression()
        meter = RssMeter(self.recorder, self.in_execution, self.shares.of)
        if counted:
            meter = TallyMeter(self, self.recorder, meter)
        self.close_look = CloseLook(self, self.stored, lambda: self.free)
        self.tasks = RunningTasks(self.recorder, meter, self, self.shares)

    def doubt(self):
        return 0

    def short_by(self):
        return 0

    def others(self):
        return 0

    def high_mark(self):
        return self.marked

    def kept_unseen(self):
        return 0

    def stored(self):
        return self.storage

    def files_mapped(self):
        return 0

    def traffic(self):
        return Traffic()

    # what the kernel's mark is asked
    def reset(self):
        return self.high is not None

    def read(self):
        return self.high

    def parts(self):
        return None

    # what the tally is asked
    counts_resident = False
    small_objects = None

    def begin(self, mapping, offset):
        return True

    def end(self):
        return 0

    # what the room is asked
    def running(self):
        marks = list(self.tasks.by_thread.values())
        return [mark for mark in marks if mark.method != "unmeasured"]

    def read_rss(self):
        return self.rss

    def recent_rss(self, age):
        self.ages.append(age)
        return self.rss

    def in_execution(self, rss):
        return self.beyond_now

    def held_by_tasks(self):
        return self.tasks.live()

    def left_since_idle(self):
        return 0

    def arrow_growth(self):
        return self.arrow_now

    def reusable(self):
        return self.room_now

    def arena_room(self):
        return 0

    # what tests do
    def recorded(self):
        return {
            slot.key: slot.state
            for slot in RecorderReader(self.recorder.buffer).tasks()
        }

    def run(self, key, growth=0, ident=7, *, stored=True):
        self.tasks.begin(ident, key)
        self.rss += growth
        self.tasks.end(ident, stored=lambda _: stored)

    def run_counted(self, key, left, peak, ident=7, output=None):
        """Run a task that is counted, and store its output if it has one."""
        self.tasks.begin(ident, key)
        self.count(ident, left, peak)
        self.tasks.end(ident, stored=lambda _: output is not None)
        if output is not None:
            self.tasks.leave(key, output)

    def count(self, ident, left, peak):
        slot = self.tasks.by_thread[ident].slot
        self.recorder.write_counters(slot, left, peak, 0)

    def finished(self, prefix):
        return self.tasks.take_finished()[prefix]


@pytest.fixture
def process(process_border):
    made = Process()
    yield made
    made.recorder.close()
    assert process_border.texts() == ()


@pytest.fixture
def counted(process_border):
    made = Process(counted=True)
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


def test_tasks_of_one_prefix_beside_each_other_share_the_growth(process):
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


# -- alone ---------------------------------------------------------------------


def marks(process):
    return {mark.text: mark.alone for mark in process.tasks.by_thread.values()}


def test_a_task_is_alone_if_no_other_ran_while_it_did(process):
    process.tasks.begin(1, "sum-1")
    assert marks(process) == {"sum-1": True}
    process.tasks.begin(2, "sum-2")
    assert marks(process) == {"sum-1": False, "sum-2": False}
    process.tasks.end(1, stored=lambda _: False)
    process.tasks.end(2, stored=lambda _: False)
    process.tasks.begin(1, "sum-3")
    assert marks(process) == {"sum-3": True}


def test_a_task_beside_one_that_is_not_measured_is_not_alone(process):
    process.tasks.begin_elsewhere("async-1")
    process.tasks.begin(1, "sum-1")
    assert marks(process) == {"sum-1": False}
    process.tasks.leave("async-1", None)
    process.tasks.end(1, stored=lambda _: False)
    process.tasks.begin(1, "sum-2")
    process.tasks.begin_elsewhere("async-2")
    assert marks(process) == {"sum-2": False}


def test_a_task_beside_one_that_was_running_already_is_not_alone(process):
    process.tasks.adopt(7, "early-1", begin=1.5e9)
    process.tasks.begin(1, "sum-1")
    assert marks(process) == {"sum-1": False}


def test_a_task_beside_one_without_a_slot_is_not_alone(process_border):
    process = Process(slots=1)
    process.tasks.begin(1, "sum-1")
    process.tasks.begin(2, "sum-2")
    process.tasks.end(1, stored=lambda _: False)
    process.tasks.begin(3, "sum-3")
    assert marks(process) == {"sum-2": False, "sum-3": False}
    process.recorder.close()


def test_tasks_that_begin_at_the_same_time_do_not_overlook_each_other(
    process, monkeypatch
):
    """Another thread begins a task just while the first looks who is running."""
    looked = process.running

    def running():
        found = looked()
        monkeypatch.setattr(process, "running", looked)
        process.tasks.begin(2, "sum-2")
        return found

    monkeypatch.setattr(process, "running", running)
    process.tasks.begin(1, "sum-1")
    assert marks(process) == {"sum-1": False, "sum-2": False}


# -- a close look --------------------------------------------------------------


def test_a_task_alone_without_a_tally_has_the_kernels_high_water_mark(process):
    process.high = 180 * MiB
    process.tasks.begin(7, "sum-1")
    process.rss = 130 * MiB
    process.tasks.end(7, stored=lambda _: True)
    (task,) = process.tasks.executing(time.time())
    assert (task.bytes, task.peak, task.error) == (30 * MiB, 80 * MiB, 0)
    assert task.method == "hwm"
    process.tasks.leave("sum-1", 30 * MiB)
    done = process.finished("sum")
    assert quantities(done) == (1, 80 * MiB, 0, 30 * MiB)
    assert done.method == "hwm"


def test_a_count_that_the_kernel_confirms_is_exact(counted):
    counted.high = 181 * MiB
    counted.run_counted("sum-1", 30 * MiB, 80 * MiB, output=30 * MiB)
    done = counted.finished("sum")
    assert (done.method, done.peaks.max, done.errors.max) == ("exact", 80 * MiB, MiB)
    assert (done.unseen.native, done.unseen.untouched) == (0, 0)


def test_what_a_native_library_had_is_seen_by_the_kernel(counted):
    counted.high = 180 * MiB
    counted.tasks.begin(7, "sum-1")
    counted.count(7, 1 * MiB, 10 * MiB)
    counted.rss = 150 * MiB
    counted.tasks.end(7, stored=lambda _: True)
    # 50 MiB are still there at its end, of which the tally knows one
    assert counted.tasks.live() == 50 * MiB
    counted.tasks.leave("sum-1", 1 * MiB)
    done = counted.finished("sum")
    assert (done.method, done.peaks.max, done.unseen.native) == (
        "hwm",
        80 * MiB,
        70 * MiB,
    )


def test_what_was_reserved_and_never_touched_is_not_held(counted):
    counted.high = 110 * MiB
    counted.tasks.begin(7, "sum-1")
    counted.count(7, 400 * MiB, 400 * MiB)
    counted.tasks.end(7, stored=lambda _: True)
    assert counted.tasks.live() == 10 * MiB
    counted.tasks.leave("sum-1", 400 * MiB)
    done = counted.finished("sum")
    assert (done.method, done.peaks.max, done.unseen.untouched) == (
        "hwm",
        10 * MiB,
        390 * MiB,
    )


def test_a_task_that_had_company_is_not_looked_at(counted):
    counted.high = 900 * MiB
    counted.tasks.begin(1, "sum-1")
    counted.tasks.begin(2, "sum-2")
    for ident in (1, 2):
        counted.count(ident, 30 * MiB, 80 * MiB)
        counted.tasks.end(ident, stored=lambda _: False)
    done = counted.finished("sum")
    assert (done.method, done.peaks.max, done.errors.max) == ("exact", 80 * MiB, 0)


def test_a_kernel_that_forbids_the_look_leaves_the_count(counted):
    counted.high = None
    counted.run_counted("sum-1", 30 * MiB, 80 * MiB, output=30 * MiB)
    done = counted.finished("sum")
    # alone, and the process has not grown by what it holds
    assert (done.method, done.peaks.max, done.errors.max) == (
        "exact",
        80 * MiB,
        30 * MiB,
    )


def test_brief_tasks_are_looked_at_but_once(counted, monkeypatch):
    looks, clock = [], [0.0]
    monkeypatch.setattr(counted.close_look, "begin", looks.append)
    monkeypatch.setattr(time, "time", lambda: clock[0])

    def run(key, seconds):
        counted.tasks.begin(7, key)
        clock[0] += seconds
        counted.tasks.end(7, stored=lambda _: False)

    for n in range(5):
        run(f"tiny-{n}", 0.0049)
    assert looks == [100 * MiB]
    for n in range(3):
        run(f"long-{n}", 0.0051)
    assert len(looks) == 4


def test_whoever_holds_back_looks_no_more_and_reads_less(counted, monkeypatch):
    looks = []
    monkeypatch.setattr(counted.close_look, "begin", looks.append)
    counted.tasks.held_back = 1
    counted.run_counted("sum-1", 0, 0)
    assert looks == []
    assert set(counted.ages) == {0.001}
    counted.ages.clear()
    counted.tasks.held_back = 2
    counted.run_counted("sum-2", 0, 0)
    assert set(counted.ages) == {1.0}


def test_a_task_that_is_not_counted_reads_the_rss_of_now(process):
    process.run("sum-1")
    assert set(process.ages) == {0.0}


def test_small_objects_that_took_the_place_of_others_are_believed(counted, monkeypatch):
    counted.high = 101 * MiB
    blocks = iter([1_000_000, 1_200_000])
    monkeypatch.setattr(isolated.sys, "getallocatedblocks", lambda: next(blocks))
    counted.run_counted("strings-1", MiB, MiB, output=60 * MiB)
    done = counted.finished("strings")
    assert (done.peaks.max, done.errors.max) == (60 * MiB, 59 * MiB)
    assert done.unseen.small == 59 * MiB


# -- what is left behind -------------------------------------------------------


def test_outputs_are_weighed_from_the_second_task_of_a_prefix_on(counted):
    """The first may have imported half a library."""
    counted.run_counted("sum-1", 500 * MiB, 600 * MiB, output=30 * MiB)
    assert counted.finished("sum").weighed.count == 0
    counted.run_counted("sum-2", 31 * MiB, 80 * MiB, output=30 * MiB)
    counted.run_counted("sum-3", 33 * MiB, 80 * MiB, output=30 * MiB)
    counted.run_counted("sum-4", 9 * MiB, 80 * MiB)  # stores nothing
    counted.tasks.because["sum"] = "memory maps"
    weighed = counted.finished("sum").weighed
    assert (weighed.count, weighed.believed, weighed.left) == (
        2,
        60 * MiB,
        64 * MiB,
    )
    assert weighed.because == "memory maps"


def test_a_task_that_frees_what_was_there_leaves_less_than_nothing(counted):
    counted.run_counted("sum-1", 0, 0, output=0)
    counted.run_counted("sum-2", -40 * MiB, 0, output=10 * MiB)
    done = counted.finished("sum")
    assert done.weighed.left == -40 * MiB
    assert done.peaks.max == 0, "and held nothing all the same"


def test_what_is_not_counted_is_not_weighed(process):
    for n in range(3):
        process.run(f"sum-{n}", growth=MiB)
        process.tasks.leave(f"sum-{n}", MiB)
    assert process.finished("sum").weighed.count == 0


# -- what no count says --------------------------------------------------------


def together(process, monkeypatch, *keys):
    """Let tasks run together, long enough after others to be observed."""
    process.clock = getattr(process, "clock", 100.0) + 1.0
    monkeypatch.setattr(time, "monotonic", lambda: process.clock)
    for ident, key in enumerate(keys):
        process.tasks.begin(ident, key)
        process.count(ident, 10 * MiB, 10 * MiB)
    for ident, _ in enumerate(keys):
        process.tasks.end(ident, stored=lambda _: False)


def observe(counted, monkeypatch):
    """Show that tasks of `native` have 60 MiB that are not counted, others nothing."""
    for _ in range(8):
        # 20 MiB are counted of what the process has beyond storage and baseline
        counted.beyond_now = 80 * MiB
        together(counted, monkeypatch, "native-1", "sum-1")
        counted.beyond_now = 20 * MiB
        together(counted, monkeypatch, "sum-1", "sum-2")
    counted.tasks.take_finished()
    counted.tasks.executing(time.time())  # also works the shares out


def test_what_the_regression_finds_is_added_to_what_was_counted(counted, monkeypatch):
    observe(counted, monkeypatch)
    together(counted, monkeypatch, "native-1", "sum-1")
    done = counted.tasks.take_finished()
    native, honest = done["native"], done["sum"]
    assert native.method == "estimated"
    assert native.peaks.max == pytest.approx(70 * MiB, rel=0.02)
    # no sampler has confirmed that this one had it too
    assert native.errors.max == pytest.approx(60 * MiB, rel=0.02)
    assert (honest.method, honest.peaks.max) == ("exact", 10 * MiB)
    assert honest.errors.max < 2 * MiB


def test_what_the_sampler_has_seen_of_it_already_is_no_error_any_more(
    counted, monkeypatch
):
    observe(counted, monkeypatch)
    counted.tasks.begin(1, "native-1")
    counted.tasks.begin(2, "sum-1")
    slot = counted.tasks.by_thread[1].slot
    counted.recorder.write_counters(slot, 10 * MiB, 10 * MiB, 61 * MiB)
    counted.tasks.end(1, stored=lambda _: False)
    done = counted.finished("native")
    assert done.peaks.max == pytest.approx(70 * MiB, rel=0.02)
    assert done.errors.max < 4 * MiB


def test_a_running_task_has_its_share_of_what_is_not_counted_as_its_error(
    counted, monkeypatch
):
    observe(counted, monkeypatch)
    counted.tasks.begin(1, "native-1")
    counted.tasks.begin(2, "sum-1")
    native, honest = counted.tasks.executing(time.time())
    assert native.error == pytest.approx(60 * MiB, rel=0.05)
    assert honest.error < 2 * MiB


def test_a_task_alone_has_its_own_remainder_and_no_share(counted, monkeypatch):
    observe(counted, monkeypatch)
    counted.tasks._durations.forget()  # so that it is looked at closely
    counted.high = 110 * MiB
    counted.run_counted("native-1", 10 * MiB, 10 * MiB)
    done = counted.finished("native")
    assert (done.method, done.peaks.max, done.errors.max) == ("exact", 10 * MiB, 0)


def test_arrows_pool_counts_even_where_the_process_does_not_grow(counted, monkeypatch):
    counted.beyond_now, counted.arrow_now = 20 * MiB, 50 * MiB
    for _ in range(8):
        together(counted, monkeypatch, "table-1", "table-2")
    counted.tasks.executing(time.time())
    assert counted.shares.of("table").bytes == pytest.approx(25 * MiB, rel=0.02)


def test_before_shares_are_known_each_may_have_its_part_of_what_is_not_counted(
    counted, monkeypatch
):
    counted.beyond_now = 60 * MiB  # of which two tasks have 20 counted
    together(counted, monkeypatch, "sum-1", "sum-2")
    done = counted.finished("sum")
    assert (done.method, done.peaks.max, done.errors.max) == (
        "exact",
        10 * MiB,
        20 * MiB,
    )


@pytest.mark.parametrize(
    ("seconds", "room", "expected"),
    [(1.0, 60, 60), (1.0, 5, 0), (1.0, 6, 6), (0.001, 60, 0)],
)
def test_room_in_which_half_as_much_could_hide_is_an_error_but_of_brief_tasks(
    counted, monkeypatch, seconds, room, expected
):
    clock = [0.0]
    monkeypatch.setattr(time, "time", lambda: clock[0])
    counted.room_now = room * MiB
    counted.tasks.take_finished()  # it was there before they began
    for ident in (1, 2):
        counted.tasks.begin(ident, f"sum-{ident}")
        counted.count(ident, 10 * MiB, 10 * MiB)
    clock[0] += seconds
    for ident in (1, 2):
        counted.tasks.end(ident, stored=lambda _: False)
    done = counted.finished("sum")
    assert (done.peaks.max, done.errors.max) == (10 * MiB, expected * MiB)


def test_room_that_came_free_since_the_last_report_hides_nothing(counted):
    for ident in (1, 2):
        counted.tasks.begin(ident, f"sum-{ident}")
        counted.count(ident, 10 * MiB, 10 * MiB)
    for ident in (1, 2):
        counted.tasks.end(ident, stored=lambda _: False)
    counted.room_now = 60 * MiB
    assert counted.finished("sum").errors.max == 0


def test_observations_are_spaced_and_none_is_made_while_holding_back(
    counted, monkeypatch
):
    seen = []
    monkeypatch.setattr(counted.shares, "observe", lambda *args: seen.append(args))
    counted.beyond_now = 20 * MiB
    together(counted, monkeypatch, "sum-1", "sum-2", "sum-3")
    # once for the three that end one after the other; all of it was counted
    assert seen == [(0, ["sum", "sum", "sum"])]
    counted.tasks.held_back = 1
    together(counted, monkeypatch, "sum-1", "sum-2", "sum-3")
    assert len(seen) == 1


def test_without_a_baseline_nothing_is_observed(counted, monkeypatch):
    monkeypatch.setattr(counted.shares, "observe", lambda *args: 1 / 0)
    counted.beyond_now = None
    together(counted, monkeypatch, "sum-1", "sum-2")


def test_the_least_exact_method_speaks_for_all_tasks_of_a_prefix(counted):
    counted.high = 110 * MiB
    counted.run_counted("sum-1", 10 * MiB, 10 * MiB)
    assert counted.finished("sum").method == "exact"
    counted.run_counted("sum-2", 10 * MiB, 10 * MiB)
    counted.tasks._durations.forget()
    counted.high = 180 * MiB
    counted.run_counted("sum-3", 10 * MiB, 10 * MiB)
    done = counted.finished("sum")
    assert (done.method, done.count) == ("hwm", 2)


def test_prefixes_without_end_are_forgotten(counted):
    for n in range(2500):
        counted.run_counted(f"p{n}x-1", 0, 0)
        counted.tasks.because[f"p{n}x"] = ""
    counted.tasks.take_finished()
    assert len(counted.tasks._durations) <= 1000
    assert len(counted.tasks._met) == len(counted.tasks.because) == 0


def test_many_threads_begin_and_end_at_once_and_none_is_lost(process_border):
    process = Process(slots=300)
    barrier = threading.Barrier(20)

    def work(number):
        barrier.wait(30)
        for n in range(50):
            process.tasks.begin(number, f"sum-{number}-{n}")
            process.tasks.end(number, stored=lambda _: False)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(20)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    finally:
        sys.setswitchinterval(interval)
    assert process.recorded() == {}
    assert process.tasks.without_slot == 0
    assert process.finished("sum").count == 1000
    assert process_border.texts() == ()
    process.recorder.close()


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
