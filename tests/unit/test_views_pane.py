"""Panes: what stands in a small frame, and what it says where there is nothing."""

from __future__ import annotations

import re
from collections import Counter

import fake_store
import pytest
from bokeh.document import Document

from dask_memdash.boundary import Boundary
from dask_memdash.views.base import Context
from dask_memdash.views.individual import CHARTS, IndividualPage
from dask_memdash.views.pane import (
    history_pane,
    order_pane,
    prefix_rows,
    prefixes_pane,
    worker_rows,
    workers_pane,
)
from dask_memdash.views.shared import SharedStore

PANES = {
    "history": history_pane,
    "workers": workers_pane,
    "prefixes": prefixes_pane,
    "order": order_pane,
}


def texts(view):
    """Return what a pane says."""
    html = " ".join(
        str(pane.object)
        for pane in view.root.select(lambda p: True)
        if isinstance(getattr(pane, "object", None), str)
    )
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def drawn(make, store):
    view = make(store, Context("memdash.css"))
    view.context.axis.keep_up(store)
    view.update()
    return view


@pytest.mark.parametrize("name", ["history", "workers", "prefixes"])
def test_the_head_says_how_much_there_is_of_what(name):
    said = texts(drawn(PANES[name], fake_store.busy()))
    for part in (
        "2.87 GiB of 4 GiB, 72 %",
        "storage 1.38 GiB execution 0.83 GiB overhead 0.66 GiB spilled 400 MiB",
    ):
        assert part in said
    assert "open: see the page" not in said


@pytest.mark.parametrize("name", PANES)
def test_failures_that_are_open_are_said_in_every_pane(name):
    assert "1 failure open" in texts(drawn(PANES[name], fake_store.failing(3)))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("history", "No worker is connected."),
        ("workers", "No worker is connected."),
        ("prefixes", "No task has run yet."),
        ("order", "No graph yet."),
    ],
)
def test_an_empty_pane_says_what_it_waits_for(name, said):
    view = drawn(PANES[name], fake_store.empty())
    assert said in texts(view)
    assert not getattr(view, "figure", None) or not view.figure.visible


def test_the_order_says_its_verdict_and_is_drawn():
    view = drawn(order_pane, fake_store.with_graphs())
    assert view.figure.visible
    assert fake_store.with_graphs().order(1)[0]["verdict"]["text"][:40] in texts(view)


def test_workers_are_rows_fullest_first_with_parts_that_fill_their_share():
    rows, number = worker_rows(fake_store.busy(100))
    assert (len(rows), number) == (60, 100)
    shares = [int(row["figures"][1].removesuffix(" %")) for row in rows]
    assert shares == sorted(shares, reverse=True)
    first = rows[0]
    assert sum(share for _, share in first["parts"]) == pytest.approx(
        shares[0], abs=0.6
    )
    states = Counter(row["state"] for row in worker_rows(fake_store.busy())[0])
    assert states == {"": 3, "paused": 1}
    assert "and 40 smaller ones" in texts(drawn(workers_pane, fake_store.busy(100)))


def test_prefixes_have_storage_execution_and_what_deaths_taught_of_their_peak():
    store = fake_store.busy()
    store.all_prefixes[0]["execution"]["peak"].update(
        p50=None, p95=None, max=None, at_least=380 * 2**20
    )
    rows, number = prefix_rows(store)
    assert number == len(rows)
    assert rows[0]["figures"] == ["768 MiB", "0 B", "peak at least 380 MiB"]
    assert max(share for row in rows for _, share in row["parts"]) == 100


def test_hostile_names_are_text_in_panes():
    for make in (workers_pane, prefixes_pane):
        view = drawn(make, fake_store.hostile())
        assert "<img" not in str(view.rows.pane.object)


@pytest.mark.parametrize("path", CHARTS)
def test_a_pane_is_the_one_root_of_its_document(path):
    boundary = Boundary()
    page = IndividualPage(
        CHARTS[path],
        SharedStore(fake_store.busy()),
        lambda doc, update, what: None,
        lambda name: f"memdash/static/{name}",
        boundary,
    )
    doc = Document()
    page.open(doc)
    assert [root.name for root in doc.roots] == ["chart"]
    assert boundary.texts() == ()
