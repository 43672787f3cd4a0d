"""Tabs, tables and time on the page, in a real browser."""

import re
from functools import partial

import fake_parts
import fake_store
import pytest
from stories import NOW, MiB

pytestmark = pytest.mark.browser

#: A case that `make slow` runs, or `make corpora`.
slow = partial(pytest.param, marks=pytest.mark.slow)
corpora = partial(pytest.param, marks=pytest.mark.corpora)


def sections(page):
    return page.get_by_role("navigation", name="Sections")


def shown(page, tab):
    """Return a tab's panel, once it is the one that is shown."""
    panel = page.locator(f"[data-tab={tab}]")
    panel.wait_for()
    assert page.locator("[data-tab]:visible").count() == 1
    return panel


def many_workers(number):
    store = fake_store.busy(number)
    for index, worker in enumerate(store.all_workers):
        worker["breakdown"] = fake_parts.breakdown(index * MiB, *[0] * 5, 10 * MiB)
    return store


# --- addresses -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "tab", "said"),
    [
        ("", "overview", "outputs kept in memory"),
        corpora("#workers", "workers", "Click a worker"),
        slow("#worker-tcp%3A%2F%2F10.0.0.2%3A4000", "workers", "1002 on 10.0.0.2"),
        slow("#prefix-sum", "tasks", "Sizes of its outputs"),
        ("#incident-2", "incidents", "Incident 2: killed by the kernel"),
        corpora("#failures", "incidents", "Every single event"),
        corpora("#graph-graph-7", "order", "graph-7"),
        corpora("#limits", "limits", "No limits to check yet"),
        corpora("#nonsense", "overview", "outputs kept in memory"),
        ("#worker-%E0%A4%A", "workers", "is known"),
    ],
)
def test_every_tab_and_thing_has_an_address(look, show, address, tab, said):
    store = fake_store.after_incident()
    store.all_graphs = [fake_parts.graph(7)]
    page = look(show(store) + address)
    shown(page, tab).get_by_text(said).first.wait_for()
    current = sections(page).locator("[aria-current=page]")
    title = {"incidents": "failures"}.get(tab, tab)
    assert current.inner_text().casefold().startswith(title)


@pytest.mark.parametrize(
    ("tab", "address", "said"),
    [
        slow("workers", "worker-tcp%3A%2F%2F10.0.0.2%3A4000", "1002 on 10.0.0.2"),
        slow("tasks", "prefix-sum", "Sizes of its outputs"),
        ("tasks", "other-global%20app.CACHE", "What a variable of an"),
        slow("incidents", "failure-1", "Failure 1:"),
        ("incidents", "incident-2", "Incident 2:"),
    ],
)
def test_what_is_chosen_far_down_is_seen_at_once_and_escape_closes_it(
    look, show, tab, address, said
):
    store = fake_store.after_incident()
    store.all_failures = fake_store.failing(10).all_failures
    store.all_others = [fake_parts.other("global", "app.CACHE", 300 * MiB)]
    page = look(f"{show(store)}#{tab}", width=380)
    panel = shown(page, tab)
    panel.locator("[data-table] .md-rows tr").first.wait_for()
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    scrolled = page.evaluate("scrollY")
    page.evaluate("address => { location.hash = address; }", address)
    story = panel.get_by_text(re.compile(f"^{re.escape(said)}")).first
    story.wait_for()
    top = story.bounding_box()["y"]
    assert 0 <= top < 1000, "without scrolling"
    assert page.evaluate("scrollY") == scrolled, "the list stays where it was"
    assert page.url.endswith(f"#{address}"), "which can be shared"
    page.keyboard.press("Escape")
    story.wait_for(state="hidden")
    assert page.url.endswith(f"#{tab}")


@pytest.mark.slow
def test_escape_in_the_help_closes_the_help_alone(look, show):
    page = look(f"{show(fake_store.after_incident())}#incident-2")
    panel = shown(page, "incidents")
    panel.get_by_text("Incident 2:").first.wait_for()
    page.keyboard.press("?")
    page.get_by_role("heading", name="What the terms mean").wait_for()
    page.keyboard.press("Escape")
    page.get_by_role("heading", name="What the terms mean").wait_for(state="hidden")
    assert page.url.endswith("#incident-2")


