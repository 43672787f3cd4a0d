"""A task's peak is of its own memory, whatever it frees that others had left behind."""

from __future__ import annotations

import gc
import struct
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from full_heap import full_heap
from test_measure_native import MB, SANITIZED, Slots

from dask_memdash.measure import native_tally as face
from dask_memdash.measure.native_tally import NativeTally

pytestmark = pytest.mark.skipif(face.load() is None, reason=face.why_not() or "-")

#: What each task makes, and the garbage that it may find, in bytes.
OWN = 40 * MB
GARBAGE = 16 * MB


@pytest.fixture(scope="module")
def tally() -> Iterator[NativeTally]:
    tally = face.load()
    assert tally is not None
    assert tally.acquire(), tally.refused
    yield tally
    tally.release()


@pytest.fixture(autouse=True)
def no_garbage() -> Iterator[None]:
    with full_heap():
        gc.collect()
        gc.disable()
        try:
            yield
        finally:
            gc.enable()
            gc.collect()


def small(size: int) -> list[str]:
    """Return strings, each an object of its own."""
    return [f"{i:060d}" for i in range(size // 120)]


def large(size: int) -> list[np.ndarray]:
    return [np.ones(125_000) for _ in range(size // MB)]


def leave_behind(make: Callable[[int], object]) -> None:
    """Leave garbage that only a collection finds."""
    ring: list[object] = [make(GARBAGE)]
    ring.append(ring)


def run(tally: NativeTally, work: Callable[[], object]) -> tuple[float, float, float]:
    """Run a task; return its peak, that peak's error, and its net, in MB."""
    slots = Slots(tally)
    peak, now = slots.run(work)
    (error,) = struct.unpack_from("<q", slots.buffer, 16)
    return peak, error / MB, now


def collects_first(make: Callable[[int], object]) -> object:
    gc.collect()
    return make(OWN)


def collects_between(make: Callable[[int], object]) -> object:
    first = make(OWN // 2)
    gc.collect()
    return first, make(OWN // 2)


@pytest.mark.skipif(SANITIZED, reason="another allocator keeps what is freed")
@pytest.mark.parametrize("garbage", [small, large])
@pytest.mark.parametrize("own", [small, large])
@pytest.mark.parametrize("work", [collects_first, collects_between])
def test_garbage_of_others_does_not_lower_a_peak(tally, work, own, garbage):
    truth, _, _ = run(tally, lambda: own(OWN))
    leave_behind(garbage)
    peak, error, now = run(tally, lambda: work(own))
    # what of the strings shared arenas with others is in neither
    assert abs(peak - truth) <= error + 2
    assert error < 8
    # the process shrank by most of it: strings share arenas with what others hold
    assert now < -0.4 * GARBAGE / MB


def test_own_garbage_that_is_collected_is_in_the_peak_once(tally):
    def work() -> None:
        for _ in range(2):
            leave_behind(small)
            gc.collect()

    truth, _, _ = run(tally, lambda: small(GARBAGE))
    peak, error, _ = run(tally, work)
    # whose the first collection's garbage was is not known
    assert truth - 2 <= peak <= truth + error + 2


def test_replacing_what_stood_before_is_a_peak_and_no_growth(tally):
    held = large(OWN)

    def work() -> None:
        for i in range(len(held)):
            held[i] = np.zeros(0)
            held[i] = np.ones(125_000)

    peak, error, now = run(tally, work)
    assert abs(peak - OWN / MB) < 1 + error
    assert abs(now) < 1


def test_collections_are_heard_only_while_it_is_installed():
    tally = face.load()
    assert tally is not None
    others = len(gc.callbacks)
    assert tally.acquire()
    tally.release()
    assert len(gc.callbacks) == others
