"""What is too small to matter, or not there yet, is not told as if it were much."""

import fake_store
import pytest

from dask_memdash.views import theme
from dask_memdash.views.base import Context, environment
from dask_memdash.views.browser_state import Shown
from dask_memdash.views.limits_tab import LimitsView

MiB = 2**20


@pytest.mark.parametrize(
    ("slope", "said"), [(1.38 * 1024, False), (12 * 1024, True), (None, False)]
)
def test_headroom_that_hardly_shrinks_is_not_said_to(slope, said):
    store = fake_store.wrong_limits()
    audit = store.all_limits[0]
    audit["headroom"] = {"bytes": 384 * MiB, "slope": slope, "seconds": None}
    view = LimitsView(store, Context("css", Shown("limits")))
    view.update()
    html = view.about.pane.object
    assert "384 MiB" in html
    assert ("shrinking by" in html) is said


def test_memory_of_no_task_says_why_there_is_none():
    template = environment().get_template("others.html")
    scheduler = {
        "rss": 90 * MiB,
        "limit": None,
        "available": None,
        "tasks": 8,
        "graph_bytes": 400,
        "graph": [],
        "largest": None,
        "warns_above": None,
        "clients": [],
    }
    html = template.render(rows=[], scheduler=scheduler, linked=False)
    assert "The scheduler's own memory" in html
    assert "No worker has reported its memory yet." in html


def test_an_axis_fits_a_graph_of_a_few_bytes():
    assert theme.nice_ceiling(248) == 256
    assert theme.nice_ceiling(0) == 2**16
