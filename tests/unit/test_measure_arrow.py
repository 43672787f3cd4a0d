"""Arrow's pool: read as far as it says, and what was taken from it in between."""

import subprocess
import sys
from types import SimpleNamespace

import pytest

from dask_memdash.measure import arrow
from dask_memdash.measure.arrow import (
    ArrowPool,
    arrow_pool,
    taken_between,
    uncounted_pool,
)

MB = 1_000_000


class Pool:
    def __init__(self, held, most, ever=None):
        self.values = held, most
        if ever is not None:
            self.total_bytes_allocated = lambda: ever

    def bytes_allocated(self):
        return self.values[0]

    def max_memory(self):
        return self.values[1]


def arrow_with(monkeypatch, *args):
    pool = Pool(*args)
    made = SimpleNamespace(default_memory_pool=lambda: pool)
    monkeypatch.setitem(sys.modules, "pyarrow", made)


def test_arrows_pool_is_read_as_far_as_it_says(monkeypatch):
    arrow_with(monkeypatch, 5, 9, 70)
    assert arrow_pool() == ArrowPool(5, 9, 70)
    arrow_with(monkeypatch, 5, 9)
    assert arrow_pool() == ArrowPool(5, 9, None)
    arrow_with(monkeypatch, 5, None)  # pools without a peak exist
    assert arrow_pool() == ArrowPool(5, 0, None)


def test_without_pyarrow_there_is_no_pool_and_it_is_not_imported(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert arrow_pool() is None
    code = (
        "import sys; from dask_memdash.measure.arrow import arrow_pool\n"
        "assert arrow_pool() is None; assert 'pyarrow' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_the_real_pool_is_read():
    pyarrow = pytest.importorskip("pyarrow")
    before = arrow_pool()
    buffer = pyarrow.allocate_buffer(3 * MB)
    after = arrow_pool()
    assert after.held - before.held == pytest.approx(3 * MB, abs=64)
    assert after.most >= after.held
    del buffer


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (None, None, (0, 0)),
        # pyarrow was imported by the task itself: it was all its own
        (None, (30, 70, 90), (70, 70)),
        # the pool has never held more: the task set the record
        ((10, 50, 100), (40, 80, 160), (70, 70)),
        # it has held more before: between what is left and what went through
        ((10, 90, 100), (40, 90, 150), (30, 50)),
        ((10, 90, 100), (40, 90, 900), (30, 80)),
        # nothing went through
        ((10, 90, 100), (10, 90, 100), (0, 0)),
        ((10, 90, 100), (5, 90, 100), (0, 0)),
        # a pyarrow that does not say what went through: only what is sure
        ((10, 90, None), (40, 90, None), (30, 30)),
        ((10, 50, None), (40, 80, None), (70, 70)),
    ],
)
def test_what_a_task_took_from_the_pool_is_bounded(before, after, expected):
    looks = [None if look is None else ArrowPool(*look) for look in (before, after)]
    assert taken_between(*looks) == expected


def test_a_pool_that_the_tally_counts_is_not_looked_at_again(monkeypatch):
    arrow_with(monkeypatch, 5, 9, 70)
    for tally, expected in (
        (None, ArrowPool(5, 9, 70)),
        (SimpleNamespace(counts_arrow=False), ArrowPool(5, 9, 70)),
        (SimpleNamespace(counts_arrow=True), None),
    ):
        monkeypatch.setattr(arrow, "current", lambda tally=tally: tally)
        assert uncounted_pool() == expected
