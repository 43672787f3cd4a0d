"""The tabs beside the overview: one worker, one prefix, order, limits, time."""

import json

import fake_parts
import fake_store
import pytest
from stories import NOW, MiB
from test_views import CSS, view_of
from test_views_tables import listen

from dask_memdash import terms
from dask_memdash.views import (
    individual,
    limits_tab,
    order_tab,
    tasks_tab,
    workers_tab,
)
from dask_memdash.views.base import LONG, Context, environment
from dask_memdash.views.browser_state import Shown
from dask_memdash.views.cluster_history import HistoryView
from dask_memdash.views.layout import SECTIONS
from dask_memdash.views.limits_tab import LimitsView, Machine
from dask_memdash.views.order_tab import OrderView
from dask_memdash.views.table_columns import LIMITS
from dask_memdash.views.tasks_tab import OthersView, PrefixView
from dask_memdash.views.time_axis import TimeAxis
from dask_memdash.views.time_chart import TimeChart
from dask_memdash.views.workers_tab import WorkerView

GiB = 1024 * MiB
WORKER = "tcp://10.0.0.1:4000"


# --- one worker ----------------------------------------------------------------------


def test_chosen_worker_is_drawn_with_its_thresholds_and_what_it_runs():
    view = view_of(WorkerView, fake_store.busy(), tab="workers", chosen=WORKER)
    assert view.chart.figure.visible
    assert view.thresholds["pause"].location == 858993459
    assert view.thresholds["pause"].visible
    assert "1001 on 10.0.0.1" in view.about.pane.object
    assert "(&#39;sum&#39;, 1)" in view.running.pane.object
    assert "± 5 MiB" in view.about.pane.object


def test_chosen_worker_names_its_file_pages_and_child_processes():
    store = fake_store.busy()
    worker = next(w for w in store.all_workers if w["address"] == WORKER)
    worker["breakdown"]["reclaimable"] = 30 * MiB
    worker["children"] = {"processes": 2, "rss": 70 * MiB}
    text = view_of(WorkerView, store, tab="workers", chosen=WORKER).about.pane.object
    text = " ".join(text.split())
    assert "30 MiB <span" in text
    assert "2 with 70 MiB <span" in text


def test_threshold_that_is_off_is_not_drawn_over_time():
    store = fake_store.busy()
    store.all_workers[0]["thresholds"]["spill"] = None
    view = view_of(WorkerView, store, tab="workers", chosen=WORKER)
    assert not view.thresholds["spill"].visible
    assert "spill off" in view.about.pane.object


@pytest.mark.parametrize("chosen", ["", "tcp://nobody:1"])
def test_nothing_is_drawn_of_a_worker_that_is_not_known(chosen):
    view = view_of(WorkerView, fake_store.busy(), tab="workers", chosen=chosen)
    assert not view.chart.figure.visible
    assert ("is known" in view.about.pane.object) == bool(chosen)


def test_tasks_stand_in_lanes_by_thread_until_they_were_last_seen():
    ran = [
        fake_parts.task_history("a-1", "a", thread=7, start=NOW - 9, seen=NOW - 5),
        fake_parts.task_history("b-1", "b", thread=3, start=NOW - 8, seen=NOW - 8),
        fake_parts.task_history("c-1", "c", thread=None, start=NOW - 2, seen=NOW - 1),
        fake_parts.task_history(
            "a-2", "a", thread=7, start=NOW - 4, seen=NOW - 3, running=True
        ),
    ]
    data = workers_tab.lanes(ran, NOW)
    assert data["top"] == [pytest.approx(lane - 0.42) for lane in (1, 0, 2, 1)]
    assert data["end"] == [
        (NOW - 5) * 1000,
        (NOW - 7.8) * 1000,
        (NOW - 1) * 1000,
        NOW * 1000,
    ]
    assert data["colour"][0] == data["colour"][3] != data["colour"][1]
    assert data["state"][3] == "running"


# --- one prefix ----------------------------------------------------------------------