@pytest.mark.slow
def test_tab_counts_failures_rather_than_their_incidents(look, show):
    store = fake_store.failing(3)
    assert len(store.all_incidents) != 3
    page = look(show(store))
    count = sections(page).locator("[data-fact=failures]")
    count.get_by_text("3", exact=True).wait_for()
    page.get_by_text("3 failures").wait_for()


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", corpora("dark")])
def test_bars_on_a_narrow_page_leave_room_and_their_ticks_stand_apart(
    look, show, scheme
):
    page = look(show(fake_store.busy()), width=380, scheme=scheme)
    page.wait_for_function(
        """() => ["workers"].every((name) => {
          const [document] = Bokeh.documents;
          const figure = document.get_model_by_name(`memdash-chart-${name}`);
          const view = figure && Bokeh.index.find_one_by_id(figure.id);
          return view && view.frame.bbox.width > 100
            && figure.below[0].ticker.desired_num_ticks === 2;
        })"""
    )
    for tab in ("workers", "tasks", "incidents", "order", "limits"):
        page.evaluate("tab => { location.hash = tab; }", tab)
        shown(page, tab)
        assert page.evaluate("document.documentElement.scrollWidth") <= 380, tab


def test_going_back_leads_through_the_tabs(look, show):
    page = look(show(fake_store.after_incident()))
    sections(page).get_by_text("Tasks").click()
    panel = shown(page, "tasks")
    panel.get_by_role("link", name="rechunk-split").click()
    panel.get_by_role("heading", name="rechunk-split").wait_for()
    page.go_back()
    panel.get_by_role("heading", name="rechunk-split").wait_for(state="hidden")
    page.go_back()
    shown(page, "overview")


@pytest.mark.slow
def test_banner_of_a_degraded_memdash_stands_above_every_tab(look, show):
    page = look(show(fake_store.degraded()))
    for tab in ("Overview", "Workers", "Tasks", "Failures", "Order", "Limits"):
        sections(page).get_by_text(tab).click()
        page.get_by_text("MemDash sees less than it should.").wait_for()


# --- tables --------------------------------------------------------------------------


def test_table_is_sorted_searched_and_paged_on_the_server(look, show):
    page = look(show(many_workers(120)) + "#workers")
    rows = page.locator("[data-table=workers] .md-rows tr")
    page.get_by_text("1 to 50 of 120").wait_for()
    assert rows.count() == 50
    page.get_by_role("button", name="Next").click()
    page.get_by_text("51 to 100 of 120").wait_for()
    page.get_by_role("button", name="Process", exact=True).click()
    page.get_by_text("1 to 50 of 120").wait_for()
    rows.first.get_by_text("129 MiB").first.wait_for()
    page.locator("th[aria-sort=descending]").get_by_text("Process").wait_for()
    page.get_by_role("button", name="Process", exact=True).click()
    rows.first.get_by_text("10 MiB").first.wait_for()
    page.locator("th[aria-sort=ascending]").get_by_text("Process").wait_for()
    page.get_by_role("searchbox", name="Search workers").fill("worker-77")
    page.locator("[data-table=workers] .md-rows tr:nth-child(2)").wait_for(
        state="detached"
    )
    assert "worker-77" in rows.inner_text()
    page.get_by_role("searchbox", name="Search workers").fill("no such worker")
    page.get_by_text("Nothing matches").wait_for()


@pytest.mark.slow
def test_keyboard_focus_stays_while_figures_move(look, show):
    store = many_workers(4)
    page = look(show(store) + "#workers")
    link = page.get_by_role("link", name="worker-3")
    link.focus()
    for size in (300, 400, 500):
        store.all_workers[2]["breakdown"] = fake_parts.breakdown(size * MiB, *[0] * 6)
        store.change()
        page.locator("td", has_text=f"{size} MiB").first.wait_for()
        assert page.evaluate("document.activeElement.textContent") == "worker-3"
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="worker-3").wait_for()
    assert page.url.endswith("#worker-tcp%3A%2F%2F10.0.0.3%3A4000")


