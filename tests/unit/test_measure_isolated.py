"""A close look at a task that is alone: what is judged, and what the kernel says."""

import ctypes
import mmap
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dask_memdash.measure import isolated
from dask_memdash.measure.isolated import (
    NO_TRAFFIC,
    CloseLook,
    IsolatedPeak,
    Mapped,
    Traffic,
    judge,
    with_small_objects,
)
from dask_memdash.measure.rss import RssReader
from dask_memdash.system.proc import HighWater, RssParts

MB = 1_000_000
sizes = st.integers(0, 2**45)


# -- the judgement -------------------------------------------------------------


@pytest.mark.parametrize(
    ("counted", "grown", "others", "expected"),
    [
        # without a tally the kernel's figure is all there is
        (None, 80, {}, IsolatedPeak(80 * MB, 0, "hwm")),
        (None, -5, {}, IsolatedPeak(0, 0, "hwm")),
        (None, 80, {"free": 7, "moved": 2}, IsolatedPeak(79 * MB, 9 * MB, "hwm")),
        # they agree, to the huge page and two parts in a hundred
        (80, 80, {}, IsolatedPeak(80 * MB, 0, "exact")),
        (80, 82, {}, IsolatedPeak(80 * MB, 2 * MB, "exact")),
        (80, 78, {}, IsolatedPeak(80 * MB, 2 * MB, "exact")),
        (0, 0, {}, IsolatedPeak(0, 0, "exact")),
        (1000, 1022, {}, IsolatedPeak(1000 * MB, 22 * MB, "exact")),
        # a native library had the rest
        (10, 80, {}, IsolatedPeak(80 * MB, 0, "hwm", native=70 * MB)),
        (0, 80, {"moved": 4}, IsolatedPeak(78 * MB, 4 * MB, "hwm", native=78 * MB)),
        # …or what moved into storage meanwhile has
        (10, 80, {"moved": 70}, IsolatedPeak(10 * MB, 35 * MB, "exact")),
        # reserved and never touched
        (400, 10, {}, IsolatedPeak(10 * MB, 0, "hwm", untouched=390 * MB)),
        (400, 0, {}, IsolatedPeak(0, 0, "hwm", untouched=400 * MB)),
        # it went into what the allocator had free, as far as that may be
        (50, 0, {"free": 60}, IsolatedPeak(50 * MB, 50 * MB, "exact")),
        (50, 0, {"free": 48}, IsolatedPeak(50 * MB, 50 * MB, "exact")),
        (50, 49, {"free": 60}, IsolatedPeak(50 * MB, 59 * MB, "exact")),
        # so much was free that half of what was counted can have hidden there
        (50, 50, {"free": 26}, IsolatedPeak(50 * MB, 26 * MB, "exact")),
        (50, 50, {"free": 24}, IsolatedPeak(50 * MB, 0, "exact")),
        (1, 1, {"free": 60}, IsolatedPeak(1 * MB, 60 * MB, "exact")),
        (1, 1, {"free": 2}, IsolatedPeak(1 * MB, 0, "exact")),
        # …or further: 5 MB short is more than its trifle of 3.1
        (50, 0, {"free": 45}, IsolatedPeak(0, 45 * MB, "hwm", untouched=5 * MB)),
        (
            400,
            10,
            {"free": 100},
            IsolatedPeak(10 * MB, 100 * MB, "hwm", untouched=290 * MB),
        ),
        # Arrow's pool has it, though the process has grown by no page of it
        (
            1,
            0,
            {"arrow": (60, 60)},
            IsolatedPeak(61 * MB, 1 * MB, "hwm", native=60 * MB, arrow=60 * MB),
        ),
        # at least 20 and at most 90 were Arrow's: the most, and all between is doubt
        (
            1,
            21,
            {"arrow": (20, 90)},
            IsolatedPeak(91 * MB, 70 * MB, "hwm", native=90 * MB, arrow=90 * MB),
        ),
        # what was counted may have gone before Arrow had any: 50, or all together
        (
            50,
            50,
            {"arrow": (20, 90)},
            IsolatedPeak(140 * MB, 90 * MB, "hwm", native=90 * MB, arrow=90 * MB),
        ),
        # the process has grown by more than Arrow can have had
        (
            1,
            81,
            {"arrow": (60, 60)},
            IsolatedPeak(81 * MB, 0, "hwm", native=80 * MB, arrow=60 * MB),
        ),
        # a trifle of Arrow's is no matter
        (80, 80, {"arrow": (1, 2)}, IsolatedPeak(80 * MB, 0, "exact")),
        (None, 30, {"arrow": (50, 50)}, IsolatedPeak(30 * MB, 20 * MB, "hwm")),
    ],
)
def test_a_task_alone_is_judged(counted, grown, others, expected):
    in_bytes = {
        name: tuple(n * MB for n in value) if name == "arrow" else value * MB
        for name, value in others.items()
    }
    found = judge(None if counted is None else counted * MB, grown * MB, **in_bytes)
    assert found == expected


