"""What the views make of a store, whatever state it is in."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from inspect import isfunction
from itertools import pairwise
from types import SimpleNamespace

import fake_parts
import fake_store
import panel as pn
import pytest
import stories
from bokeh.document import Document
from bokeh.models import HoverTool, ImportedStyleSheet
from fake_parts import HOSTILE
from stories import MiB

from dask_memdash import terms
from dask_memdash.boundary import Boundary
from dask_memdash.errors import UnknownWorkerError
from dask_memdash.model.event_parts import LargestBlock
from dask_memdash.store.base import Store
from dask_memdash.store.block_shapes import block_shape
from dask_memdash.store.holders import MOST
from dask_memdash.text import UNKNOWN
from dask_memdash.views import (
    browser_state,
    cluster_history,
    layout,
    theme,
    time_chart,
    worker_bars,
)
from dask_memdash.views.answers import AnswersView
from dask_memdash.views.base import Context
from dask_memdash.views.browser_state import Shown
from dask_memdash.views.cluster_history import HistoryView
from dask_memdash.views.holders import HoldersView, settle
from dask_memdash.views.incidents_tab import IncidentsView
from dask_memdash.views.individual import CHARTS, IndividualPage
from dask_memdash.views.layout import OpenPage, Page
from dask_memdash.views.limits_tab import LimitsView
from dask_memdash.views.order_tab import OrderView
from dask_memdash.views.shared import LONGEST, SharedStore
from dask_memdash.views.summary import NoticesView, SummaryView, together
from dask_memdash.views.tasks_tab import PrefixView
from dask_memdash.views.worker_bars import WorkersView
from dask_memdash.views.workers_tab import WorkerView

CSS = "memdash.css"


@pytest.fixture
def boundary():
    """Return a boundary, and check that nothing went wrong behind it."""
    boundary = Boundary()
    yield boundary
    assert boundary.texts() == ()


def assets(name):
    return f"memdash/static/{name}?v=1"


def never(doc, update, what):
    """Bring a page up to date by hand alone."""


def view_of(make, store, **shown):
    """Make a view and let it draw what a browser shows."""
    view = make(store, Context(CSS, Shown(**shown)))
    view.update()
    return view


def tell(page, **told):
    """Tell a page what its browser shows."""
    page.state.value = json.dumps(told)


def tell_document(doc, tab):
    """Tell the page in a document which tab its browser shows."""
    doc.select_one({"name": "memdash-state"}).value = json.dumps({"tab": tab})


def open_page(store, boundary):
    """Open a page as a browser's session does; give its document and views."""
    doc = Document()
    page = OpenPage(doc, SharedStore(store), CSS, boundary.guarded)
    page.update()
    for root in page.roots():
        doc.add_root(root)
    return page, doc


def texts(page):
    """Return all HTML on a page."""
    panes = [
        text.pane.object
        for view in page.views.values()
        for text in vars(view).values()
        if hasattr(text, "pane")
    ]
    return "\n".join(panes)


# --- workers -------------------------------------------------------------------------


def rows_of(known):
    """Return the rows of all processes of these workers."""
    return worker_bars.rows(worker_bars.processes(known))


def test_bars_of_a_worker_sum_to_its_process():
    data = worker_bars.columns(rows_of(fake_store.busy().all_workers))
    assert data["from_managed"] == [0, 0, 0, 0]
    assert data["to_baseline"] == [724 * MiB, 808 * MiB, 661 * MiB, 745 * MiB]
    for inner, outer in pairwise(terms.PARTS.values()):
        assert data[f"to_{inner.name}"] == data[f"from_{outer.name}"]


def test_workers_that_share_a_process_share_a_row_and_a_note():
    (row,) = rows_of(fake_store.shared_process().all_workers)
    assert row.process == 724 * MiB
    assert row.limit == 1024 * MiB
    assert "3 workers share process 4242" in row.note


def test_what_workers_of_one_process_spilled_counts_once():
    store = fake_store.shared_process()
    for known in store.all_workers:
        known["breakdown"]["spilled"] = 90 * MiB
    (row,) = rows_of(store.all_workers)
    assert row.spilled == 90 * MiB
    rest = worker_bars.rows(worker_bars.processes(store.all_workers), 0)[-1]
    assert rest.spilled == 90 * MiB


def test_status_other_than_running_stands_in_words():
    labels = [row.label for row in rows_of(fake_store.busy().all_workers)]
    assert labels == ["worker-1", "worker-2", "worker-3 (paused)", "worker-4"]


