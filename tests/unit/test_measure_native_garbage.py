"""A task's peak is of its own memory, whatever it frees that others had left behind."""

from __future__ import annotations

import ctypes
import gc
import json
import random
import struct
from collections.abc import Callable, Iterator
from threading import Thread

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


def run(
    tally: NativeTally, work: Callable[[], object], *, by_objects: bool = False
) -> tuple[float, float, float]:
    """Run a task; return its peak, that peak's error, and its net, in MB."""
    slots = Slots(tally)
    peak, now = slots.run(work, by_objects=by_objects)
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


def arrays(size: int) -> list[np.ndarray]:
    """Return arrays of 8 kB: no small objects of Python, and half of them noted."""
    return [np.ones(1000) for _ in range(size // 8000)]


def floats(size: int) -> list[float]:
    return [random.random() for _ in range(size // 32)]


@pytest.mark.skipif(SANITIZED, reason="another allocator keeps what is freed")
@pytest.mark.parametrize(
    ("make", "by_objects"),
    [(small, True), (arrays, False), (arrays, True), (floats, True)],
)
def test_others_small_blocks_that_go_midway_do_not_lower_a_peak(
    tally, make, by_objects
):
    others: list[object] = []
    run(tally, lambda: others.extend(make(OWN)), by_objects=by_objects)

    def work() -> object:
        first = make(OWN // 2)
        while others:
            others.pop()
        return first, make(OWN // 2)

    truth, _, _ = run(tally, lambda: make(OWN), by_objects=by_objects)
    peak, error, _ = run(tally, work, by_objects=by_objects)
    assert abs(peak - truth) <= error + 2, (peak, truth, error)
    assert error < 3


def test_more_small_blocks_than_notes_are_held_apart_all_the_same(tally):
    def blocks(n: int) -> list[np.ndarray]:
        return [np.empty(17_000, "u1") for _ in range(n)]

    others: list[np.ndarray] = []
    run(tally, lambda: others.extend(blocks(45_000)))

    def work() -> object:
        first = blocks(45_000)
        while others:
            others.pop()
        return first, blocks(20_000)

    truth, _, _ = run(tally, lambda: blocks(65_000))
    peak, error, now = run(tally, work)
    assert abs(peak - truth) <= error + 2
    assert error < 0.05 * truth
    assert now < -700


def test_what_grows_of_others_is_own_by_what_it_grew(tally):
    held = [None] * (5 * MB)  # 40 MB

    def work() -> object:
        held.extend([None] * MB)
        held.clear()
        return large(20 * MB)

    peak, error, now = run(tally, work)
    assert abs(peak - 20) < 2 + error
    assert now == pytest.approx(-40, abs=1)


def growing() -> None:
    for _ in range(5):
        lists: list[list[int]] = [[] for _ in range(20_000)]
        for i in range(6):
            for one in lists:
                one.append(i)


def reading() -> None:
    data: object = {f"k{i}": [i, str(i), {"a": float(i)}] for i in range(20_000)}
    for _ in range(3):
        data = json.loads(json.dumps(data))


def collecting() -> None:
    for _ in range(2):
        leave_behind(small)
        gc.collect()


def threading() -> None:
    def work() -> None:
        for _ in range(4):
            small(4 * MB)
            arrays(4 * MB)

    threads = [Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.mark.parametrize("work", [growing, reading, collecting, threading])
def test_what_a_task_makes_and_frees_is_never_others(tally, work):
    work()  # what the first call leaves is nobody's
    run(tally, work, by_objects=True)
    assert tally.others() < 0.3 * MB


def test_a_begin_that_lands_in_the_sample_misses_nothing(tally):
    slots = Slots(tally)
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    taken = []  # so that each begin's own block is at another address
    try:
        for _ in range(2_000):
            slots.run(int)
            assert slots.missed == 0
            taken += [libc.malloc(size) for size in range(40, 240, 16)]
    finally:
        for block in taken:
            libc.free(block)
