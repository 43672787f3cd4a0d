"""The card of the cluster's memory: stored, pending, failed, read back; tooltips."""

import json
import re
from dataclasses import replace

import fake_store
import pytest
import stories
from stories import MiB
from test_views import view_of
from test_views_report import body

from dask_memdash.analysis.storing import judge
from dask_memdash.text import format_latency, format_stored
from dask_memdash.views import intermediates, worker_bars
from dask_memdash.views.base import Context
from dask_memdash.views.browser_state import TableQuery
from dask_memdash.views.intermediates import IntermediatesView
from dask_memdash.views.prefix_columns import TASKS
from dask_memdash.views.report import render_report
from dask_memdash.views.table import ServedTable
from dask_memdash.views.table_columns import WORKERS
from dask_memdash.views.tabular import to_csv
from dask_memdash.views.tasks_tab import PrefixView
from dask_memdash.views.workers_tab import WorkerView


def card(store):
    html = view_of(IntermediatesView, store).about.pane.object
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def told(**more):
    return stories.storing(**more).cluster()["intermediates"]


def test_without_a_memory_there_is_no_card():
    assert card(stories.busy()) == ""
    assert "Storage of intermediates</h2>" not in body(render_report(stories.busy()))


def test_what_is_stored_stands_by_prefix_and_worker_in_bytes():
    text = card(stories.storing())
    assert "20 stored 3 pending 0 failed" in text
    assert "By prefix sum 90 MiB, 4 MiB pending" in text
    assert "By worker worker-2 60 MiB, 2 MiB pending worker-1 30 MiB, 2 MiB" in text
    assert "90 MiB of the outputs there are stored, 4 MiB are pending" in text
    assert "Objects 30 of all sessions" in text
    assert "Written 20 values, 400 MiB 50 ms each" in text
    assert "Read back 8 values, 160 MiB 5 ms each" in text
    assert "RAM share not set" in text
    assert "By name Nothing has a name. Give it one" in text


def test_bars_are_told_apart_without_colour_and_read_aloud():
    html = view_of(IntermediatesView, stories.storing(failed=1)).about.pane.object
    assert 'aria-label="Of 24 results: 20 stored, 3 pending, 1 failed"' in html
    for name in ("md-kept", "md-kept-pending", "md-kept-failed"):
        assert f'class="md-fill {name}"' in html
    assert 'href="#prefix-sum"' in html
    assert 'href="#worker-tcp%3A%2F%2F10.0.0.2%3A4000"' in html


def test_a_ram_share_and_names_are_shown_where_there_are_any():
    share = replace(stories.STORING, ram=100 * MiB, dropped=3, dropped_bytes=9 * MiB)
    text = card(stories.storing(share, names={"regridded": (3, 4), "<b>": (1, 1)}))
    assert "at most 200 MiB on all workers 6 values (18 MiB) dropped" in text
    assert "By name &lt;b&gt; 1 of 1 results regridded 3 of 4 results" in text


def test_only_the_largest_are_listed_and_the_others_counted():
    store = fake_store.busy(12)
    for number, worker in enumerate(store.all_workers):
        worker["stored"] = number * MiB
    rows = intermediates.of_workers(store)
    assert [row.stored for row in rows.shown] == [n * MiB for n in range(11, 3, -1)]
    assert (rows.more, rows.widest) == (3, 11 * MiB), "one has nothing stored"
    memory = stories.storing().cluster()["intermediates"]
    cluster = store.cluster() | {"intermediates": memory}
    store.cluster = lambda: cluster
    assert "and 3 more, see connect(client).workers()" in card(store)


@pytest.mark.parametrize(
    ("figures", "state", "said"),
    [
        ({"stored": 0, "pending": 0, "objects": 0}, "empty", "`x.persist()` are writt"),
        ({"stored": 0, "pending": 0}, "empty", "The store has 30 objects from before"),
        ({}, "writing", "20 of 23 results are stored; 3 (48 MiB) wait to be computed"),
        (
            {"pending": 0},
            "stored",
            "All 20 results were written to `file:///shared/store`.",
        ),
        ({"pending": 0, "stored": 1}, "stored", "The only result was written to"),
        ({"failed": 2}, "failing", "2 of 25 results could not be stored."),
        (
            {"unreachable": "gone"},
            "unreachable",
            "does not answer; 20 results were written to it before.",
        ),
        (
            {"unreachable": "gone", "stored": 0, "pending": 0},
            "unreachable",
            "`file:///shared/store` does not answer.",
        ),
        ({"objects": 7}, "missing", "20 results were stored, and the store lists 7"),
        ({"pending": 0, "recomputed": 1}, "stored", "1 stored value could not be loa"),
    ],
)
def test_how_storing_goes_is_one_state_in_words(figures, state, said):
    found = told(**figures)
    assert (found["state"], said in found["text"]) == (state, True), found["text"]
    wrong = state in ("failing", "missing", "unreachable") or "recomputed" in figures
    assert bool(found["advice"]) == wrong


