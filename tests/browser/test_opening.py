"""What a reader sees while the page opens: nothing that is there moves."""

import fake_parts
import fake_store
import pytest

pytestmark = pytest.mark.browser

#: Adds up from the start by how much what is on the page has moved by itself, and names
#: what it was.
WATCH_SHIFTS = """
  window.shifts = [];
  new PerformanceObserver((list) => {
    for (const {value, sources, hadRecentInput} of list.getEntries()) {
      const what = sources.map(({node}) => node?.outerHTML?.slice(0, 80) ?? "text");
      if (!hadRecentInput) window.shifts.push({value, what});
    }
  }).observe({type: "layout-shift", buffered: true});
"""

#: Waits until neither texts nor charts have changed for five frames.
UNTIL_QUIET = """() => new Promise((quiet) => {
  let [heights, still] = ["", 0];
  const look = () => {
    const all = [...document.querySelectorAll("main *")];
    const now = all.map((one) => one.scrollHeight).join();
    still = now === heights ? still + 1 : 0;
    heights = now;
    if (still < 5) requestAnimationFrame(look); else quiet();
  };
  look();
})"""

SHOWN = "[data-tab]:not([hidden])"


def full():
    """Return the store of a cluster that has something to show on every tab."""
    store = fake_store.failing(3)
    store.all_failures[0]["closed"] = None
    store.all_graphs = fake_store.with_graphs().all_graphs
    store.all_limits = fake_store.wrong_limits().all_limits
    store.all_others = [fake_parts.other("global", "app.CACHE", 300 * 2**20)]
    return store


def slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("make", "width", "tab"),
    [
        (full, 380, "overview"),
        (full, 1920, "order"),
        slow(full, 1400, "overview"),
        slow(full, 1920, "overview"),
        slow(fake_store.empty, 380, "overview"),
        slow(fake_store.degraded, 380, "overview"),
        slow(full, 380, "tasks"),
        slow(full, 1400, "tasks"),
        slow(fake_store.empty, 380, "tasks"),
        slow(full, 380, "incidents"),
        slow(full, 380, "order"),
        slow(full, 380, "limits"),
        slow(full, 1920, "limits"),
        slow(full, 1400, "workers"),
    ],
)
def test_nothing_moves_while_a_page_opens(look, show, make, width, tab):
    page = look(
        f"{show(make())}#{tab}",
        width,
        before=lambda page: page.add_init_script(WATCH_SHIFTS),
    )
    page.locator(f"{SHOWN}:not([data-waits])").wait_for()
    page.evaluate(UNTIL_QUIET)
    shifts = page.evaluate("window.shifts")
    assert sum(shift["value"] for shift in shifts) < 0.01, shifts


@pytest.mark.slow
def test_nothing_moves_while_a_tab_is_shown_first(look, show):
    page = look(show(full()), before=lambda page: page.add_init_script(WATCH_SHIFTS))
    for tab in ("workers", "tasks", "incidents", "order", "limits", "overview"):
        page.evaluate("tab => { location.hash = tab; }", tab)
        page.locator(f"[data-tab={tab}]:not([hidden]):not([data-waits])").wait_for()
        page.evaluate(UNTIL_QUIET)
    shifts = page.evaluate("window.shifts")
    assert sum(shift["value"] for shift in shifts) < 0.01, shifts


@pytest.mark.parametrize(
    ("tab", "said"),
    [
        ("overview", "Loading what happened, and how it stands…"),
        slow("limits", "Whether each worker's memory limit fits its machine"),
    ],
)
def test_a_page_without_figures_yet_says_that_it_loads(look, show, tab, said):
    store = full()
    page = look(
        f"{show(store)}#{tab}",
        ready=False,
        before=lambda page: page.route_web_socket("**/*", lambda socket: None),
    )
    page.get_by_text(said).wait_for()
    assert page.locator(SHOWN).get_attribute("data-tab") == tab
    assert "Loading" in page.locator(SHOWN).inner_text()
    failures = page.get_by_role("link", name="Failures").inner_text()
    assert failures.split() == ["Failures", "3"], "what the server knew is there"
