"""Prefixes over time: what is noted, what is kept, and the last minute of one."""

from builders import T0, MiB, added, reported

from dask_memdash.model import prefix_history
from dask_memdash.model.cluster import ClusterModel
from dask_memdash.model.event_parts import StorageRow
from dask_memdash.model.events import Ticked
from dask_memdash.model.prefix_history import EVERY, KEPT, POINTS, PrefixHistory
from dask_memdash.model.prefixes import PrefixState


def prefix(managed=0, running=0):
    return PrefixState(managed=managed, running=running)


def test_prefix_is_noted_when_it_changes():
    history = PrefixHistory()
    for second in range(10):
        history.look(float(second), {"a": prefix(100 if second < 5 else 200)})
    assert len(history.by_name["a"]) == 2
    assert history.by_name["a"].stood(4.0) == (0.0, [100, 0, 0, 0, 0])


def test_prefixes_are_looked_at_more_rarely_where_there_are_many():
    history = PrefixHistory()
    many = {f"p{n}": prefix(n) for n in range(10_000)}
    history.look(0.0, many)
    many["p9999"].managed = 10**6
    history.look(EVERY + 1, many)
    assert history.by_name["p9999"].newest()[0] == 9999
    history.look(5.0, many)
    assert history.by_name["p9999"].newest()[0] == 10**6


def test_only_those_that_held_most_are_kept_and_it_is_said():
    history = PrefixHistory()
    small = {f"s{n}": prefix(n + 1) for n in range(KEPT)}
    history.look(0.0, small)
    assert history.forgotten is None
    history.look(1.0, {**small, "large": prefix(10**9)})
    assert len(history.by_name) == KEPT
    assert "large" in history.by_name
    assert "s0" not in history.by_name
    assert history.forgotten == 1.0


def test_prefix_that_is_forgotten_elsewhere_holds_nothing():
    history = PrefixHistory()
    history.look(0.0, {"a": prefix(5), "b": prefix(5)})
    history.look(1.0, {"b": prefix(5)})
    assert history.by_name["a"].stood(2.0)[1][0] == 0


def test_clock_that_is_set_back_stops_no_looks():
    history = PrefixHistory()
    history.look(1000.0, {"a": prefix(5)})
    history.look(10.0, {"a": prefix(7)})
    assert history.by_name["a"].newest()[0] == 7


# --- what a prefix had in the processes ----------------------------------------------


def hold(model, time, **sizes):
    """Have the only worker report what it stores, and the clock tick."""
    rows = {name: StorageRow(1, size, 0, 0) for name, size in sizes.items()}
    whole = sum(sizes.values())
    model.handle(
        reported(
            time=time,
            rss=whole + 50 * MiB,
            rows=rows,
            reading={"managed_claimed": whole},
        )
    )
    model.handle(Ticked(time))


def cluster():
    model = ClusterModel()
    model.handle(added(time=T0))
    return model


def test_each_change_tells_what_a_prefix_had_from_then_on():
    model = cluster()
    for step in (1, 2, 2, 2, 3):
        hold(model, T0 + 3 * step, load=step * MiB)
    assert model.prefix_history.in_processes("load") == (
        [T0 + 3, T0 + 6, T0 + 9],
        [1 * MiB, 2 * MiB, 3 * MiB],
    )


def test_what_is_spilled_is_in_no_process():
    history = PrefixHistory()
    history.look(T0, {"a": PrefixState(managed=7, executing=2, spilled=100)})
    assert history.in_processes("a") == ([T0], [9])


def test_a_new_prefix_had_nothing_at_the_look_before():
    model = cluster()
    hold(model, T0, load=2 * MiB)
    hold(model, T0 + 3, load=2 * MiB, cut=3 * MiB)
    assert model.prefix_history.in_processes("cut") == ([T0, T0 + 3], [0, 3 * MiB])


def test_of_one_that_may_have_waited_for_a_place_nothing_is_told_before(monkeypatch):
    monkeypatch.setattr(prefix_history, "KEPT", 2)
    history = PrefixHistory()
    history.look(1.0, {"a": prefix(5), "b": prefix(6), "c": prefix(4)})
    history.look(2.0, {"a": prefix(5), "b": prefix(6), "c": prefix(9)})
    assert history.in_processes("c") == ([2.0], [9])


def test_nothing_is_told_of_a_prefix_that_never_had_anything():
    model = cluster()
    hold(model, T0, load=MiB)
    assert model.prefix_history.in_processes("join") == ([], [])


def test_what_came_after_an_instant_is_left_out():
    history = PrefixHistory()
    for second in range(5):
        history.look(float(second), {"a": prefix(10 + second)})
    assert history.in_processes("a", until=2.0) == ([0.0, 1.0, 2.0], [10, 11, 12])


def test_the_last_minute_of_one_that_changes_each_second_is_whole():
    history = PrefixHistory()
    for second in range(10 * POINTS):
        history.look(float(second), {"a": prefix(second + 1)})
        times, sizes = history.in_processes("a")
        last = [at for at, time in enumerate(times) if time > second - 66]
        assert len(last) == min(66, second + 1)
        assert [sizes[at] for at in last] == [times[at] + 1 for at in last]