def test_empty_outputs_stand_apart_and_are_said_in_words():
    bins = [
        {"low": 0, "high": 1, "count": 5},
        {"low": 8 * MiB, "high": 9 * MiB, "count": 30},
        {"low": 9 * MiB, "high": 10 * MiB, "count": 2},
    ]
    data = tasks_tab.distribution(bins)
    assert data["at"] == [-2, 0, 1]
    assert data["count"] == [5, 30, 2]
    assert data["share"] == ["14 %", "81 %", "5 %"]
    assert tasks_tab.in_words(bins) == (
        "37 outputs, from 8 MiB to 10 MiB; 14 % (5) are empty."
    )
    assert tasks_tab.labels(bins) == {
        -2: "empty",
        -0.5: "8 MiB",
        0.5: "9 MiB",
        1.5: "10 MiB",
    }


def test_prefix_without_outputs_says_so():
    assert tasks_tab.in_words([]) == "No output of this prefix has been stored yet."
    store = fake_store.busy()
    store.output_bins = []
    view = view_of(PrefixView, store, tab="tasks", chosen="sum")
    assert not view.figure.visible


def test_estimated_peaks_are_drawn_with_their_error_and_audits_are_told():
    store = fake_store.busy()
    known = store.all_prefixes[2]
    known["storage"]["sizeof"] = {
        "count": 40,
        "believed": 8 * MiB,
        "measured": 80 * MiB,
        "ratio": 0.1,
        "flag": "too-light",
        "because": "memory maps",
    }
    known["execution"]["leak"] = {"bytes": 70 * MiB, "per_task": MiB}
    view = view_of(PrefixView, store, tab="tasks", chosen="sum")
    said = view.about.pane.object
    assert said.count("md-whisker") == 3
    assert "± 6 MiB" in said
    assert "240 MiB" in said, "projected: four tasks of 60 MiB"
    assert "<strong>too light</strong>" in said
    assert "memory maps" in said
    assert "1 MiB by each task, 70 MiB in all" in said


# --- order and limits ----------------------------------------------------------------


def ordered():
    store = fake_store.busy()
    store.all_graphs = [fake_parts.graph(2), fake_parts.graph(1)]
    return store


def test_newest_graph_is_drawn_until_another_is_chosen():
    view = view_of(OrderView, ordered(), tab="order")
    assert "graph-2" in view.about.pane.object
    assert "needs 0.68 GiB" in view.about.pane.object
    assert view.capacity.visible
    assert view.source.data["position"][0] == 1
    assert view.source.data["actual"][0] == 6 * MiB
    assert view.deaths.data["id"] == ["4", "1"]
    assert "random_sample in chunks half as large" in view.more.pane.object
    other = view_of(OrderView, ordered(), tab="order", chosen="graph-1")
    assert "graph-1" in other.about.pane.object


def test_what_is_not_done_yet_is_no_curve():
    data = order_tab.curves(fake_parts.graph(1))
    last = data["actual"][-1]
    assert last != last
    assert data["floor"][-1] != data["floor"][-1], "the area ends with the line"
    assert data["floor"][0] == 0
    assert data["said"][-1] == "–"


def test_click_lists_what_was_held_there_and_for_whom():
    view = view_of(OrderView, ordered(), tab="order")
    assert view.point.pane.object.strip() == ""

    class Tap:
        x = 500.4

    view._tapped(Tap())
    said = view.point.pane.object
    assert "when 500 tasks have finished" in said
    assert "2.44 GiB" in said
    assert "a client" in said
    assert view.cursor.location == 500.0


def test_graph_of_outputs_of_unknown_size_shows_no_figures():
    store = ordered()
    store.all_graphs[0] |= {"minimum": 0, "minimum_threads": 0}
    view = view_of(OrderView, store, tab="order")
    assert "not known yet" in view.about.pane.object
    assert "0 B" not in view.about.pane.object
    assert "What if" not in view.more.pane.object
    assert not view.figure.visible


