"""One time axis: a click, a drag and the keyboard choose the moment that is shown."""

import os
import re
import subprocess
import sys

import pytest
import stories
from playwright.sync_api import expect
from recorded_runs import record_story
from stories import NOW

pytestmark = pytest.mark.browser

#: Finds the figure of a chart, by its name.
FIGURE = "Bokeh.documents[0].get_model_by_name(`memdash-chart-${chart}`)"

#: Says what of a figure marks the moment that is chosen.
CHOSEN = """figure.center.filter((one) => one.visible
  && (one.type === "BoxAnnotation" || (one.type === "Span" && one.line_width === 2)))"""

AT = re.compile(r"[?&]at=([0-9.]+?)(?:\.\.([0-9.]+))?(?:#|$)")

RUN = "20261129-070000-abcdef"

#: The chart of the cluster and the strips beneath it: as wide, on one axis.
CHARTS = ("history", "strips")


def moment(page):
    """Return what the address says is shown: begin and end; None for now."""
    found = AT.search(page.url)
    if found is None:
        return None
    start = float(found[1])
    return start, float(found[2] or start)


def frame(page, chart):
    """Return where a chart's inner frame is on the page, and its axis in seconds."""
    page.locator(f"[data-chart={chart}]").scroll_into_view_if_needed()
    return page.evaluate(
        f"""chart => {{ const model = {FIGURE};"""
        """  const view = Bokeh.index.find_one_by_id(model.id);
             const box = view.canvas_view.el.getBoundingClientRect();
             const {left, top, width, height} = view.frame.bbox;
             return {left: box.left + left, top: box.top + top, width, height,
                     start: model.x_range.start / 1000, end: model.x_range.end / 1000};
           }""",
        chart,
    )


def place(page, chart, share, down=0.5):
    found = frame(page, chart)
    x = found["left"] + share * found["width"]
    time = found["start"] + share * (found["end"] - found["start"])
    return x, found["top"] + down * found["height"], time


def wait_for_moment(page, shown=True):
    page.wait_for_function(
        "shown => location.search.includes('at=') === shown", arg=shown
    )


def marked(page, chart):
    """Return the moment that a chart has marked, in seconds; None without one."""
    return page.evaluate(
        f"""chart => {{ const figure = {FIGURE}; const [found] = {CHOSEN};
          return found === undefined ? null : found.type === "Span"
            ? [found.location / 1000, found.location / 1000]
            : [found.left / 1000, found.right / 1000]; }}""",
        chart,
    )


def wait_for_mark(page, expected):
    page.wait_for_function(
        f"""expected => {{ const chart = "history"; const figure = {FIGURE};
          return ({CHOSEN}).length > 0 === expected; }}""",
        arg=expected,
    )


@pytest.mark.parametrize("width", [pytest.param(380, marks=pytest.mark.corpora), 1400])
def test_charts_stand_beneath_each_other_exactly(look, show, width):
    page = look(show(stories.after_incident()), width=width)
    first, second = (frame(page, chart) for chart in CHARTS)
    for name in ("left", "width", "start", "end"):
        assert second[name] == pytest.approx(first[name], abs=1.0), name
    wide = page.evaluate("document.documentElement.scrollWidth > innerWidth")
    assert not wide


@pytest.mark.parametrize("width", [380, pytest.param(1400, marks=pytest.mark.corpora)])
def test_click_shows_an_instant_and_escape_goes_back_to_now(look, show, width):
    page = look(show(stories.busy()), width=width)
    total = page.locator(".md-summary .md-big").first
    now = total.inner_text()
    x, y, time = place(page, "history", 0.5)
    page.mouse.click(x, y)
    wait_for_moment(page)
    assert moment(page)[0] == pytest.approx(time, abs=1.0)
    page.get_by_text(re.compile(r"Showing \d\d:\d\d:\d\d\.")).wait_for()
    expect(total).not_to_have_text(now)
    assert [marked(page, chart) for chart in CHARTS] == [
        [pytest.approx(moment(page)[0])] * 2
    ] * 2
    page.keyboard.press("Escape")
    wait_for_moment(page, shown=False)
    page.locator("#at").wait_for(state="hidden")
    wait_for_mark(page, expected=False)


@pytest.mark.slow
def test_drag_shows_the_most_of_a_span_and_zooms_to_it(look, show):
    page = look(show(stories.busy()))
    (x, y, start), (until, _, end) = (place(page, "history", s) for s in (0.4, 0.6))
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(until, y, steps=5)
    page.mouse.up()
    wait_for_moment(page)
    assert moment(page) == pytest.approx((start, end), abs=1.0)
    page.get_by_text("Showing the most from").wait_for()
    wait_for_mark(page, expected=True)
    assert marked(page, "strips") == pytest.approx(list(moment(page)))
    page.get_by_role("button", name="Zoom to it").click()
    page.get_by_role("button", name="Leave zoom").wait_for()
    shown = frame(page, "strips")
    assert (shown["start"], shown["end"]) == pytest.approx(moment(page), abs=0.01)
    page.get_by_role("button", name="Leave zoom").click()
    page.wait_for_function(
        """now => Bokeh.documents[0].get_model_by_name("memdash-chart-history")
             .x_range.end === now""",
        arg=NOW * 1000,
    )


