"""What a worker says about its limit: everything once, then what changed."""

import gc
import sys
import time
import types

import pytest

from dask_memdash.boundary import boundary
from dask_memdash.model.event_readers import to_dict
from dask_memdash.model.limit_facts import LimitReport, LiveFigures
from dask_memdash.plugins.worker.limit_facts import LimitReporter, differs, set_by

MiB = 2**20
GiB = 2**30
TOTAL = 25_276_502_016


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def fake_worker(data=None, limit=GiB):
    return types.SimpleNamespace(
        memory_manager=types.SimpleNamespace(memory_limit=limit),
        local_directory="/tmp",
        state=types.SimpleNamespace(nthreads=2),
        nanny=None,
        data={} if data is None else data,
    )


@pytest.fixture
def meminfo(tmp_path):
    """Write /proc/meminfo of a machine; give what sets what is available in MiB."""
    (tmp_path / "proc").mkdir()

    def write(available):
        text = f"MemTotal: 16777216 kB\nMemAvailable: {available * 1024} kB\n"
        (tmp_path / "proc/meminfo").write_text(text)

    write(9000)
    return write


def test_everything_is_said_once_and_then_what_changed(tmp_path, meminfo):
    clock = Clock()
    reporter = LimitReporter(fake_worker(), str(tmp_path), clock)
    first = reporter.report()
    assert first is not None
    assert first.facts is not None
    assert first.facts.caps[0].bytes == 16 * GiB
    assert first.live.available == 9000 * MiB
    meminfo(8000)
    assert reporter.report() is None  # too soon
    clock.now += 5
    assert reporter.report() == LimitReport(LiveFigures(available=8000 * MiB))
    clock.now += 5
    meminfo(7999)
    assert reporter.report() is None  # next to nothing has changed
    clock.now += 5
    meminfo(7900)
    assert reporter.report() == LimitReport(LiveFigures(available=7900 * MiB))


def test_what_may_wait_does_not_where_memory_is_about_to_run_out(tmp_path, meminfo):
    clock = Clock()
    reporter = LimitReporter(fake_worker(), str(tmp_path), clock)
    assert reporter.report(may_wait=True) is not None, "the first is never late"
    clock.now += 5
    meminfo(2000)
    assert reporter.report(may_wait=True) is None
    clock.now += 5
    meminfo(1600)  # the kernel acts at about 800, a twentieth of the machine
    assert reporter.report(may_wait=True) == LimitReport(
        LiveFigures(available=1600 * MiB)
    )
    clock.now += 5
    meminfo(3000)
    assert reporter.report(may_wait=True) is None
    clock.now += 5
    assert reporter.report() is not None, "what has waited is told"


def test_whether_the_worker_spills_is_told(tmp_path):
    spilling = types.SimpleNamespace(slow={})
    for data, expected in (({}, False), (spilling, True), (object(), None)):
        report = LimitReporter(fake_worker(data), str(tmp_path)).report()
        assert report is not None
        assert report.facts is not None
        assert report.facts.spills is expected


def test_a_failure_stays_within_the_border(tmp_path):
    reporter = LimitReporter(fake_worker(), str(tmp_path))
    reporter._facts = None
    reporter._sent = None
    assert reporter.report() is None
    assert any("LimitReporter.report" in text for text in boundary.texts())
    boundary.clear()


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (LiveFigures(), LiveFigures(), False),
        (LiveFigures(available=5), LiveFigures(), True),
        (LiveFigures(available=0), LiveFigures(available=16 * MiB), True),
        (LiveFigures(available=0), LiveFigures(available=16 * MiB - 1), False),
        (LiveFigures(pressure=0.0), LiveFigures(pressure=0.9), False),
        (LiveFigures(pressure=0.0), LiveFigures(pressure=1.5), True),
        (LiveFigures(swapped=0), LiveFigures(swapped=GiB), True),
    ],
)
def test_what_is_worth_a_report(one, other, expected):
    assert differs(one, other) is expected
    assert differs(other, one) is expected


@pytest.mark.parametrize(
    ("limit", "nthreads", "option", "expected"),
    [
        (None, 2, None, "off"),
        (0, 2, None, "off"),
        (TOTAL, 8, None, "auto"),
        (TOTAL, 16, "auto", "auto"),
        (TOTAL, 8, "64GB", "clamped"),
        (6_319_125_504, 2, None, "auto"),  # 2 of 8 processors
        (8_425_500_672, 1, None, "auto"),  # one of three workers of a LocalCluster
        (10_110_600_806, 2, None, "fraction"),  # 0.4
        (10_110_600_806, 2, "0.4", "fraction"),
        (400_000_000, 2, None, "given"),
        (400_000_000, 2, "400MB", "given"),
    ],
)
def test_how_a_limit_was_set_shows_in_its_value(limit, nthreads, option, expected):
    assert set_by(limit, TOTAL, nthreads, 8, option) == expected


def test_it_is_not_told_where_dask_knows_no_total():
    assert set_by(GiB, 0, 2, 8, None) is None


def test_what_has_waited_is_told_as_soon_as_it_may_not_wait(tmp_path, meminfo):
    clock = Clock()
    reporter = LimitReporter(fake_worker(), str(tmp_path), clock)
    reporter.report()
    clock.now += 5.1
    meminfo(8000)
    assert reporter.report(may_wait=True) is None
    clock.now += 4.9
    assert reporter.report() == LimitReport(LiveFigures(available=8000 * MiB))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_heartbeat_costs_next_to_nothing():
    """Not a benchmark: an order of magnitude, on any machine that is not stuck."""
    clock = Clock()
    reporter = LimitReporter(fake_worker(), clock=clock)
    reporter.report()
    gc.disable()
    try:
        best = float("inf")
        for _ in range(200):
            begun = time.thread_time()
            reporter.report()
            best = min(best, time.thread_time() - begun)
        looked = float("inf")
        for _ in range(50):
            clock.now += 5
            begun = time.thread_time()
            reporter.report()
            looked = min(looked, time.thread_time() - begun)
    finally:
        gc.enable()
    assert best < 100e-6
    assert looked < 10e-3


def test_what_is_sent_once_is_small(tmp_path, meminfo):
    report = LimitReporter(fake_worker(), str(tmp_path)).report()
    assert len(str(to_dict(report))) < 4000
