"""What the views make of a store, whatever state it is in."""

import re
import subprocess
import sys

import fake_store
import pytest
from bokeh.document import Document
from bokeh.models import HoverTool, ImportedStyleSheet
from fake_store import HOSTILE, MiB

from dask_memdash.border import Border
from dask_memdash.views import history, prefixes, theme, workers
from dask_memdash.views.history import HistoryView
from dask_memdash.views.incidents import IncidentsView
from dask_memdash.views.layout import OpenPage, Page
from dask_memdash.views.prefixes import PrefixesView
from dask_memdash.views.shared import SharedStore
from dask_memdash.views.summary import SummaryView
from dask_memdash.views.workers import WorkersView

CSS = "memdash.css"


@pytest.fixture
def border():
    """Give a border, and check that nothing went wrong behind it."""
    border = Border()
    yield border
    assert border.texts() == ()


def assets(name):
    return f"memdash/static/{name}?v=1"


def open_page(store, border):
    """Open a page as a browser's session does; give its document and views."""
    page = OpenPage(SharedStore(store), CSS, border.guarded)
    page.update()
    doc = Document()
    with doc.models.freeze():
        for root in page.roots().values():
            root.server_doc(doc, location=False)
    return page, doc


def texts(page):
    """Give all HTML on a page."""
    panes = [
        text.pane.object
        for view in page.views.values()
        for text in vars(view).values()
        if hasattr(text, "pane")
    ]
    return "\n".join(panes)


# --- workers -------------------------------------------------------------------------


def test_bars_of_a_worker_sum_to_its_process():
    data = workers.columns(workers.rows(fake_store.busy().all_workers))
    assert data["from_managed"] == [0, 0, 0, 0]
    assert data["to_baseline"] == [724 * MiB, 808 * MiB, 661 * MiB, 745 * MiB]
    for inner, outer in zip(theme.PARTS, theme.PARTS[1:], strict=False):
        assert data[f"to_{inner.name}"] == data[f"from_{outer.name}"]


def test_workers_that_share_a_process_share_a_row_and_a_note():
    (row,) = workers.rows(fake_store.shared_process().all_workers)
    assert row.process == 724 * MiB
    assert row.limit == 1024 * MiB
    assert "3 workers share process 4242" in row.note


def test_status_other_than_running_stands_in_words():
    labels = [row.label for row in workers.rows(fake_store.busy().all_workers)]
    assert labels == ["worker-1", "worker-2", "worker-3 (paused)", "worker-4"]


def test_beyond_the_most_rows_the_fullest_are_shown_and_the_rest_is_summed():
    store = fake_store.busy(50)
    shown = workers.rows(store.all_workers, most=10)
    assert len(shown) == 11
    assert shown[-1].label == "40 less full"
    total = sum(w["breakdown"]["process"] for w in store.all_workers)
    assert sum(row.process for row in shown) == total
    assert min(row.process for row in shown[:10]) >= max(
        w["breakdown"]["process"] for w in shown[-1].workers
    )
    ends = workers.columns(shown)["end"]
    assert ends[-1] == max(ends[:-1]), "the sum is drawn on the others' scale"


def test_thresholds_are_lines_with_words():
    data = workers.lines(workers.rows([fake_store.worker(1)]))
    assert data["at"] == [644245094, 751619276, 858993459, 1020054732]
    assert data["what"][2] == "pause: 819.20 MiB (80 % of the limit)"
    assert data["means"][3] == "From here the nanny kills the worker."


def test_threshold_that_is_off_is_not_drawn():
    worker = fake_store.worker(1)
    worker["thresholds"].update(target=None, spill=None, terminate=None)
    assert len(workers.lines(workers.rows([worker]))["at"]) == 1


def test_worker_without_a_reading_is_unknown_not_zero():
    worker = fake_store.worker(1, breakdown=fake_store.no_breakdown())
    data = workers.columns(workers.rows([worker]))
    assert data["process"] == [theme.UNKNOWN]
    assert data["size_managed"] == [theme.UNKNOWN]


# --- prefixes ------------------------------------------------------------------------


def test_prefix_stores_above_and_executes_beneath():
    data = prefixes.columns(fake_store.busy().all_prefixes[:2], [])
    assert data["to_managed"] == [700 * MiB, 400 * MiB]
    assert data["from_spilled"] == [700 * MiB, 400 * MiB]
    assert data["to_spilled"] == [1000 * MiB, 400 * MiB]
    assert data["to_executing"] == [0, 240 * MiB]
    assert data["p95"] == [140 * MiB, 140 * MiB]


