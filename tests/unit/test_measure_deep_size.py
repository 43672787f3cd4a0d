"""How much memory hangs on an object, as far as a bounded look sees it."""

from __future__ import annotations

import functools
import random
import time
import types

import numpy as np
import pandas as pd
import pytest

from dask_memdash.measure.deep_size import deep_size

MB = 1_000_000


def size(*things, most=10_000, seconds=5.0):
    return deep_size(things, most=most, seconds=seconds)


def sent(function):
    """Make a function as it is after it was sent by value: no module holds it."""
    return types.FunctionType(
        function.__code__,
        dict(function.__globals__),
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )


class Plain:
    def __init__(self, **attributes):
        self.__dict__.update(attributes)


class Slotted:
    __slots__ = ("data", "unset")

    def __init__(self, data):
        self.data = data


class Hostile:
    @property
    def data(self):
        raise AssertionError("a property was read")

    def __getattribute__(self, name):
        raise AssertionError("an attribute was read by code")

    def __sizeof__(self):
        raise MemoryError


def closure():
    data = np.ones(MB, "u1")
    return lambda: data


ARRAY = np.ones(2 * MB, "u1")


def uses_a_global():
    return ARRAY.sum()


CASES = {
    "bytes": (bytes(MB), MB),
    "array": (np.ones(MB, "u1"), MB),
    "a view keeps the whole array": (np.ones(MB, "u1")[:10], MB),
    "a broadcast takes what it was made of": (np.broadcast_to(np.ones(8), (MB, 8)), 64),
    "frame": (pd.DataFrame({"x": np.ones(MB), "y": np.ones(MB)}), 16 * MB),
    "list of arrays": ([np.ones(MB, "u1") for _ in range(3)], 3 * MB),
    "the same array twice": ([ARRAY, ARRAY], 2 * MB),
    "a long list of one array": ([ARRAY] * 1000, 2 * MB),
    "dict": ({"a": {"b": bytes(MB)}}, MB),
    "attributes": (Plain(data=bytes(MB), other=Plain(more=bytes(MB))), 2 * MB),
    "slots": (Slotted(bytes(MB)), MB),
    "partial": (functools.partial(print, bytes(MB), sep=bytes(MB)), 2 * MB),
    "closure": (closure(), MB),
    "default": (sent(lambda x=bytes(MB): x), MB),
    "a global that a function was sent with": (sent(uses_a_global), 2 * MB),
    "bound method": (Plain(data=bytes(MB)).__init__, MB),
    "memoryview": (memoryview(bytes(MB)), MB),
}


@pytest.mark.parametrize(("thing", "expected"), CASES.values(), ids=CASES)
def test_the_size_of(thing, expected):
    found = size(thing)
    assert found.whole
    assert expected <= found.bytes <= expected + 12_000


def test_what_a_module_here_holds_was_not_sent():
    assert size(uses_a_global, np.sum, Plain, np).bytes < 1_000


def test_a_long_list_is_weighed_by_a_sample():
    found = size([str(n) * 100 for n in range(100_000)])
    assert found.bytes == pytest.approx(100_000 * (8 + 49 + 489), rel=0.1)


def test_python_objects_in_arrays_and_frames_are_weighed_by_a_sample():
    texts = np.array([str(n).zfill(1_000) for n in range(10_000)], dtype=object)
    assert size(texts).bytes == pytest.approx(10_000 * (8 + 1_049), rel=0.02)
    frame = pd.DataFrame({"x": pd.Series(texts, dtype=object)})
    assert size(frame).bytes == pytest.approx(10_000 * (8 + 1_049), rel=0.02)


def test_no_code_of_an_object_is_run_and_its_failure_stops_nothing():
    assert size([Hostile(), bytes(MB)]).bytes > MB


def test_a_look_ends_in_time_and_says_that_it_saw_only_part():
    nested = [[bytes(100) for _ in range(60)] for _ in range(60)]
    found = size(nested, most=100)
    assert not found.whole
    assert 0 < found.bytes < 40_000
    begun = time.perf_counter()
    endless: list = []
    for _ in range(200_000):
        endless = [endless, bytes(10)]
    assert not deep_size([endless], most=10**9, seconds=0.01).whole
    assert time.perf_counter() - begun < 5
    while endless:
        endless = endless[0]


def test_what_refers_to_itself_is_counted_once():
    ring = Plain(data=bytes(MB))
    ring.again = ring
    assert MB < size(ring).bytes < MB + 2_000


def test_a_look_does_not_touch_the_random_numbers_of_the_user():
    random.seed(1)
    np.random.seed(1)
    before, numbers = random.getstate(), np.random.get_state()[1].copy()
    size(list(range(100_000)), pd.Series(["a", "b"] * 5_000, dtype=object))
    assert random.getstate() == before
    assert (np.random.get_state()[1] == numbers).all()
