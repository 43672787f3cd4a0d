"""The Overview in a browser: what happened, how it stands, who holds it."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))

import fake_store

LINE = 'x = x.rechunk("8MiB")'

#: Adds up by how much what is on the page has moved by itself.
WATCH_SHIFTS = """() => {
  window.shifted = 0;
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) window.shifted += entry.value;
  }).observe({type: "layout-shift", buffered: false});
}"""


def failing(number):
    """Return the store of a cluster with failures that say what to change."""
    store = fake_store.failing(number)
    for failed in store.all_failures:
        failed["closed"] = None
        failed["diagnosis"]["advice"] = [f"Make chunks smaller: `{LINE}`. It helps."]
    return store


def overview(page):
    return page.locator("[data-tab=overview]")


@pytest.mark.slow
@pytest.mark.parametrize(
    "scheme", ["light", pytest.param("dark", marks=pytest.mark.corpora)]
)
def test_first_words_fit_every_width(look, show, scheme):
    for store, said in (
        (fake_store.empty(), "No worker is connected."),
        (fake_store.busy(), "Largest user of storage"),
        (failing(1), "What happened"),
        (failing(5), "2 more failures"),
    ):
        page = look(show(store), 380, scheme)
        words = overview(page).get_by_text(said).locator("visible=true").first
        words.wait_for()
        for width in (380, 900, 1400, 1920):
            page.set_viewport_size({"width": width, "height": 1000})
            page.wait_for_function(f"innerWidth === {width}")
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            if said != "2 more failures":
                assert words.bounding_box()["y"] < 1000, "it is seen without scrolling"
        page.close()


def test_a_line_to_change_is_copied_and_the_keyboard_keeps_its_place(look, show):
    store = failing(1)
    page = look(show(store))
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    button = overview(page).get_by_role("button", name=f"Copy: {LINE}")
    button.focus()
    page.keyboard.press("Enter")
    overview(page).get_by_text("Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == LINE
    store.all_failures[0]["text"] = "4 deaths of 3 workers."
    store.change()
    overview(page).get_by_text("4 deaths of 3 workers.").wait_for()
    page.wait_for_function(
        """() => {
          let node = document.activeElement;
          while (node?.shadowRoot?.activeElement) node = node.shadowRoot.activeElement;
          return node?.dataset?.copy !== undefined;
        }"""
    )


@pytest.mark.slow
def test_figures_change_without_moving_anything(look, show):
    store = fake_store.busy()
    page = look(show(store), width=900)
    overview(page).get_by_text("1.22 GiB").first.wait_for()
    page.wait_for_timeout(500)
    page.evaluate(WATCH_SHIFTS)
    for step in range(1, 6):
        for known in store.all_prefixes:
            known["storage"]["managed"] //= 2
            known["execution"]["executing"] = step * 2**20
        for known in store.all_workers:
            known["breakdown"]["managed"] //= 2
            known["breakdown"]["process"] = sum(
                known["breakdown"][part]
                for part in ("managed", "transfer", "executing", "retained", "baseline")
            )
        store.change()
        page.wait_for_timeout(250)
    overview(page).get_by_text("worker-2, the fullest").wait_for()
    assert page.evaluate("window.shifted") < 0.01


def test_rows_of_who_holds_it_lead_to_their_prefix_and_its_failure(look, show):
    page = look(show(failing(2)))
    table = overview(page).locator("table.md-holders")
    table.get_by_role("link", name="6 deaths").click()
    page.get_by_role("heading", name="Failure 2").wait_for()
    assert page.url.endswith("#failure-2")
    page.go_back()
    table.get_by_role("link", name="random_sample").click()
    page.get_by_role("heading", name="random_sample").wait_for()
    assert page.url.endswith("#prefix-random_sample")