def test_smaller_prefixes_are_summed_in_the_last_row():
    many = [fake_store.prefix(f"p{i}", (20 - i) * MiB, MiB) for i in range(20)]
    data = prefixes.columns(many[:12], many[12:])
    assert data["label"][-1] == "8 smaller"
    assert data["to_managed"][-1] == sum(range(1, 9)) * MiB
    assert data["p95"][-1] is None


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
    assert prefixes.settle(["a", "b"], weights) == expected


# --- history -------------------------------------------------------------------------


def test_areas_stack_up_to_the_process_and_spilled_hangs_beneath():
    data = history.columns(fake_store.busy().history())
    assert (data["top_baseline"] == data["process"]).all()
    assert (data["beneath"] == -data["spilled"]).all()
    assert (data["bottom_managed"] == 0).all()


def test_deaths_and_pauses_are_marked_on_the_history():
    incidents = fake_store.after_incident().all_incidents
    marks = history.marks(incidents, since=0)
    assert marks["marker"] == ["diamond", "x", "square", "x", "x"]
    strips = history.pauses(incidents, since=0, until=fake_store.NOW)
    assert strips["start"] == [(fake_store.NOW - 30) * 1000]
    assert strips["end"] == [(fake_store.NOW - 12) * 1000]


def test_pause_that_has_not_ended_reaches_to_now():
    paused = fake_store.incident(1, "paused", until=None)
    strips = history.pauses([paused], since=0, until=fake_store.NOW)
    assert strips["end"] == [fake_store.NOW * 1000]


def test_limit_is_drawn_only_where_it_does_not_flatten_the_rest():
    store = fake_store.busy()
    view = HistoryView(store, CSS)
    view.update()
    assert view.limit.visible
    for worker in store.all_workers:
        worker["limit"] = 100 * 1024 * MiB
    store.change()
    view.update()
    assert not view.limit.visible
    assert view.y_range.end < 3 * 1024 * MiB


# --- incidents -----------------------------------------------------------------------


def test_incident_opens_to_its_suspects_storage_and_innocents():
    view = IncidentsView(fake_store.after_incident(), CSS)
    view.select("4")
    view.update()
    story = view.story.pane.object
    assert "rechunk-split-abc" in story
    assert "200.00 MiB" in story
    assert "37 of 1210" in story
    assert "by the nanny" in story
    assert "flight recorder" in story
    more = view.more.pane.object
    assert "random_sample" in more
    assert "2 tasks merely assigned" in more
    assert view.figure.visible
    assert view.source.data["time"][-1] == 0


def test_task_given_up_links_to_the_deaths_behind_it():
    view = IncidentsView(fake_store.after_incident(), CSS)
    view.select("5")
    view.update()
    links = re.findall(r'href="(#incident-\d)"', view.story.pane.object)
    assert links == ["#incident-1", "#incident-2", "#incident-4"]
    assert not view.figure.visible


def test_unknown_incident_is_said_to_be_unknown():
    view = IncidentsView(fake_store.after_incident(), CSS)
    view.select("99")
    view.update()
    assert "Incident 99 is not known" in view.story.pane.object


def test_closing_an_incident_takes_its_story_away():
    view = IncidentsView(fake_store.after_incident(), CSS)
    view.select("4")
    view.update()
    view.select("")
    view.update()
    assert "<article" not in view.story.pane.object
    assert not view.figure.visible


# --- summary -------------------------------------------------------------------------


def test_summary_says_every_part_in_words_and_bytes():
    view = SummaryView(fake_store.busy(), CSS)
    view.update()
    text = view.totals.pane.object
    for part in (*theme.PARTS, theme.SPILLED):
        assert part.brief in text
    assert "2.87 GiB" in text
    assert "72 % of 4.00 GiB" in text


def test_degraded_memdash_says_what_and_since_when_and_counts_the_rest():
    view = SummaryView(fake_store.degraded(), CSS)
    view.update()
    text = view.notices.pane.object
    assert text.count("is not installed there") == 5
    assert "and 2 more" in text


def test_shared_processes_are_stated_plainly():
    view = SummaryView(fake_store.shared_process(), CSS)
    view.update()
    assert "3 workers live in 1 process" in view.notices.pane.object


# --- all of them ---------------------------------------------------------------------


def test_empty_states_say_what_to_do(border):
    page, _ = open_page(fake_store.empty(), border)
    text = texts(page)
    assert "dask worker" in text
    assert "cluster.scale" in text
    assert "No tasks yet" in text
    assert "No incidents." in text
    assert not page.views["history"].figure.visible


@pytest.mark.parametrize(
    "make", [HistoryView, IncidentsView, PrefixesView, SummaryView, WorkersView]
)
def test_view_reads_nothing_while_the_version_stands(make):
    store = fake_store.after_incident()
    view = make(store, CSS)
    assert view.update()
    asked = len(store.asked)
    assert not view.update()
    assert len(store.asked) == asked
    store.change()
    assert view.update()
    assert len(store.asked) > asked


