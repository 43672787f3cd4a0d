"""Details beside their list, in a real browser: opened, kept, closed, linked."""

import threading
from pathlib import Path

import fake_parts
import fake_store
import pytest
import stories
from stories import MiB

pytestmark = pytest.mark.browser

#: Finds text that is cut, what must be scrolled sideways, what is out of the window.
LOOK = (Path(__file__).parents[2] / "benchmarks" / "page_look.js").read_text()
#: Goes to an address; the page hears of it a moment later.
GO = """hash => new Promise((gone) => {
  window.location.hash = hash;
  window.addEventListener("hashchange", () => window.setTimeout(gone), {once: true});
})"""

#: The element that has the keyboard, within shadow roots too.
FOCUSED = """() => {
  let node = document.activeElement;
  while (node?.shadowRoot?.activeElement) { node = node.shadowRoot.activeElement; }
  return node?.textContent; }"""


def details(page):
    return page.locator(".md-details:visible")


@pytest.mark.parametrize(
    "width",
    [380, pytest.param(900, marks=pytest.mark.corpora), 1400],
)
def test_details_stand_beside_their_list_which_stays_where_it_is(look, show, width):
    page = look(show(fake_store.busy(30)) + "#workers", width=width)
    row = page.locator("[data-table=workers] .md-rows tr").nth(20)
    row.scroll_into_view_if_needed()
    scrolled = page.evaluate("scrollY")
    row.locator("td").nth(1).click()
    opened = details(page)
    opened.get_by_role("heading", name="worker-21").wait_for()
    if width < 1200:
        assert page.evaluate("scrollY") == scrolled
    assert 0 <= row.bounding_box()["y"] < 1000, "its row is still in sight"
    assert page.evaluate("document.activeElement.className") == "md-card md-details"
    box = opened.bounding_box()
    assert 0 <= box["y"] < 200, "in sight"
    assert box["x"] + box["width"] <= width
    if width >= 1200:
        assert box["x"] >= row.bounding_box()["x"] + row.bounding_box()["width"]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.keyboard.press("Escape")
    opened.wait_for(state="hidden")
    assert page.url.endswith("#workers")
    assert page.evaluate("document.activeElement.textContent") == "worker-21"
    page.keyboard.press("Enter")
    opened.get_by_role("heading", name="worker-21").wait_for()
    page.go_back()
    opened.wait_for(state="hidden")
    page.go_forward()
    opened.get_by_role("heading", name="worker-21").wait_for()


def test_updates_leave_focus_scroll_and_what_is_open_alone(look, show):
    store = fake_store.busy()
    store.all_workers[1]["executing_tasks"] = [
        fake_parts.task(f"('sum', {number})") for number in range(20)
    ]
    address = "#worker-tcp%3A%2F%2F10.0.0.2%3A4000"
    page = look(show(store) + address, width=900)
    opened = details(page)
    link = opened.get_by_role("link", name="sum").nth(15)
    link.scroll_into_view_if_needed()
    link.focus()
    scrolled = opened.evaluate("e => e.scrollTop")
    assert scrolled > 0
    for step in range(1, 21):
        known = store.all_workers[1]
        known["breakdown"] = fake_parts.breakdown(step * MiB, *[0] * 6)
        for task in known["executing_tasks"]:
            task["bytes"] = step * MiB
        store.change()
        opened.get_by_text(f"{step} MiB of 1 GiB").wait_for()
    assert page.evaluate(FOCUSED) == "sum"
    assert opened.evaluate("e => e.scrollTop") == scrolled
    assert page.url.endswith(address)


@pytest.mark.slow
def test_opened_parts_of_a_story_stay_open(look, show):
    store = fake_store.failing(1)
    page = look(show(store) + "#incident-1")
    opened = details(page)
    innocent = opened.get_by_text("Not to blame: 2 tasks")
    innocent.click()
    key = store.all_incidents[-1]["innocent"]["keys"][0]
    opened.get_by_text(key).first.wait_for()
    for known in store.all_incidents:
        known["cost"] = {**known["cost"], "keys_lost": 77}
    store.change()
    opened.get_by_text("77 stored outputs").wait_for()
    assert opened.get_by_text(key).first.is_visible()


def test_bars_and_names_lead_to_details(look, show):
    page = look(show(stories.busy()))
    chart = page.locator("[data-chart=workers]")
    chart.scroll_into_view_if_needed()
    box = chart.locator(".md-chart").bounding_box()
    page.mouse.click(box["x"] + box["width"] * 0.25, box["y"] + 15)
    details(page).get_by_role("heading", name="worker-1").wait_for()
    details(page).get_by_role("link", name="sum").first.click()
    details(page).get_by_role("heading", name="sum").wait_for()
    assert page.url.endswith("#prefix-sum")


@pytest.mark.slow
def test_every_name_in_a_story_is_a_link(look, show):
    page = look(show(fake_store.failing(2)) + "#incident-3")
    opened = details(page)
    for name, address in (
        ("failure 2", "#failure-2"),
        ("worker-1", "#worker-"),
        ("rechunk-split", "#prefix-rechunk-split"),
        ("random_sample", "#prefix-random_sample"),
    ):
        link = opened.get_by_role("link", name=name).first
        assert link.get_attribute("href").startswith(address)
    opened.get_by_role("link", name="failure 2").click()
    opened.get_by_role("heading", name="Failure 2").wait_for()
    assert opened.get_by_role("link", name="worker-1").first.get_attribute("href")


@pytest.mark.slow
def test_details_that_are_not_here_yet_say_so(look, show):
    store = fake_store.after_incident()
    wanted, here = store.all_incidents[0]["id"], threading.Event()
    page = look(show(store) + "#incidents")
    page.get_by_role("heading", name="Incidents").wait_for()
    whole = store.incident

    def late(incident_id):
        here.wait(60)
        return whole(incident_id)

    store.incident = late
    page.evaluate("name => { window.location.hash = `incident-${name}`; }", wanted)
    said = page.get_by_text(f"Loading incident {wanted}…")
    said.wait_for()
    here.set()
    page.get_by_role("heading", name=f"Incident {wanted}: ").wait_for()
    said.wait_for(state="hidden")


@pytest.mark.parametrize("width", [380, pytest.param(1400, marks=pytest.mark.slow)])
def test_nothing_is_cut_or_must_be_scrolled_sideways(look, show, width):
    store = fake_store.with_graphs()
    failure, incident = store.all_failures[0]["id"], store.all_incidents[-1]["id"]
    page = look(show(store), width=width)
    for address in ("tasks", "overview", f"failure-{failure}", f"incident-{incident}"):
        page.evaluate(GO, address)
        page.locator("[data-tab]:not([hidden]):not([data-waits])").wait_for()
        assert page.evaluate(LOOK) == [], address
