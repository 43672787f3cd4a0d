"""Strips of all workers over time: the store's answers, whatever the cluster's size."""

import json
import random

import fake_store
import pytest
from builders import added, died, removed, reported
from stories import NOW, MiB

from dask_memdash.model.cluster import ClusterModel
from dask_memdash.model.events import Ticked
from dask_memdash.model.series import Series
from dask_memdash.store import strips
from dask_memdash.store.live import LiveStore
from dask_memdash.store.strips import StripBook, Track, width_for

LIMIT = 100


def track(name, points, **more):
    """Make a track of (time, process, spilled) points."""
    series = Series(("process", "spilled"), 10_000, 0.0)
    for time, *sizes in points:
        series.append(time, sizes)

    def read(since):
        before = series.before(since)
        since = since if before is None else before
        times, (process, spilled) = series.since(since, "process", "spilled")
        return times, process, spilled

    values = {"key": (name,), "address": f"tcp://{name}", "limit": LIMIT}
    values |= {"cursor": series.last, "read": read}
    return Track(name=name, **{**values, **more})


def ask(tracks, start, end, newest=None, book=None):
    return (book or StripBook()).answer(
        tracks, start, end, end if newest is None else newest
    )


def test_bin_has_the_most_that_was_seen_in_it_and_else_what_was_seen_last():
    one = track("a", [(100.1, 20, 0), (100.6, 50, 10), (103.2, 30, 5)])
    (strip,) = ask([one], 99.0, 105.0)["rows"]
    assert strip["process"] == [None, 50, 50, 50, 30, 30, 30]
    assert strip["spilled"] == [None, 10, 10, 10, 5, 5, 5]


def test_what_was_seen_before_the_first_bin_holds_into_it():
    one = track("a", [(50.0, 40, 0)])
    (strip,) = ask([one], 300.0, 303.0)["rows"]
    assert strip["process"] == [40, 40, 40, 40]


def test_nothing_is_told_after_a_worker_has_left_nor_beyond_the_newest_reading():
    gone = track("a", [(100.5, 40, 0)], left=101.5)
    there = track("b", [(100.5, 40, 0)])
    rows = ask([gone, there], 100.0, 105.0, newest=103.0)["rows"]
    told = {row["name"]: row["process"] for row in rows}
    assert told["a"] == [40, 40, None, None, None, None]
    assert told["b"] == [40, 40, 40, 40, None, None]


def test_worker_that_left_before_the_stretch_has_no_strip():
    assert ask([track("a", [(10.0, 1, 0)], left=11.0)], 100.0, 110.0)["rows"] == []


def test_worker_without_a_limit_is_told_against_the_most_of_any():
    free = track("a", [(100.5, 40, 0)], limit=None)
    other = track("b", [(100.5, 80, 0)])
    rows = {row["name"]: row for row in ask([free, other], 100.0, 101.0)["rows"]}
    assert (rows["a"]["of"], rows["a"]["limit"]) == (80, None)
    assert rows["a"]["process"] == [50, 50]


def test_last_moments_of_the_dead_reach_further_than_its_readings():
    dead = track("a", [(100.5, 40, 0)], left=102.9)
    dead.last_moments = [(101.2, 60), (102.8, 97)]
    (strip,) = ask([dead], 100.0, 104.0)["rows"]
    assert strip["process"] == [40, 60, 97, None, None]


def test_worker_that_took_the_place_of_a_dead_one_goes_on_in_its_strip():
    death = {"time": 102.0, "incident": "7", "kind": "oom-killed"}
    dead = track("a", [(100.5, 90, 0)], key=("a", 1), left=102.0, deaths=[death])
    next_one = track("a", [(104.5, 10, 0)], key=("a", 2), address="tcp://new")
    (strip,) = ask([dead, next_one], 100.0, 105.0)["rows"]
    assert strip["process"] == [90, 90, 90, None, 10, 10]
    assert strip["address"] == "tcp://new"
    assert strip["there"]
    assert strip["deaths"] == [death]


def test_dead_come_first_and_then_the_fullest_in_calm_steps():
    death = {"time": 100.5, "incident": "7", "kind": "killed"}
    rows = ask(
        [
            track("w-1", [(100.5, 30, 0)]),
            track("w-2", [(100.5, 91, 0)]),
            track("w-10", [(100.5, 93, 0)]),
            track("w-3", [(100.5, 5, 0)], left=100.6, deaths=[death]),
        ],
        100.0,
        101.0,
    )["rows"]
    assert [row["name"] for row in rows] == ["w-3", "w-2", "w-10", "w-1"]