def test_free_memory_that_need_not_have_been_touched_leaves_the_error_wide():
    """50 MB counted, 10 grown, 20 free: from 10 to 30 MB were resident."""
    found = judge(50 * MB, 10 * MB, free=20 * MB)
    assert (found.peak, found.error, found.untouched) == (10 * MB, 20 * MB, 20 * MB)


@given(
    st.none() | sizes,
    st.integers(-(2**45), 2**45),
    sizes,
    sizes,
    st.tuples(sizes, sizes).map(sorted),
)
def test_a_judgement_makes_sense_whatever_was_read(counted, grown, free, moved, arrow):
    found = judge(counted, grown, free=free, moved=moved, arrow=tuple(arrow))
    assert min(found[:2]) >= 0
    assert min(found[3:]) >= 0
    assert found.method in ("exact", "hwm")
    assert found.arrow <= found.native
    if found.method == "exact":
        assert found.peak == counted
        assert found.native == found.untouched == 0


# -- small objects -------------------------------------------------------------

EXACT = IsolatedPeak(1 * MB, 5, "exact")


def test_small_objects_are_believed_as_far_as_there_are_any():
    # 100,000 of at most 512 bytes can be 51.2 MB
    assert with_small_objects(EXACT, 100_000, 30 * MB) == IsolatedPeak(
        30 * MB, 29 * MB, "exact", small=29 * MB
    )
    assert with_small_objects(EXACT, 100_000, 90 * MB) == IsolatedPeak(
        51_200_000, 50_200_000, "exact", small=50_200_000
    )


def test_an_error_that_was_larger_already_stays():
    wide = IsolatedPeak(1 * MB, 80 * MB, "hwm", native=1 * MB)
    assert with_small_objects(wide, 100_000, 30 * MB) == IsolatedPeak(
        30 * MB, 80 * MB, "hwm", native=1 * MB, small=29 * MB
    )


@pytest.mark.parametrize(
    ("blocks", "output"),
    [
        (0, 90 * MB),  # a lie about its size, and no objects that it may be made of
        (100_000, None),
        (100_000, 0),
        (100_000, 1 * MB),
        (100_000, 3 * MB),  # a trifle more than was counted
        (3_000, 90 * MB),
    ],
)
def test_where_there_are_none_nothing_is_added(blocks, output):
    assert with_small_objects(EXACT, blocks, output) is EXACT


# -- begin and end -------------------------------------------------------------


class Mark:
    """A high-water mark that says what it is told."""

    def __init__(self):
        self.high = 180 * MB
        self.allowed = True
        self.made_of = None

    def reset(self):
        return self.allowed

    def read(self):
        return self.high

    def parts(self):
        return self.made_of


def test_room_for_small_objects_is_in_the_error_of_a_count_of_all_else():
    assert judge(40 * MB, 40 * MB, free=9 * MB)[:2] == (40 * MB, 0)
    found = judge(40 * MB, 40 * MB, free=9 * MB, part=isolated.ARENAS_PART)
    assert (found.peak, found.error, found.method) == (40 * MB, 9 * MB, "exact")
    found = judge(200 * MB, 200 * MB, free=9 * MB, part=isolated.ARENAS_PART)
    assert found.error == 0


