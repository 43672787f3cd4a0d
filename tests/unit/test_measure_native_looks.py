"""The native tally where its looks at large blocks are left out or come late."""

from __future__ import annotations

import ctypes
import mmap
import random
import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from full_heap import full_heap

from dask_memdash.measure import native_tally as face
from dask_memdash.measure.native_tally import NativeTally

MB = 1_000_000
PAGE = mmap.PAGESIZE

pytestmark = pytest.mark.skipif(face.load() is None, reason=face.why_not() or "-")


@pytest.fixture(scope="module")
def tally() -> Iterator[NativeTally]:
    tally = face.load()
    assert tally is not None
    assert tally.acquire(), tally.refused
    yield tally
    tally.release()


@pytest.fixture(params=[False, True], ids=["looks", "none"])
def left_out(tally: NativeTally, request: Any) -> Iterator[bool]:
    """Whether all looks but the last of a task are left out."""
    tally._native.leave_looks_out(request.param)
    yield request.param
    tally._native.leave_looks_out(False)


class Memory:
    """The C library's, with a record of what is held in truth, in bytes.

    Its blocks of more than 32 MiB come from the kernel, one by one.
    """

    def __init__(self) -> None:
        self.libc = ctypes.CDLL(None)
        self.libc.malloc.restype = ctypes.c_void_p
        self.libc.malloc.argtypes = [ctypes.c_size_t]
        self.libc.free.argtypes = [ctypes.c_void_p]
        self.held: dict[int, list[int]] = {}  # of each block its size and its bytes
        self.now = self.most = 0

    def _note(self, more: int) -> None:
        self.now += more
        self.most = max(self.most, self.now)

    def small(self, size: int) -> list[int]:
        """Make blocks of 10 kB, which are touched."""
        made = [self.take(10_000) for _ in range(size // 10_000)]
        for block in made:
            self.fill(block, 1.0)
        return made

    def take(self, size: int) -> int:
        """Make a block, which is not touched yet."""
        block: int = self.libc.malloc(size)
        self.held[block] = [size, 0]
        return block

    def fill(self, block: int, part: float) -> None:
        """Touch some part of a block from its start on."""
        size, before = self.held[block]
        after = max(before, min(size, round(part * size)))
        ctypes.memset(block, 3, after)
        self.held[block][1] = after
        self._note(after - before)

    def give_back(self, block: int) -> None:
        """Free a block."""
        self._note(-self.held.pop(block)[1])
        self.libc.free(block)


@pytest.fixture
def memory(tally: NativeTally) -> Iterator[Memory]:
    with full_heap():
        yield Memory()


@pytest.fixture
def measured(tally: NativeTally) -> Callable[[Callable[[], object]], tuple[int, int]]:
    """Run a task; give its peak and the peak's error, in bytes."""
    mapping, buffer = tally.map_slots(-1, 512)

    def run(work: Callable[[], object]) -> tuple[int, int]:
        struct.pack_into("<q", buffer, 16, 0)
        assert tally.begin(mapping, 0)
        try:
            work()
        finally:
            assert tally.end() == 0
        _, peak, error = struct.unpack_from("<qqq", buffer)
        return peak, error

    return run


#: What is no block of a test's, in bytes: Python's own, and pages that are cut.
SLACK = 200_000


def test_block_that_nobody_looked_at_before_it_went_is_in_the_error(
    tally, memory, measured, left_out
) -> None:
    def work() -> None:
        block = memory.take(40 * MB)
        memory.fill(block, 1.0)
        memory.give_back(block)

    peak, error = measured(work)
    assert peak <= 40 * MB + SLACK
    assert peak + error >= 40 * MB
    assert error == tally.short_by()
    if left_out:
        assert (peak < SLACK, error > 39 * MB) == (True, True)
    else:
        assert error < SLACK


def test_small_blocks_that_go_while_a_large_one_is_filled_are_in_the_error(
    memory, measured, left_out
) -> None:
    def work() -> None:
        large = memory.take(40 * MB)
        small = memory.small(10 * MB)
        memory.fill(large, 1.0)
        for block in small:  # nobody has looked at the large one since it was filled
            memory.give_back(block)
        memory.give_back(large)

    peak, error = measured(work)
    assert peak <= 50 * MB + SLACK
    assert peak + error >= 50 * MB - SLACK


def test_small_blocks_that_went_before_are_in_no_error(memory, measured) -> None:
    def work() -> None:
        reserved = memory.take(40 * MB)
        for block in memory.small(20 * MB):
            memory.give_back(block)
        large = memory.take(40 * MB)
        memory.fill(large, 0.5)
        memory.give_back(large)
        memory.give_back(reserved)

    peak, error = measured(work)
    assert peak == pytest.approx(20 * MB, abs=SLACK)
    assert error < 600_000


def test_what_was_left_out_is_no_error_of_a_peak_that_came_later(
    tally, memory, measured
) -> None:
    def work() -> None:
        tally._native.leave_looks_out(True)
        block = memory.take(40 * MB)
        memory.give_back(block)  # may have held all of that, as far as is known
        tally._native.leave_looks_out(False)
        block = memory.take(40 * MB)
        memory.fill(block, 1.0)
        memory.give_back(block)

    peak, error = measured(work)
    assert peak == pytest.approx(40 * MB, abs=SLACK)
    assert error < SLACK


@pytest.mark.parametrize("seed", range(12))
def test_truth_lies_within_the_error_whatever_a_task_does(
    memory, measured, left_out, seed
) -> None:
    chance = random.Random(seed)
    held: list[int] = []

    def work() -> None:
        for _ in range(40):
            action = chance.random()
            if action < 0.3:
                held.append(memory.take(chance.randrange(40, 60) * MB))
            elif action < 0.4:
                held.extend(memory.small(chance.randrange(1, 10) * MB))
            elif action < 0.75 and held:
                memory.fill(chance.choice(held), chance.random() / 2)
            else:
                chance.shuffle(held)
                for block in held[: len(held) // 3 + 1]:
                    memory.give_back(block)
                    held.remove(block)

    peak, error = measured(work)
    for block in held:
        memory.give_back(block)
    slack = SLACK + memory.most // 100
    assert peak <= memory.most + slack
    assert peak + error >= memory.most - slack
    if not left_out:
        assert error <= memory.most // 10 + slack