def test_graph_that_is_not_known_is_said_to_be_so():
    view = view_of(OrderView, ordered(), tab="order", chosen="graph-99")
    assert "Graph graph-99 is not known" in view.empty.pane.object
    assert not view.figure.visible


def test_worst_limit_is_told_with_its_chain_and_the_change_to_make():
    store = fake_store.wrong_limits()
    view = view_of(LimitsView, store, tab="limits")
    said = view.about.pane.object
    assert "Start each worker with --memory-limit 5914MiB." in said
    assert said.index("MemTotal") < said.index("memory.max")
    assert "the lowest outside Dask" in said
    chosen = store.all_limits[2]["address"]
    other = view_of(LimitsView, store, tab="limits", chosen=chosen)
    assert "This limit fits" in other.about.pane.object


def test_one_change_for_several_findings_is_told_once():
    store = fake_store.wrong_limits()
    audit = store.all_limits[0]
    first = audit["findings"][0]
    again = {**first, "text": "Another reason."}
    other = {**first, "text": "A third.", "advice": "Turn swap off."}
    audit["findings"] = [first, again, other]
    said = view_of(LimitsView, store, tab="limits").about.pane.object
    assert said.count(first["advice"]) == 1
    assert said.count("What to change:") == 2
    assert said.index("Another reason.") > said.index(first["advice"])
    assert "Turn swap off." in said


# --- time ----------------------------------------------------------------------------


def test_axis_follows_the_newest_reading_over_the_length_chosen():
    axis = TimeAxis()
    axis.follow(1000.0, 5000.0)
    assert (axis.start, axis.end) == (1000.0, 5000.0)
    axis.show(600.0)
    axis.follow(1000.0, 5000.0)
    assert (axis.start, axis.end) == (4400.0, 5000.0)
    axis.follow(4990.0, 5000.0)
    assert axis.end - axis.start == 600.0


def test_young_cluster_has_a_minute_of_axis():
    axis = TimeAxis()
    axis.follow(5000.0, 5001.0)
    assert (axis.start, axis.end) == (4941.0, 5001.0)


def test_zoomed_axis_stands_still_until_it_is_asked_to_follow():
    axis = TimeAxis()
    axis.zoom(100.0, 200.0)
    axis.follow(0.0, 9000.0)
    assert (axis.start, axis.end) == (100.0, 200.0)
    assert axis.zoomed
    axis.zoom(7.0, 3.0)
    assert (axis.start, axis.end) == (100.0, 200.0)
    axis.show(None)
    axis.follow(0.0, 9000.0)
    assert axis.end == 9000.0


def series(points):
    """Return what asks a history of these (time, process) points."""

    def ask(since, limit):
        chosen = [p for p in points if since is None or p[0] > since]
        zeros = [0] * len(chosen)
        names = [*terms.PARTS, "spilled"]
        return {
            **dict.fromkeys(names, zeros),
            "time": [time for time, _ in chosen],
            "process": [size for _, size in chosen],
            "baseline": [size for _, size in chosen],
        }

    return ask


def test_points_are_added_and_the_last_one_grows():
    points = [(1000.1, 5), (1001.3, 6)]
    chart = TimeChart("t", TimeAxis(), 100)
    chart.draw(series(points), "cluster", 1001.3)
    heard = listen(chart.source)
    points[-1] = (1001.3, 9)
    points.append((1002.7, 7))
    chart.draw(series(points), "cluster", 1002.7)
    assert chart.source.data["process"] == [5, 9, 7]
    patched, streamed = heard
    assert patched.patches["process"] == [(1, 9)]
    assert streamed.data["time"] == [1002.7 * 1000]
    chart.draw(series(points), "cluster", 1002.7)
    assert len(heard) == 2, "nothing new, nothing sent"


def test_another_worker_or_stretch_of_time_is_drawn_anew():
    axis = TimeAxis()
    chart = TimeChart("t", axis, 100)
    chart.draw(series([(1000.0, 5), (1001.0, 6)]), "a", 1001.0)
    chart.draw(series([(900.0, 1)]), "b", 1001.0)
    assert chart.source.data["process"] == [1]
    axis.show(60.0)
    chart.draw(series([(900.0, 2), (1000.0, 3)]), "b", 1001.0)
    assert chart.source.data["process"] == [2, 3]


