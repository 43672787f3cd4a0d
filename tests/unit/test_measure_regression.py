"""Which prefix has what no count says: mixes whose truth is known."""

import math
import random
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dask_memdash.measure.regression import (
    ENOUGH,
    MAX_PREFIXES,
    WINDOW,
    PrefixRegression,
    Share,
)

MB = 1_000_000


def regression_of(observations):
    made = PrefixRegression()
    for total, running in observations:
        made.observe(total, running)
    made.solve()
    return made


def test_before_anything_was_solved_nothing_is_known():
    made = PrefixRegression()
    assert made.of("sum") is None
    made.observe(5.0, ["sum"])
    assert made.of("sum") is None
    made.solve()
    assert made.of("sum") is None, "one observation says nothing"


def test_tasks_of_one_prefix_have_equal_shares():
    share = regression_of([(240.0 * MB, ["sum"] * 4)] * 20).of("sum")
    assert share.bytes == pytest.approx(60 * MB, rel=0.001)
    assert share.error < 0.1 * MB


def test_mixes_tell_what_each_prefix_has():
    truth = {"open": 300 * MB, "sum": 100 * MB, "free": 0}
    chance = random.Random(5)
    seen = []
    for _ in range(60):
        running = chance.choices(list(truth), k=4)
        seen.append((float(sum(truth[name] for name in running)), running))
    made = regression_of(seen)
    assert made.of("open").bytes == pytest.approx(300 * MB, rel=0.01)
    assert made.of("sum").bytes == pytest.approx(100 * MB, rel=0.02)
    assert made.of("free").bytes < 2 * MB
    assert max(made.of(name).error for name in truth) < 2 * MB


def test_prefixes_that_only_ever_run_together_share_equally():
    made = regression_of([(100.0 * MB, ["a", "b"])] * 30)
    assert made.of("a").bytes == pytest.approx(50 * MB, rel=0.02)
    assert made.of("b").bytes == pytest.approx(50 * MB, rel=0.02)
    # either may in truth have all of it or nothing
    assert made.of("a").error == pytest.approx(50 * MB, rel=0.02)
    assert made.of("b").error == pytest.approx(50 * MB, rel=0.02)


def test_prefixes_that_ran_apart_but_once_are_told_apart():
    seen = [(100.0 * MB, ["a", "b"])] * 30
    made = regression_of([*seen, *[(90.0 * MB, ["a"])] * 3])
    assert made.of("a").bytes == pytest.approx(90 * MB, rel=0.02)
    assert made.of("b").bytes == pytest.approx(10 * MB, rel=0.1)
    assert made.of("a").error < 5 * MB


def test_what_the_shares_do_not_explain_is_the_error():
    """Each task of `sum` has 20 or 100 MB; nothing says which."""
    chance = random.Random(7)
    seen = [(chance.choice([20.0, 100.0]) * MB, ["sum"]) for _ in range(200)]
    share = regression_of(seen).of("sum")
    assert share.bytes == pytest.approx(60 * MB, rel=0.1)
    assert share.error == pytest.approx(40 * MB, rel=0.15)


def test_noise_of_the_measurement_stays_in_the_error():
    chance = random.Random(3)
    seen = [
        (60.0 * MB * n + chance.uniform(-4, 4) * MB, ["sum"] * n)
        for n in chance.choices([1, 2, 3, 4], k=200)
    ]
    share = regression_of(seen).of("sum")
    assert share.bytes == pytest.approx(60 * MB, rel=0.02)
    assert 0.5 * MB < share.error < 5 * MB


def test_too_few_observations_of_a_prefix_say_nothing_of_it():
    seen = [(60.0 * MB, ["sum"])] * 20
    rare = [(90.0 * MB, ["sum", "rare"])] * (ENOUGH - 1)
    made = regression_of([*seen, *rare])
    assert made.of("rare") is None
    # what ran beside it is left out, so that it does not spoil the others' shares
    assert made.of("sum") == pytest.approx(Share(60 * MB, 0), rel=0.001, abs=0.1 * MB)
    made.observe(90.0 * MB, ["sum", "rare"])
    made.solve()
    assert made.of("rare").bytes == pytest.approx(30 * MB, rel=0.02)


