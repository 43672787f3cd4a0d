"""What the unit tests share: no cluster, the same examples at every run."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from builders import check_invariants
from hypothesis import HealthCheck, settings

from dask_memdash.boundary import boundary
from dask_memdash.model.cluster import ClusterModel

# The machines that run this are slow and shared, so there is no deadline.
settings.register_profile(
    "unit",
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=100,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("unit")


@pytest.fixture
def model():
    """Return a model, and check its invariants after the test."""
    model = ClusterModel(history_points=20, incidents_keep=50)
    yield model
    check_invariants(model)


@pytest.fixture
def process_border():
    """Return this process's boundary, which is left as clean as it was found."""
    boundary.clear()
    yield boundary
    boundary.clear()


@pytest.fixture
def mislead():
    """Return a function that has a callback of a session's document raise.

    As one of any page of the server's may: Bokeh before 3.10 then takes that document
    for the current one for ever, even when it is gone.
    """
    from bokeh.document.callbacks import invoke_with_curdoc
    from bokeh.io import doc as current

    session = SimpleNamespace(id="other", request=SimpleNamespace(arguments={}))

    def fails():
        raise LookupError("reference isn't known")

    def mislead(doc):
        doc._session_context = lambda: session
        with pytest.raises(LookupError):
            invoke_with_curdoc(doc, fails)

    yield mislead
    left = current._PATCHED_CURDOCS
    if isinstance(
        left, list
    ):  # from Bokeh 3.10 on each context has its own, and none stays
        left.clear()
