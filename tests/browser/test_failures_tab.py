"""Failures on the Incidents tab, in a real browser."""

import os

import fake_store
import pytest


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1400, 380])
@pytest.mark.parametrize("number", [0, 1, 10])
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
