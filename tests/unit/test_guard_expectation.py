"""What tasks are expected to take: from peaks here and elsewhere, and from deaths."""

import pytest

from dask_memdash.guard import expectation
from dask_memdash.guard.expectation import Expectations, Learning, expected
from dask_memdash.model.quantiles import QuantileSketch

MB = 1_000_000


def near(size):
    """Sketches are off by a hundredth at most."""
    return pytest.approx(size, rel=0.01)


def test_nothing_is_expected_of_what_nobody_knows():
    assert Expectations().of("load", "load-1") is None


def test_nine_of_ten_peaks_are_within_what_is_expected():
    known = Expectations()
    for size in (*range(10, 19), 500):
        known.learn("load", size * MB)
    assert known.of("load", "load-1") == 18 * MB


def test_of_few_peaks_the_largest_is_expected():
    known = Expectations()
    known.learn("load", 10 * MB)
    known.learn("load", 90 * MB)
    assert known.of("load", "load-1") == 90 * MB


def test_a_worker_remembers_its_newest_peaks():
    known = Expectations()
    known.learn("load", 900 * MB)
    for _ in range(expectation.RECENT_PEAKS):
        known.learn("load", 10 * MB)
    assert known.of("load", "load-1") == 10 * MB


def test_the_larger_of_what_the_cluster_knows_and_what_was_seen_here_is_expected():
    known = Expectations()
    known.take({"load": 50 * MB}, {})
    assert known.of("load", "load-1") == 50 * MB
    known.learn("load", 80 * MB)
    assert known.of("load", "load-1") == 80 * MB


def test_a_key_that_was_cut_short_needs_at_least_what_it_held():
    known = Expectations()
    known.take({"load": 50 * MB}, {"load-7": 400 * MB})
    assert known.of("load", "load-7") == 400 * MB
    assert known.of("load", "load-8") == 50 * MB


def test_nothing_is_expected_of_what_cannot_be_measured():
    known = Expectations()
    for _ in range(expectation.UNMEASURED):
        assert known.of("asynchronous", "a-1") is None
        known.learn("asynchronous", None)
    assert known.of("asynchronous", "a-1") == 0


def test_what_is_remembered_is_bounded():
    known, learning = Expectations(), Learning()
    for number in range(expectation.MAX_PREFIXES + 10):
        name = f"p{number}"
        known.learn(name, MB)
        known.learn(f"u{number}", None)
        known.take({name: MB}, {f"{name}-1": MB})
        learning.died(name, f"{name}-1", MB)
    assert known.of("p0", "") is None
    assert known.of("p0", "p0-1") is None
    assert len(learning.changes([])[1]) == expectation.MAX_KEYS


def test_deaths_alone_say_what_is_expected():
    assert expected(QuantileSketch(), [300 * MB, 200 * MB]) == near(300 * MB)


def test_one_death_among_many_peaks_changes_nothing_and_two_of_ten_do():
    peaks = QuantileSketch.of([10 * MB] * 20)
    assert expected(peaks, [300 * MB]) == near(10 * MB)
    few = QuantileSketch.of([10 * MB] * 8)
    assert expected(few, [300 * MB, 310 * MB]) == near(300 * MB)


def test_a_death_that_says_less_than_is_known_says_nothing():
    peaks = QuantileSketch.of([200 * MB])
    assert expected(peaks, [5 * MB] * 20) == near(200 * MB)


def test_only_changes_are_told_and_all_of_it_to_whoever_comes():
    learning = Learning()
    peaks = QuantileSketch.of([100 * MB])
    assert learning.changes([("load", peaks)]) == ({"load": near(100 * MB)}, {})
    assert learning.changes([("load", peaks)]) == ({}, {})
    peaks.add(101 * MB)  # a trifle more
    assert learning.changes([("load", peaks)]) == ({}, {})
    learning.died("load", "load-3", 380 * MB)
    told = learning.changes([("load", peaks)])
    assert told == ({"load": near(380 * MB)}, {"load-3": 380 * MB})
    assert learning.changes([("load", peaks)]) == ({}, {})
    assert learning.all() == ({"load": near(380 * MB)}, {"load-3": 380 * MB})


def test_a_prefix_without_a_peak_is_not_told():
    learning = Learning()
    assert learning.changes([("load", QuantileSketch())]) == ({}, {})
