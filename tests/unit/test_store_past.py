"""A living cluster as it was: at an instant, and at the most of a span."""

import pytest
import stories
from builders import added, executing, removed, reported, row
from stories import NOW, MiB

from dask_memdash.errors import UnknownPrefixError
from dask_memdash.model.cluster import ClusterModel
from dask_memdash.model.events import Ticked, WorkerStatusChanged
from dask_memdash.model.series import Series
from dask_memdash.store.holders import holders
from dask_memdash.store.live import LiveStore
from dask_memdash.text import format_clock

A, B = "tcp://a:1", "tcp://b:1"
PARTS = (
    *("managed", "transfer", "actors", "executing"),
    *("retained", "graph", "baseline"),
)


def told():
    """Tell of two workers: `a` is filled with `load`, then empties; `b` leaves."""
    model = ClusterModel()
    for name, address, pid in (("a", A, 1), ("b", B, 2)):
        where = {"name": name, "host": name, "limit": 1000 * MiB}
        model.handle(added(address, pid, NOW - 100, **where))
    for age, size, stored in ((90, 200, 50), (60, 700, 500), (30, 300, 100)):
        now = NOW - age
        for address, pid in ((A, 1), (B, 2)):
            if address == A or age > 60:
                model.handle(
                    reported(
                        address,
                        pid,
                        now,
                        rss=size * MiB,
                        reading={"managed_claimed": stored * MiB, "base": 100 * MiB},
                        rows={"load": row(stored * MiB)},
                        executing=(executing(f"sum-{age}", 20 * MiB, seconds=5.0),),
                    )
                )
        model.handle(Ticked(now + 0.1))
        if age == 90:
            model.handle(WorkerStatusChanged(now + 1, B, "paused"))
            model.handle(removed(B, NOW - 70))
    model.handle(Ticked(NOW))
    return model


@pytest.fixture
def live():
    return LiveStore(told())


def sizes(store):
    return {w["name"]: w["breakdown"]["process"] for w in store.workers()}


def test_workers_are_as_they_were_last_read_by_then(live):
    then = live.then(NOW - 80, NOW - 80)
    assert sizes(then) == {"a": 200 * MiB, "b": 200 * MiB}
    assert [w["status"] for w in then.workers()] == ["running", "paused"]
    assert sizes(live.then(NOW - 55, NOW - 55)) == {"a": 700 * MiB}
    assert [w["name"] for w in live.then(NOW - 55, NOW - 55).departed()] == ["b"]


@pytest.mark.parametrize("age", [95, 85, 65, 55, 20, 0])
def test_parts_sum_to_processes_and_workers_to_the_cluster(live, age):
    then = live.then(NOW - age, NOW - age)
    whole = then.cluster()["breakdown"]
    for breakdown in (whole, *(w["breakdown"] for w in then.workers())):
        if breakdown["process"] is not None:
            assert sum(breakdown[part] for part in PARTS) == breakdown["process"]
    known = [w["breakdown"]["process"] or 0 for w in then.workers()]
    assert (whole["process"] or 0) == sum(known)


@pytest.mark.parametrize("age", [85, 55, 20, 0])
def test_prefixes_never_hold_more_than_the_cluster_had(live, age):
    then = live.then(NOW - age, NOW - age)
    whole, totals = then.cluster()["breakdown"], then.prefix_totals()
    assert totals["managed"] <= whole["managed"]
    assert totals["executing"] <= whole["executing"]
    found = holders(then)
    assert sum(h.managed for h in found.rows if h.kind != "transfer") == found.stored


def test_prefixes_are_as_they_were(live):
    then = live.then(NOW - 55, NOW - 55)
    assert then.prefix("load")["storage"]["managed"] == 500 * MiB
    assert then.prefix("load")["storage"]["pinned"] is None
    assert live.prefix("load")["storage"]["managed"] == 100 * MiB
    with pytest.raises(UnknownPrefixError):
        live.then(NOW - 99, NOW - 99).prefix("load")


def test_of_a_span_each_is_at_its_own_most(live):
    then = live.then(NOW - 95, NOW - 20)
    assert sizes(then) == {"a": 700 * MiB, "b": 200 * MiB}
    assert then.cluster()["breakdown"]["process"] == 700 * MiB
    assert then.prefix("load")["storage"]["managed"] == 500 * MiB


def test_what_stood_as_a_span_began_is_in_it(live):
    assert sizes(live.then(NOW - 50, NOW - 40)) == {"a": 700 * MiB}


def test_tasks_that_were_seen_to_run_then_are_named(live):
    (worker,) = live.then(NOW - 60, NOW - 60).workers()
    assert [task["key"] for task in worker["executing_tasks"]] == ["sum-60"]
    (worker,) = live.then(NOW - 45, NOW - 45).workers()
    assert worker["executing_tasks"] == []


def test_what_history_does_not_tell_is_said(live):
    assert live.then(NOW - 500, NOW - 500).notes == (
        "No history is kept of that moment. It begins at "
        + format_clock(NOW - 90)
        + ".",
    )
    assert live.then(NOW - 20, NOW - 20).notes == ()


def test_history_up_to_a_moment_begins_where_it_began(live):
    whole = live.history()["time"]
    assert whole[0] == NOW - 90
    past = live.then(NOW - 20, NOW - 20).history(points=3)
    assert past["time"][0] == whole[0]
    assert past["time"][-1] == max(time for time in whole if time <= NOW - 20)
    assert len(past["time"]) == 3
    assert 700 * MiB in past["process"]


def test_last_minute_of_a_row_ends_at_the_moment(live):
    past = live.then(NOW - 55, NOW - 55).history(A)
    assert past["time"] == [NOW - 90, NOW - 60]


def test_stories_can_be_looked_at_from_any_moment():
    live = stories.after_incident()
    for age in range(0, 110, 7):
        for span in (0, 20):
            then = live.then(NOW - age - span, NOW - age)
            for question in ("cluster", "workers", "departed", "prefixes"):
                assert getattr(then, question)() is not None
            holders(then)


def test_series_tells_what_stood_and_the_most_of_a_span():
    series = Series(("size", "more"), 100, 0.0)
    for time, size in ((1.0, 5), (2.0, 9), (3.0, 4)):
        series.append(time, (size, -size))
    assert series.stood(0.5) is None
    assert series.stood(2.9) == (2.0, [9, -9])
    assert series.stood(2.5, 3.5) == (2.0, [9, -9])
    assert series.stood(3.0, 9.0) == (3.0, [4, -4])
    assert series.stood(0.0, 1.5) == (1.0, [5, -5])