def test_beyond_the_most_rows_the_fullest_are_shown_and_the_rest_is_summed():
    store = fake_store.busy(50)
    shown = worker_bars.rows(worker_bars.processes(store.all_workers), most=10)
    assert len(shown) == 11
    assert shown[-1].label == "40 less full"
    total = sum(w["breakdown"]["process"] for w in store.all_workers)
    assert sum(row.process for row in shown) == total
    assert min(row.process for row in shown[:10]) >= max(
        w["breakdown"]["process"] for w in shown[-1].workers
    )
    ends = worker_bars.columns(shown)["end"]
    assert ends[-1] == max(ends[:-1]), "the sum is drawn on the others' scale"


def test_thresholds_are_lines_with_words():
    data = worker_bars.lines(rows_of([fake_parts.worker(1)]))
    assert data["at"] == [644245094, 751619276, 858993459, 1020054732]
    assert data["what"][2] == "pause: 819 MiB (80 % of the limit)"
    assert (
        data["means"][3]
        == "Above this much memory of the process, the nanny ends the worker."
    )


def test_threshold_that_is_off_is_not_drawn():
    worker = fake_parts.worker(1)
    worker["thresholds"].update(target=None, spill=None, terminate=None)
    assert len(worker_bars.lines(rows_of([worker]))["at"]) == 1


def test_worker_without_a_reading_is_unknown_not_zero():
    worker = fake_parts.worker(1, breakdown=fake_parts.no_breakdown())
    data = worker_bars.columns(rows_of([worker]))
    assert data["process"] == [UNKNOWN]
    assert data["size_managed"] == [UNKNOWN]


# --- who holds it --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ({"a": 100, "b": 90}, ["a", "b"]),
        ({"b": 110, "a": 100}, ["a", "b"]),
        ({"b": 200, "a": 100}, ["b", "a"]),
        ({"c": 300, "a": 100, "b": 90}, ["c", "a", "b"]),
        ({"b": 90}, ["b"]),
    ],
)
def test_rows_change_places_only_when_it_matters(weights, expected):
    assert settle(["a", "b"], weights) == expected


# --- history -------------------------------------------------------------------------


def test_parts_sum_to_the_process_and_spilled_hangs_beneath():
    data = time_chart.columns(fake_store.busy().history())
    parts = [data[part.name] for part in terms.PARTS.values()]
    assert [sum(values) for values in zip(*parts, strict=True)] == data["process"]
    assert data["beneath"] == [-size for size in data["spilled"]]
    assert data["time"][-1] == stories.NOW * 1000


def test_deaths_are_marked_on_the_history():
    incidents = fake_store.after_incident().all_incidents
    marks = cluster_history.marks(incidents, since=0)
    assert marks["marker"] == ["diamond", "x", "diamond", "x", "x"]


def test_pauses_are_strips_on_the_history_of_the_cluster_and_of_a_worker():
    store = fake_store.busy()
    now = stories.NOW
    store.pauses = [[now - 9999.0, now - 30], [now - 20, now - 12], [now - 5, None]]
    for kind, shown in (
        (HistoryView, {}),
        (WorkerView, {"tab": "workers", "chosen": store.all_workers[0]["address"]}),
    ):
        context = Context(CSS, Shown(**shown))
        context.axis.keep_up(store)
        view = kind(store, context)
        view.update()
        chart = view.chart
        start, end = chart.axis.start * 1000, chart.axis.end * 1000
        assert chart.pauses.data["start"] == [
            start,
            (now - 20) * 1000,
            (now - 5) * 1000,
        ]
        assert chart.pauses.data["end"] == [(now - 30) * 1000, (now - 12) * 1000, end]
        assert set(chart.pauses.data["high"]) == {chart.y_range.end * 0.99}


def test_pauses_before_what_is_shown_are_not_drawn():
    history = {"pauses": [[1.0, 2.0], [3.0, None]]}
    assert time_chart.bands(history, 2.0, 4.0) == {"start": [3000.0], "end": [4000.0]}


def test_limit_is_drawn_only_where_it_does_not_flatten_the_rest():
    store = fake_store.busy()
    view = view_of(HistoryView, store)
    assert view.chart.limit.visible
    for worker in store.all_workers:
        worker["limit"] = 100 * 1024 * MiB
    store.change()
    view.update()
    assert not view.chart.limit.visible
    assert view.chart.y_range.end <= 3 * 1024 * MiB