def test_what_may_be_pages_of_files_that_came_and_went_is_in_the_error():
    mapped = isolated.Mapped(unseen=60 * MB)
    found = judge(10 * MB, 50 * MB, mapped=mapped)
    assert (found.peak, found.error, found.method) == (10 * MB, 40 * MB, "hwm")
    # the heap was seen to be larger than was counted
    seen = isolated.Mapped(anon=35 * MB, unseen=60 * MB)
    found = judge(10 * MB, 50 * MB, mapped=seen)
    assert (found.peak, found.error, found.native) == (35 * MB, 15 * MB, 25 * MB)
    few = isolated.Mapped(unseen=5 * MB)
    assert judge(10 * MB, 50 * MB, mapped=few)[:2] == (45 * MB, 5 * MB)
    none = isolated.Mapped()
    assert judge(10 * MB, 50 * MB, mapped=none)[:2] == (50 * MB, 0)


@pytest.fixture
def high_water():
    return Mark()


@pytest.fixture
def no_arrow(monkeypatch):
    monkeypatch.setattr(isolated, "uncounted_pool", lambda: None)


def test_a_look_puts_begin_and_end_together(high_water, no_arrow, monkeypatch):
    stored, blocks = iter([500, 300]), iter([1000, 1700])
    monkeypatch.setattr(isolated.sys, "getallocatedblocks", lambda: next(blocks))
    look = CloseLook(high_water, lambda: next(stored), lambda: 40)
    before = look.begin(100 * MB)
    assert before == (100 * MB, 500, 40, 1000, None, None, NO_TRAFFIC, None, 0, 0)
    # 200 bytes of storage went, which is no growth of the task's
    assert look.end(before, None) == (IsolatedPeak(80 * MB - 100, 240, "hwm"), 700)


def test_a_count_of_what_is_resident_is_believed_where_the_process_did_not_grow(
    high_water, no_arrow, monkeypatch
):
    for resident, method in ((False, "hwm"), (True, "exact")):
        tally = SimpleNamespace(counts_resident=resident, files_mapped=int)
        monkeypatch.setattr(isolated, "current", lambda tally=tally: tally)
        look = CloseLook(high_water, lambda: 0, lambda: 0, kept=lambda: 130 * MB)
        found, _ = look.end(look.begin(100 * MB), 200 * MB)
        assert found.method == method
        assert found.peak == (200 * MB if resident else 80 * MB)
        assert found.error == 0


@pytest.mark.parametrize(
    ("kept", "doubt", "error"),
    [
        (0, 0, 120),  # the kernel saw 80 of 200, and nobody knows where the rest was
        (130, 0, 0),  # it was what allocators had kept
        (90, 0, 30),
        (130, 12, 12),  # … of which the count cannot say that it was touched
        (0, 150, 120),  # no more is in doubt than the kernel lacks
    ],
)
def test_what_the_kernel_does_not_confirm_of_a_count_is_its_error(
    high_water, no_arrow, monkeypatch, kept, doubt, error
):
    tally = SimpleNamespace(counts_resident=True, files_mapped=int)
    monkeypatch.setattr(isolated, "current", lambda: tally)
    look = CloseLook(high_water, lambda: 0, lambda: 0, kept=lambda: kept * MB)
    found, _ = look.end(look.begin(100 * MB), 200 * MB, doubt=doubt * MB)
    assert (found.peak, found.error) == (200 * MB, error * MB)


@pytest.mark.parametrize(
    ("counted", "kept", "short_by", "error"),
    [
        (80, 0, 30, 0),  # the process did not grow by more: nothing was missed
        (80, 30, 20, 20),  # … unless it is where something had been kept
        (80, 10, 20, 10),
        (120, 30, 20, 0),  # it grew by 40 less, which is more than had been kept
    ],
)
def test_what_was_not_looked_at_is_its_error_as_far_as_it_can_have_been_there(
    high_water, no_arrow, monkeypatch, counted, kept, short_by, error
):
    tally = SimpleNamespace(counts_resident=True, files_mapped=int)
    monkeypatch.setattr(isolated, "current", lambda: tally)
    look = CloseLook(high_water, lambda: 0, lambda: 0, kept=lambda: kept * MB)
    before = look.begin(100 * MB)
    found, _ = look.end(before, counted * MB, short_by=short_by * MB)
    confirmed = max(0, counted - 80 - kept)  # what test above is about
    assert (found.peak, found.error) == (counted * MB, max(error, confirmed) * MB)


