"""The Failures tab, in a real browser."""

import itertools
import os

import fake_store
import pytest

#: Of twelve cases two that have each width and each scheme.
ALWAYS = {(0, 380, "dark"), (10, 1400, "light")}


@pytest.mark.parametrize(
    ("number", "width", "scheme"),
    [
        pytest.param(*case, marks=() if case in ALWAYS else pytest.mark.corpora)
        for case in itertools.product((0, 1, 10), (1400, 380), ("light", "dark"))
    ],
)
def test_failures_are_rows_and_each_opens(show, look, number, width, scheme):
    store = fake_store.failing(number) if number else fake_store.busy()
    url = show(store)
    page = look(f"{url}#incidents", width, scheme)
    rows = page.locator("[data-table=failures] .md-rows tr")
    if number:
        page.wait_for_function(
            "n => document.querySelectorAll("
            "'[data-table=failures] .md-rows tr').length >= n",
            arg=number,
        )
        assert rows.count() == number
        page.evaluate("location.hash = 'failure-1'")
        page.get_by_text("Failure 1:").wait_for()
        page.get_by_role("heading", name="What to change").wait_for()
    else:
        page.get_by_text("No incidents.").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    if folder := os.environ.get("MEMDASH_SHOTS"):
        page.screenshot(path=f"{folder}/{number}-{width}-{scheme}.png", full_page=True)


@pytest.mark.slow
def test_failure_leads_to_its_incidents_and_is_copied_as_text(show, look):
    page = look(show(fake_store.failing(2)) + "#failure-2")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    story = page.locator(".md-details")
    story.get_by_role("button", name="Copy as text").press("Enter")
    story.get_by_text("Copied").wait_for()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith("Failure 2: task given up (KilledWorker)")
    assert "To change: Make chunks smaller" in copied
    assert "Running: ('rechunk-split-abc', 37), 200 MiB (estimated)" in copied
    story.get_by_role("link", name="terminated by its nanny").first.click()
    story.get_by_role("heading", name="Incident 3").wait_for()
    story.get_by_role("heading", name="The worker's last seconds").wait_for()
    chart = page.locator("[data-chart=last-minute] canvas").first
    chart.wait_for()


@pytest.mark.parametrize("width", [pytest.param(380, marks=pytest.mark.corpora), 1400])
def test_last_seconds_show_whose_the_memory_was_and_lead_there(show, look, width):
    page = look(show(fake_store.failing(1)) + "#incident-1", width)
    page.locator("[data-chart=last-minute] canvas").first.wait_for()
    drawn = page.evaluate(
        """() => { const [doc] = Bokeh.documents;
          const chart = doc.get_model_by_name("memdash-chart-last-minute");
          const lanes = doc.get_model_by_name("memdash-chart-last-tasks");
          return [chart.visible, lanes.visible, chart.x_range.end > 0]; }"""
    )
    assert drawn == [True, True, True]
    figure = page.locator("[data-chart=last-minute] .md-chart").first
    figure.scroll_into_view_if_needed()
    box = figure.bounding_box()
    assert box["x"] + box["width"] <= width
    # what it was made of at its death: the task lies at the bottom of the bar
    place = page.evaluate(
        """() => { const view = Bokeh.index
            .find_one_by_id(Bokeh.documents[0]
              .get_model_by_name("memdash-chart-last-minute").id);
          const { left, width, top, height } = view.frame.bbox;
          const x = view.frame.x_scale, y = view.frame.y_scale;
          const bar = view.model.renderers.at(-1).data_source.data;
          return [x.compute((bar.left[0] + bar.right[0]) / 2),
                  y.compute((bar.bottom[0] + bar.top[0]) / 2), view.model.right.length];
        }"""
    )
    assert place[2] == 1
    page.mouse.click(box["x"] + place[0], box["y"] + place[1])
    story = page.locator("[data-tab=tasks] .md-details")
    story.get_by_role("heading", name="rechunk-split").wait_for()


def test_a_chart_is_saved_from_beneath_the_details_and_only_where_there_is_one(
    show, look
):
    page = look(show(fake_store.failing(1)) + "#failure-1")
    opened = page.locator(".md-details:visible")
    opened.get_by_role("heading", name="Failure 1").wait_for()
    button = opened.locator(".md-png")
    button.wait_for(state="hidden")
    opened.get_by_role("link", name="terminated by its nanny").first.click()
    opened.get_by_text("The worker's last seconds").wait_for()
    button.wait_for(state="visible")
    box, chart = button.bounding_box(), opened.locator(".md-figure").bounding_box()
    assert box["y"] >= chart["y"] + chart["height"], "on nothing that is to be read"
    names = page.locator(".md-png").evaluate_all(
        "all => all.map(one => one.getAttribute('aria-label'))"
    )
    assert "Save chart as PNG: Order" in names