# --- incidents -----------------------------------------------------------------------


def story_of(store, chosen):
    view = view_of(IncidentsView, store, tab="incidents", chosen=chosen)
    return view, view.story.pane.object, view.more.pane.object


def test_incident_opens_to_its_suspects_storage_and_innocents():
    view, story, more = story_of(fake_store.after_incident(), "4")
    for said in ("rechunk-split-abc", "200 MiB", "37 of 1,210", "by the nanny"):
        assert said in story
    assert "flight recorder" in story
    assert "random_sample" in more
    assert "Not to blame: 2 tasks assigned" in more
    assert view.figure.visible
    assert view.chart.samples.data["time"][-1] == 0


def test_story_tells_findings_advice_what_is_usual_and_what_it_cost():
    store = fake_store.after_incident()
    death = next(i for i in store.all_incidents if i["id"] == "4")
    death["diagnosis"].update(
        cause="run-ahead", confidence=0.82, advice=["Lower worker-saturation to 1.1."]
    )
    death["findings"] = [
        {
            "cause": "run-ahead",
            "weight": 0.7,
            "text": "2.3 GiB were stored ahead of the order.",
            "responsible": {"prefix": "random_sample", "key": None},
        }
    ]
    death["suspects"][0].update(
        expected={"p50": 60 * MiB, "p95": 190 * MiB, "max": MiB, "method": "exact"},
        attempts=[{"incident": "1", "kind": "terminated"}],
    )
    death["storage"][0]["because"] = [
        {"why": "awaited", "prefix": "sum", "bytes": 500 * MiB},
        {"why": "pinned", "prefix": None, "bytes": 200 * MiB},
    ]
    death["cost"].update(seconds_recomputed=75.0, seconds_away=3.2)
    _, story, more = story_of(store, "4")
    assert "Ran ahead of the order" in story
    assert "82 % confidence" in story
    assert "Lower worker-saturation to 1.1." in story
    assert "2.3 GiB were stored ahead of the order." in story
    assert "As told above" not in story
    assert "70 %" in story
    assert "95 %: 190 MiB" in story
    assert 'href="#incident-1"' in story
    assert "Largest block" not in story
    assert 'needed by later tasks (<a href="#prefix-sum">sum</a>)' in more
    assert "held by a client" in more
    assert "1 min 15 s of work" in more
    assert "back after 3.2 s" in more


def a_block(**values):
    """Return what is known of a task's largest block."""
    known = LargestBlock(240 * MiB, "app/<b>.py", 42, "regrid", "np.concatenate")
    return block_shape(replace(known, **values))


def test_the_line_of_a_suspects_largest_block_is_shown():
    store = fake_store.after_incident()
    death = next(i for i in store.all_incidents if i["id"] == "4")
    death["suspects"][0]["largest_block"] = a_block()
    _, story, _ = story_of(store, "4")
    assert (
        "Largest block: 240 MiB, allocated at "
        "<code>app/&lt;b&gt;.py:42 in np.concatenate</code>" in story
    )
    death["suspects"][0]["largest_block"] = a_block(file="", line=None)
    _, story, _ = story_of(store, "4")
    assert "240 MiB, allocated <code>in a thread outside Python</code>" in story


def test_the_line_of_a_running_tasks_largest_block_is_shown(boundary):
    store = fake_store.busy()
    known = store.all_workers[0]
    known["executing_tasks"] = [fake_parts.task(largest_block=a_block())]
    page, _ = open_page(store, boundary)
    tell(page, tab="workers", chosen=known["address"])
    assert "Largest block: 240 MiB, allocated at" in texts(page)
    assert "app/&lt;b&gt;.py:42 in np.concatenate" in texts(page)


def test_a_finding_that_the_diagnosis_has_told_is_not_told_again():
    store = fake_store.after_incident()
    death = next(i for i in store.all_incidents if i["id"] == "4")
    told = "2.3 GiB were stored ahead of the order."
    death["diagnosis"]["text"] = f"Cause: ran ahead of the order. {told}"
    whose = {"prefix": "random_sample", "key": None}
    death["findings"] = [
        {"cause": "run-ahead", "weight": 0.7, "text": told, "responsible": whose},
        {"cause": "leak", "weight": 0.2, "text": "It leaks.", "responsible": whose},
    ]
    _, story, _ = story_of(store, "4")
    seen = re.sub(r'data-copy="[^"]*"', "", story)  # which is copied, not shown
    assert seen.count(told) == 1
    assert story.count("As told above.") == 1
    assert "It leaks." in story