@pytest.mark.slow
def test_keyboard_chooses_and_moves_the_moment(look, show):
    page = look(show(stories.busy()))
    page.keyboard.press("ArrowLeft")  # belongs to the page while nothing is chosen
    assert moment(page) is None
    page.locator("[data-chart=history]").focus()
    page.keyboard.press("ArrowLeft")
    wait_for_moment(page)
    first = moment(page)[0]
    assert NOW - 2 < first < NOW
    page.keyboard.press("Shift+ArrowLeft")
    page.wait_for_function("at => !location.search.includes(at)", arg=f"{first:.3f}")
    assert moment(page)[0] < first - 3
    page.keyboard.press("Escape")
    wait_for_moment(page, shown=False)


@pytest.mark.slow
def test_address_carries_the_moment_and_back_goes_to_the_one_before(look, show):
    url = show(stories.busy())
    page = look(f"{url}?at={NOW - 60:.3f}#workers")
    page.get_by_text(re.compile("Showing")).wait_for()
    page.get_by_role("link", name="Overview").click()
    assert moment(page) == (NOW - 60, NOW - 60)
    wait_for_mark(page, expected=True)
    x, y, _ = place(page, "history", 0.9)
    page.mouse.click(x, y)
    page.wait_for_function("at => !location.search.includes(at)", arg=f"{NOW - 60:.3f}")
    page.go_back()
    page.wait_for_function("at => location.search.includes(at)", arg=f"{NOW - 60:.3f}")
    page.reload()
    page.wait_for_selector("html[data-memdash=ready]")
    page.get_by_text(re.compile("Showing")).wait_for()


@pytest.mark.slow
def test_strip_opens_its_worker_at_the_moment_that_was_clicked(look, show):
    page = look(show(stories.busy()))
    x, y, time = place(page, "strips", 0.5, down=1 / 8)
    page.mouse.click(x, y)
    page.wait_for_url(re.compile("#worker-"))
    wait_for_moment(page)
    assert moment(page)[0] == pytest.approx(time, abs=1.0)
    page.go_back()
    page.wait_for_url(re.compile(r"memdash$"))
    wait_for_moment(page, shown=False)


@pytest.mark.slow
def test_cross_opens_the_incident(look, show):
    page = look(show(stories.after_incident()))
    link, share, down = page.evaluate(
        f"""() => {{
          const chart = "strips"; const figure = {FIGURE};
          const {{data}} = figure.renderers.map((one) => one.data_source)
            .find((one) => one.data.row !== undefined);
          const {{x_range: x, y_range: y}} = figure;
          return [data.link[0], (data.time[0] - x.start) / (x.end - x.start),
                  (data.row[0] - y.end) / (y.start - y.end)]; }}"""
    )
    x, y, _ = place(page, "strips", share, down)
    page.mouse.click(x, y)
    page.wait_for_url(re.compile(f"#{link}$"))


@pytest.mark.slow
def test_pointer_is_not_sent_to_the_server(look, show):
    page = look(show(stories.busy()))
    page.evaluate(
        """() => { window.sent = 0;
             Bokeh.documents[0].on_change((event) => {
               if (event.attr === "location") { window.sent += 1; } }); }"""
    )
    x, y, _ = place(page, "history", 0.2)
    page.mouse.move(x, y)
    page.mouse.move(x + 200, y, steps=20)
    assert page.evaluate("window.sent") == 0


@pytest.fixture
def recorded(tmp_path):
    """Serve a recorded run with the command; give its page's address."""
    record_story(tmp_path / RUN, stories.after_incident.__wrapped__)
    command = [sys.executable, "-m", "dask", "memdash", "runs", "serve", str(tmp_path)]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as process:
        try:
            line = process.stdout.readline()
            yield f"{re.search(r'http://[^/]+', line)[0]}/runs/{RUN}/memdash"
        finally:
            process.terminate()


@pytest.mark.slow
def test_record_has_the_strips_and_one_moment_with_its_slider(look, recorded):
    page = look(recorded)
    x, y, time = place(page, "history", 0.3)
    page.mouse.click(x, y)
    wait_for_moment(page)
    assert moment(page)[0] == pytest.approx(time, abs=1.0)
    slider = page.locator("#record-at")
    page.wait_for_function(
        "at => Math.abs(document.querySelector('#record-at').value - at) < 0.01",
        arg=moment(page)[0],
    )
    slider.focus()
    page.keyboard.press("ArrowLeft")
    page.wait_for_function(
        "at => !location.search.includes(at)", arg=f"{moment(page)[0]:.3f}"
    )
    wait_for_mark(page, expected=True)
    page.get_by_role("button", name="Back to the end").click()
    wait_for_moment(page, shown=False)
    page.wait_for_function(
        "() => { const {value, max} = document.querySelector('#record-at');"
        " return max - value < 0.02; }"
    )
