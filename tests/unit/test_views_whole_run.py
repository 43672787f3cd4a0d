"""All of a long run on one chart: evenly drawn, from its first reading on."""

from itertools import pairwise

import pytest
from builders import T0, added, died, removed, reported
from stories import MiB

from dask_memdash.model.cluster import ClusterModel
from dask_memdash.store.live import LiveStore
from dask_memdash.views.base import Context
from dask_memdash.views.cluster_history import HistoryView

LENGTH = 30 * 60.0
DEATHS = (40.0, 300.0, 700.0, 1500.0)


@pytest.fixture(scope="module")
def run():
    """Feed three workers' half hour to a model and to a view that follows it.

    Each has tasks of 1 s that take 500 MiB, and rests as long; one dies four
    times.  What they have grows slowly, so that each peak is larger than the last.
    """
    model = ClusterModel()
    store = LiveStore(model)
    view = HistoryView(store, Context("memdash.css"))
    addresses = ["tcp://a:1", "tcp://b:2", "tcp://c:3"]
    pids = [1, 2, 3]
    for address, pid in zip(addresses, pids, strict=True):
        model.handle(added(address, pid, T0, host=address[6:7]))
    deaths = list(DEATHS)
    drawn_whole = 0
    for step in range(int(LENGTH / 0.5)):
        now = T0 + 0.5 * step
        if deaths and 0.5 * step >= deaths[0]:
            deaths.pop(0)
            model.handle(died(addresses[0], pids[0], now, host="a"))
            model.handle(removed(addresses[0], now + 0.01))
            addresses[0], pids[0] = f"tcp://a:{step + 9}", step + 9
            model.handle(added(addresses[0], pids[0], now + 0.02, host="a"))
        for number, (address, pid) in enumerate(zip(addresses, pids, strict=True)):
            size = (600 if step % 4 < 2 else 100) + step // 40
            at = now + 0.1 + number / 10
            model.handle(reported(address, pid, at, rss=size * MiB))
        if step % 2 == 0:
            before = view.chart.source.data["time"]
            view.context.axis.keep_up(store)
            view.draw()
            drawn_whole += view.chart.source.data["time"] is not before
    return store, view, drawn_whole


def test_the_axis_of_all_begins_with_the_first_reading_and_has_every_death(run):
    _, view, _ = run
    assert view.context.axis.window is None
    assert view.context.axis.start == T0 + 0.1
    marked = sorted(time / 1000 - T0 for time in view.marks.data["time"])
    assert marked == list(DEATHS)


def test_strips_of_all_have_every_death(run):
    store, view, _ = run
    strips = store.strips(view.context.axis.start, view.context.axis.end)
    died = [death for row in strips["rows"] for death in row["deaths"]]
    assert len(died) == len(DEATHS)


def test_what_is_drawn_is_even_over_the_whole_run(run):
    store, view, _ = run
    for times in (
        [time / 1000 for time in view.chart.source.data["time"]],
        store.history(None, None, 300)["time"],
        store.history(None, None, 10_000)["time"],
    ):
        assert times[0] == T0 + 0.1
        assert max(b - a for a, b in pairwise(times)) < LENGTH / 50
        per_quarter = [
            sum(n / 4 <= (time - T0) / LENGTH < (n + 1) / 4 for time in times)
            for n in range(4)
        ]
        assert min(per_quarter) > 20


def test_a_saw_tooth_is_drawn_as_one_to_its_beginning(run):
    _, view, _ = run
    sizes = view.chart.source.data["process"][:100]
    assert min(sizes) < 1000 * MiB
    assert max(sizes) > 1500 * MiB
    assert sum(abs(b - a) > 500 * MiB for a, b in pairwise(sizes)) > 50


def test_points_are_added_and_seldom_drawn_anew(run):
    _, _, drawn_whole = run
    # Points come twice a second, and after 300 that are new all are thinned out again.
    assert 5 <= drawn_whole <= 30