def test_history_that_was_thinned_out_meanwhile_is_drawn_anew():
    chart = TimeChart("t", TimeAxis(), 100)
    chart.draw(series([(1000.0, 5), (1001.0, 6)]), "a", 1001.0)
    chart.draw(series([(1000.0, 5), (1002.0, 8)]), "a", 1002.0)
    assert chart.source.data["process"] == [5, 8]


# --- views that are slow -------------------------------------------------------------


def test_view_that_takes_long_rests_but_hears_its_reader(monkeypatch):
    store = fake_store.busy()
    view = HistoryView(store, Context(CSS))
    drawn = []
    spent = iter([0.0, 2 * LONG, 0.0, 0.0])
    monkeypatch.setattr("dask_memdash.views.base.time.thread_time", lambda: next(spent))
    monkeypatch.setattr(view, "draw", lambda: drawn.append(1))
    assert view.update()
    store.change()
    assert not view.update(), "it rests"
    view.context.shown = Shown(window=60.0)
    assert view.update(), "its reader asked for something"
    assert len(drawn) == 2


def test_charts_that_stand_alone_have_names_that_jupyterlab_lists():
    assert all(path.startswith("individual-memdash-") for path in individual.CHARTS)


def test_what_is_left_of_the_baseline_is_no_part_of_itself():
    template = environment().get_template("others.html")
    row = {"name": "baseline", "kind": "other", "part": "baseline", "bytes": 90 * MiB}
    row |= {"method": "remainder", "advice": None, "group": "baseline"}
    text = " ".join(template.render(rows=[row], scheduler=None, linked=False).split())
    assert "part of" not in text
    assert "what nothing explains further" in text


def test_what_belongs_to_no_task_has_a_card_of_its_own():
    template = environment().get_template("others.html")
    row = {
        "name": "arrow pool",
        "group": "arrow pool",
        "kind": "other",
        "part": "retained",
        "bytes": 420 * MiB,
        "method": "upper bound",
        "advice": "Give it <back>.",
    }
    scheduler = {
        "rss": 900 * MiB,
        "limit": 1000 * MiB,
        "available": 60 * MiB,
        "tasks": 8,
        "graph_bytes": 700 * MiB,
        "graph": [{"prefix": "score", "tasks": 8, "bytes": 700 * MiB}],
        "largest": {"key": "score-1", "prefix": "score", "bytes": 90 * MiB},
        "clients": [
            {
                "client": "Client-<1>",
                "graphs": 8,
                "bytes": 192 * MiB,
                "largest": 24 * MiB,
                "largest_prefix": "score",
                "rss": 310 * MiB,
                "limit": 4000 * MiB,
                "in_scheduler": False,
                "advice": "Scatter <it>.",
            }
        ],
        "warns_above": 10_000_000,
    }
    text = " ".join(
        template.render(rows=[row], scheduler=scheduler, linked=True).split()
    )
    assert "420 MiB" in text
    assert "at most</span>" not in text
    assert "at most; part of retained" in text
    assert "Freed memory that Arrow keeps" in text, "the row's tooltip"
    assert "Give it &lt;back&gt;." in text
    assert "900 MiB" in text
    assert "60 MiB are available" in text
    assert "score-1 carries 90 MiB" in text
    assert "Dask warns of graphs above" in text
    assert "Client-&lt;1&gt;" in text
    assert "310 MiB" in text
    assert "8 graphs sent, 192 MiB; the largest 24 MiB for score" in text
    assert "Scatter &lt;it&gt;." in text
    assert "No worker has reported yet" in template.render(rows=[], scheduler=None)


