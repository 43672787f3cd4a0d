"""The native tally's counts: all ways to allocate, whose it is, what is resident."""

from __future__ import annotations

import ctypes
import gc
import importlib.util
import mmap
import os
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from full_heap import full_heap

from dask_memdash.measure import native_tally as face
from dask_memdash.measure.native_tally import NativeTally
from dask_memdash.measure.tally import MISSED_TASK

#: Under `make sanitize` another allocator stands in for the C library's: it copies all
#: of what changes its size, and maps what is to be zero.
SANITIZED = "libasan" in os.environ.get("LD_PRELOAD", "")

MB = 1_000_000
SLOT = 512

pytestmark = pytest.mark.skipif(face.load() is None, reason=face.why_not() or "-")


@pytest.fixture(scope="module")
def tally() -> Iterator[NativeTally]:
    tally = face.load()
    assert tally is not None
    assert tally.acquire(), tally.refused
    yield tally
    tally.release()


@pytest.fixture(autouse=True)
def new_pages() -> Iterator[None]:
    """Large blocks come from the kernel, not from what other tests have freed."""
    with full_heap():
        yield


class Slots:
    """Eight slots in anonymous memory, of which tests take one per task."""

    def __init__(self, tally: NativeTally) -> None:
        self.tally = tally
        self.mapping, self.buffer = tally.map_slots(-1, 8 * SLOT)
        self.missed: int | None = None

    def run(
        self, work: Callable[[], object], index: int = 0, *, by_objects: bool = False
    ) -> tuple[float, float]:
        """Run a task; return what it held at most and at its end, in MB."""
        collects = gc.isenabled()
        gc.disable()
        try:
            struct.pack_into("<q", self.buffer, index * SLOT + 16, 0)  # the error
            assert self.tally.begin(self.mapping, index * SLOT, by_objects)
            try:
                work()
            finally:
                self.missed = self.tally.end()
        finally:
            if collects:
                gc.enable()
        now, peak, _ = self.read(index)
        return peak, now

    def filling(self, index: int = 0) -> float:
        """Return what may have been touched and is not counted yet, in MB."""
        return struct.unpack_from("<q", self.buffer, index * SLOT + 24)[0] / MB

    def read(self, index: int = 0) -> tuple[float, float, float]:
        """Return bytes now, bytes at most and the error of a slot, in MB."""
        now, peak, error = struct.unpack_from("<qqq", self.buffer, index * SLOT)
        return now / MB, peak / MB, error / MB


@pytest.fixture
def slots(tally: NativeTally) -> Slots:
    return Slots(tally)


@pytest.fixture(scope="module")
def libc(tally: NativeTally) -> Any:
    """The C library, by way of ctypes, looked up after the wrappers are in."""
    libc = ctypes.CDLL(None)
    for name in ("malloc", "calloc", "realloc", "aligned_alloc", "memalign"):
        function = getattr(libc, name)
        function.restype = ctypes.c_void_p
        function.argtypes = [ctypes.c_size_t] * (1 if name == "malloc" else 2)
    libc.realloc.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    libc.free.restype = None
    return libc


def until(condition: Callable[..., bool], what: str) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, f"waited for {what} in vain"
        time.sleep(0.005)


# -- every way to allocate -----------------------------------------------------------