def test_objects_that_went_are_no_fewer_than_none(high_water, no_arrow, monkeypatch):
    blocks = iter([1000, 400])
    monkeypatch.setattr(isolated.sys, "getallocatedblocks", lambda: next(blocks))
    look = CloseLook(high_water, lambda: 0, lambda: 0)
    assert look.end(look.begin(100 * MB), 80 * MB) == (
        IsolatedPeak(80 * MB, 0, "exact"),
        0,
    )


def test_where_the_mark_cannot_be_set_back_there_is_no_look(high_water):
    high_water.allowed = False
    look = CloseLook(high_water, lambda: 0, lambda: 0)
    assert look.begin(100 * MB) is None
    high_water.allowed = True
    assert look.begin(None) is None, "nor without an RSS to compare with"


def test_a_mark_that_cannot_be_read_any_more_gives_nothing(high_water):
    look = CloseLook(high_water, lambda: 0, lambda: 0)
    before = look.begin(100 * MB)
    high_water.high = None
    assert look.end(before, 5) is None


# -- the kernel's mark ---------------------------------------------------------


def tree(tmp_path, status="VmPeak:\t 9 kB\nVmHWM:\t   1234 kB\nVmRSS:\t 7 kB\n"):
    folder = tmp_path / "self"
    folder.mkdir()
    (folder / "status").write_text(status)
    (folder / "clear_refs").write_text("")
    return folder


def test_the_mark_is_read_in_kilobytes_and_set_back_with_a_five(tmp_path):
    folder = tree(tmp_path)
    mark = HighWater(str(tmp_path))
    assert mark.available
    assert mark.read() == 1234 * 1024
    assert mark.reset()
    assert set((folder / "clear_refs").read_text()) == {"5"}
    mark.close()


@pytest.mark.parametrize("missing", ["clear_refs", "status", "self"])
def test_a_kernel_without_it_has_none(tmp_path, missing):
    """As on macOS and Windows, and where the kernel was built without clear_refs."""
    folder = tree(tmp_path)
    if missing == "self":
        (folder / "status").unlink()
        (folder / "clear_refs").unlink()
        folder.rmdir()
    else:
        (folder / missing).unlink()
    before = open_files()
    mark = HighWater(str(tmp_path))
    assert not mark.available
    assert mark.read() is None
    assert mark.reset() is False
    mark.close()
    assert open_files() == before


@pytest.mark.parametrize(
    "status", ["", "VmRSS: 5 kB\n", "VmHWM:", "VmHWM:\t\n", "VmHWM: x kB\n"]
)
def test_a_status_without_a_mark_is_no_mark(tmp_path, status):
    tree(tmp_path, status)
    mark = HighWater(str(tmp_path))
    assert not mark.available
    assert mark.read() is None


def test_a_container_that_forbids_the_write_has_none(tmp_path):
    """The file is there, and writing fails: /dev/full says so like a container."""
    folder = tree(tmp_path)
    (folder / "clear_refs").unlink()
    (folder / "clear_refs").symlink_to("/dev/full")
    before = open_files()
    mark = HighWater(str(tmp_path))
    assert not mark.available
    assert (mark.reset(), mark.read()) == (False, None)
    assert open_files() == before


def test_a_mark_that_is_closed_writes_into_nobody_elses_file(tmp_path):
    tree(tmp_path)
    mark = HighWater(str(tmp_path))
    mark.close()
    other = tmp_path / "other"
    with other.open("w"), other.open("w"):  # which get the same numbers
        assert mark.reset() is False
        assert mark.read() is None
    assert other.read_text() == ""
    mark.close()


