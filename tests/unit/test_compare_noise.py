"""Bounds that chance leaves: against tables, and tried with chance itself."""

from __future__ import annotations

import math
import random

import pytest

from dask_memdash.compare.noise import (
    FEWEST,
    Sample,
    chance_of,
    difference,
    highest_told,
    ranks,
)


@pytest.mark.parametrize(
    ("count", "q", "alpha", "expected"),
    [
        # Hahn and Meeker, table A.15a: median, 95 %, n = 10 and 20; p90, n = 50
        (10, 0.5, 0.05, (2, 9)),
        (20, 0.5, 0.05, (6, 15)),
        (5, 0.5, 0.05, (None, None)),
        (104, 0.95, 0.01, (92, 104)),
        (103, 0.95, 0.01, (91, None)),
    ],
)
def test_ranks_are_those_of_tables(count, q, alpha, expected):
    assert ranks(count, q, alpha) == expected


def test_ranks_of_many_are_close_to_those_of_exact_sums():
    assert ranks(2000, 0.95) == (1874, 1925)
    low, high = ranks(2001, 0.95)
    assert low == pytest.approx(1874, abs=2)
    assert high == pytest.approx(1926, abs=2)


def test_few_values_tell_nothing_and_more_tell_higher_quantiles():
    assert FEWEST == 8
    assert highest_told(7) is None
    assert highest_told(8) == 0.51
    assert highest_told(20) == 0.76
    assert highest_told(104) == highest_told(10**6) == 0.95


def test_bounds_hold_the_true_quantile_as_often_as_they_say():
    chance = random.Random(5)
    true = {0.5: math.exp(17), 0.76: math.exp(17 + 0.7063 * 0.5)}
    missed = 0
    for _ in range(500):
        sample = Sample.of(math.exp(chance.gauss(17, 0.5)) for _ in range(20))
        for q, value in true.items():
            low, high = sample.bounds(q)
            missed += not low <= value <= high
    assert missed <= 20  # 10 of 1,000 are expected at 99 %


def test_bins_are_bounds_and_the_error_widens_them():
    sample = Sample.of_bins([[90, 110, 30], [10, 20, 0]], error=40)
    assert sample.count == 30
    assert sample.quantile(0.5) == 100
    assert sample.bounds(0.5) == pytest.approx(
        (100 - math.hypot(10, 40),) * 1 + (100 + math.hypot(10, 40),)
    )
    assert Sample.of_bins(None).quantile(0.5) is None


def test_bounds_of_a_difference_follow_from_those_of_both():
    low, high = difference(100, (97, 104), 150, (147, 152))
    assert low == pytest.approx(50 - math.hypot(3, 4))
    assert high == pytest.approx(50 + math.hypot(2, 3))
    assert difference(1, (-math.inf, math.inf), 2, (1, 3)) == (-math.inf, math.inf)


@pytest.mark.parametrize(
    ("a", "b", "share", "expected"),
    [
        (0, 0, 0.5, 1.0),
        (0, 6, 0.5, 2 / 64),
        (0, 1, 0.5, 1.0),
        (2, 2, 0.5, 1.0),
        (0, 2, 0.1, 0.01),
    ],
)
def test_counts_are_compared_given_their_sum(a, b, share, expected):
    assert chance_of(a, b, share) == pytest.approx(expected)