def test_a_store_that_cannot_be_written_to_says_why_and_what_to_do():
    store = stories.storing(failed=2, error="NotADirectoryError: <script>")
    html = view_of(IntermediatesView, store).about.pane.object
    assert "<script>" not in html
    text = " ".join(html.split())
    assert "md-degraded" in text
    assert "Newest error: NotADirectoryError: &lt;script&gt;" in text
    assert "is there, has room, and may be written to by every worker" in text


def test_a_store_that_does_not_answer_is_not_said_to_hold_all():
    text = card(stories.storing(pending=0, unreachable="[Errno 2] No such file"))
    assert "The store does not answer." in text
    assert "Newest error: [Errno 2] No such file" in text
    assert "All 20 results" not in text


def test_an_error_that_is_over_is_said_to_be():
    text = card(stories.storing(error="disk full"))
    assert "Last error disk full nothing waits because of it" in text


def test_a_name_that_was_refused_is_told_on_the_card_with_what_differs():
    text = card(stories.storing(refused=("regridded belongs to another set",)))
    assert "1 name was not given" in text
    assert "regridded belongs to another set." in text


def test_advice_names_the_store_once_and_ends():
    verdict = judge(told(failed=1))
    assert verdict.text.endswith("It stays on its worker, and writing is tried again.")


def test_tooltips_say_how_much_of_the_storage_is_stored_too():
    store = stories.storing()
    workers = worker_bars.columns(worker_bars.rows([[w] for w in store.workers()]))
    assert (
        workers["kept"][0] == "30 MiB of its outputs are stored too, 2 MiB are to be."
    )


def test_the_chosen_worker_and_prefix_say_it_too():
    store, worker = stories.storing(), "tcp://10.0.0.1:4000"
    text = view_of(WorkerView, store, tab="workers", chosen=worker).about.pane.object
    assert "30 MiB of its outputs, 2 MiB pending" in text
    text = view_of(PrefixView, store, tab="tasks", chosen="sum").about.pane.object
    assert "90 MiB, 4 MiB pending" in text
    text = view_of(PrefixView, store, tab="tasks", chosen="getitem").about.pane.object
    assert "Stored too" not in text


def test_the_report_has_the_card():
    text = body(render_report(stories.storing()))
    assert "Storage of intermediates</h2>" in text
    assert "20 of 23 results are stored" in text


@pytest.mark.parametrize(
    ("stored", "pending", "said"),
    [
        (0, 0, ""),
        (MiB, 0, "1 MiB of its outputs are stored too."),
        (0, MiB, "None of its outputs is stored yet, 1 MiB are to be."),
    ],
)
def test_what_is_stored_in_words(stored, pending, said):
    assert format_stored(stored, pending) == said


def test_latencies_are_in_milliseconds():
    said = [format_latency(seconds) for seconds in (0.0004, 0.008, 0.5, 1.25)]
    assert said == ["under 1 ms", "8 ms", "500 ms", "1.3 s"]


@pytest.mark.parametrize("table", [TASKS, WORKERS])
def test_a_table_asks_once_whether_there_is_such_a_memory(table):
    asked, known = [], {}

    def is_there(store):
        asked.append(store)
        return True

    def once(question, answer):
        if question not in known:
            known[question] = answer()
        return known[question]

    columns = tuple(replace(column, shown=is_there) for column in table.columns)
    for _ in range(2):  # two pages of one drawing
        made = ServedTable(replace(table, columns=columns), Context(""))
        made.draw(stories.storing(), TableQuery(), "", once)
        about = json.loads(made.source.tags[0])
        assert len(about["columns"]) == len(columns)
    assert len(asked) == 1


@pytest.mark.parametrize("table", [TASKS, WORKERS])
def test_tables_have_its_columns_where_there_is_such_a_memory(table):
    def shown(store):
        return [column.name for column in table.columns if column.shown(store)]

    assert {"stored", "pending"} <= set(shown(stories.storing()))
    assert not {"stored", "pending"} & set(shown(stories.busy()))
    head, *rows = to_csv(table, table.rows(stories.busy())).splitlines()
    assert "Stored (bytes)" in head
    assert rows


def test_a_small_prefix_that_is_stored_is_found_behind_many_that_are_larger():
    store = stories.storing()
    model = store._model
    for number in range(300):
        model.prefixes.of(f"larger-{number}").managed = 10**12
    told = store.cluster()["intermediates"]
    assert [one["prefix"] for one in told["prefixes"]] == ["sum"]
    assert told["n_prefixes"] == 1
    assert "By prefix sum 90 MiB" in card(store)
