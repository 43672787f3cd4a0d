"""The quantile sketch: how far off it may be, merging, and data that is no sketch."""

import itertools
import json
import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dask_memdash.model.quantiles import QuantileSketch

sizes = st.lists(st.integers(0, 2**63) | st.integers(0, 300), min_size=1, max_size=60)
fractions = st.sampled_from([Fraction(n, 20) for n in range(21)])


def data_of(sketch):
    return sketch.to_dict() | {"count": sketch.count}


@given(sizes, fractions)
def test_a_quantile_is_at_most_one_percent_off(values, q):
    exact = sorted(values)[math.floor(q * (len(values) - 1))]
    found = QuantileSketch.of(values).quantile(q)
    # sizes are whole bytes: rounding may add one
    assert abs(found - exact) <= 0.01 * exact + 1


@given(sizes)
def test_least_and_largest_are_exact(values):
    sketch = QuantileSketch.of(values)
    assert (sketch.min, sketch.max, sketch.count) == (
        min(values),
        max(values),
        len(values),
    )


@given(sizes, sizes)
def test_merging_gives_the_sketch_of_all_values(left, right):
    merged = QuantileSketch.of(left)
    merged.merge(QuantileSketch.of(right))
    assert data_of(merged) == data_of(QuantileSketch.of(left + right))


def test_merging_with_an_empty_sketch_changes_nothing():
    sketch = QuantileSketch.of([5, 500])
    before = data_of(sketch)
    sketch.merge(QuantileSketch())
    assert data_of(sketch) == before
    empty = QuantileSketch()
    empty.merge(sketch)
    assert data_of(empty) == before


@given(sizes)
def test_a_sketch_survives_json(values):
    sketch = QuantileSketch.of(values)
    data = json.loads(json.dumps(sketch.to_dict()))
    assert data_of(QuantileSketch.from_dict(data)) == data_of(sketch)


def test_an_empty_sketch_knows_no_quantile():
    sketch = QuantileSketch.from_dict(QuantileSketch().to_dict())
    assert (sketch.quantile(0.5), sketch.min, sketch.max, sketch.count) == (
        None,
        None,
        None,
        0,
    )


def test_negative_sizes_count_as_nothing():
    sketch = QuantileSketch.of([-5, 0])
    assert (sketch.min, sketch.max, sketch.quantile(1)) == (0, 0, 0)


def test_quantiles_of_a_known_distribution():
    sketch = QuantileSketch.of(range(1000, 101_000, 1000))
    assert sketch.quantile(0) == pytest.approx(1000, rel=0.01)
    assert sketch.quantile(0.5) == pytest.approx(50_000, rel=0.01)
    assert sketch.quantile(0.95) == pytest.approx(95_000, rel=0.01)
    assert sketch.quantile(1) == pytest.approx(100_000, rel=0.01)


def test_a_sketch_stays_small_whatever_it_counts():
    sketch = QuantileSketch.of(2**n for n in range(64))
    sketch.merge(QuantileSketch.of(range(0, 2_000_000, 97)))
    assert len(sketch.buckets) < 2200


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"buckets": None, "min": 1, "max": 2},
        {"buckets": [1, 2], "min": 1, "max": 2},
        {"buckets": {"x": 1}, "min": 1, "max": 2},
        {"buckets": {"-1": 1}, "min": 1, "max": 2},
        {"buckets": {"999999": 1}, "min": 1, "max": 2},
        {"buckets": {"3": 0}, "min": 1, "max": 2},
        {"buckets": {"3": -2}, "min": 1, "max": 2},
        {"buckets": {"3": 1}, "min": None, "max": None},
        {"buckets": {"3": 1}},
        {"buckets": {"3": 1}, "min": 5, "max": 2},
        {"buckets": {"3": 1}, "min": -5, "max": 2},
    ],
)
def test_what_is_no_sketch_is_rejected(data):
    with pytest.raises((ValueError, TypeError, KeyError, AttributeError)):
        QuantileSketch.from_dict(data)


# --- the distribution ----------------------------------------------------------------


def test_empty_outputs_have_a_bin_of_their_own():
    bins = QuantileSketch.of([0, 0, 1, 9_000_000]).bins(10)
    assert bins[0] == (0, 1, 3)
    ((low, high, count),) = bins[1:]
    assert count == 1
    assert low <= 9_000_000 <= high
    assert high < 1.05 * low


def test_bins_are_no_more_than_asked_and_lose_nothing():
    sizes = [2**power for power in range(2, 40) for _ in range(power)]
    bins = QuantileSketch.of(sizes).bins(12)
    assert len(bins) <= 12
    assert sum(count for _, _, count in bins) == len(sizes)
    for (_, high, _), (low, _, _) in itertools.pairwise(bins):
        assert high == low, "without gaps"
    for size in (4, 1024, 2**39):
        assert any(low <= size <= high and count for low, high, count in bins)


def test_bins_between_two_sizes_are_there_and_empty():
    bins = QuantileSketch.of([1000, 1_000_000]).bins(20)
    assert len(bins) > 10
    assert [count for _, _, count in bins if count] == [1, 1]


def test_nothing_counted_has_no_bins():
    assert QuantileSketch().bins(10) == []