def test_less_than_was_counted_gives_negative_shares():
    """As where tasks reserve what they never touch."""
    made = regression_of([(-200.0 * MB, ["empty", "empty"])] * 20)
    share = made.of("empty")
    assert share.bytes == pytest.approx(-100 * MB, rel=0.01)
    assert 0 <= share.error < 1 * MB


def test_where_sums_have_both_signs_the_larger_part_decides():
    seen = [(-90.0 * MB, ["empty"])] * 20 + [(30.0 * MB, ["native"])] * 20
    made = regression_of(seen)
    assert made.of("empty").bytes == pytest.approx(-90 * MB, rel=0.01)
    assert made.of("native").bytes == 0
    assert made.of("native").error == 30 * MB, "and the other's share is its error"


def test_only_the_newest_observations_count():
    old = [(10.0 * MB, ["sum"])] * 3 * WINDOW
    made = regression_of([*old, *[(70.0 * MB, ["sum"])] * WINDOW])
    assert made.of("sum").bytes == pytest.approx(70 * MB, rel=0.001)
    assert len(made._seen) == WINDOW


def test_a_prefix_that_is_seen_no_more_is_forgotten():
    made = regression_of([(10.0 * MB, ["old"])] * 20)
    assert made.of("old") is not None
    for _ in range(WINDOW):
        made.observe(70.0 * MB, ["new"])
    made.solve()
    assert made.of("old") is None


def test_nothing_new_is_not_solved_again(monkeypatch):
    made = regression_of([(10.0 * MB, ["sum"])] * 20)
    shares = made._shares
    made.solve()
    assert made._shares is shares


def test_of_many_prefixes_those_seen_most_are_told_apart():
    seen = [(float(n) * MB, [f"p{n}"]) for n in range(40) for _ in range(6)]
    seen += [(50.0 * MB, ["often"])] * 10
    made = regression_of(seen)
    known = [n for n in range(40) if made.of(f"p{n}") is not None]
    assert len(known) == MAX_PREFIXES - 1
    assert made.of("often").bytes == pytest.approx(50 * MB, rel=0.001)


def test_solving_costs_little_at_its_worst():
    chance = random.Random(1)
    names = [f"p{n}" for n in range(MAX_PREFIXES)]
    made = PrefixRegression()
    for _ in range(WINDOW):
        made.observe(chance.uniform(0, 1e9), chance.choices(names, k=8))
    begun = time.thread_time()
    made.solve()
    assert time.thread_time() - begun < 0.2


def test_observing_from_other_threads_while_it_solves_does_no_harm():
    made = PrefixRegression()
    stop = threading.Event()

    def observe():
        while not stop.is_set():
            made.observe(60.0 * MB, ["sum"])

    threads = [threading.Thread(target=observe) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        deadline = time.monotonic() + 1
        while time.monotonic() < deadline:
            made.solve()
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)
    assert made.of("sum").bytes == pytest.approx(60 * MB, rel=0.001)


@given(
    st.lists(
        st.tuples(
            st.integers(-(2**50), 2**50).map(float),
            st.lists(st.sampled_from("abcd"), min_size=0, max_size=6),
        ),
        max_size=80,
    )
)
def test_shares_are_finite_and_errors_never_negative(observations):
    made = regression_of(observations)
    for name in "abcd":
        share = made.of(name)
        if share is not None:
            assert all(type(value) is int for value in share)
            assert all(math.isfinite(value) for value in share)
            assert share.error >= 0
    signs = {(s := made.of(name)) and (s.bytes > 0) - (s.bytes < 0) for name in "abcd"}
    assert not {-1, 1} <= signs, "all of one sign"


@given(
    st.lists(st.integers(1, 500), min_size=2, max_size=4),
    st.randoms(use_true_random=False),
)
def test_known_truth_is_found_from_random_mixes(truth, chance):
    names = [f"p{n}" for n in range(len(truth))]
    sizes = {name: size * MB for name, size in zip(names, truth, strict=True)}
    # each prefix alone now and then, so that the mixes determine all of them
    mixes = [[name] for name in names] * 8
    mixes += [chance.choices(names, k=3) for _ in range(80)]
    made = regression_of([(float(sum(sizes[n] for n in mix)), mix) for mix in mixes])
    for name, size in sizes.items():
        assert made.of(name).bytes == pytest.approx(size, rel=0.03, abs=3 * MB)