def test_task_given_up_links_to_the_deaths_behind_it():
    view, story, _ = story_of(fake_store.after_incident(), "5")
    links = re.findall(r'href="(#incident-\d)"', story)
    assert links == ["#incident-1", "#incident-2", "#incident-4"]
    assert not view.figure.visible


def test_unknown_incident_is_said_to_be_unknown():
    _, story, _ = story_of(fake_store.after_incident(), "99")
    assert "Incident 99 is not known" in story


def test_closing_an_incident_takes_its_story_away():
    view, story, _ = story_of(fake_store.after_incident(), "4")
    assert "<article" in story
    view.context.shown = Shown(tab="incidents")
    assert view.update(), "what is shown has changed, though no version has"
    assert "<article" not in view.story.pane.object
    assert not view.figure.visible


# --- summary -------------------------------------------------------------------------


#: Parts of which no worker of the made-up clusters has anything.
EMPTY = {"actors", "graph"}


def test_summary_says_every_part_in_words_and_bytes():
    view = view_of(SummaryView, fake_store.busy())
    text = view.about.pane.object
    shown = [part for name, part in terms.PARTS.items() if name not in EMPTY]
    for part in (*shown, terms.BESIDE["spilled"]):
        assert part.brief in text
    assert not any(terms.PARTS[name].brief in text for name in EMPTY), "they are 0"
    assert "2.87 GiB" in text
    assert "72 % of 4 GiB" in text


def test_degraded_memdash_says_what_and_since_when_and_counts_the_rest():
    view = view_of(NoticesView, fake_store.degraded())
    text = view.about.pane.object
    assert text.count("is not installed there") == 1
    assert "and 6 more" in text


def test_what_many_workers_lack_is_told_once_with_the_first_of_them():
    notices = [
        {"where": f"worker {n}", "text": "no tally", "since": 9.0 - n} for n in range(3)
    ]
    notices.insert(1, {"where": "nanny of 7", "text": "too dear", "since": 5.0})
    first, second = together(notices)
    assert (first["where"], first["others"], first["since"]) == ("worker 0", 2, 7.0)
    assert first["all"] == ["worker 0", "worker 1", "worker 2"]
    assert (second["where"], second["others"], second["all"]) == (
        *("nanny of 7", 0),
        ["nanny of 7"],
    )


def test_more_notices_than_have_room_are_counted():
    store = fake_store.degraded()
    store.degraded = [{"where": "w", "text": f"lack {n}", "since": 1} for n in range(7)]
    text = view_of(NoticesView, store).about.pane.object
    assert text.count("<li>") == 6
    assert "and 2 more, see" in text


def test_shared_processes_are_stated_plainly():
    view = view_of(NoticesView, fake_store.shared_process())
    assert "3 workers share 1 process" in view.about.pane.object


# --- all of them ---------------------------------------------------------------------


def test_empty_states_say_what_to_do(boundary):
    page, _ = open_page(fake_store.empty(), boundary)
    for tab in browser_state.TABS:
        tell(page, tab=tab)
    text = texts(page)
    assert "dask worker" in text
    assert "cluster.scale" in text
    assert "No tasks yet" in text
    assert not page.views["history"].figure.visible


@pytest.mark.parametrize(
    "make",
    [
        *(
            AnswersView,
            HoldersView,
            HistoryView,
            IncidentsView,
            LimitsView,
            NoticesView,
            OrderView,
            PrefixView,
        ),
        *(SummaryView, WorkerView, WorkersView),
    ],
)
def test_view_reads_nothing_while_the_version_stands(make, monkeypatch):
    monkeypatch.setattr("dask_memdash.views.base.LONG", 60.0)  # the first one compiles
    store = fake_store.after_incident()
    view = make(store, Context(CSS))
    assert view.update()
    asked = len(store.asked)
    assert not view.update()
    assert len(store.asked) == asked
    store.change()
    assert view.update()
    assert len(store.asked) > asked


def questions(n_pages):
    """Count what a store is asked while this many pages are drawn twice."""
    store = fake_store.after_incident()
    store.cluster()  # what it is made of is made now: a view that takes long rests
    store.asked.clear()
    shared = SharedStore(store)
    pages = [
        OpenPage(Document(), shared, CSS, Boundary().guarded) for _ in range(n_pages)
    ]
    for _ in range(2):
        for page in pages:
            page.update()
        store.change()
    return len(store.asked)


