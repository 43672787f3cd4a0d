"""Meters: what is left in a task's slot, and by how much it may be wrong."""

import os

import pytest

from dask_memdash.flight.reader import RecorderReader
from dask_memdash.flight.writer import FlightRecorder
from dask_memdash.measure import tally
from dask_memdash.measure.meter import RssMeter, TallyMeter
from dask_memdash.measure.regression import Share
from dask_memdash.measure.rss import RssReader
from dask_memdash.measure.running_task import RunningTask
from dask_memdash.measure.watch import WorkerWatch

MB = 1_000_000


def mark(recorder, name="sum-1", rss=100 * MB, method="exact"):
    slot = recorder.begin(name, 1, 1.0, rss)
    prefix = name.partition("-")[0]
    return RunningTask(name, name, prefix, slot, 1.0, rss, 1, method)


def rss_meter(recorder, beyond=None, expected=None):
    """Make one for a process that has `beyond`, and prefixes that use `expected`."""
    return RssMeter(recorder, lambda rss: beyond, (expected or {}).get)


class FakeTally:
    """Counts what it is told to, and says what it is told to have missed."""

    counts_resident = False
    small_objects = None

    def __init__(self, recorder, counts=(0, 0), missed=0, begins=True):
        self.recorder, self.counts = recorder, counts
        self.missed, self.begins = missed, begins
        self.slots = []

    def begin(self, mapping, offset):
        self.slots.append(offset)
        return self.begins

    def end(self):
        self.recorder.write_counters(0, *self.counts, 0)
        return self.missed

    def doubt(self):
        return 0


def tally_meter(recorder, *args, **kwargs):
    native = FakeTally(recorder, *args, **kwargs)
    return TallyMeter(native, recorder, rss_meter(recorder, 999 * MB))


@pytest.fixture
def recorder():
    made = FlightRecorder(4, "tcp://127.0.0.1:1", private=True)
    yield made
    made.close()


def test_the_rss_meter_gives_a_task_alone_all_the_growth(recorder):
    task = mark(recorder, method="estimated")
    meter = rss_meter(recorder, 999 * MB)
    meter.begin(task, task.slot)
    recorder.write_counters(task.slot, 0, 70 * MB, 0)  # as the sampler saw it
    meter.end(task, task.slot, 140 * MB, [task])
    assert recorder.counters(task.slot) == (40 * MB, 70 * MB, 0)


def test_the_rss_meter_shares_out_and_says_how_wrong_that_may_be(recorder):
    first = mark(recorder, "open-1", 100 * MB, "estimated")
    second = mark(recorder, "sum-2", 120 * MB, "estimated")
    meter = rss_meter(recorder)
    meter.end(second, second.slot, 160 * MB, [first, second])
    assert recorder.counters(second.slot) == (24 * MB, 24 * MB, 36 * MB)


def test_the_rss_meter_shares_out_what_is_beyond_storage_and_baseline(recorder):
    first = mark(recorder, "open-1", 100 * MB, "estimated")
    second = mark(recorder, "sum-2", 120 * MB, "estimated")
    meter = rss_meter(recorder, beyond=100 * MB)
    meter.end(second, second.slot, 160 * MB, [first, second])
    assert recorder.counters(second.slot) == (40 * MB, 40 * MB, 60 * MB)


def test_the_rss_meter_goes_by_what_prefixes_are_known_to_use(recorder):
    first = mark(recorder, "open-1", 100 * MB, "estimated")
    second = mark(recorder, "sum-2", 120 * MB, "estimated")
    known = {"open": Share(90 * MB, 2 * MB), "sum": Share(10 * MB, 1 * MB)}
    meter = rss_meter(recorder, 100 * MB, known)
    meter.end(second, second.slot, 160 * MB, [first, second])
    assert recorder.counters(second.slot) == (10 * MB, 10 * MB, 1 * MB)


def test_a_peak_that_was_sampled_keeps_the_error_it_was_sampled_with(recorder):
    first = mark(recorder, "open-1", 100 * MB, "estimated")
    second = mark(recorder, "sum-2", 120 * MB, "estimated")
    recorder.write_counters(second.slot, 0, 70 * MB, 5 * MB)
    rss_meter(recorder).end(second, second.slot, 160 * MB, [first, second])
    assert recorder.counters(second.slot) == (24 * MB, 70 * MB, 5 * MB)


def test_the_tally_meter_leaves_the_count_and_the_remainder_of_a_task_alone(recorder):
    meter = tally_meter(recorder, counts=(30 * MB, 80 * MB))
    task = mark(recorder)
    meter.begin(task, task.slot)
    assert meter._tally.slots == [4096]
    meter.end(task, task.slot, 135 * MB, [task])
    assert (task.method, task.net) == ("exact", 30 * MB)
    assert recorder.counters(task.slot) == (30 * MB, 80 * MB, 5 * MB)


