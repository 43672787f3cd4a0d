"""How long until a worker is full: said of steady growth, never of noise."""

import random

import pytest
from builders import T0, A, added, executing, removed, reported, row

from dask_memdash.analysis.time_to_limit import time_to_limit
from dask_memdash.model.cluster import ClusterModel
from dask_memdash.model.event_parts import Thresholds
from dask_memdash.model.steady import KEPT, Steady
from dask_memdash.store.live import LiveStore

MB = 1_000_000
LINES = (("pause", 240 * MB), ("terminate", 285 * MB), ("limit", 300 * MB))


def line(rate, points=12, start=100 * MB, tasks=0, stored=True):
    """Return points a second apart that grow by so many bytes each."""
    return [
        (
            T0 + n,
            float(start + n * rate),
            float(n * rate if stored else 0),
            float(tasks),
        )
        for n in range(points)
    ]


def told(points, *, lines=LINES, spills=False, longest_task=0.0):
    return time_to_limit(points, lines, spills=spills, longest_task=longest_task)


def test_steady_growth_of_storage_is_told_with_its_line():
    found = told(line(5 * MB))
    # 155 MB at the last point, 85 MB below the pause threshold, 5 MB a second.
    assert (found.seconds, found.line, found.bytes) == (17.0, "pause", 240 * MB)
    assert (found.soonest, found.latest) == (17.0, 17.0)
    assert (found.rate, found.grows, found.confidence) == (5 * MB, "storage", 1.0)


def test_what_running_tasks_usually_hold_is_needed_beside_it():
    # 30 MB less room.
    assert told(line(5 * MB, tasks=30 * MB)).seconds == 11.0


def test_without_a_pause_threshold_the_next_line_counts():
    found = told(line(5 * MB), lines=(("pause", None), *LINES[1:]))
    assert (found.seconds, found.line) == (26.0, "terminate")
    assert told(line(5 * MB), lines=(("pause", None), ("limit", None))) is None


def test_storage_that_is_spilled_fills_nothing_and_a_leak_does():
    assert told(line(5 * MB), spills=True) is None
    found = told(line(5 * MB, stored=False), spills=True)
    assert (found.seconds, found.grows) == (17.0, "left-behind")


def test_a_wild_point_among_many_changes_little():
    points = line(3 * MB, points=24)
    time, held, managed, tasks = points[4]
    points[4] = (time, held + 90 * MB, managed, tasks)
    # 169 MB at the last point, 71 MB below the line, 3 MB a second.
    assert told(points).seconds == pytest.approx(23.7, abs=0.5)


@pytest.mark.parametrize("seed", range(40))
def test_nothing_is_told_of_noise(seed):
    chance = random.Random(seed)
    swings = [
        (t, held + chance.uniform(-40, 40) * MB, managed, tasks)
        for t, held, managed, tasks in line(0, points=40)
    ]
    assert told(swings) is None


def test_a_walk_without_a_direction_is_hardly_ever_taken_for_growth():
    told_of = 0
    for seed in range(200):
        chance, level, walk = random.Random(seed), 120.0 * MB, []
        for n in range(60):
            level = max(80.0 * MB, level + chance.uniform(-3, 3) * MB)
            walk.append((T0 + n, level, 0.0, 0.0))
        told_of += told(walk) is not None
    assert told_of <= 20


def test_nothing_is_told_of_a_single_task_that_grows():
    points = line(5 * MB, stored=False)
    assert told(points, longest_task=30.0) is None
    assert told(points, longest_task=2.0) is not None


def test_nothing_is_told_early_nor_of_trifles_nor_of_the_far_future():
    assert told(line(5 * MB, points=5)) is None
    assert told(line(MB // 10)) is None  # 1.1 MB in all
    far = (("pause", 10**12),)
    assert told(line(50 * MB), lines=far) is None
    assert told([]) is None


def test_nothing_is_told_above_the_line():
    assert told(line(5 * MB, start=250 * MB)) is None


def test_growth_that_has_ended_is_not_told():
    points = line(10 * MB, points=10)
    last = points[-1][1]
    points += [(T0 + 10 + n, last, 90.0 * MB, 0.0) for n in range(20)]
    assert told(points) is None


def test_points_that_are_close_become_one_with_what_is_least_held():
    steady = Steady()
    steady.add(T0, 100, 10, 5)
    steady.add(T0 + 0.5, 90, 8, 7)
    steady.add(T0 + 0.7, 95, 9, 6)
    steady.add(T0 + 2, 120, 20, 5)
    steady.add(T0 + 1, 1, 1, 1)  # late: not taken
    assert steady.points(T0 + 2) == [(T0, 90, 8, 7), (T0 + 2, 120, 20, 5)]


def test_a_minute_is_kept_and_no_more():
    steady = Steady()
    for n in range(300):
        steady.add(T0 + n, n, 0, 0)
    points = steady.points(T0 + 299)
    assert [p[0] for p in points] == [T0 + n for n in range(239, 300)]
    assert len(steady.points(T0)) == KEPT
    steady.add(T0 - 1000, 7, 0, 0)  # the clock went back
    assert steady.points(T0 - 1000) == [(T0 - 1000, 7, 0, 0)]


# -- as a worker tells it ---------------------------------------------------------


def model_of(grows, seconds=12):
    """Return a model whose one worker reports each second."""
    model = ClusterModel()
    model.handle(added())
    thresholds = Thresholds(pause=240 * MB, terminate=285 * MB)
    for n in range(seconds):
        more = grows(n)
        model.handle(reported(time=T0 + 1 + n, thresholds=thresholds, **more))
    return model


def test_a_worker_that_fills_with_outputs_says_when_it_is_full():
    store = LiveStore(
        model_of(
            lambda n: {
                "rss": 100 * MB + n * 5 * MB,
                "rows": {"load": row(n * 5 * MB, keys=1 + n)},
            }
        )
    )
    (worker,) = store.workers()
    found = worker["time_to_limit"]
    assert (found["seconds"], found["line"], found["grows"]) == (
        17.0,
        "pause",
        "storage",
    )


def test_a_worker_whose_tasks_swing_says_nothing():
    def swing(n):
        held = (20 + 40 * (n % 3)) * MB
        return {"rss": 100 * MB + held, "executing": (executing("sum-1", held),)}

    (worker,) = LiveStore(model_of(swing, 40)).workers()
    assert worker["time_to_limit"] is None


def test_a_worker_that_left_says_nothing():
    model = model_of(lambda n: {"rss": 100 * MB + n * 5 * MB})
    store = LiveStore(model)
    assert store.workers()[0]["time_to_limit"]["grows"] == "left-behind"
    model.handle(removed(A, T0 + 20))
    assert store.departed()[0]["time_to_limit"] is None
