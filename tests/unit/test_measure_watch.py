"""Watching a process: its RSS, the shares of its tasks, and what a death leaves."""

import os
import struct

import pytest

from dask_memdash.flight import format as layout
from dask_memdash.flight.reader import RecorderReader
from dask_memdash.flight.writer import FlightRecorder
from dask_memdash.measure import watch as module
from dask_memdash.measure.watch import WorkerWatch
from dask_memdash.system.proc import RssParts

T = 1_760_000_000.0
MB = 1_000_000


class Rss:
    """A process whose RSS is whatever the test says."""

    def __init__(self, pid=0):
        self.now = 0
        self.made_of = None

    def read(self):
        return self.now

    def parts(self):
        return None if self.now is None else self.made_of

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


def test_tasks_beside_each_other_share_and_a_peak_keeps_its_own_error(watch, recorder):
    recorder.begin("sum-1", 7, T, 1000)
    other = recorder.begin("sum-2", 8, T, 1000)
    first, second = look(watch, T, 5000).tasks
    assert (first.now, first.peak, first.error) == (2000, 2000, 2000)
    assert (second.now, second.peak, second.error) == (2000, 2000, 2000)
    recorder.release(other)
    (first,) = look(watch, T, 2500).tasks
    assert (first.now, first.peak, first.error) == (1500, 2000, 2000)
    # a larger one that it had alone is certain
    (first,) = look(watch, T, 5000).tasks
    assert (first.now, first.peak, first.error) == (4000, 4000, 0)


def test_what_is_stored_is_nobodys_share(watch, recorder):
    """Storage and what was left when idle last go before the growth since begin."""
    reading = {"time": T, "rss": 0, "managed_claimed": 3000, "last_rest": 500}
    recorder.write_reading({**reading, "incoming": 100, "shuffle": 200})
    recorder.begin("sum-1", 7, T, 1000)
    recorder.begin("open-1", 8, T, 1000)
    pending = recorder.begin("open-2", 8, T, 1000)
    recorder.write_counters(pending, 200, 300, 0)
    recorder.pend(pending)
    tasks = {task.key: task for task in look(watch, T, 5000).tasks}
    # 5000 - 3000 - 300 - 500 are beyond, of which the pending task holds 200
    assert (tasks["sum-1"].now, tasks["sum-1"].error) == (500, 500)
    assert tasks["open-1"].now == 500
    assert tasks["open-2"].now == 200


def by_prefix(watch):
    watch._prefix_of = lambda key: key.partition("-")[0]
    return watch


def together(watch, recorder, time, rss, *keys):
    """Let tasks run together for one sample, and give them."""
    slots = [recorder.begin(key, n, time, 0) for n, key in enumerate(keys)]
    glance = look(watch, time, rss)
    for slot in slots:
        recorder.release(slot)
    return glance.tasks


def test_what_prefixes_use_is_learnt_from_ever_other_mixes(watch, recorder):
    by_prefix(watch)
    reading = {"time": T, "rss": 0, "managed_claimed": 900 * MB}
    recorder.write_reading({**reading, "last_rest": 100 * MB})
    # a task of `open` uses 300 MB, one of `sum` 100
    for n in range(8):
        together(watch, recorder, T + 2 * n, 1400 * MB, "open-1", "sum-1")
        together(watch, recorder, T + 2 * n + 1, 1600 * MB, "open-1", "open-2")
    opened, summed = together(watch, recorder, T + 100, 1400 * MB, "open-1", "sum-1")
    assert opened.now == pytest.approx(300 * MB, rel=0.01)
    assert summed.now == pytest.approx(100 * MB, rel=0.02)
    assert max(opened.error, summed.error) < 4 * MB


def test_without_a_quiet_instant_nothing_is_learnt(watch, recorder):
    by_prefix(watch)
    recorder.write_reading({"time": T, "rss": 0, "managed_claimed": 900 * MB})
    for n in range(8):
        together(watch, recorder, T + 2 * n, 1400 * MB, "open-1", "sum-1")
        together(watch, recorder, T + 2 * n + 1, 1600 * MB, "open-1", "open-2")
    assert watch._use.of("open") is None