def test_open_pages_share_one_reading_of_each_version():
    store = fake_store.after_incident()
    shared = SharedStore(store)
    pages = [OpenPage(shared, CSS, Border().guarded) for _ in range(3)]
    for page in pages:
        page.update()
    assert store.asked.count("workers") == 1
    assert store.asked.count("history") == 1
    store.change()
    for page in pages:
        page.update()
    assert store.asked.count("workers") == 2


def test_hostile_names_are_text_everywhere(border):
    page, doc = open_page(fake_store.hostile(), border)
    page.incident.value = "4"
    page.tables.value = "workers prefixes"
    text = texts(page)
    assert "&lt;img src=x" in text
    assert "<img" not in text
    page.incident.value = "5"
    assert "<img" not in texts(page)
    assert HOSTILE in page.views["workers"].source.data["name"][0]
    hovers = list(doc.select({"type": HoverTool}))
    assert len(hovers) >= 10
    for hover in hovers:
        assert "safe}" not in str(hover.tooltips)


def test_tables_are_written_only_while_they_are_open(border):
    page, _ = open_page(fake_store.busy(), border)
    assert page.views["workers"].table.pane.object.strip() == ""
    page.tables.value = "workers"
    assert "worker-3 (paused)" in page.views["workers"].table.pane.object
    assert page.views["prefixes"].table.pane.object.strip() == ""
    page.tables.value = ""
    assert page.views["workers"].table.pane.object.strip() == ""


def test_document_does_not_grow_while_the_cluster_lives(border):
    store = fake_store.busy(60)
    store.all_prefixes = [fake_store.prefix(f"p{i}", i * MiB) for i in range(60)]
    page, doc = open_page(store, border)
    models = {model.id for model in doc.models}
    for tick in range(150):
        store.points.append(store.points[tick % 100])
        store.all_incidents.insert(0, fake_store.incident(tick))
        store.change()
        page.update()
    assert {model.id for model in doc.models} == models
    assert len(page.views["history"].source.data["time"]) <= history.POINTS
    assert len(page.views["history"].marks.data["time"]) <= history.MARKS
    assert len(page.views["workers"].source.data["row"]) == workers.MOST + 1
    assert len(page.views["prefixes"].source.data["row"]) == prefixes.MOST + 1
    assert page.views["incidents"].list.pane.object.count("<tr") <= 51


def test_store_that_fails_leaves_the_other_views_alone():
    store = fake_store.busy()
    store.prefixes = lambda *args: 1 / 0
    border = Border()
    page, _ = open_page(store, border)
    assert "2.87 GiB" in texts(page)
    (fault,) = border.texts()
    assert "the page's prefixes" in fault


def test_page_that_cannot_be_made_says_so():
    def broken(name):
        raise OSError("no such file")

    border = Border()
    doc = Document()
    page = Page(SharedStore(fake_store.busy()), 1.0, [], broken, border)
    page.open(doc)
    assert doc.template_variables["failed"]
    assert doc.roots == []
    assert border.texts()


def test_page_names_only_its_own_files_and_the_dashboards_other_pages(border):
    doc = Document()
    pages = ["status", "memdash"]
    Page(SharedStore(fake_store.busy()), 1.0, pages, assets, border).open(doc)
    variables = {**doc.template_variables, "title": "MemDash", "failed": True}
    html = doc.template.render(macros=no_macros(), bokeh_js="", **variables)
    urls = re.findall(r'(?:src|href)="([^"]+)"', html)
    assert set(urls) == {
        *("memdash", "status"),
        *("memdash/static/icon.svg?v=1", "memdash/static/memdash.css?v=1"),
    }


def test_styles_come_from_this_server_even_in_a_session_made_anew(border):
    doc = Document()
    Page(SharedStore(fake_store.busy()), 1.0, [], assets, border).open(doc)
    urls = {sheet.url for sheet in doc.select({"type": ImportedStyleSheet})}
    assert len(urls) > 2
    assert {url.split("/")[0] for url in urls} == {"static", "memdash"}


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


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0, "0 B"),
        (1536, "1.50 kiB"),
        (613 * MiB, "613.00 MiB"),
        (-3 * 2**30, "−3.00 GiB"),
    ],
)
def test_sizes_are_written_as_dask_does(value, text):
    assert theme.size(value) == text


def test_long_names_keep_both_their_ends():
    assert theme.shorten("rechunk-merge-transfer-0a1b2c", 15) == "rechunk…-0a1b2c"


@pytest.mark.parametrize("size", [1, 5 * MiB, 613 * MiB, 70 * 2**30])
def test_bound_of_an_axis_is_round_and_close(size):
    bound = theme.nice_ceiling(size)
    assert size <= bound <= max(1.2 * size, 2**16)