@pytest.mark.parametrize("size", [2, 8, 64, 160])
def test_numpy_arrays_that_are_filled_are_exact(slots: Slots, size: int) -> None:
    peak, now = slots.run(lambda: np.ones(size * MB // 8))
    assert peak == pytest.approx(size, rel=1e-3, abs=0.02)
    assert now == pytest.approx(0, abs=0.02)
    assert slots.missed == 0


@pytest.mark.parametrize(
    ("make", "size"),
    [
        (lambda: b"x" * (10 * MB), 10),
        (lambda: "x" * (10 * MB), 10),
        (lambda: [None] * MB, 8),
        (lambda: [bytes(1000) for _ in range(10_000)], 10.5),
    ],
    ids=["bytes", "str", "list", "many"],
)
def test_python_objects_are_exact(
    slots: Slots, make: Callable[[], object], size: float
) -> None:
    peak, now = slots.run(make)
    assert peak == pytest.approx(size, rel=0.012)
    assert now == pytest.approx(0, abs=0.02)


def test_small_objects_are_seen_as_arenas(slots: Slots) -> None:
    if slots.tally.counts_small_objects:
        pytest.skip("they are counted one by one here")
    # 32 bytes each, and eight for its place in the list (and an eighth)
    peak, _ = slots.run(lambda: [float(i) for i in range(2 * MB)])
    assert 70 < peak < 84


@pytest.mark.parametrize(
    "allocate",
    [
        lambda libc, size: libc.malloc(size),
        lambda libc, size: libc.calloc(size // 8, 8),
        lambda libc, size: libc.realloc(None, size),
        lambda libc, size: libc.aligned_alloc(64, size),
        lambda libc, size: libc.memalign(4096, size),
    ],
    ids=["malloc", "calloc", "realloc", "aligned_alloc", "memalign"],
)
def test_what_native_code_allocates_is_exact(
    slots: Slots, libc: Any, allocate: Callable[[Any, int], int]
) -> None:
    def work() -> None:
        block = allocate(libc, 240 * MB)
        ctypes.memset(block, 1, 240 * MB)
        libc.free(block)

    peak, now = slots.run(work)
    assert peak == pytest.approx(240, rel=1e-3)
    assert now == pytest.approx(0, abs=0.01)


def test_posix_memalign_is_exact(slots: Slots, libc: Any) -> None:
    def work() -> None:
        block = ctypes.c_void_p()
        size = ctypes.c_size_t(32 * MB)
        assert libc.posix_memalign(ctypes.byref(block), mmap.PAGESIZE, size) == 0
        assert block.value
        ctypes.memset(block.value, 1, 32 * MB)
        libc.free(block.value)

    peak, now = slots.run(work)
    assert peak == pytest.approx(32, rel=1e-3)
    assert now == pytest.approx(0, abs=0.01)


def test_what_cannot_be_allocated_counts_nothing(slots: Slots, libc: Any) -> None:
    def work() -> None:
        assert libc.malloc(1 << 62) is None
        block = libc.malloc(8 * MB)
        ctypes.memset(block, 1, 8 * MB)
        assert libc.realloc(block, 1 << 62) is None  # the old one stays
        libc.free(block)

    peak, now = slots.run(work)
    assert peak == pytest.approx(8, rel=0.01)
    assert now == pytest.approx(0, abs=0.01)


def test_block_that_grows_is_followed(slots: Slots, libc: Any) -> None:
    def work() -> None:
        block = None
        for size in (100, 10_000, 100_000, MB, 4 * MB, 40 * MB, 80 * MB):
            block = libc.realloc(block, size)
            ctypes.memset(block, 1, size)
        block = libc.realloc(block, 20 * MB)
        assert slots.read()[0] == pytest.approx(20, rel=0.01)
        libc.free(block)

    peak, now = slots.run(work)
    assert peak == pytest.approx(80, rel=0.01)
    assert now == pytest.approx(0, abs=0.01)


def test_list_that_grows_is_followed(slots: Slots) -> None:
    def work() -> None:
        grown: list[None] = []
        for _ in range(2 * MB):
            grown.append(None)  # noqa: PERF401

    peak, now = slots.run(work)
    # a list holds room for an eighth more than its items, at most
    assert 15.9 < peak < 18.2
    assert now == pytest.approx(0, abs=0.02)


def test_pandas_frame_of_numbers_is_exact(slots: Slots) -> None:
    pd = pytest.importorskip("pandas")
    pd.DataFrame({"a": np.ones(1)}).copy()  # what the first one imports stays

    def work() -> None:
        frame = pd.DataFrame({name: np.ones(MB) for name in "abcdef"})
        frame.copy()

    peak, now = slots.run(work)
    assert peak == pytest.approx(96, rel=0.01)
    assert now == pytest.approx(0, abs=0.1)


def test_peak_is_the_most_at_one_time_and_not_the_sum(slots: Slots) -> None:
    kept = []

    def work() -> None:
        for _ in range(5):
            np.ones(MB)
        kept.append(np.ones(MB // 2))

    peak, now = slots.run(work)
    assert peak == pytest.approx(8, rel=0.01)
    assert now == pytest.approx(4, rel=0.01)


def test_churn_ends_where_it_began(slots: Slots, libc: Any) -> None:
    def work() -> None:
        blocks = [0] * 200
        for i in range(50_000):
            place = i * 7919 % 200
            libc.free(blocks[place] or None)
            blocks[place] = libc.malloc(1 + i * 104729 % 300_000)
        for block in blocks:
            libc.free(block or None)

    _, now = slots.run(work)
    assert now == pytest.approx(0, abs=0.005)


# -- resident, not reserved ----------------------------------------------------------


def test_what_is_never_touched_does_not_count(slots: Slots) -> None:
    peak, now = slots.run(lambda: np.empty(300 * MB, "u1"))
    assert peak < 2.2  # one huge page, at most
    assert now == pytest.approx(0, abs=0.01)


def test_of_a_block_that_is_touched_in_part_that_part_counts(
    slots: Slots, libc: Any
) -> None:
    def work() -> None:
        block = libc.malloc(400 * MB)
        ctypes.memset(block, 1, 100 * MB)
        ctypes.memset(block + 300 * MB, 1, 20 * MB)
        libc.free(block)

    peak, _ = slots.run(work)
    assert 120 <= peak < 127  # and up to three huge pages at the edges


def test_reader_sees_a_block_fill_while_nothing_is_allocated(
    slots: Slots, libc: Any
) -> None:
    def work() -> None:
        block = libc.malloc(200 * MB)
        assert slots.read()[0] < 2.2
        for part in range(4):
            ctypes.memset(block + part * 50 * MB, 1, 50 * MB)
            filled = 50 * (part + 1)
            until(
                lambda least=filled - 0.01: slots.read()[0] >= least,
                f"{filled} MB to be seen",
            )
            assert slots.read()[0] < filled + 2.2
        libc.free(block)

    slots.run(work)


def test_what_is_being_filled_stands_in_the_slot_until_it_is_left_alone(
    slots: Slots, libc: Any
) -> None:
    def work() -> None:
        block = libc.malloc(100 * MB)
        assert slots.filling() == pytest.approx(100, abs=2.2)
        until(lambda: slots.filling() == 0, "looks without a change")
        ctypes.memset(block, 1, 50 * MB)
        until(lambda: slots.read()[0] >= 50, "what was filled to be seen")
        other = libc.malloc(10 * MB)
        libc.free(other)
        until(lambda: slots.filling() == 0, "looks without a change")
        ctypes.memset(block, 1, 100 * MB)
        until(lambda: slots.read()[0] >= 100, "all to be seen")
        assert slots.filling() == 0
        libc.free(block)

    peak, now = slots.run(work)
    assert peak == pytest.approx(100, abs=0.1)
    assert (now, slots.filling()) == (pytest.approx(0, abs=0.01), 0)


def test_files_that_are_mapped_are_known_by_their_size_and_other_memory_is_not(
    tally: NativeTally, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(bytes(3 * MB))
    before = tally.files_mapped()
    assert before is not None
    with mmap.mmap(-1, 5 * MB):
        assert tally.files_mapped() == before
    with (
        (tmp_path / "file").open("rb") as file,
        mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ),
    ):
        assert tally.files_mapped() == before + 3 * MB


def test_peak_counts_all_blocks_that_are_filled_when_one_goes(slots: Slots) -> None:
    def work() -> None:
        first = np.ones(5 * MB)
        second = np.ones(3 * MB)
        del first
        del second

    peak, _ = slots.run(work)
    assert peak == pytest.approx(64, rel=1e-3)


def test_many_untouched_blocks_do_not_cost_more_than_their_share(slots: Slots) -> None:
    def work() -> None:
        for _ in range(3_000):
            np.empty(40 * MB, "u1")

    begun = time.thread_time()
    work()
    bare = time.thread_time() - begun
    begun = time.thread_time()
    slots.run(work)
    counted = time.thread_time() - begun
    _, peak, error = slots.read()
    # what looks were left out for may have been touched: that is the error
    assert peak - error < 1
    assert peak + error < 85
    assert counted < 3 * bare + 0.2


def test_pages_that_were_only_read_do_not_count(slots: Slots) -> None:
    peak, _ = slots.run(lambda: np.zeros(10 * MB).sum())
    assert peak < 1
    peak, _ = slots.run(lambda: np.zeros(10 * MB).fill(1))
    assert peak == pytest.approx(80, rel=0.01)


def test_pages_that_a_forked_child_shares_count(slots: Slots) -> None:
    def work() -> None:
        block = np.ones(5 * MB)
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.read(read, 1)
            os._exit(0)
        after = np.ones(MB)
        del block, after  # which is when they are looked at
        os.write(write, b"x")
        os.waitpid(child, 0)
        os.close(read)
        os.close(write)

    peak, _ = slots.run(work)
    assert peak == pytest.approx(48, rel=0.01)


def test_where_the_pagemap_was_closed_by_the_host_pages_that_were_read_count(
    slots: Slots,
) -> None:
    ours = [
        int(fd.name)
        for fd in Path("/proc/self/fd").iterdir()
        if fd.is_symlink() and os.readlink(fd).endswith("/pagemap")
    ]
    assert len(ours) == 1, "one pagemap is open"
    kept = os.dup(ours[0])
    zero = os.open("/dev/zero", os.O_RDONLY)
    try:
        os.dup2(zero, ours[0])
        assert slots.run(lambda: np.ones(5 * MB))[0] == pytest.approx(40, rel=0.01)
    finally:
        os.dup2(kept, ours[0], inheritable=False)
        os.close(kept)
        os.close(zero)
    assert slots.run(lambda: np.zeros(5 * MB).sum())[0] < 1


@pytest.fixture
def kept_heap(libc: Any) -> Iterator[Any]:
    """A heap whose next 10 MB are of 20 MB that are free in one piece, and there.

    Other holes, which earlier tests left, are filled as long as it is used.
    """
    if SANITIZED:
        pytest.skip("another allocator has no such heap")
    others: list[int] = []
    parts: list[int] = []
    while len(parts) < 210:
        part = libc.malloc(100_000)
        if parts and not 0 < part - parts[-1] < 101_000:  # it lies elsewhere
            others += parts
            parts = []
        parts.append(part)
        assert len(others) < 20_000
    for part in parts:
        ctypes.memset(part, 7, 100_000)
    others.append(libc.malloc(100_000))  # so that the heap's end stays where it is
    for part in parts:
        libc.free(part)
    while not parts[0] <= (block := libc.malloc(10 * MB)) < parts[-1]:
        others.append(block)
        assert len(others) < 20_000
    libc.free(block)
    yield libc
    for block in others:
        libc.free(block)


@pytest.mark.parametrize("part", [0, 0.13, 0.4, 0.99])
def test_what_an_allocator_had_kept_counts_as_far_as_somebody_writes_it(
    slots: Slots, kept_heap: Any, part: float
) -> None:
    def work() -> None:
        block = kept_heap.malloc(10 * MB)
        ctypes.memset(block, 7, int(part * 10 * MB))  # which is what was there before
        kept_heap.free(block)

    peak, _ = slots.run(work)
    _, _, error = slots.read()
    assert error == slots.tally.doubt() / MB
    assert error <= 10 / 64, "one mark of 64"
    assert peak == pytest.approx(10 * part, abs=error + 0.05)


def test_what_an_allocator_had_kept_and_is_written_here_and_there_is_in_doubt(
    slots: Slots, kept_heap: Any
) -> None:
    def work() -> None:
        block = kept_heap.malloc(10 * MB)
        for at in range(0, 10 * MB, 700_000):
            ctypes.memset(block + at, 7, 200_000)
        kept_heap.free(block)

    peak, _ = slots.run(work)
    assert peak == pytest.approx(3, abs=slots.read()[2] + 0.1)


def test_what_an_allocator_had_kept_and_is_filled_is_not_in_doubt(
    slots: Slots, kept_heap: Any
) -> None:
    held = []

    def work() -> None:
        held.append(kept_heap.malloc(10 * MB))
        ctypes.memset(held[0], 1, 10 * MB)

    peak, _ = slots.run(work)  # looked at while it is there
    kept_heap.free(held[0])
    assert peak == pytest.approx(10, rel=0.02)
    assert slots.read()[2] == 0


def test_what_came_before_the_peak_is_not_in_doubt(
    slots: Slots, kept_heap: Any
) -> None:
    def work() -> None:
        block = kept_heap.malloc(10 * MB)
        ctypes.memset(block, 1, 5 * MB)
        kept_heap.free(block)
        np.ones(5 * MB)

    peak, _ = slots.run(work)
    assert peak == pytest.approx(40, rel=0.01)
    assert slots.read()[2] == 0


def test_what_was_kept_of_a_block_that_changes_its_size_is_as_it_was(
    slots: Slots, kept_heap: Any
) -> None:
    def work() -> None:
        block = kept_heap.malloc(10 * MB)
        ctypes.memset(block, 1, 2 * MB)
        block = kept_heap.realloc(block, 5 * MB)
        block = kept_heap.realloc(block, 9 * MB)
        held.append(block)

    held: list[int] = []
    peak, _ = slots.run(work)
    assert ctypes.string_at(held[0], 2 * MB) == b"\1" * (2 * MB)
    kept_heap.free(held[0])
    error = slots.read()[2]
    assert SANITIZED or peak - error <= 2.2
    assert peak + error >= 2


def test_what_is_set_to_zero_stays_zero(slots: Slots, kept_heap: Any) -> None:
    held = []
    peak, _ = slots.run(lambda: held.append(kept_heap.calloc(1, 10 * MB)))
    assert ctypes.string_at(held[0], 10 * MB) == bytes(10 * MB)
    kept_heap.free(held[0])
    assert SANITIZED or peak == pytest.approx(10, rel=0.02)


# -- whose ---------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 4])
def test_threads_are_counted_apart(slots: Slots, threads: int) -> None:
    barrier = threading.Barrier(threads, timeout=20)

    def run(index: int) -> tuple[float, float]:
        barrier.wait()

        def work() -> None:
            held = [np.ones(MB // 8 * 10 * (index + 1)), b"x" * (10 * MB * (index + 1))]
            barrier.wait()  # all hold at once
            held.clear()

        found = slots.run(work, index)
        barrier.wait()
        return found

    with ThreadPoolExecutor(threads) as pool:
        found = list(pool.map(run, range(threads)))
    for index, (peak, now) in enumerate(found):
        assert peak == pytest.approx(20 * (index + 1), rel=0.01)
        assert now == pytest.approx(0, abs=0.1)


def test_thread_that_a_task_starts_counts_for_the_task(slots: Slots) -> None:
    held = []

    def work() -> None:
        thread = threading.Thread(target=lambda: held.append(np.ones(25 * MB)))
        thread.start()
        thread.join()

    peak, now = slots.run(work)
    assert peak == pytest.approx(200, rel=0.01)
    assert now == pytest.approx(200, rel=0.01)


def test_thread_of_a_thread_counts_for_the_task_too(slots: Slots) -> None:
    def work() -> None:
        def outer() -> None:
            thread = threading.Thread(target=lambda: np.ones(5 * MB))
            thread.start()
            thread.join()

        thread = threading.Thread(target=outer)
        thread.start()
        thread.join()

    peak, now = slots.run(work)
    assert peak == pytest.approx(40, rel=0.01)
    assert now == pytest.approx(0, abs=0.1)


def test_pool_that_a_task_starts_counts_for_the_task(slots: Slots) -> None:
    def work() -> None:
        barrier = threading.Barrier(3, timeout=20)

        def fill(_: int) -> None:
            array = np.ones(5 * MB)
            barrier.wait()
            del array

        with ThreadPoolExecutor(3) as pool:
            list(pool.map(fill, range(3)))

    peak, now = slots.run(work)
    assert peak == pytest.approx(120, rel=0.01)
    assert now == pytest.approx(0, abs=0.1)


def test_thread_that_outlives_its_task_writes_into_no_other(slots: Slots) -> None:
    go_on, done = threading.Event(), threading.Event()
    held = []

    def outlive() -> None:
        go_on.wait(20)
        held.extend([np.ones(10 * MB), *(bytes(1000) for _ in range(10_000))])
        done.set()

    slots.run(lambda: threading.Thread(target=outlive).start())

    def next_task() -> None:
        go_on.set()
        assert done.wait(20)

    peak, _ = slots.run(next_task)
    assert peak < 0.5


def test_thread_that_was_there_before_does_not_count(slots: Slots) -> None:
    go_on, done = threading.Event(), threading.Event()

    def fill() -> None:
        assert go_on.wait(20)
        np.ones(10 * MB)
        done.set()

    def wait_for_it() -> None:
        go_on.set()
        assert done.wait(20)

    threading.Thread(target=fill).start()
    peak, _ = slots.run(wait_for_it)
    assert peak < 0.5


def test_job_given_to_a_pool_that_was_there_before_counts(slots: Slots) -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(int).result()
        peak, _ = slots.run(lambda: pool.submit(np.ones, 10 * MB).result())
    assert 79 < peak < 81


def test_block_that_another_thread_frees_is_taken_off_its_own_task(
    slots: Slots,
) -> None:
    made, freed = threading.Event(), threading.Event()
    held: list[np.ndarray] = []

    def make() -> None:
        held.append(np.ones(10 * MB))
        made.set()
        assert freed.wait(20)
        np.ones(5 * MB)

    def free() -> None:
        assert made.wait(20)
        held.clear()
        freed.set()

    with ThreadPoolExecutor(2) as pool:
        maker = pool.submit(slots.run, make, 0)
        freer = pool.submit(slots.run, free, 1)
        peak, now = maker.result()
        assert peak == pytest.approx(80, rel=0.01)  # not 80 and 40
        assert now == pytest.approx(0, abs=0.1)
        peak, now = freer.result()
        assert peak < 0.5
        assert now == pytest.approx(0, abs=0.1)


def test_block_that_no_tasks_thread_frees_is_taken_off_its_task(slots: Slots) -> None:
    made, freed = threading.Event(), threading.Event()
    held: list[bytes] = []

    def make() -> None:
        held.append(b"x" * (30 * MB))
        made.set()
        assert freed.wait(20)

    with ThreadPoolExecutor(1) as pool:
        maker = pool.submit(slots.run, make)
        assert made.wait(20)
        held.clear()
        freed.set()
        peak, now = maker.result()
    assert peak == pytest.approx(30, rel=0.01)
    assert now == pytest.approx(0, abs=0.1)


@pytest.mark.parametrize("size", [1_000, 100_000, 30 * MB])
def test_what_was_there_before_is_taken_off_whoever_frees_it(
    slots: Slots, size: int
) -> None:
    """So a cache that drops one block for every new one does not look like a leak."""
    count = 30 * MB // size
    before = [b"x" * size for _ in range(count)]
    peak, now = slots.run(before.clear)
    error = slots.read()[2]
    assert peak < 0.1 + error
    assert error < (2 if size == 1_000 else 0.1)  # of small ones it is an estimate
    assert now == pytest.approx(-30, rel=0.06)


def test_blocks_of_a_finished_task_are_nobodys(
    slots: Slots, tally: NativeTally
) -> None:
    held = []
    slots.run(lambda: held.append(np.ones(10 * MB)))
    assert slots.read()[0] == pytest.approx(80, rel=0.01)
    assert tally.state()["blocks"] == 0
    held.clear()
    assert slots.read()[0] == pytest.approx(80, rel=0.01)


def test_task_within_a_task_has_its_own_count(slots: Slots) -> None:
    def outer() -> None:
        array = np.ones(2 * MB)
        slots.run(lambda: np.ones(4 * MB), 1)
        del array

    peak, now = slots.run(outer)
    assert peak == pytest.approx(16, rel=0.01)
    assert now == pytest.approx(0, abs=0.05)
    assert slots.read(1)[1] == pytest.approx(32, rel=0.01)


def test_end_without_a_begin_is_said(tally: NativeTally) -> None:
    assert tally.end() == MISSED_TASK


# -- Arrow ---------------------------------------------------------------------------


@pytest.fixture
def arrow(tally: NativeTally) -> Any:
    pa = pytest.importorskip("pyarrow")
    tally.check()
    if not tally.state()["arrow"]:
        pytest.skip("; ".join(tally.check()) or "Arrow uses malloc here")
    return pa


def test_arrow_buffers_are_exact(slots: Slots, arrow: Any) -> None:
    def work() -> None:
        buffer = arrow.allocate_buffer(50 * MB, resizable=True)
        np.frombuffer(buffer, "u1")[:] = 1
        del buffer

    peak, now = slots.run(work)
    assert peak == pytest.approx(50, rel=1e-3)
    assert now == pytest.approx(0, abs=0.01)


def test_arrow_buffer_that_grows_is_followed(slots: Slots, arrow: Any) -> None:
    def work() -> None:
        buffer = arrow.allocate_buffer(10 * MB, resizable=True)
        for size in (20, 60, 30):
            buffer.resize(size * MB)
            ctypes.memset(buffer.address, 1, size * MB)

    peak, now = slots.run(work)
    assert 60 <= peak < 60.1
    assert now == pytest.approx(0, abs=0.01)


def test_arrow_buffer_that_is_copied_counts_twice_for_that_moment(
    slots: Slots, arrow: Any
) -> None:
    moved = []

    def work() -> None:
        buffer = arrow.allocate_buffer(40 * MB, resizable=True)
        ctypes.memset(buffer.address, 1, 40 * MB)
        before = buffer.address
        buffer.resize(64 * MB)
        moved.append(buffer.address != before)

    peak, now = slots.run(work)
    # and a huge page of what it has more
    assert peak == pytest.approx(80 if moved[0] else 40, abs=2.2)
    assert now == pytest.approx(0, abs=0.01)


def test_group_of_arrow_strings_is_counted_with_all_of_arrows_threads(
    slots: Slots, arrow: Any
) -> None:
    pc = pytest.importorskip("pyarrow.compute")
    words = arrow.array([f"word number {i % 5000}" for i in range(1_000_000)])
    table = arrow.table({"word": words, "value": np.arange(1_000_000)})
    pool = arrow.default_memory_pool()
    held = []

    def work() -> None:
        upper = table.set_column(0, "word", pc.utf8_upper(table["word"]))
        held.append(upper.group_by("word").aggregate([("value", "list")]))
        held.append(upper)

    at_first = pool.bytes_allocated()
    work()  # what the first one imports and starts
    held.clear()
    until(lambda: pool.bytes_allocated() <= at_first, "Arrow's threads to let go")
    before = pool.bytes_allocated()
    peak, now = slots.run(work)
    assert now == pytest.approx((pool.bytes_allocated() - before) / MB, rel=0.03)
    assert now > 25
    assert peak >= now


def test_pandas_strings_are_counted_as_arrow_says(slots: Slots, arrow: Any) -> None:
    pd = pytest.importorskip("pandas")
    strings = pd.Series(
        [f"word number {i % 5000}" for i in range(500_000)], dtype="str"
    )
    (strings + "x").str.upper()  # what the first one imports
    pool = arrow.default_memory_pool()
    held = []
    before = pool.bytes_allocated()
    _, now = slots.run(lambda: held.append((strings + "x").str.upper()))
    assert now == pytest.approx((pool.bytes_allocated() - before) / MB, rel=0.05)


# -- libraries that come later -------------------------------------------------------


def test_library_that_is_loaded_later_is_seen_at_once(
    slots: Slots, tally: NativeTally
) -> None:
    for name in ("_lzma", "_sqlite3", "_elementtree", "_dbm", "_crypt"):
        if name not in sys.modules and importlib.util.find_spec(name):
            break
    else:
        pytest.skip("all are loaded already")
    before = tally.state()["slots"]
    importlib.import_module(name)
    assert tally.state()["slots"] > before


def test_name_of_the_family_is_the_wrapper_for_whoever_asks(libc: Any) -> None:
    wrapper = ctypes.cast(libc.malloc, ctypes.c_void_p).value
    real = ctypes.cast(ctypes.CDLL("libc.so.6").free, ctypes.c_void_p).value
    assert wrapper != real
    with pytest.raises(AttributeError):
        libc.no_such_function_at_all  # noqa: B018
