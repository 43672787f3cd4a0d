"""What the unit tests share: no cluster, the same examples at every run."""

from __future__ import annotations

import pytest
from builders import check_invariants
from hypothesis import HealthCheck, settings

from dask_memdash.border import border
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
    """Give a model, and check its invariants after the test."""
    model = ClusterModel(history_points=20, incidents_keep=50)
    yield model
    check_invariants(model)


@pytest.fixture
def process_border():
    """Give this process's border, which is left as clean as it was found."""
    border.clear()
    yield border
    border.clear()
