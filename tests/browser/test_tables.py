"""Tables of the page in a real browser: columns, totals, rows, narrow pages."""

import fake_parts
import fake_store
import pytest
from stories import MiB

pytestmark = pytest.mark.browser


def table(page, name):
    found = page.locator(f"[data-table={name}]")
    found.locator(".md-rows tr").first.wait_for()
    return found


def heads(found):
    return found.locator("thead tr:last-child th").all_inner_texts()


def wide_store():
    """Make a store with long names and figures in every column."""
    store = fake_store.after_incident()
    store.all_prefixes[0]["prefix"] = "read_parquet-operation-with-a-long-name"
    store.all_workers[0]["name"] = "worker-on-a-host.with.a.long.name.example.org-0001"
    for failed in store.all_failures:
        failed["responsible"]["prefix"] = store.all_prefixes[0]["prefix"]
    return store


@pytest.mark.parametrize(
    "width",
    [
        380,
        *(pytest.param(width, marks=pytest.mark.corpora) for width in (900, 1920)),
        1400,
    ],
)
def test_no_column_is_out_of_sight(look, show, width):
    page = look(show(wide_store()), width=width)
    for name, tab in (("workers",) * 2, ("tasks",) * 2, ("failures", "incidents")):
        page.evaluate("tab => { location.hash = tab; }", tab)
        found = table(page, name)
        for pressed in found.locator(".md-sets button").all() or [None]:
            if pressed is not None and pressed.is_visible():
                pressed.click()
            scrolled = found.locator(".md-scroll")
            over = scrolled.evaluate("e => e.scrollWidth - e.clientWidth")
            assert over <= 1, (name, heads(found))
            cells = found.locator(".md-rows tr:first-child > *")
            assert cells.count() <= 8
            for box in filter(None, (cell.bounding_box() for cell in cells.all())):
                assert box["x"] + box["width"] <= width
        assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.slow
def test_columns_are_chosen_by_set_and_one_by_one_and_kept(look, show):
    page = look(show(fake_store.busy()) + "#tasks")
    found = table(page, "tasks")
    assert "Threads that fit" in heads(found)
    found.get_by_role("button", name="Storage", exact=True).click()
    assert "Pinned" in heads(found)
    assert "Threads that fit" not in heads(found)
    found.get_by_text("Columns", exact=True).click()
    found.get_by_label("Left behind").check()
    found.get_by_label("Pinned").uncheck()
    assert "Left behind" in heads(found)
    assert "Pinned" not in heads(found)
    page.keyboard.press("Escape")
    found.get_by_label("Left behind").wait_for(state="hidden")
    page.reload()
    page.wait_for_selector("html[data-memdash=ready]")
    found = table(page, "tasks")
    assert "Left behind" in heads(found), "the browser keeps it"
    found.get_by_text("Columns", exact=True).click()
    found.get_by_role("button", name="Usual columns").click()
    assert "Threads that fit" in heads(found)


@pytest.mark.slow
def test_row_of_totals_stands_first_and_follows(look, show):
    page = look(show(fake_store.busy()) + "#workers")
    row = table(page, "workers").locator(".md-totals tr")
    row.get_by_text("All 4 workers").wait_for()
    row.get_by_text("2.87 GiB").wait_for()
    row.get_by_text("72 %").wait_for()
    page.evaluate("location.hash = 'tasks'")
    row = table(page, "tasks").locator(".md-totals tr")
    row.get_by_text("2.87 GiB").wait_for()
    row.get_by_text("486 MiB unexplained").first.wait_for()


def test_a_click_anywhere_on_a_row_opens_it_and_one_on_a_name_what_it_names(look, show):
    page = look(show(fake_store.failing(2)) + "#tasks")
    rows = table(page, "tasks").locator(".md-rows tr")
    rows.filter(has_text="rechunk-split").locator("td").nth(2).click()
    page.get_by_role("heading", name="rechunk-split").wait_for()
    assert page.url.endswith("#prefix-rechunk-split")
    page.evaluate("location.hash = 'incidents'")
    named = table(page, "failures").locator("td a[href^='#prefix-']").first
    name = named.inner_text()
    named.click()
    page.locator("[data-tab=tasks]").get_by_role("heading", name=name).wait_for()


@pytest.mark.slow
def test_figures_move_without_moving_the_table(look, show):
    store = fake_store.busy(3)
    page = look(show(store) + "#workers")
    found = table(page, "workers")
    places = """e => [...e.querySelectorAll("th, td")].map((cell) => {
        const box = cell.getBoundingClientRect(); return [box.x, box.y]; })"""
    before = found.evaluate(places)
    for size in (7, 333, 888):
        store.all_workers[1]["breakdown"] = fake_parts.breakdown(size * MiB, *[0] * 6)
        store.change()
        found.get_by_text(f"{size} MiB").first.wait_for()
        assert found.evaluate(places) == before


@pytest.mark.slow
def test_narrow_page_sorts_by_a_choice_and_shows_every_figure_with_its_name(look, show):
    page = look(show(fake_store.busy()) + "#tasks", width=380)
    found = table(page, "tasks")
    found.get_by_label("Sort tasks").select_option(label="Executing now")
    found.locator(".md-rows tr").first.get_by_text("sum").wait_for()
    label = "e => getComputedStyle(e, '::before').content"
    said = [cell.evaluate(label) for cell in found.locator("tr:first-child td").all()]
    assert '"Threads that fit"' in said
    shown = found.locator(".md-rows tr").first.locator("td:visible")
    assert "–" not in shown.all_inner_texts(), "what is not known takes no room"