def test_counted_tasks_that_run_together_have_what_is_not_counted_in_their_errors(
    watch, recorder
):
    recorder.buffer[40] = layout.COUNTERS_FROM_TALLY
    watch.recorders = [RecorderReader(recorder.buffer)]
    by_prefix(watch)
    recorder.write_reading({"time": T, "rss": 0, "last_rest": 100 * MB})
    # `native` has 40 MB that are not counted, `open` nothing
    for n in range(8):
        for keys, uncounted in (
            (("native-1", "open-1"), 40),
            (("open-1", "open-2"), 0),
        ):
            slots = [recorder.begin(key, i, T, 0) for i, key in enumerate(keys)]
            for slot in slots:
                recorder.write_counters(slot, 10 * MB, 10 * MB, 1 * MB)
            look(watch, T + 2 * n + (uncounted == 0), (120 + uncounted) * MB)
            errors = {s.key: s.error for s in watch.last_tasks()}
            for slot in slots:
                recorder.release(slot)
            if keys[0] == "native-1":
                of_native = errors
            else:
                of_open = errors
    assert of_native["native-1"] == pytest.approx(40 * MB, rel=0.05)
    assert of_native["open-1"] < 3 * MB
    assert of_open == {"open-1": of_open["open-2"], "open-2": of_open["open-2"]}
    assert of_open["open-2"] < 3 * MB


def test_what_tasks_had_and_freed_may_still_be_there_and_is_no_error(watch, recorder):
    """Allocators keep what was freed; what is beyond even that is in the errors."""
    recorder.buffer[40] = layout.COUNTERS_FROM_TALLY
    watch.recorders = [RecorderReader(recorder.buffer)]
    recorder.write_reading({"time": T, "rss": 0, "last_rest": 100 * MB})
    slots = [recorder.begin(f"sum-{n}", n, T, 100 * MB) for n in range(2)]
    for slot in slots:
        recorder.write_counters(slot, 40 * MB, 40 * MB, 0)
    look(watch, T, 180 * MB)
    recorder.write_counters(slots[0], 5 * MB, 40 * MB, 0)  # and 35 are kept
    glance = look(watch, T + 1, 180 * MB)
    assert [task.error for task in glance.tasks] == [0, 0]
    glance = look(watch, T + 2, 200 * MB)  # 20 more than there ever was
    assert [task.error for task in glance.tasks] == [20 * MB, 20 * MB]
    for slot in slots:
        recorder.release(slot)
    look(watch, T + 3, 180 * MB)
    recorder.begin("sum-3", 0, T + 4, 100 * MB)
    (task,) = look(watch, T + 4, 180 * MB).tasks
    assert task.error == 80 * MB, "of those that are gone nothing is explained"


def test_the_count_of_tasks_that_run_together_is_left_alone(watch, recorder):
    recorder.buffer[40] = layout.COUNTERS_FROM_TALLY
    watch.recorders = [RecorderReader(recorder.buffer)]
    for n in range(2):
        recorder.write_counters(recorder.begin(f"sum-{n}", n, T, 0), 10, 20, 1)
    for n in range(20):
        tasks = look(watch, T + n, 900 * MB).tasks
    assert [(t.now, t.peak, t.error) for t in tasks] == [(10, 20, 1)] * 2


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1e300, 1e300])
def test_a_reading_of_nonsense_gives_no_nonsense(watch, recorder, value):
    """A recorder may be torn, or written by a worker that is going mad."""
    recorder.write_reading({"time": T, "rss": 1, "managed_claimed": 5})
    names = ("managed_claimed", "incoming", "last_rest")
    for name in names:
        at = 520 + 8 * layout.READING_FIELDS.index(name)
        recorder.buffer[at : at + 8] = struct.pack("<d", value)
    recorder.begin("sum-1", 7, T, 1000)
    recorder.begin("open-1", 8, T, 1000)
    for n in range(20):
        tasks = look(watch, T + n, 5000).tasks
    assert len(tasks) == 2
    assert all(task.now >= 0 and task.error >= 0 for task in tasks)


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


