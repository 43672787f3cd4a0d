"""What a notebook shows, at the width of a side pane, on light and on dark ground."""

from __future__ import annotations

import dask.array as da
import fake_store
import pytest
from conftest import TIMEOUT_MS
from fake_parts import incident
from fake_store import HOSTILE

import dask_memdash
from dask_memdash.client.cards import Shown, cards
from dask_memdash.client.explanation import Explanation
from dask_memdash.client.failure_explanation import FailureExplanation

pytestmark = pytest.mark.browser


def cluster(store, **more):
    workers = store.workers()
    return cards(
        Shown(
            "tcp://127.0.0.1:8786",
            cluster=store.cluster(),
            workers=workers,
            prefixes=store.prefixes(3),
            failures=store.failures(20),
            **more,
        )
    )


def order():
    x = da.ones((4000, 100), chunks=(100, 100))
    return dask_memdash.order(x + 1, threads=4, capacity="1 GB")._repr_html_()


SHOWN = {
    "cards": lambda: cluster(fake_store.busy()),
    "cards of failures": lambda: cluster(fake_store.failing(3)),
    "cards of hostile names": lambda: cluster(fake_store.hostile()),
    "cards of nothing": lambda: cards(Shown()),
    "order": order,
    "explanation": lambda: Explanation(incident(4))._repr_html_(),
    "failure": lambda: FailureExplanation(
        {**fake_store.failing(1).failures()[0], "text": HOSTILE}
    )._repr_html_(),
}

#: How many pieces of text are wider than what they stand in, where nothing scrolls.
CUT = """() => [...document.querySelectorAll("section *")].filter(e =>
    e.scrollWidth > e.clientWidth + 1 && e.clientWidth && e.tagName !== "SPAN"
    && getComputedStyle(e).overflowX === "visible"
    && getComputedStyle(e).display !== "inline"
    && !e.closest("table, svg, iframe")).map(e => e.outerHTML.slice(0, 200))"""

#: Height of the smallest text of the drawings, in CSS pixels.
SMALLEST = """() => Math.min(99, ...[...document.querySelectorAll("svg text")]
    .map(e => e.getBoundingClientRect().height))"""


@pytest.mark.parametrize(
    "ground", [("#fff", "#111"), pytest.param(("#111", "#eee"), marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("name", SHOWN)
def test_it_fits_a_side_pane_and_can_be_read(browser, name, ground):
    page = browser.new_page(viewport={"width": 380, "height": 600})
    page.set_default_timeout(TIMEOUT_MS)
    try:
        style = f"margin:8px;background:{ground[0]};color:{ground[1]}"
        page.set_content(f'<body style="{style}">{SHOWN[name]()}')
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= 380
        assert page.evaluate(CUT) == []
        assert page.evaluate(SMALLEST) >= 10
        colour = page.locator("section").first.evaluate(
            "e => getComputedStyle(e).color"
        )
        red = int(colour.removeprefix("rgb(").split(",")[0])
        assert (red > 200) == (ground[1] == "#eee")  # the notebook's own colour
    finally:
        page.close()
