"""Columns of the page's tables: sets, totals, threads that fit, the last minute."""

import csv
import json

import fake_parts
import fake_store
import pytest
import stories
from stories import MiB

from dask_memdash import terms
from dask_memdash.store.all_rows import all_rows
from dask_memdash.views import minute, prefix_figures, worker_columns
from dask_memdash.views.base import Context
from dask_memdash.views.browser_state import TableQuery
from dask_memdash.views.table import ServedTable
from dask_memdash.views.table_columns import TABLES
from dask_memdash.views.tabular import select, to_csv
from dask_memdash.views.threads_that_fit import WorkerRoom, fitting, room, with_room

GiB = 1024 * MiB

#: Columns that the page shows at once, the first one among them.
MOST = 8


STORIES = ["busy", "after_incident", "shared_process", "degraded"]


# --- sets ----------------------------------------------------------------------------


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_no_more_than_eight_columns_stand_together(table):
    names = [column.name for column in table.columns]
    sets = [one.columns for one in table.sets] or [tuple(names[1:])]
    for columns in sets:
        assert set(columns) <= set(names[1:])
        assert len(set(columns)) == len(columns) <= MOST - 1


def test_what_blames_is_seen_without_asking():
    (tasks, workers) = (TABLES["tasks"].sets[0], TABLES["workers"].sets[0])
    assert {"executing", "worst", "fit"} <= set(tasks.columns)
    assert {"usage", "executing", "status"} <= set(workers.columns)


# --- totals --------------------------------------------------------------------------


@pytest.mark.parametrize("story", STORIES)
def test_total_of_the_workers_is_the_cluster_and_the_sum_of_its_rows(story):
    store = getattr(stories, story)()
    total, breakdown = worker_columns.totals(store), store.cluster()["breakdown"]
    rows = worker_columns.one_of_each_process(store.workers())
    for name in ("process", *terms.PARTS):
        assert total[name] == breakdown[name]
        assert total[name] == sum(row["breakdown"][name] or 0 for row in rows)
    assert total["threads"] == sum(row["nthreads"] for row in store.workers())


def test_workers_that_have_left_are_in_no_total():
    store = fake_store.busy(2)
    before = worker_columns.totals(store)
    store.all_departed = [fake_parts.worker(9, status="left")]
    assert worker_columns.totals(store) == before


def test_workers_that_have_left_are_listed_where_that_is_asked_for():
    store, table = fake_store.busy(2), TABLES["workers"]
    store.all_departed = [fake_parts.worker(9, status="left")]
    served = ServedTable(table, Context(""))
    for query, faint in (
        (TableQuery(), [False, False]),
        (TableQuery(apart=True), [False, False, True]),
    ):
        served.draw(store, query, "", lambda name, make: make())
        assert served.source.data["_faint"] == faint
        about = json.loads(served.source.tags[0])
        assert about["apart"] == "1 worker that has left"
        assert about["total"] == len(faint)
    store.all_departed = []
    served.draw(store, TableQuery(), "", lambda name, make: make())
    assert json.loads(served.source.tags[0])["apart"] == ""


@pytest.mark.parametrize("story", STORIES)
def test_total_of_the_prefixes_is_the_cluster_and_the_sum_of_its_rows(story):
    store = getattr(stories, story)()
    total, breakdown = prefix_figures.totals(store), store.cluster()["breakdown"]
    rows = all_rows(store)
    assert total["bytes"] == breakdown["process"]
    assert total["executing"] == breakdown["executing"]
    for name in ("managed", "spilled"):
        assert total[name] == sum(row["storage"][name] or 0 for row in rows), name
    told = sum(row["bytes"] or 0 for row in rows if row["prefix"] != "child processes")
    counted = sum(row["execution"]["executing"] or 0 for row in rows)
    counted += sum(row["bytes"] for row in rows if row["part"] == "executing")
    assert told + total["executing"] - counted == total["bytes"]


def test_what_no_row_explains_is_said_beneath_the_total():
    store = fake_store.empty()
    breakdown = fake_parts.breakdown(20 * MiB, 0, 0, 50 * MiB, 0, 0, 30 * MiB)
    store.all_workers = [fake_parts.worker(1, breakdown=breakdown)]
    store.all_prefixes = [fake_parts.prefix("p", 20 * MiB, 10 * MiB)]
    total = prefix_figures.totals(store)
    assert (total["bytes"], total["executing"]) == (100 * MiB, 50 * MiB)
    assert total["_more_executing"] == "40 MiB unexplained"
    assert total["_more_bytes"] == "70 MiB unexplained"
    store.all_others = [
        {**fake_parts.other("baseline", "b", 30 * MiB), "part": "baseline"},
        {**fake_parts.other("baseline", "u", 40 * MiB), "part": "executing"},
    ]
    total = prefix_figures.totals(store)
    assert total["_more_executing"] == total["_more_bytes"] == ""


def test_cluster_without_workers_has_no_total():
    assert worker_columns.totals(fake_store.empty()) == {}
    assert prefix_figures.totals(fake_store.empty()) == {}