def test_what_belongs_to_no_task_is_shown_though_no_prefix_is_chosen():
    view = view_of(OthersView, fake_store.busy(), tab="tasks")
    assert "No worker has reported yet" in view.about.pane.object
    assert SECTIONS["others"].tab == "tasks"


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("exact", "memory of the process differs from the count by at most 1 MiB"),
        ("estimated", "9 of 10 figures are off by at most 1 MiB"),
    ],
)
def test_error_of_a_count_is_how_far_the_process_differs(method, said):
    store = fake_store.busy()
    execution = store.all_prefixes[0]["execution"]
    execution.update(method=method, error=MiB)
    execution["peak"]["at_least"] = 400 * MiB
    name = store.all_prefixes[0]["prefix"]
    text = view_of(PrefixView, store, tab="tasks", chosen=name).about.pane.object
    assert said in text
    assert "At least 400 MiB:" in text


def test_a_row_that_belongs_to_no_task_explains_itself_when_it_is_opened():
    store = fake_store.busy()
    store.all_others = [
        fake_parts.other("global", "app.<CACHE>", 300 * MiB),
        fake_parts.other("client.run", "", None, method="not measured", text="Twice."),
    ]
    name = "global app.<CACHE>"
    view = view_of(PrefixView, store, tab="tasks", kind="other", chosen=name)
    text = " ".join(view.about.pane.object.split())
    assert "global app.&lt;CACHE&gt;" in text
    assert "300 MiB" in text
    assert "What to do" in text
    assert "Clear <code>app.&lt;CACHE&gt;</code>." in text
    assert not view.figure.visible
    links = view.table.source.data["_link"]
    assert "other-global%20app.%3CCACHE%3E" in links
    assert json.loads(view.table.source.tags[0])["chosen"] in links
    view = view_of(PrefixView, store, tab="tasks", kind="other", chosen="client.run")
    text = view.about.pane.object
    assert "Twice." in text
    assert "undo it with another client.run" in text, "advice that always holds"
    view = view_of(PrefixView, store, tab="tasks", kind="other", chosen="gone")
    assert "gone: nothing now" in view.about.pane.object
    view = view_of(PrefixView, store, tab="tasks", chosen=name)
    assert "No task prefix" in view.about.pane.object, (
        "a prefix of that name is another"
    )


def test_limits_speak_of_a_machine_once_for_all_of_its_workers():
    store = fake_store.busy()
    one, other = {"machine": "m1"}, {"machine": "m2", "n_siblings": 2}
    store.all_limits = [
        fake_parts.audit(1, **one),
        fake_parts.audit(2, **one),
        fake_parts.audit(3, **other, siblings=24 * 1024 * MiB),
        fake_parts.audit(4, **other, siblings=24 * 1024 * MiB),
    ]
    assert limits_tab.machines(store.all_limits) == [
        Machine("10.0.0.3 and 1 more", 32 * GiB, 20 * GiB, 2, 24 * GiB),
        Machine("10.0.0.1 and 1 more", 32 * GiB, 20 * GiB, 4, 4 * GiB),
    ]
    view = LimitsView(store, Context(CSS, Shown("limits")))
    view.update()
    text = view.about.pane.object
    assert text.count('<tr role="row">') == 3
    assert "75 %" in text
    assert text.index("From the machine to the worker") < text.index("75 %")


def test_of_many_machines_a_few_are_listed_in_the_order_people_count():
    store = fake_store.busy()
    store.all_limits = [
        fake_parts.audit(n, machine=f"m{n}", host=f"node-{n}") for n in range(1, 31)
    ]
    view = LimitsView(store, Context(CSS, Shown("limits")))
    view.update()
    text = view.about.pane.object
    assert text.count('<tr role="row">') == 1 + limits_tab.MACHINES
    assert text.index("node-2<") < text.index("node-8<")
    assert "node-10<" not in text
    assert "and 22 machines of which less is given out" in text


def test_a_machine_is_no_cap_of_each_of_its_workers():
    column = LIMITS.column("effective")
    assert column.value(fake_parts.audit(1)) == 4 * GiB
    assert column.value(fake_parts.audit(1, source="host", effective=32 * GiB)) is None