def test_a_task_that_frees_more_than_it_allocates_holds_nothing(recorder):
    meter = tally_meter(recorder, (-40 * MB, 0))
    task = mark(recorder)
    meter.begin(task, task.slot)
    meter.end(task, task.slot, 101 * MB, [task])
    assert task.net == -40 * MB, "what it left behind may be less than nothing"
    assert recorder.raw_counters(task.slot) == (0, 0, 1 * MB)


def test_with_company_the_growth_of_the_process_says_nothing_of_one_task(recorder):
    meter = tally_meter(recorder, (30 * MB, 80 * MB))
    task, other = mark(recorder), mark(recorder, "sum-2")
    task.alone = other.alone = False
    meter.begin(task, task.slot)
    meter.end(task, task.slot, 500 * MB, [task, other, other])
    assert (task.method, task.net) == ("exact", 30 * MB)
    assert recorder.counters(task.slot) == (30 * MB, 80 * MB, 0)


@pytest.mark.parametrize(("rss", "error"), [(150 * MB, 20 * MB), (110 * MB, 0)])
def test_a_count_of_what_is_resident_may_be_more_than_the_process_grew_by(
    recorder, rss, error
):
    meter = tally_meter(recorder, (30 * MB, 80 * MB))
    meter._tally.counts_resident = True
    task = mark(recorder)
    meter.begin(task, task.slot)
    meter.end(task, task.slot, rss, [task])
    assert recorder.counters(task.slot) == (30 * MB, 80 * MB, error)


@pytest.mark.parametrize("missed", [tally.MISSED_PYTHON, tally.MISSED_NUMPY])
def test_a_count_that_lacks_something_is_called_an_estimate(recorder, missed):
    meter = tally_meter(recorder, (1 * MB, 2 * MB), missed)
    task = mark(recorder)
    meter.begin(task, task.slot)
    meter.end(task, task.slot, 150 * MB, [task])
    assert (task.method, task.net) == ("estimated", None)
    assert recorder.counters(task.slot) == (50 * MB, 50 * MB, 50 * MB)


def test_a_task_that_the_tally_does_not_take_is_left_to_the_other_meter(recorder):
    meter = tally_meter(recorder, begins=False)
    task = mark(recorder)
    meter.begin(task, task.slot)
    meter.end(task, task.slot, 140 * MB, [task])
    assert (task.method, task.net) == ("estimated", None)
    assert recorder.counters(task.slot) == (40 * MB, 40 * MB, 0)


@pytest.mark.skipif(tally.load() is None, reason=tally.why_not())
def test_the_real_tally_counts_into_the_recorder_of_a_worker():
    native = tally.load()
    assert native.acquire(), native.refused
    try:
        recorder = FlightRecorder(
            2, "tcp://127.0.0.1:1", private=True, map_slots=native.map_slots
        )
        task = mark(recorder, rss=0)
        meter = TallyMeter(native, recorder, rss_meter(recorder))
        meter.begin(task, task.slot)
        block = bytearray(50 * MB)
        del block
        kept = bytearray(10 * MB)
        meter.end(task, task.slot, 10 * MB, [task])
        held, peak, error = recorder.counters(task.slot)
        assert held == pytest.approx(10 * MB, rel=0.001)
        assert peak == pytest.approx(50 * MB, rel=0.001)
        assert error < 0.1 * MB
        assert task.method == "exact"
        assert len(kept) == 10 * MB
        recorder.close()
    finally:
        native.release()


def test_memory_that_is_reserved_and_never_touched_is_in_the_error_of_a_task_alone():
    """The sampler sees that the process has not grown while the count stands still."""
    recorder = FlightRecorder(2, "tcp://127.0.0.1:1", private=True)
    recorder.buffer[40:44] = (1).to_bytes(4, "little")  # native code writes it
    index = recorder.begin("sum-1", 1, 1.0, rss_now())
    recorder.write_counters(index, 700 * MB, 700 * MB, 0)
    watch = WorkerWatch(os.getpid(), [RecorderReader(recorder.buffer)])
    watch.tick(1.0)
    assert recorder.counters(index)[2] == 0  # it may still be touching its pages
    watch.tick(1.1)
    assert recorder.counters(index) == (
        700 * MB,
        700 * MB,
        pytest.approx(700 * MB, rel=0.02),
    )
    watch.close()
    recorder.close()


def rss_now():
    reader = RssReader(os.getpid())
    try:
        return reader.read()
    finally:
        reader.close()
