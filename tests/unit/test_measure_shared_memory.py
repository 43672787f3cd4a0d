"""Outputs that borrow their memory: what can be told, and what is no array at all."""

import mmap
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from dask_memdash.measure.shared_memory import memory_owner

VIEWS, MAPS = "views of other arrays", "memory maps"


def test_an_array_that_has_its_own_memory_borrows_nothing():
    assert memory_owner(np.ones((3, 4))) == ""
    assert memory_owner(np.ones((3, 4), order="F")) == ""
    assert memory_owner(np.ones(0)) == ""
    assert memory_owner(np.array(5.0)) == ""
    assert memory_owner(np.ones((3, 4))[1:].copy()) == ""


@pytest.mark.parametrize(
    "take",
    [
        lambda a: a[1:],
        lambda a: a[::-1],
        lambda a: a.T,
        lambda a: a[1:][:2],
        lambda a: a[1:].view("u1"),
        lambda a: a.reshape(-1),
        lambda a: np.ma.masked_array(a)[1:].data,
    ],
)
def test_a_view_of_another_array_is_told_however_far_off_that_is(take):
    assert memory_owner(take(np.ones((3, 4)))) == VIEWS


def test_an_array_that_is_repeated_is_told():
    assert memory_owner(np.broadcast_to(np.ones(3), (1000, 3))) == VIEWS
    assert memory_owner(np.broadcast_to(5.0, (1000, 3))) == VIEWS


def test_an_array_over_somebody_elses_buffer_is_told():
    assert memory_owner(np.frombuffer(b"12345678", "u1")) == VIEWS
    assert memory_owner(np.asarray(memoryview(bytearray(8)))) == VIEWS


@pytest.fixture
def mapped(tmp_path):
    made = np.memmap(tmp_path / "array", "f8", "w+", shape=(10, 10))
    made[:] = 1
    return made


@pytest.mark.parametrize(
    "take",
    [
        lambda m: m,
        lambda m: m[1:],
        np.asarray,
        lambda m: np.asarray(m)[2:].T,
        lambda m: np.ndarray((5,), "f8", buffer=m),
    ],
)
def test_a_memory_map_is_told_even_where_it_looks_like_a_plain_array(mapped, take):
    assert memory_owner(take(mapped)) == MAPS


def test_an_array_over_a_bare_map_is_told():
    with mmap.mmap(-1, 4096) as memory:
        array = np.ndarray((512,), "f8", buffer=memory)
        assert memory_owner(array) == MAPS
        del array


def test_what_was_computed_from_a_map_is_its_own(mapped):
    assert memory_owner(np.asarray(mapped) + 1) == ""


def test_a_frame_borrows_what_its_first_column_does(mapped):
    own = pd.DataFrame({"a": np.arange(100.0)}).copy()
    base = np.ones((100, 2))
    assert memory_owner(pd.DataFrame(base, copy=False)) == VIEWS
    assert memory_owner(pd.Series(np.asarray(mapped)[0], copy=False)) == MAPS
    assert memory_owner(own["a"].to_numpy().copy()) == ""
    assert memory_owner(pd.DataFrame()) == ""


class Hostile:
    """An output whose attributes bite, and are not what they seem."""

    _mgr = 5
    base = property(lambda self: 1 / 0)
    strides = property(lambda self: 1 / 0)


class Managed:
    """Something with a manager of its own kind."""

    def __init__(self, arrays):
        self._mgr = type("Manager", (), {"arrays": arrays})()


@pytest.mark.parametrize(
    "value",
    [
        *(None, 5, "text", b"bytes", [np.ones(3)[1:]], {}, object(), np.float64(5)),
        *(Hostile(), Managed(()), Managed(None), Managed(["x"]), np.ndarray),
    ],
)
def test_what_is_no_array_borrows_nothing(value):
    assert memory_owner(value) == ""


def test_without_numpy_nothing_is_told_and_nothing_imported():
    code = (
        "import sys; from dask_memdash.measure.shared_memory import memory_owner\n"
        "class Array:\n    base = strides = (0,)\n"
        "assert memory_owner(Array()) == ''\n"
        "assert 'numpy' not in sys.modules, 'numpy was imported'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_numpy_that_is_half_imported_or_hidden_does_no_harm(monkeypatch):
    value = np.ones(3)[1:]
    monkeypatch.setitem(sys.modules, "numpy", None)
    assert memory_owner(value) == ""
    monkeypatch.setitem(sys.modules, "numpy", object())
    assert memory_owner(value) == ""
