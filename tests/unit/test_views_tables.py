"""Tables: what is searched, sorted, paged, sent to a browser and written as CSV."""

import csv
import io
import json
import math

import fake_parts
import fake_store
import pytest
import stories
from bokeh.document import Document
from bokeh.models import ColumnDataSource
from fake_parts import HOSTILE
from stories import MiB

from dask_memdash.store.all_rows import all_rows
from dask_memdash.views import browser_state, prefix_figures, table_columns
from dask_memdash.views.base import Context, sync
from dask_memdash.views.browser_state import Shown, TableQuery
from dask_memdash.views.table import ServedTable
from dask_memdash.views.tabular import Column, Table, address, select, to_csv

WORKERS, TASKS, INCIDENTS = (
    table_columns.WORKERS,
    table_columns.TASKS,
    table_columns.INCIDENTS,
)


def names(page):
    return [row["name"] for row in page.rows]


def ask(store, table=WORKERS, **query):
    return select(table, store, TableQuery(**query))


# --- searching, sorting, paging ------------------------------------------------------


def test_pages_are_fifty_rows_and_the_last_one_is_shown_beyond_the_end():
    store = fake_store.busy(120)
    page = ask(store, page=1)
    assert names(page)[0] == "worker-51"
    assert (page.first, len(page.rows), page.matching, page.total) == (50, 50, 120, 120)
    beyond = ask(store, page=99)
    assert names(beyond)[-1] == "worker-120"
    assert beyond.first == 100


def test_rows_are_found_by_all_words_in_any_text():
    store = fake_store.busy(12)
    assert names(ask(store, search="PAUSED worker")) == ["worker-3"]
    assert names(ask(store, search="10.0.0.11:")) == ["worker-11"]
    page = ask(store, search="nothing such")
    assert (page.rows, page.matching, page.total) == ([], 0, 12)


def test_rows_are_sorted_and_what_is_not_known_comes_last_either_way():
    store = fake_store.busy(3)
    store.all_workers[1]["breakdown"] = fake_parts.no_breakdown()
    up = ask(store, sort="process")
    down = ask(store, sort="process", descending=True)
    assert names(up) == ["worker-3", "worker-1", "worker-2"]
    assert names(down) == ["worker-1", "worker-3", "worker-2"]


def test_names_are_sorted_as_people_count():
    store = fake_store.busy(11)
    page = ask(store, sort="name", descending=True)
    assert names(page)[:3] == ["worker-11", "worker-10", "worker-9"]


def test_column_that_does_not_exist_leaves_the_tables_own_order():
    store = fake_store.busy(3)
    assert names(ask(store, sort="<b>")) == ["worker-1", "worker-2", "worker-3"]


def test_workers_that_have_left_come_after_the_others_where_they_are_asked_for():
    store = fake_store.busy(2)
    store.all_departed = [fake_parts.worker(9, status="left")]
    assert names(ask(store)) == ["worker-1", "worker-2"]
    assert names(ask(store, apart=True)) == ["worker-1", "worker-2", "worker-9"]


@pytest.mark.parametrize("table", [TASKS, INCIDENTS])
def test_only_the_page_that_is_shown_is_made(table):
    store = fake_store.after_incident()
    asked = []
    for name in ("prefixes", "incidents"):
        whole = getattr(store, name)

        def limited(limit=None, offset=0, whole=whole):
            asked.append((limit, offset))
            return whole(limit, offset)

        setattr(store, name, limited)
    select(table, store, TableQuery(page=0))
    assert asked == [(50, 0)]


def test_uneven_outputs_and_projected_use_are_worked_out():
    prefix = fake_parts.prefix("p", MiB, 90 * MiB)
    prefix["storage"]["output_bytes"] = {"min": 0, "p50": 2, "p95": 8, "max": 9}
    assert prefix_figures.skew(prefix) == 4.5
    assert prefix_figures.projected(prefix) == 120 * MiB, "2 tasks, 60 MiB each"
    prefix["storage"]["output_bytes"]["p50"] = 0
    prefix["execution"]["peak"]["p50"] = None
    assert prefix_figures.skew(prefix) is None
    assert prefix_figures.projected(prefix) is None


# --- CSV -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("=1+1", "'=1+1"),
        (" =1+1", "' =1+1"),
        ("\t\r\n @SUM(A1)", "'    @SUM(A1)"),
        ("\x00\u202e-2", "'��-2"),
        ("＝1+1", "'＝1+1"),
        ("\xa0＋1", "' ＋1"),
        ("+1|cmd", "'+1|cmd"),
        ("sum-0a1b", "sum-0a1b"),
        ("a\x1b[31m\nb", "a�[31m b"),
        ("k" * 2**20, "k" * 999 + "…"),
    ],
)
def test_a_cell_of_csv_is_one_line_and_no_formula(name, cell):
    column = Column("name", "Name", "text", lambda row: row)
    table = Table("names", "Names", (column,), rows=lambda store: [name])
    (_, (written,)) = csv.reader(to_csv(table, [name]).splitlines())
    assert written == cell


def test_csv_holds_bytes_and_nothing_for_what_is_not_known():
    store = fake_store.busy(2)
    store.all_workers[1]["breakdown"] = fake_parts.no_breakdown()
    rows = list(csv.reader(io.StringIO(to_csv(WORKERS, store.workers()))))
    head = rows[0]
    process = head.index("Process (bytes)")
    assert rows[1][process] == str(724 * MiB)
    assert rows[2][process] == ""
    assert rows[1][head.index("Status")] == "running"