def open_files():
    """Count this process's files under /proc and pytest's folders."""
    return len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0


@pytest.fixture
def real():
    mark = HighWater()
    if not mark.available:
        pytest.skip("this kernel or container does not let the mark be set back")
    yield mark
    mark.close()


def rss_now():
    reader = RssReader(os.getpid())
    try:
        return reader.read()
    finally:
        reader.close()


def test_the_kernel_remembers_what_has_long_gone(real):
    block = b"x" * (50 * MB)  # had before, so that writing needs nothing more
    assert real.reset()
    before = rss_now()
    with mmap.mmap(-1, 50 * MB) as memory:
        memory.write(block)
    assert rss_now() - before < 5 * MB
    assert real.read() - before == pytest.approx(50 * MB, rel=0.05)
    # set back, it begins again where the process is now
    assert real.reset()
    assert real.read() == pytest.approx(rss_now(), abs=2 * MB)


def test_what_no_tally_counts_is_found_by_a_real_look(real, monkeypatch):
    monkeypatch.setattr(isolated, "current", lambda: None)
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.restype, libc.free.argtypes = None, [ctypes.c_void_p]
    look = CloseLook(real, lambda: 0, lambda: 0)
    before = look.begin(rss_now())
    block = libc.malloc(50 * MB)
    ctypes.memset(block, 1, 50 * MB)
    libc.free(block)
    found, _ = look.end(before, 0)
    assert found.method == "hwm"
    assert found.peak == pytest.approx(50 * MB, rel=0.05)
    assert found.native == found.peak


def test_what_was_never_touched_is_found_by_a_real_look(real):
    look = CloseLook(real, lambda: 0, lambda: 0)
    before = look.begin(rss_now())
    with mmap.mmap(-1, 400 * MB):
        found, _ = look.end(before, 400 * MB)
    assert found.method == "hwm"
    assert found.peak < 5 * MB
    assert found.untouched == pytest.approx(400 * MB, rel=0.02)


def test_a_map_that_was_read_is_no_tasks():
    found = judge(2 * MB, 302 * MB, mapped=Mapped(file=300 * MB, anon=2 * MB))
    assert found == IsolatedPeak(2 * MB, 0, "hwm", mapped=300 * MB)


def test_heap_that_was_seen_beside_a_map_is_the_tasks():
    found = judge(0, 300 * MB, mapped=Mapped(file=290 * MB, anon=200 * MB))
    assert (found.peak, found.method) == (200 * MB, "hwm")


def test_a_map_seen_in_part_leaves_the_rest_in_the_error():
    found = judge(50 * MB, 340 * MB, mapped=Mapped(file=250 * MB, anon=50 * MB))
    assert (found.peak, found.error, found.method) == (50 * MB, 40 * MB, "hwm")


def test_what_the_sampler_saw_of_a_map_counts_though_it_is_gone_at_the_end():
    mark = Mark()
    mark.high = 400 * MB
    mark.made_of = RssParts(90 * MB, 10 * MB, 0)
    close_look = CloseLook(mark, lambda: 0, lambda: 0)
    before = close_look.begin(100 * MB)
    found, _ = close_look.end(before, 0, (310 * MB, 90 * MB))
    assert (found.peak, found.mapped) == (0, 300 * MB)


def test_what_was_received_meanwhile_is_not_the_tasks(high_water, no_arrow):
    passed = iter([Traffic(0, 30 * MB), Traffic(40 * MB, 0)])
    look = CloseLook(high_water, lambda: 0, lambda: 0, lambda: next(passed))
    before = look.begin(100 * MB)
    found, _ = look.end(before, 0)  # it grew by 80 MB, of which 70 moved, in two copies
    assert (found.peak, found.method) == (0, "exact")
    assert found.error == 10 * MB


def test_what_an_unseen_allocator_may_have_kept_is_in_the_kernels_error():
    found = judge(0, 9 * MB, free=90 * MB, hidden=90 * MB)
    assert found == IsolatedPeak(9 * MB, 90 * MB, "hwm", native=9 * MB)