def test_many_workers_have_few_rows_and_the_rest_is_counted():
    full = [track(f"full-{n}", [(100.5, 100, 0)]) for n in range(10)]
    rest = [track(f"w-{n}", [(100.5, 35, 0)]) for n in range(30)]
    found = ask([*rest, *full], 100.0, 101.0)
    assert len(found["rows"]) == strips.MOST
    assert [row["process"][0] for row in found["rows"][:10]] == [100] * 10
    assert found["rest"] == 24
    assert [level[0] for level in found["density"]] == [0, 0, 0, 24, *[0] * 6]


def test_answer_is_no_larger_for_a_thousand_workers():
    noise = random.Random(1)

    def many(number):
        return [
            track(f"w-{n}", [(t, noise.randrange(LIMIT), 0) for t in range(0, 900, 6)])
            for n in range(number)
        ]

    sizes = [len(json.dumps(ask(many(n), 0.0, 900.0))) for n in (100, 1000)]
    assert sizes[1] < 1.15 * sizes[0]
    assert sizes[1] < 40_000


@pytest.mark.parametrize("seed", range(5))
def test_going_on_gives_what_beginning_anew_gives(seed):
    """A book that moved on, worker by worker and bin by bin, against a fresh one."""
    noise, book = random.Random(seed), StripBook()
    points = {name: [] for name in "abcde"}
    now = 1000.0
    for _ in range(60):
        now += noise.choice((3.0, 40.0))  # one reading a bin, of two seconds at most
        for known in points.values():
            if noise.random() < 0.7:
                sizes = (noise.randrange(LIMIT), noise.randrange(10))
                known.append((now - noise.random() / 4, *sizes))
        tracks = [track(name, known) for name, known in points.items()]
        start = now - noise.choice((60.0, 300.0))
        assert ask(tracks, start, now, book=book) == ask(tracks, start, now)


def test_bins_are_as_narrow_as_few_bins_allow():
    assert width_for(0, 60) == 1.0
    assert width_for(0, 600) == 5.0
    assert width_for(0, 3600) == 30.0
    assert width_for(0, 10**8) * strips.BINS > 10**8


def test_living_store_tells_deaths_with_what_their_nanny_sampled():
    model = ClusterModel()
    values = {"address": "tcp://a:1", "pid": 7, "host": "a"}
    model.handle(added(**values, name="w", time=NOW - 30, limit=100 * MiB))
    model.handle(
        reported(address="tcp://a:1", pid=7, time=NOW - 20.0, rss=40 * MiB, reading={})
    )
    model.handle(removed(address="tcp://a:1", time=NOW - 9.5))
    samples = ((NOW - 12.0, 70 * MiB), (NOW - 10.0, 96 * MiB))
    model.handle(
        died(**values, time=NOW - 9.0, samples=samples, signal=9, code=None, name="w")
    )
    model.handle(Ticked(NOW))
    (strip,) = LiveStore(model).strips(NOW - 25, NOW)["rows"]
    assert strip["process"][5:] == [*[40] * 8, 70, 70, 96, *[None] * 10]
    (death,) = strip["deaths"]
    assert death["kind"] == "killed"
    assert not strip["there"]


def test_answer_of_a_large_cluster_stands_until_a_bin_begins():
    model = ClusterModel()
    for n in range(120):
        model.handle(added(f"tcp://a:{n}", n, NOW - 30, name=f"w-{n}", host="a"))
        model.handle(reported(f"tcp://a:{n}", n, NOW - 20.0, rss=40 * MiB))
    store = LiveStore(model)
    first = store.strips(NOW - 600, NOW)
    model.handle(reported("tcp://a:7", 7, NOW - 19.0, rss=900 * MiB))
    assert store.strips(NOW - 600, NOW) is first
    assert store.strips(NOW - 600, NOW + 5) is not first
    assert store.strips(NOW - 60, NOW)["step"] == 5.0
    model.handle(removed("tcp://a:7", NOW - 18.0))
    newest = store.strips(NOW - 600, NOW)
    assert [row["name"] for row in newest["rows"] if row["deaths"]] == ["w-7"]


def test_store_of_nothing_has_no_strips():
    assert fake_store.empty().strips(0.0, 60.0)["rows"] == []