@pytest.mark.slow
def test_worker_that_has_left_stays_readable(look, show):
    store = fake_store.busy()
    gone = fake_parts.worker(9, status="left", last_seen=NOW)
    store.all_departed = [gone]
    page = look(show(store) + "#workers")
    page.get_by_role("link", name="worker-1", exact=True).wait_for()
    assert page.get_by_role("link", name="worker-9").count() == 0
    page.get_by_role("button", name="Show 1 worker that has left").click()
    page.get_by_role("link", name="worker-9").click()
    page.get_by_role("heading", name="worker-9 (left at").wait_for()
    page.locator("[data-chart=worker] canvas").first.wait_for()
    page.get_by_text("The chart ends when the worker left").wait_for()
    page.get_by_role("button", name="Hide 1 worker that has left").click()
    page.get_by_role("link", name="worker-9").wait_for(state="detached")


# --- time ----------------------------------------------------------------------------


def grow(store, size):
    for worker in store.all_workers:
        worker["breakdown"] = fake_parts.breakdown(size * MiB, *[0] * 6)
    store.change()


def test_pause_holds_all_figures_until_resumed(look, show):
    store = fake_store.busy()
    page = look(show(store))
    total = page.locator(".md-big").first
    grow(store, 100)
    page.locator(".md-big", has_text="400 MiB").first.wait_for()
    asked = page.get_by_role("button", name="Pause")
    asked.click()
    page.get_by_text("Paused. Press Resume").wait_for()
    store.asked.clear()
    grow(store, 200)
    # What the reader asks for is still done, so the server has heard of the change.
    sections(page).get_by_text("Workers").click()
    page.locator("[data-table=workers] td", has_text="200 MiB").first.wait_for()
    sections(page).get_by_text("Overview").click()
    page.locator(".md-big", has_text="800 MiB").first.wait_for()
    before = len(store.asked)
    grow(store, 300)
    page.get_by_role("button", name="10 min").click()
    page.locator(".md-big", has_text="1.17 GiB").first.wait_for()
    assert len(store.asked) > before
    page.get_by_role("button", name="Resume").click()
    grow(store, 50)
    page.locator(".md-big", has_text="200 MiB").first.wait_for()
    assert total.inner_text().startswith("200 MiB")


def test_a_page_that_nobody_sees_is_drawn_when_it_is_seen_again(look, show):
    store = fake_store.busy()
    url = show(store)
    page, other = look(url), look(url)
    total = page.locator(".md-big").first
    behind = """hidden => {
        Object.defineProperty(document, "hidden", {value: hidden, configurable: true});
        document.dispatchEvent(new Event("visibilitychange"));
    }"""
    page.evaluate(behind, True)
    grow(store, 100)
    page.get_by_role("button", name="10 min").click()  # the server has heard of both
    page.locator(".md-big", has_text="400 MiB").first.wait_for()
    grow(store, 200)
    other.locator(".md-big", has_text="800 MiB").first.wait_for()
    assert total.inner_text().startswith("400 MiB")
    page.evaluate(behind, False)
    page.locator(".md-big", has_text="800 MiB").first.wait_for()


def axis(page):
    return page.evaluate(
        """() => { const figure = Bokeh.documents[0].get_model_by_name(
             "memdash-chart-history");
           return [figure.x_range.start, figure.x_range.end]; }"""
    )


def wait_for_axis(page, condition):
    page.wait_for_function(
        """condition => { const x = Bokeh.documents[0].get_model_by_name(
             "memdash-chart-history").x_range;
           return eval(condition)((x.end - x.start) / 1000); }""",
        arg=condition,
    )


@pytest.mark.slow
def test_length_of_the_time_axis_is_chosen(look, show):
    page = look(show(fake_store.busy()))
    wait_for_axis(page, "seconds => seconds === 118")
    page.get_by_role("button", name="1 min").click()
    wait_for_axis(page, "seconds => seconds === 60")
    assert page.get_by_role("button", name="1 min").get_attribute("aria-pressed")
    page.get_by_role("button", name="All").click()
    wait_for_axis(page, "seconds => seconds === 118")