def filling(recorder, *tasks):
    recorder.buffer[40] = layout.COUNTERS_FROM_TALLY
    for number, (rss, now, more) in enumerate(tasks):
        slot = recorder.begin(f"sum-{number}", 7 + number, T, rss)
        recorder.write_counters(slot, now, now, 0)
        # As native code writes it, the only one that does.
        start = layout.slot_offset(slot) + layout._FILLING
        struct.pack_into("<q", recorder.buffer, start, more)


def test_what_was_being_filled_at_a_death_counts_as_far_as_the_process_grew(
    watch, recorder
):
    filling(recorder, (1000, 400, 800))
    (task,) = watch.tasks_at_death(2000)  # grew by 1000, of which 400 were seen
    assert (task.now, task.peak) == (1000, 1000)
    # the last sample may be older than the last page that was touched
    assert (task.filling, task.error) == (200, 200)
    (task,) = watch.tasks_at_death(9000)
    assert (task.now, task.filling, task.error) == (1200, 0, 0)


def test_what_was_reserved_and_left_so_does_not_count_at_a_death(watch, recorder):
    filling(recorder, (1000, 400, 0))
    (task,) = watch.tasks_at_death(9000)
    assert (task.now, task.peak, task.error) == (400, 400, 0)


def test_what_several_were_filling_is_shared_by_what_they_had_left(watch, recorder):
    recorder.write_reading({"time": T, "rss": 1, "managed_claimed": 300.0,
                            "last_rest": 1000.0})  # fmt: skip
    filling(recorder, (1300, 100, 600), (1400, 50, 200), (1400, 40, 0))
    # 400 beyond storage, the idle process and what was counted
    tasks = watch.tasks_at_death(1890)
    assert [task.now for task in tasks] == [400, 150, 40]
    assert [task.filling for task in tasks] == [300, 100, 0]
    assert [task.filling for task in watch.tasks_at_death(1000)] == [600, 200, 0]


def test_what_came_after_the_last_sample_counts_where_it_is_known_to_be_resident(
    watch, recorder
):
    slot = recorder.begin("sum-1", 7, T, 1000)
    recorder.write_counters(slot, 100, 100, 0)
    assert watch.rss_at_death(500) == 500  # samples write these counters
    recorder.mark_resident()
    watch.recorders = [RecorderReader(recorder.buffer)]
    assert watch.recorders[0].tallied
    assert watch.rss_at_death(0) == 1100  # no sample came
    look(watch, T, 1300)
    recorder.write_counters(slot, 900, 900, 0)
    assert watch.rss_at_death(1300) == 2100
    recorder.write_counters(slot, 50, 900, 0)  # and it freed some since
    assert watch.rss_at_death(1300) == 1300
    watch._rss.now = 0  # a zombie
    watch.tick(T + 1)
    recorder.write_counters(slot, 900, 900, 0)
    assert watch.rss_at_death(1300) == 2100


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


def test_a_map_that_a_task_reads_is_no_error_of_its_count(watch, recorder):
    recorder.buffer[40] = layout.COUNTERS_FROM_TALLY
    watch.recorders = [RecorderReader(recorder.buffer)]
    watch._rss.made_of = RssParts(60, 40, 0)
    look(watch, T - 1, 100)
    recorder.begin("mapped-1", 7, T, 100)
    watch._rss.made_of = RssParts(61, 340, 0)
    for n in range(3):
        look(watch, T + n, 401)
    assert watch.last_tasks()[0].error == 1
    assert recorder.seen(T) == (340, 61)
    assert recorder.seen(T + 1) is None


def test_a_map_is_not_shared_out(watch, recorder):
    watch._rss.made_of = RssParts(60, 40, 0)
    look(watch, T - 1, 100)
    recorder.begin("mapped-1", 7, T, 100)
    watch._rss.made_of = RssParts(75, 340, 0)
    (task,) = look(watch, T, 415).tasks
    assert (task.now, task.peak) == (15, 15)