def test_total_is_sent_beside_the_rows():
    store, table = fake_store.busy(3), TABLES["workers"]
    served = ServedTable(table, Context(""))
    served.draw(store, TableQuery(), "", lambda question, answer: answer())
    assert served.total.data["name"] == ["All 3 workers"]
    assert served.total.data["status"] == ["1 paused"]
    assert len(served.source.data["name"]) == 3


# --- threads that fit ----------------------------------------------------------------


def worker(limit, terminate, baseline, threads=2):
    breakdown = fake_parts.breakdown(5 * MiB, 0, 0, 7 * MiB, 0, 3 * MiB, baseline)
    thresholds = dict.fromkeys(("target", "spill", "pause"), None)
    return fake_parts.worker(
        1,
        limit=limit,
        thresholds={**thresholds, "terminate": terminate},
        breakdown=breakdown,
        nthreads=threads,
    )


def heavy(largest, at_least=None, output=0):
    prefix = fake_parts.prefix("heavy", 0)
    prefix["execution"]["peak"].update(max=largest, at_least=at_least)
    prefix["storage"]["output_bytes"]["max"] = output
    return prefix


def test_room_is_what_the_least_roomy_worker_leaves_beside_its_own_memory():
    store = fake_store.busy(2)
    store.all_workers = [
        worker(GiB, 900 * MiB, 97 * MiB),
        worker(GiB, None, 97 * MiB, threads=4),
    ]
    assert room(store) == WorkerRoom(800 * MiB, 4)
    store.all_workers = [worker(None, None, 97 * MiB)]
    assert room(store).bytes is None


@pytest.mark.parametrize(
    ("prefix", "fit"),
    [
        (heavy(300 * MiB), 2),
        (heavy(100 * MiB), 4),  # there are no more threads
        (heavy(100 * MiB, at_least=700 * MiB), 1),
        (heavy(100 * MiB, output=400 * MiB), 2),
        (heavy(900 * MiB), 0),
        (heavy(None, at_least=900 * MiB), 0),
        (heavy(None), None),
    ],
)
def test_threads_that_fit_go_by_the_largest_that_a_task_was_seen_to_need(prefix, fit):
    assert fitting(prefix, WorkerRoom(800 * MiB, 4)) == fit
    assert fitting(prefix, WorkerRoom(None, 4)) is None


def test_rows_are_sorted_by_how_many_threads_fit():
    store = fake_store.busy(1)
    store.all_workers = [worker(GiB, 900 * MiB, 97 * MiB, threads=4)]
    names = {"light": 10 * MiB, "large": 500 * MiB, "middle": 300 * MiB}
    store.all_prefixes = [
        {**heavy(peak), "prefix": name} for name, peak in names.items()
    ]
    page = select(TABLES["tasks"], store, TableQuery(sort="fit"))
    assert [row["prefix"] for row in page.rows] == ["large", "middle", "light"]


# --- the last minute -----------------------------------------------------------------


def test_last_minute_is_a_point_each_three_seconds_against_the_limit():
    times, sizes = [1000.0, 1030.0, 1059.5], [10, 50, 100]
    told = minute.curve(times, sizes, 1060.0, 200).split(",")
    assert len(told) == 21
    assert told[:2] == ["", "5"], "nothing is known of before the first reading"
    assert told[-1] == "25", "the last whole step of the clock is 1059"
    assert minute.curve(times, sizes, 1060.9, 200).split(",") == told
    assert minute.curve(times, sizes, 1062.0, 200).split(",")[-1] == "50"


def test_line_never_leaves_its_cell():
    assert minute.curve([0.0], [900], 3.0, 300).endswith(",100")
    assert minute.curve([], [], 3.0, 300) == ""
    assert minute.curve([0.0], [1], 3.0, 0) == ""


def test_last_minute_of_a_prefix_is_against_the_most_of_it():
    store = fake_store.busy(2)
    (row, *_) = store.prefixes()
    line = prefix_figures.last_minute(store, row).split(",")
    assert (line[0], line[10], line[-1], len(line)) == ("0", "48", "95", 21)
    others = [row for row in all_rows(stories.busy()) if row["kind"] != "task"]
    assert prefix_figures.last_minute(store, others[0]) == ""


def test_what_stood_still_for_the_whole_minute_is_a_full_line():
    store = fake_store.busy(2)
    row = store.prefixes()[0]
    store.prefix_minute = lambda name: {"time": [10.0, 20.0], "bytes": [900, 300]}
    assert prefix_figures.last_minute(store, row) == ",".join(["100"] * 21)


def test_drawings_are_in_no_file():
    store, table = stories.busy(), TABLES["workers"]
    head = next(csv.reader(to_csv(table, store.workers()).splitlines()))
    assert "Last minute" not in head
    assert len(head) == len(table.columns) - 1


def test_threads_that_fit_beside_a_death_are_said_to_be_at_most_so_many():
    store = stories.busy()
    (row,) = with_room(store, store.prefixes(1))
    peak = {**row["execution"]["peak"], "at_least": 10**12}
    died = {**row, "execution": {**row["execution"], "peak": peak}}
    assert prefix_figures.of_threads(died) == f"of {row['threads']}, or fewer"
    assert prefix_figures.of_threads(row) == f"of {row['threads']}"
    none = {**died, "fit": 0}
    assert prefix_figures.of_threads(none) == f"of {row['threads']}", "none is least"
