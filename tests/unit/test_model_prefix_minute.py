"""The last minute of the largest prefixes."""

from itertools import pairwise

from builders import T0, MiB, added, reported

from dask_memdash.model import prefix_minute
from dask_memdash.model.cluster import ClusterModel
from dask_memdash.model.event_parts import StorageRow
from dask_memdash.model.events import Ticked


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


def test_each_look_tells_what_a_prefix_had():
    model = cluster()
    for step in range(4):
        hold(model, T0 + 3 * step, load=(step + 1) * MiB)
    times, sizes = model.prefix_minute.of("load")
    assert times == [T0, T0 + 3, T0 + 6, T0 + 9]
    assert sizes == [1 * MiB, 2 * MiB, 3 * MiB, 4 * MiB]


def test_looks_are_three_seconds_apart_and_a_minute_is_kept():
    model = cluster()
    for step in range(200):
        hold(model, T0 + step, load=MiB)
    times, _ = model.prefix_minute.of("load")
    assert len(times) == prefix_minute.LOOKS
    assert {b - a for a, b in pairwise(times)} == {3.0}


def test_a_prefix_that_has_nothing_has_0_and_one_that_was_cut_off_is_not_known(
    monkeypatch,
):
    monkeypatch.setattr(prefix_minute, "MOST", 2)
    model = cluster()
    hold(model, T0, load=2 * MiB)
    hold(model, T0 + 3, load=2 * MiB, cut=3 * MiB, join=1 * MiB)
    assert model.prefix_minute.of("cut") == ([T0, T0 + 3], [0, 3 * MiB])
    assert model.prefix_minute.of("join") == ([T0], [0])


def test_a_clock_that_was_set_back_stops_nothing():
    model = cluster()
    hold(model, T0 + 100, load=MiB)
    hold(model, T0 + 50, load=2 * MiB)
    assert model.prefix_minute.of("load")[1] == [MiB, 2 * MiB]
