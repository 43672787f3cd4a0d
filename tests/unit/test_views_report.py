"""The report, the notebook's card, and what handlers write of a store."""

import asyncio
import gc
import re

import fake_parts
import fake_store
import pytest
from bokeh.document import Document
from fake_parts import HOSTILE
from stories import MiB

from dask_memdash.model.event_parts import LargestBlock
from dask_memdash.store.block_shapes import block_shape
from dask_memdash.views.report import render_report
from dask_memdash.views.snapshot import STORIES, Snapshot
from dask_memdash.web.export import report, table_as_csv


def whole():
    store = fake_store.after_incident()
    store.all_graphs = [fake_parts.graph(1)]
    store.all_limits = fake_store.wrong_limits().all_limits
    return store


def body(html):
    """Return what a reader sees of a report: no scripts, no styles."""
    return re.sub(r"<(script|style)[ >].*?</\1>", "", html, flags=re.S)


def test_report_tells_what_every_tab_tells():
    text = body(render_report(whole()))
    for said in (
        *("2.87 GiB", "outputs kept in memory", "worker-3", "rechunk-split"),
        *("Incident 4: terminated by its nanny", "37 of 1210", "not to blame"),
        *("needs 0.68 GiB", "random_sample in chunks half as large"),
        *("Start each worker with --memory-limit 5914MiB.", "What the terms mean"),
    ):
        assert said in text, said


def test_report_invites_to_no_click_and_tells_what_no_task_has():
    html = render_report(whole())
    assert 'class="md-live"> Click' in html
    assert ".md-report .md-live { display: none; }" in html
    assert '<body class="md-report">' in html
    assert "shows the memory that belongs to no task" in body(html), "none is known"


@pytest.mark.slow
def test_report_is_made_after_a_page_has_failed(mislead):
    mislead(Document())
    gc.collect()
    assert "worker-3" in body(render_report(whole()))


def test_report_names_no_other_file_and_no_other_host():
    html = render_report(whole())
    tags = re.findall(r"<(?:link|script|img|iframe|source)\b[^>]*>", body(html) + html)
    urls = re.findall(r'(?:src|href)="([^"]*)"', " ".join(tags))
    assert set(urls) <= {"data:,"}
    assert not re.search(
        r"@import|url\(", re.sub(r"<script.*?</script>", "", html, flags=re.S)
    )


def test_report_of_an_empty_cluster_says_what_is_not_there():
    text = body(render_report(fake_store.empty()))
    assert "No workers are connected." in text
    assert "No incidents." in text
    assert "No graph was seen." in text


def test_hostile_names_are_text_in_the_report():
    store = fake_store.hostile()
    store.all_graphs = [fake_parts.graph(1, name=HOSTILE, id=HOSTILE)]
    html = render_report(store)
    assert "&lt;img src=x" in html
    assert "<img src=x" not in html


def test_report_tells_the_line_of_a_suspects_largest_block():
    store = whole()
    block = LargestBlock(240 * MiB, "app/model.py", 42, "regrid", "np.concatenate")
    for incident in store.all_incidents:
        for suspect in incident["suspects"]:
            suspect["largest_block"] = block_shape(block)
    text = body(render_report(store))
    assert "allocated at <code>app/model.py:42 in np.concatenate</code>" in text


def test_report_is_made_of_one_reading_whatever_happens_to_the_store():
    store = whole()
    taken = Snapshot(store)
    before = len(store.asked)
    store.all_workers.clear()
    store.all_prefixes.clear()
    text = body(render_report(taken))
    assert len(store.asked) == before
    assert "worker-3" in text


@pytest.mark.slow
def test_snapshot_is_bounded():
    store = fake_store.busy()
    store.all_incidents = [fake_parts.incident(n) for n in range(5000)]
    taken = Snapshot(store)
    assert len(taken.incidents()) == 500
    assert store.asked.count("incident") == STORIES


def test_handlers_make_the_report_away_from_the_loop():
    store = whole()

    async def make():
        ticks = 0
        task = asyncio.ensure_future(report(store))
        while not task.done():
            await asyncio.sleep(0.005)
            ticks += 1
        return ticks, await task

    ticks, html = asyncio.run(make())
    assert ticks > 3, "the loop ran on"
    assert html.startswith("<!DOCTYPE html>")


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("workers", "Worker,Status"),
        ("tasks", "Prefix,"),
        ("incidents", "What happened,Time (Unix time)"),
        ("graphs", "Graph,Verdict"),
        ("limits", "Worker,Severity"),
    ],
)
def test_every_table_can_be_had_as_csv(name, first):
    text = table_as_csv(whole(), name, {"sort": "x", "search": ""})
    assert text.startswith(first)
    assert text.count("\r\n") >= 2


def test_csv_holds_all_rows_that_match_in_the_order_asked_for():
    store = fake_store.busy(120)
    asked = {"search": "worker", "sort": "name", "descending": "1"}
    lines = table_as_csv(store, "workers", asked).splitlines()
    assert len(lines) == 121
    assert lines[1].startswith("worker-120,")


def test_table_that_does_not_exist_is_none():
    assert table_as_csv(whole(), "secrets", {}) is None