@pytest.mark.slow
def test_only_new_points_are_sent(look, show):
    store = fake_store.busy()
    page = look(show(store))
    page.evaluate(
        """() => { const source = Bokeh.documents[0].get_model_by_name(
             "memdash-chart-history").renderers[1].data_source;
           window.replaced = 0;
           source.properties.data.change.connect(() => { window.replaced += 1; });
           window.points = () => source.data.time.length; }"""
    )
    for number in range(3):
        store.points.append(fake_parts.breakdown(number * MiB, *[0] * 6))
        store.points.pop(0)  # so that the newest instant moves on
        fake_store_now(store)
        store.change()
        page.wait_for_function("n => window.points() === n", arg=120 + number)
    assert page.evaluate("window.replaced") == 0


def fake_store_now(store):
    """Let the store's newest reading be a second later than before."""
    store.later = getattr(store, "later", 0) + 1
    history, later = type(store).history, store.later

    def moved(worker=None, since=None, points=300):
        before = None if since is None else since - later
        answer = history(store, worker, before, points)
        return {**answer, "time": [time + later for time in answer["time"]]}

    store.history = moved


# --- connection ----------------------------------------------------------------------


@pytest.mark.slow
def test_page_goes_on_after_a_lost_connection(look, show):
    store = many_workers(4)
    page = look(show(store) + "#workers")
    sockets = []

    def pass_on(socket):
        socket.connect_to_server()
        sockets.append(socket)

    page.route_web_socket(re.compile("/memdash/ws"), pass_on)
    page.reload()
    page.locator("[data-table=workers] td", has_text="12 MiB").first.wait_for()
    page.get_by_role("searchbox", name="Search workers").fill("worker-3")
    page.get_by_text("of 1 that match").first.wait_for()
    asked = []

    def hold_back(route):
        asked.append(route)

    page.route("**/memdash/api/cluster", hold_back)
    assert page.locator("#lost").is_hidden()
    with page.expect_request("**/memdash/api/cluster"):
        sockets[-1].close(code=1001, reason="the network is away")
    page.get_by_text("The connection to the scheduler is lost").wait_for()
    with page.expect_event("load"):  # it loads itself again
        asked.pop().continue_()
    page.wait_for_selector("html[data-memdash=ready]")
    assert page.locator("#lost").is_hidden()
    assert page.get_by_role("searchbox", name="Search workers").input_value()
    for size in (300, 400):
        store.all_workers[2]["breakdown"] = fake_parts.breakdown(size * MiB, *[0] * 6)
        store.change()
        page.locator("[data-table=workers] td", has_text=f"{size} MiB").first.wait_for()
    assert page.locator("[data-table=workers] .md-rows tr").count() == 1
    sections(page).get_by_text("Limits").click()
    shown(page, "limits").get_by_text("No limits to check yet").wait_for()


def test_page_that_gets_no_figures_says_why(look, show):
    page = look(show(fake_store.busy(2)))
    page.route_web_socket(re.compile("/memdash/ws"), lambda socket: None)
    page.reload()
    page.get_by_text("a proxy between this browser and the scheduler").wait_for()
    assert page.locator("#lost").is_hidden()


# --- many workers --------------------------------------------------------------------


@pytest.mark.slow
def test_map_shows_every_worker_of_a_large_cluster_and_leads_to_it(look, show):
    page = look(show(many_workers(120)))
    chart = page.locator("[data-chart=map]")
    chart.get_by_text("Of 120 processes, at 80 % of the limit or more: 0").wait_for()
    figure = chart.locator(".md-chart")
    figure.scroll_into_view_if_needed()
    box = figure.bounding_box()
    # 40 cells a row, three rows: the third cell of the second row is worker 43
    page.mouse.move(box["x"] + box["width"] * 2.5 / 40, box["y"] + box["height"] / 2)
    hovered = page.locator(".bk-Tooltip .bk-tooltip-content").first
    hovered.wait_for()
    assert "worker-43" in hovered.inner_text()
    page.mouse.down()
    page.mouse.up()
    shown(page, "workers").get_by_role("heading", name="worker-43").wait_for()


