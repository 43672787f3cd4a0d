"""Panes of JupyterLab's extension: 380 pixels wide and 300 high is enough."""

from __future__ import annotations

import fake_store
import pytest
from conftest import TIMEOUT_MS

pytestmark = pytest.mark.browser

PANES = ("memory-over-time", "workers", "task-prefixes", "order")

#: What is cut off: text wider than its element that does not say so with an ellipsis,
#: and anything right of the window.  Bokeh's parts live in shadow roots.
CUT = """() => {
  const cut = [], roots = [document]
  while (roots.length) {
    for (const e of roots.pop().querySelectorAll("*")) {
      if (e.shadowRoot) roots.push(e.shadowRoot)
      const box = e.getBoundingClientRect(), style = getComputedStyle(e)
      if (!box.width || !(e.className + "").includes("md-pane")) continue
      const over = e.scrollWidth > e.clientWidth + 1 && style.display !== "inline"
      const shortened = style.textOverflow === "ellipsis"
      if (box.right > innerWidth + 1 || (over && !shortened)) cut.push(e.className)
    }
  }
  return cut
}"""


@pytest.fixture
def pane(browser, show):
    """Return a function that opens a pane, small."""
    pages = []

    def open_pane(store, name, scheme="light", size=(380, 300)):
        root = show(store).removesuffix("/memdash")
        viewport = {"width": size[0], "height": size[1]}
        page = browser.new_page(viewport=viewport, color_scheme=scheme)
        pages.append(page)
        page.set_default_timeout(TIMEOUT_MS)
        page.goto(f"{root}/individual-memdash-{name}")
        return page

    yield open_pane
    for page in pages:
        page.close()


def busy():
    store = fake_store.after_incident()
    store.all_graphs = fake_store.with_graphs().all_graphs
    return store


@pytest.mark.parametrize(
    ("name", "scheme"),
    [
        # every pane once, and each scheme twice; the others with `make corpora`
        pytest.param(
            name, scheme, marks=pytest.mark.corpora if (number + dark) % 2 else ()
        )
        for number, name in enumerate(PANES)
        for dark, scheme in enumerate(("light", "dark"))
    ],
)
def test_a_small_pane_shows_all_it_says(pane, name, scheme):
    page = pane(busy(), name, scheme)
    page.get_by_text("failures open").wait_for()
    page.get_by_text("Loading MemDash").wait_for(state="hidden")
    if name in ("workers", "task-prefixes"):
        page.locator("li").first.wait_for()
    else:
        page.locator("canvas").first.wait_for()
        box = page.locator("canvas").first.bounding_box()
        assert box["height"] >= 120
        assert box["y"] + box["height"] <= 301
    assert page.evaluate(CUT) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 380


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("memory-over-time", "No worker is connected."),
        ("workers", "No worker is connected."),
        ("task-prefixes", "No task has run yet."),
        ("order", "No graph yet."),
    ],
)
def test_an_empty_pane_says_what_it_waits_for(pane, name, said):
    page = pane(fake_store.empty(), name)
    page.get_by_text(said).wait_for()
    assert page.evaluate(CUT) == []


def test_a_pane_is_live_and_keeps_hostile_names_harmless(pane):
    store = fake_store.hostile()
    page = pane(store, "workers")
    page.locator("li").first.wait_for()
    assert page.evaluate(CUT) == []
    assert page.title() == "MemDash: workers"
    store.all_workers[0]["name"] = "renamed"
    store.change()
    page.get_by_text("renamed").wait_for()
