"""A figure is called exact only while the process agrees with it."""

import pytest

from dask_memdash.model.exactness import BEST_FIRST, method_shown, weakest
from dask_memdash.terms import METHODS

MiB = 2**20


@pytest.mark.parametrize(
    ("method", "size", "error", "shown"),
    [
        ("exact", 100 * MiB, 0, "exact"),
        ("exact", 100 * MiB, 7 * MiB, "exact"),
        ("exact", 100 * MiB, 8 * MiB, "counted"),
        ("exact", 4096, 2 * MiB, "exact"),
        ("exact", 4096, 240 * MiB, "counted"),
        ("exact", None, 240 * MiB, "counted"),
        ("exact", 100, None, "exact"),
        ("hwm", 0, 240 * MiB, "hwm"),
        ("none", None, None, "none"),
    ],
)
def test_a_figure_is_exact_only_while_its_error_is_small(method, size, error, shown):
    assert method_shown(method, size, error) == shown


@pytest.mark.parametrize(
    ("methods", "together"),
    [
        ((), "none"),
        (("none",), "none"),
        (("none", "unmeasured"), "unmeasured"),
        (("exact",), "exact"),
        (("exact", "counted"), "counted"),
        (("counted", "exact", "hwm"), "counted"),
        (("hwm", "exact"), "hwm"),
        (("exact", "estimated", "counted"), "estimated"),
        (("exact", "unmeasured", "none"), "exact"),
        (("exact", "from the future"), "from the future"),
    ],
)
def test_a_figure_made_of_several_is_as_exact_as_the_least_of_them(methods, together):
    assert weakest(methods) == together
    assert weakest(reversed(methods)) == together


def test_every_method_has_its_rank():
    assert set(BEST_FIRST) == set(METHODS)