def test_csv_of_hostile_names_runs_nothing_in_a_spreadsheet():
    store = fake_store.busy(1)
    store.all_workers[0]["name"] = '=HYPERLINK("http://x","y")\n,z'
    rows = list(csv.reader(io.StringIO(to_csv(WORKERS, store.workers()))))
    assert rows[1][0] == '\'=HYPERLINK("http://x","y") ,z'


# --- what a browser is sent ----------------------------------------------------------


def listen(source):
    """Return the list to which all is added that a browser hears of a source."""
    document, heard = Document(), []
    document.add_root(source)
    document.on_change(heard.append)
    return heard


def once(question, answer):
    return answer()


def served(store, query=None, chosen="", table=WORKERS):
    made = ServedTable(table, Context(""))
    made.draw(store, query or TableQuery(), chosen, once)
    return made


def test_browser_is_sent_one_page_with_links_and_what_was_asked():
    made = served(fake_store.busy(60), TableQuery("process", True, "worker", 1), "x")
    about = json.loads(made.source.tags[0])
    assert len(made.source.data["process"]) == 10
    assert (about["first"], about["matching"], about["sort"]) == (50, 60, "process")
    assert (about["descending"], about["chosen"]) == (True, "x")
    assert made.source.data["_link"][0].startswith("worker-tcp%3A%2F%2F10.0.0.")


def test_long_names_are_cut_and_too_long_ones_have_no_address():
    store = fake_store.busy()
    store.all_prefixes = [fake_parts.prefix("k" * 10_000_000, MiB)]
    data = served(store, table=TASKS).source.data
    assert len(data["prefix"][0]) == 300
    assert data["_link"] == [""]
    assert address("prefix", HOSTILE).startswith("prefix-%3Cimg%20src%3Dx")


def test_browser_hears_only_of_cells_that_changed():
    source = ColumnDataSource({"a": [1, 2, 3], "b": ["x", "y", "z"]})
    heard = listen(source)
    sync(source, {"a": [1, 5, 3], "b": ["x", "y", "z"]})
    (event,) = heard
    assert event.patches == {"a": [(1, 5)]}
    sync(source, {"a": [1, 5, 3], "b": ["x", "y", "z"]})
    assert len(heard) == 1, "nothing is said where nothing differs"


def test_columns_that_pages_share_are_never_changed_in_place():
    shared = {"a": [1, 2, 3]}
    source = ColumnDataSource({"a": []})
    sync(source, shared)
    sync(source, {"a": [9, 2, 3]})
    assert source.data["a"] == [9, 2, 3]
    assert shared["a"] == [1, 2, 3]


# --- what a browser tells ------------------------------------------------------------


def test_what_a_browser_tells_is_read():
    told = {
        "tab": "order",
        "chosen": "graph-1",
        "window": 60,
        "paused": True,
        "hidden": True,
        "follow": 3,
        "tables": {"graphs": {"sort": "tasks", "descending": True, "page": 2}},
    }
    shown = browser_state.read(json.dumps(told))
    assert (shown.tab, shown.chosen_on("order"), shown.window) == (
        "order",
        "graph-1",
        60.0,
    )
    assert shown.chosen_on("workers") == ""
    assert shown.paused
    assert shown.hidden
    assert shown.table("graphs") == TableQuery("tasks", True, "", 2)
    assert shown.table("workers") == TableQuery()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "7",
        "null",
        "[" * 100_000,
        '{"tab": 7, "chosen": {}, "window": "x", "tables": [], "follow": null}',
        '{"tab": "../etc", "window": -5, "paused": "yes", "hidden": 1, '
        '"tables": {"workers": 3}}',
        '{"window": true, "follow": 1e400, "tables": null}',
    ],
)
def test_nonsense_from_a_browser_shows_the_overview(text):
    shown = browser_state.read(text)
    assert (shown.tab, shown.chosen, shown.window) == ("overview", "", None)
    assert not shown.paused
    assert not shown.hidden
    assert shown.table("workers") == TableQuery()


def test_what_a_browser_tells_is_bounded():
    told = {
        "chosen": "x" * 10_000,
        "tables": {
            f"t{i}": {"search": "y" * 10_000, "page": 10**30} for i in range(99)
        },
    }
    shown = browser_state.read(json.dumps(told))
    assert len(shown.chosen) == 1000
    assert len(shown.tables) == 20
    assert shown.table("t0").page == 10**6
    assert len(shown.table("t0").search) == 1000


def test_what_is_shown_can_be_compared():
    assert Shown() == Shown()
    assert browser_state.read('{"tab": "workers"}') != Shown()


def test_what_is_not_known_is_not_sent_again():
    source = ColumnDataSource({"a": [1, math.nan, 3, 4]})
    heard = listen(source)
    sync(source, {"a": [1, math.nan, 3, 4]})
    assert heard == []
    sync(source, {"a": [1, 2, 3, 4]})
    assert len(heard) == 1
    sync(source, {"a": [1, math.nan, 3, 4]})
    assert math.isnan(source.data["a"][1])


def test_a_row_of_no_task_says_where_it_lies_unless_its_name_does():
    rows = all_rows(stories.busy())
    told = {row["prefix"]: prefix_figures.place(row) for row in rows}
    assert told["baseline"] == ""
    assert told["allocator"] == "part of retained"
    assert told["sum"] == ""
