"""Meters: what is left in a task's slot, and by how much it may be wrong."""

import os

import pytest

from dask_memdash.recorder import tally
from dask_memdash.recorder.flight import FlightRecorder, RecorderReader
from dask_memdash.recorder.meter import Mark, RssMeter, TallyMeter
from dask_memdash.recorder.proc import RssReader
from dask_memdash.recorder.watch import WorkerWatch

MB = 1_000_000


def mark(recorder, name="sum-1", rss=100 * MB, method="exact"):
    slot = recorder.begin(name, 1, 1.0, rss)
    return Mark(name, name, "sum", slot, 1.0, rss, 1, method)


class FakeTally:
    """Counts what it is told to, and says what it is told to have missed."""

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


@pytest.fixture
def recorder():
    made = FlightRecorder(4, "tcp://127.0.0.1:1", private=True)
    yield made
    made.close()


def test_the_rss_meter_gives_a_task_alone_all_the_growth(recorder):
    task = mark(recorder, method="estimated")
    meter = RssMeter(recorder)
    meter.begin(task, task.slot)
    recorder.write_counters(task.slot, 0, 70 * MB, 0)  # as the sampler saw it
    meter.end(task, task.slot, 140 * MB, [task])
    assert recorder.counters(task.slot) == (40 * MB, 70 * MB, 0)


def test_the_rss_meter_shares_out_and_says_how_wrong_that_may_be(recorder):
    first = mark(recorder, "sum-1", 100 * MB, "estimated")
    second = mark(recorder, "sum-2", 120 * MB, "estimated")
    RssMeter(recorder).end(second, second.slot, 160 * MB, [first, second])
    assert recorder.counters(second.slot) == (24 * MB, 24 * MB, 36 * MB)


def test_the_tally_meter_leaves_the_count_and_the_remainder_of_a_task_alone(recorder):
    native = FakeTally(recorder, counts=(30 * MB, 80 * MB))
    meter = TallyMeter(native, recorder, lambda: 999 * MB)
    task = mark(recorder)
    meter.begin(task, task.slot)
    assert native.slots == [4096]
    meter.end(task, task.slot, 135 * MB, [task])
    assert task.method == "exact"
    assert recorder.counters(task.slot) == (30 * MB, 80 * MB, 5 * MB)


def test_with_company_the_error_is_a_share_of_the_processs_remainder(recorder):
    meter = TallyMeter(
        FakeTally(recorder, (30 * MB, 80 * MB)), recorder, lambda: 9 * MB
    )
    task, other = mark(recorder), mark(recorder, "sum-2")
    task.alone = other.alone = False
    meter.begin(task, task.slot)
    meter.end(task, task.slot, 500 * MB, [task, other, other])
    assert recorder.counters(task.slot) == (30 * MB, 80 * MB, 3 * MB)


@pytest.mark.parametrize("missed", [tally.MISSED_PYTHON, tally.MISSED_NUMPY])
def test_a_count_that_lacks_something_is_called_an_estimate(recorder, missed):
    native = FakeTally(recorder, (1 * MB, 2 * MB), missed)
    meter = TallyMeter(native, recorder, lambda: 0)
    task = mark(recorder)
    meter.begin(task, task.slot)
    meter.end(task, task.slot, 150 * MB, [task])
    assert task.method == "estimated"
    assert recorder.counters(task.slot) == (50 * MB, 50 * MB, 50 * MB)


def test_a_task_that_the_tally_does_not_take_is_left_to_the_other_meter(recorder):
    native = FakeTally(recorder, begins=False)
    meter = TallyMeter(native, recorder, lambda: 0)
    task = mark(recorder)
    meter.begin(task, task.slot)
    meter.end(task, task.slot, 140 * MB, [task])
    assert task.method == "estimated"
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
        meter = TallyMeter(native, recorder, lambda: 0)
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
