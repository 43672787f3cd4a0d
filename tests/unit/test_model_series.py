"""Histories: bounded, peaks kept, the newest point always there."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dask_memdash.model.series import Series


def series(capacity=20, spacing=0.0, points=()):
    made = Series(("process", "managed"), capacity, spacing)
    for time, values in points:
        made.append(time, values)
    return made


def test_points_come_out_as_columns():
    made = series(points=[(1.0, (10, 1)), (2.0, (30, 3)), (3.0, (20, 2))])
    assert made.columns() == {
        "time": [1.0, 2.0, 3.0],
        "process": [10, 30, 20],
        "managed": [1, 3, 2],
    }


def test_an_empty_series_has_empty_columns():
    assert series().columns(points=5) == {"time": [], "process": [], "managed": []}


@given(st.lists(st.integers(0, 2**62), max_size=200), st.integers(3, 30))
def test_a_series_is_bounded_and_keeps_its_largest_point_and_its_newest(
    values, capacity
):
    made = series(capacity)
    for time, value in enumerate(values):
        made.append(float(time), (value, -value))
        assert len(made) <= capacity
    columns = made.columns()
    assert made.appended == len(values)
    if values:
        assert max(columns["process"]) == max(values)
        assert (columns["time"][-1], columns["process"][-1]) == (
            len(values) - 1,
            values[-1],
        )
    assert columns["time"] == sorted(columns["time"])
    for process, managed in zip(columns["process"], columns["managed"], strict=True):
        assert managed == -process


def test_older_points_get_coarser_and_newer_ones_stay():
    made = series(capacity=8)
    for time in range(9):
        made.append(float(time), (time % 3, 0))
    # of the older four pairs' halves, (0, 1) and (2, 3) gave their larger one
    assert made.columns()["time"] == [1.0, 2.0, 4.0, 5.0, 6.0, 7.0, 8.0]
    assert made.columns()["process"] == [1, 2, 1, 2, 0, 1, 2]


def test_a_point_that_comes_too_soon_stands_only_if_it_is_a_peak():
    made = series(spacing=1.0)
    made.append(10.0, (5, 1))
    made.append(10.4, (3, 2))
    assert made.columns() == {"time": [10.0], "process": [5], "managed": [1]}
    made.append(10.8, (9, 3))
    assert made.columns() == {"time": [10.0], "process": [9], "managed": [3]}
    made.append(11.0, (4, 4))
    assert made.columns()["time"] == [10.0, 11.0]


def test_time_never_runs_backwards():
    made = series(points=[(10.0, (5, 1)), (3.0, (9, 3))])
    assert made.columns() == {"time": [10.0], "process": [9], "managed": [3]}


def test_only_points_after_an_instant_are_given():
    made = series(points=[(float(t), (t, 0)) for t in range(5)])
    assert made.columns(since=2.0)["time"] == [3.0, 4.0]
    assert made.columns(since=4.0)["time"] == []


@pytest.mark.parametrize("points", [1, 2, 3, 7])
def test_thinning_gives_no_more_points_than_asked_and_the_newest(points):
    made = series(points=[(float(t), (t % 5, 0)) for t in range(20)])
    columns = made.columns(points=points)
    assert len(columns["time"]) == points
    assert columns["time"][-1] == 19.0


def test_thinning_keeps_peaks():
    made = series(points=[(float(t), (100 if t == 7 else 1, 0)) for t in range(20)])
    assert 100 in made.columns(points=3)["process"]


def test_fewer_points_than_asked_for_are_all_given():
    made = series(points=[(1.0, (1, 1)), (2.0, (2, 2))])
    assert made.columns(points=2)["time"] == [1.0, 2.0]
    assert made.columns(points=300)["time"] == [1.0, 2.0]


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, 2**80])
def test_absurd_values_are_kept_as_the_largest_that_fit(value):
    made = series(points=[(1.0, (value, 0))])
    edge = 2**63 - 1 if value > 0 else 1 - 2**63
    assert made.columns()["process"] == [edge]