def test_open_pages_share_one_reading_of_each_version():
    assert 8 < questions(1) == questions(5)


def test_every_question_to_a_store_is_shared_and_asked_once_a_version():
    store = fake_store.after_incident()
    shared = SharedStore(store)
    asked = {name for name, kind in vars(Store).items() if isfunction(kind)}
    asked -= {name for name in asked if name.startswith("_")}
    assert len(asked) >= 14
    assert asked <= set(vars(SharedStore))
    assert shared.workers(2, offset=1) == store.workers(2, offset=1)
    before = len(store.asked)
    for _ in range(3):
        assert shared.prefixes(2) is shared.prefixes(2)
        assert shared.prefixes(1) != shared.prefixes(2)
    assert len(store.asked) == before + 2
    with pytest.raises(UnknownWorkerError):
        shared.task_history("nobody")


def test_pages_see_a_new_version_only_so_often(monkeypatch):
    now = 100.0
    monkeypatch.setattr("dask_memdash.views.shared.time.monotonic", lambda: now)
    store = fake_store.busy()
    shared = SharedStore(store, interval=0.8)
    first = shared.version
    shared.workers()
    store.change()
    now = 100.7
    assert shared.version == first
    shared.workers()
    assert store.asked == ["workers"]
    now = 100.9
    assert shared.version == first + 1
    shared.workers()
    assert store.asked == ["workers", "workers"]


def test_pages_that_take_long_to_draw_see_new_versions_more_seldom(monkeypatch):
    now, spent = 100.0, 5.0
    monkeypatch.setattr("dask_memdash.views.shared.time.monotonic", lambda: now)
    monkeypatch.setattr("dask_memdash.views.shared.time.thread_time", lambda: spent)
    store = fake_store.busy()
    shared = SharedStore(store, interval=0.8, share=0.05)
    first = shared.version
    for _ in range(3):
        with shared.drawing():
            spent += 0.05
    store.change()
    now = 102.9
    assert shared.version == first
    now = 103.1  # 0.15 s are a twentieth of it
    assert shared.version == first + 1
    store.change()
    now = 104.0  # nothing was drawn of that one
    assert shared.version == first + 2
    with shared.drawing():
        spent += 60.0
    store.change()
    now = 104.0 + LONGEST  # they are not left behind for ever
    assert shared.version == first + 3


def test_hostile_names_are_text_everywhere(boundary):
    page, doc = open_page(fake_store.hostile(), boundary)
    tell(page, tab="incidents", chosen="4")
    text = texts(page)
    assert "&lt;img src=x" in text
    told = (
        *(("incidents", "5"), ("workers", page.store.workers()[0]["address"])),
        *(("tasks", HOSTILE), ("tasks", HOSTILE + "?"), ("order", HOSTILE)),
        *(("limits", HOSTILE), ("workers", HOSTILE), ("incidents", HOSTILE)),
    )
    for tab, chosen in told:
        tell(page, tab=tab, chosen=chosen)
        assert "<img" not in texts(page), (tab, chosen)
    assert HOSTILE in page.views["workers"].source.data["name"][0]
    hovers = list(doc.select({"type": HoverTool}))
    assert len(hovers) >= 10
    for hover in hovers:
        assert "safe}" not in str(hover.tooltips)


@pytest.mark.slow
def test_document_does_not_grow_while_the_cluster_lives(boundary):
    store = fake_store.busy(60)
    store.all_prefixes = [fake_parts.prefix(f"p{i}", i * MiB) for i in range(60)]
    page, doc = open_page(store, boundary)
    for tab in [*browser_state.TABS, "overview"]:
        tell(page, tab=tab)
    models = {model.id for model in doc.models}
    for tick in range(150):
        store.points.append(store.points[tick % 100])
        store.all_incidents.insert(0, fake_parts.incident(tick))
        store.change()
        page.update()
    assert {model.id for model in doc.models} == models
    history_view = page.views["history"]
    assert len(history_view.chart.source.data["time"]) <= 2 * time_chart.POINTS + 1
    assert len(history_view.marks.data["time"]) <= cluster_history.MARKS
    assert len(page.views["workers"].source.data["row"]) == 13
    assert page.views["holders"].table.pane.object.count("<tr") <= MOST + 5
    tell(page, tab="incidents")
    assert len(page.views["incidents"].table.source.data["what"]) == 50


