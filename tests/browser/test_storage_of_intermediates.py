"""The storage of intermediates on the Overview, in a real browser."""

import pytest
import stories

pytestmark = pytest.mark.browser


@pytest.mark.slow
@pytest.mark.parametrize(
    ("width", "scheme"),
    [(380, "light"), pytest.param(1920, "dark", marks=pytest.mark.corpora)],
)
def test_the_storage_of_intermediates_has_its_place_where_a_cluster_has_one(
    look, show, width, scheme
):
    url = show(stories.storing(failed=2, error="OSError: No space left on device"))
    page = look(url, width=width, scheme=scheme)
    card = page.get_by_role("region", name="Storage of intermediates")
    card.get_by_text("2 of 25 results could not be stored").wait_for()
    card.get_by_text("Newest error: OSError: No space left on device").wait_for()
    meter = card.get_by_role(
        "img", name="Of 25 results: 20 stored, 3 pending, 2 failed"
    )
    segments = meter.locator(".md-fill").evaluate_all(
        "parts => parts.map(p => p.getBoundingClientRect().width)"
    )
    assert segments[0] > segments[1] > segments[2] > 0
    clipped = card.evaluate(
        "card => card.scrollWidth > card.clientWidth"
        " || document.documentElement.scrollWidth > innerWidth"
    )
    assert not clipped
    card.get_by_role("link", name="worker-2").press("Enter")
    there = page.locator("[data-tab=workers]")
    there.get_by_text("60 MiB of its outputs, 2 MiB pending").wait_for()


@pytest.mark.slow
def test_without_a_memory_the_overview_has_no_such_place(look, show):
    page = look(show(stories.busy()))
    here = page.locator("[data-tab=overview]")
    here.get_by_text("outputs kept in memory").first.wait_for()
    assert page.locator("[data-needs=storage]").is_hidden()
