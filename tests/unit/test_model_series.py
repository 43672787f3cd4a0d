"""Histories: bounded, even in time, first and newest point and peaks always there."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dask_memdash.model.series import Series, thin


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
    made = series(capacity=8, spacing=1.0)
    for time in range(9):
        made.append(float(time), (time % 3, 0))
    # The first stays, and 6 to 8, the newest.  1 to 5 are more than half of 8, in bins
    # of 1 s and of 2 s too; of 1 to 3, in one of 4 s, smallest and largest stay.
    assert made.columns()["time"] == [0.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]
    assert made.columns()["process"] == [0, 2, 0, 1, 2, 0, 1, 2]


def test_a_saw_tooth_keeps_its_foot_as_well_as_its_peaks():
    made = series(capacity=40)
    for time in range(2_000):
        made.append(float(time), (100 if time % 3 == 0 else 7, 0))
    old = made.columns()["process"][1:-20]
    assert set(old) == {7, 100}
    assert old.count(7) == old.count(100)
    drawn = made.columns(points=20)
    assert set(drawn["process"][1:-1]) == {7, 100}


@given(
    st.lists(st.tuples(st.floats(0.0, 1e4), st.integers(0, 9)), max_size=300),
    st.integers(3, 40),
    st.sampled_from([0.0, 0.5, 7.0]),
)
def test_however_points_come_they_are_bounded_and_the_first_time_and_peak_stay(
    steps, capacity, spacing
):
    made, now, sizes = series(capacity, spacing), 1e9, []
    for step, size in steps:
        now += step
        made.append(now, (size, -size))
        sizes.append(size)
        times = made.columns()["time"]
        assert len(made) <= capacity
        assert times[0] == made.first == 1e9 + steps[0][0]
        assert times == sorted(times)
        assert max(made.columns()["process"]) == max(sizes)


@given(
    st.integers(8, 120),
    st.integers(200, 1500),
    st.lists(st.integers(0, 50), min_size=50, max_size=50),
)
def test_the_old_part_covers_its_span_evenly_with_the_peak_of_each_stretch(
    capacity, number, cycle
):
    sizes = [cycle[i % 50] + (i * 7919) % 13 for i in range(number)]
    made = series(capacity)
    for time, size in enumerate(sizes):
        made.append(float(time), (size, 0))
    columns = made.columns()
    newest = capacity * 3 // 8
    assert columns["time"][-newest:] == [float(t) for t in range(number)][-newest:]
    old = columns["time"][:-newest]
    gaps = [after - before for before, after in pairwise(old)]
    even = max(1.0, (old[-1] - old[0]) / (capacity // 2))
    # A bin has two points, and as bins become twice as wide they may be half empty:
    # four times the even gap.  Points lie anywhere in their bins.
    assert max(gaps) <= 8 * even + 2
    # Whatever was read, what is as large is kept no farther away than its bin is wide.
    reach = int(4 * even) + 2
    kept = dict(zip(columns["time"], columns["process"], strict=True))
    for at in range(0, number, 17):
        near = [kept.get(float(t), -1) for t in range(at - reach, at + reach + 1)]
        assert max(near) >= sizes[at]


def test_after_hours_the_old_part_is_even_and_the_last_minute_whole():
    made = series(capacity=600, spacing=0.5)
    for number in range(20_000):  # 2 h 47 min
        made.append(1e9 + number * 0.5, (number % 2, 0))
    times = made.columns()["time"]
    old = [time for time in times if time < times[-1] - 150]
    gaps = [after - before for before, after in pairwise(old)]
    assert times[0] == 1e9
    assert max(gaps) <= 256.0
    assert len([time for time in times if time >= times[-1] - 60]) == 121
    quarter = (old[-1] - old[0]) / 4
    shares = [
        sum(old[0] + n * quarter <= time < old[0] + (n + 1) * quarter for time in old)
        for n in range(4)
    ]
    assert min(shares) >= 0.8 * max(shares) > 10


def test_a_burst_after_a_long_silence_keeps_its_detail():
    made = series(capacity=80)
    for burst in (0.0, 86_400.0):
        for number in range(200):
            made.append(burst + number, (number % 7, 0))
    times = made.columns()["time"]
    assert 15 <= sum(time < 1000 for time in times) <= 40
    assert sum(times[i] < 1000 for i in thin(times, [0] * len(times), 30)) > 3


@given(
    st.lists(
        st.tuples(st.floats(0.0, 1e3), st.integers(0, 99)), min_size=1, max_size=120
    ),
    st.integers(1, 50),
)
def test_thinning_keeps_first_newest_and_peak_in_no_more_points_than_asked(
    steps, points
):
    times = [sum(step for step, _ in steps[: i + 1]) for i in range(len(steps))]
    sizes = [size for _, size in steps]
    chosen = list(thin(times, sizes, points))
    assert len(chosen) <= points
    assert chosen == sorted(set(chosen))
    assert chosen[-1] == len(times) - 1
    if points >= 2:
        assert max(sizes[i] for i in chosen) == max(sizes)
    if points >= 3:
        assert chosen[0] == 0


def test_thinning_is_even_in_time_where_points_are_not():
    times = [*map(float, range(0, 3000, 10)), *(3000 + n / 10 for n in range(300))]
    chosen = thin(times, [n % 2 for n in range(600)], 100)
    kept = [times[i] for i in chosen]
    assert max(b - a for a, b in pairwise(kept)) < 4 * 3030 / 100
    assert len(kept) > 90


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