@pytest.mark.slow
def test_small_cluster_has_no_map(look, show):
    page = look(show(fake_store.busy()))
    page.get_by_text("in 4 workers").wait_for()
    assert not page.get_by_role("heading", name="All workers").is_visible()


# --- order and help ------------------------------------------------------------------


@pytest.mark.slow
def test_click_on_the_order_says_what_was_held_there(look, show):
    store = fake_store.busy()
    store.all_graphs = [fake_parts.graph(1)]
    page = look(show(store) + "#order")
    page.get_by_text(
        "The cluster stored 3.03 GiB where the order needs 0.68 GiB"
    ).wait_for()
    page.get_by_text("random_sample in chunks half as large").wait_for()
    chart = page.locator("[data-chart=order]")
    figure = chart.locator(".md-chart")
    figure.scroll_into_view_if_needed()
    box = figure.bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    heading = page.get_by_role("heading", name=re.compile("^Stored when .* tasks have"))
    heading.wait_for()
    row = page.locator("tr", has_text="rechunk-split 2.44 GiB")
    row.get_by_text("2.25 GiB").wait_for()


@pytest.mark.slow
def test_help_opens_by_button_and_key_and_explains_every_part(look, show):
    page = look(show(fake_store.busy()))
    page.get_by_role("button", name="Help").click()
    panel = page.get_by_role("dialog", name="What the terms mean")
    for term in ("managed", "retained", "run-ahead", "suspect", "terminate"):
        panel.get_by_text(term, exact=True).wait_for()
    page.keyboard.press("Escape")
    panel.wait_for(state="hidden")
    page.keyboard.press("?")
    panel.wait_for()
    panel.get_by_role("button", name="Close").click()
    panel.wait_for(state="hidden")
    sections(page).get_by_text("Workers").click()
    page.get_by_role("searchbox", name="Search workers").press("?")
    assert not panel.is_visible(), "a question mark in a search is none for help"


@pytest.mark.slow
def test_everything_that_can_be_used_has_a_name_and_can_be_reached(look, show):
    store = fake_store.after_incident()
    store.all_graphs = [fake_parts.graph(1)]
    page = look(show(store))
    for tab in ("overview", "workers", "tasks", "incidents", "order", "limits"):
        page.evaluate("tab => { location.hash = tab; }", tab)
        shown(page, tab)
        nameless = page.evaluate(
            """() => [...document.querySelectorAll("a, button, input")]
                 .filter((e) => e.checkVisibility() && !(e.getAttribute("aria-label")
                   || e.textContent.trim() || e.title))
                 .map((e) => e.outerHTML)"""
        )
        assert nameless == []
        charts = page.locator(f"[data-tab={tab}] [data-chart]")
        for chart in charts.all():
            assert len(chart.get_attribute("aria-label")) > 20
    page.evaluate("location.hash = 'workers'")
    page.locator("body").focus()
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate(
                "document.activeElement.textContent || document.activeElement.type"
            )
        )
    wanted = {"Overview", "Limits", "Pause", "Help", "search", "Process", "worker-1"}
    assert wanted <= reached


@pytest.mark.parametrize("scheme", ["light", slow("dark")])
def test_axe_finds_nothing_serious_on_any_tab(look, show, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    store = fake_store.after_incident()
    store.all_graphs = [fake_parts.graph(1)]
    store.all_limits = fake_store.wrong_limits().all_limits
    store.all_workers = many_workers(60).all_workers  # so that there is a map
    page = look(show(store), scheme=scheme)
    for address, said in (
        ("overview", "outputs kept in memory"),
        ("worker-tcp%3A%2F%2F10.0.0.3%3A4000", "1003 on 10.0.0.3"),
        ("prefix-sum", "Sizes of its outputs"),
        ("incident-4", "Tasks that were running"),
        ("order", "What if"),
        ("limits", "From the machine to the worker"),
    ):
        page.evaluate("address => { location.hash = address; }", address)
        page.get_by_text(said).locator("visible=true").first.wait_for()
        found = axe.run(page).response["violations"]
        serious = [v for v in found if v["impact"] in ("serious", "critical")]
        assert serious == [], address