def test_store_that_fails_leaves_the_other_views_alone():
    store = fake_store.busy()
    store.prefixes = lambda *args: 1 / 0
    boundary = Boundary()
    page, _ = open_page(store, boundary)
    assert "2.87 GiB" in texts(page)
    faults = " ".join(boundary.texts())
    assert "the page's answers" in faults
    assert "the page's holders" in faults
    assert page.views["workers"].source.data["row"]


def test_page_that_cannot_be_made_says_so():
    def broken(name):
        raise OSError("no such file")

    boundary = Boundary()
    doc = Document()
    page = Page(SharedStore(fake_store.busy()), never, [], broken, boundary)
    page.open(doc)
    assert doc.template_variables["failed"]
    assert doc.roots == []
    assert boundary.texts()


def test_pages_open_after_another_page_has_failed(boundary, mislead):
    shared = SharedStore(fake_store.after_incident())
    order = CHARTS["individual-memdash-order"]
    pages = [
        Page(shared, never, [], assets, boundary),
        IndividualPage(order, shared, never, assets, boundary),
    ]
    first = Document()
    pages[0].open(first)
    mislead(first)
    for page in pages:
        doc = Document()
        page.open(doc)
        assert doc.roots
    tell_document(first, "incidents")


def test_page_names_only_its_own_files_and_the_dashboards_other_pages(boundary):
    doc = Document()
    pages = ["status", "memdash"]
    Page(SharedStore(fake_store.busy()), never, pages, assets, boundary).open(doc)
    variables = {**doc.template_variables, "title": "MemDash", "failed": True}
    html = doc.template.render(macros=no_macros(), bokeh_js="", **variables)
    urls = re.findall(r'(?:src|href)="([^"]+)"', html)
    assert set(urls) == {
        *("memdash", "status"),
        *("memdash/static/icon.svg?v=1", "memdash/static/memdash.css?v=1"),
    }


def test_styles_come_from_this_server_even_in_a_session_made_anew(boundary):
    doc = Document()
    Page(SharedStore(fake_store.busy()), never, [], assets, boundary).open(doc)
    for tab in browser_state.TABS:  # what is made later, too
        tell_document(doc, tab)
        urls = {sheet.url for sheet in doc.select({"type": ImportedStyleSheet})}
        assert len(urls) > 2
        assert {url.split("/")[0] for url in urls} == {"static", "memdash"}


def test_what_is_on_other_tabs_is_made_when_they_are_shown(boundary):
    page, doc = open_page(fake_store.after_incident(), boundary)
    assert page.views.keys() == {
        *("notices", "answers", "summary", "history", "holders", "map", "workers"),
        *("intermediates", "strips", "guard"),
    }
    opened = len(doc.models)
    tell(page, tab="incidents", chosen="4")
    assert "incidents" in page.views
    assert "terminated by its nanny" in texts(page)
    grown = len(doc.models)
    assert grown > opened
    for tab in ("overview", "incidents"):
        tell(page, tab=tab)
    assert len(doc.models) == grown, "made once"


def test_tab_that_cannot_be_made_leaves_the_others_alive(monkeypatch):
    def broken(store, context):
        raise RuntimeError("no such thing")

    monkeypatch.setitem(layout.SECTIONS, "order", layout.Section("order", broken))
    boundary = Boundary()
    page, _ = open_page(fake_store.busy(), boundary)
    for tab in ("order", "limits", "order"):
        tell(page, tab=tab)
    assert "No limits to check yet" in texts(page)
    (fault,) = boundary.texts()
    assert "making the page's tab" in fault


def test_panel_lets_go_of_every_view_when_the_session_ends(boundary):
    page, doc = open_page(fake_store.busy(), boundary)
    tell(page, tab="limits")
    handed_out = {root.children[0].id for root in page.roots() if root.children}
    assert handed_out & set(pn.state._views)
    for callback in doc.session_destroyed_callbacks:
        callback(SimpleNamespace(_document=doc))
    assert not handed_out & set(pn.state._views)


def no_macros():
    from bokeh.core.templates import MACROS

    return MACROS


def test_views_import_neither_distributed_nor_pandas():
    script = (
        "import sys, dask_memdash.views.layout\n"
        "print([m for m in ('distributed', 'pandas') if m in sys.modules])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "[]"


# --- the theme -----------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 5 * MiB, 613 * MiB, 70 * 2**30])
def test_bound_of_an_axis_is_round_and_close(size):
    bound = theme.nice_ceiling(size)
    assert size <= bound <= max(1.2 * size, 16)
