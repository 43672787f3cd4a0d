"""Small Python objects: which tasks' are counted one by one, and that they are."""

from __future__ import annotations

import pytest
from native_scripts import run

from dask_memdash.measure import native_tally as face
from dask_memdash.measure.isolated import AtBegin, CloseLook
from dask_memdash.measure.small_objects import MAX_PREFIXES, SmallObjects
from dask_memdash.system.proc import RssParts

MB = 1_000_000

native = pytest.mark.skipif(face.load() is None, reason=face.why_not() or "-")

#: Arenas that are nearly empty are there before the first task.
BEFORE = """
def make(n=100_000):
    return [[i] for i in range(1000, 1000 + n)]

#: What that takes: lists with the collector's head, an element and an integer each …
EACH = 64 + 16 + 32
#: … and a table of pointers.
SIZE = 100_000 * EACH + 800_000
kept = make(400_000)[::3000]
assert tally.acquire(), tally.refused
slots = Slots()

def task(work, index=0, by_objects=True):
    assert tally.begin(slots.mapping, 512 * index, by_objects)
    work()
    return tally.end()
"""


# -- which ---------------------------------------------------------------------------


def test_first_tasks_of_a_prefix_are_counted_one_by_one_and_later_ones_rarely() -> None:
    small = SmallObjects(lambda: (0, 0))
    wanted = [n for n in range(1, 70) if small.wanted("inc")]
    assert wanted == [1, 2, 3, 4, 8, 16, 32, 64]


def test_all_tasks_of_a_prefix_are_counted_so_once_arenas_have_misled() -> None:
    told = (40 * MB, 3 * MB)
    small = SmallObjects(lambda: told)
    assert small.wanted("load")
    small.learn("load", 50 * MB)
    assert all(small.wanted("load") for _ in range(20))
    small.wanted("inc")
    told = (3 * MB, 4 * MB)  # a trifle
    small.learn("inc", 50 * MB)
    told = (30 * MB, 32 * MB)  # next to the rest
    small.learn("inc", 900 * MB)
    assert [small.wanted("inc") for _ in range(6)] == [1, 1, 1, 0, 0, 0]


def test_what_is_known_of_prefixes_is_bounded() -> None:
    small = SmallObjects(lambda: (0, 0))
    for n in range(2 * MAX_PREFIXES + 7):
        small.wanted(f"prefix-{n}")
    assert len(small._known) <= MAX_PREFIXES


def test_room_in_arenas_is_no_doubt_where_objects_were_counted() -> None:
    class Mark:
        available = True

        def reset(self) -> bool:
            return True

        def read(self) -> int:
            return 100 * MB

        def parts(self) -> RssParts:
            return RssParts(100 * MB, 0, 0)

    look = CloseLook(Mark(), int, lambda: 70 * MB, arenas=lambda: 60 * MB)  # type: ignore[arg-type]
    before = look.begin(100 * MB)
    assert isinstance(before, AtBegin)
    assert before.arenas == 60 * MB
    for by_objects, error in ((False, 70 * MB), (True, 10 * MB)):
        found = look.end(before, 10 * MB, by_objects=by_objects)
        assert found is not None
        assert found[0].peak == 10 * MB or not by_objects
        assert found[0].error == pytest.approx(error, abs=11 * MB)


# -- counted -------------------------------------------------------------------------


@native
def test_objects_count_where_others_have_left_room() -> None:
    run(
        BEFORE
        + """
assert task(make) == 16
now, peak = slots.read()
close(peak, SIZE, 0.02)
assert abs(now) < 0.01 * SIZE, now
objects, arenas = tally._native.objects()
close(objects, SIZE - 800_000, 0.02)
assert arenas < 0.2 * SIZE, arenas
assert task(make, by_objects=False) == 0
assert slots.read()[1] < 0.3 * SIZE, slots.read()
"""
    )


@native
def test_tasks_that_share_arenas_are_told_apart() -> None:
    run(
        BEFORE
        + """
sys.setswitchinterval(1e-4)
def work(index):
    for _ in range(3):
        assert task(lambda: make((index + 1) * 20_000), index) & 16
threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
for i in range(4):
    now, peak = slots.read(i)
    close(peak, (i + 1) * SIZE / 5, 0.03)
    assert abs(now) < 0.05 * MB, now
"""
    )


@native
def test_strings_grow_and_shrink_across_what_is_small() -> None:
    run(
        BEFORE
        + """
def work():
    for size in (1, 100, 511, 513, 5000, 100_000, 400, 16):
        grown = bytearray()
        for _ in range(3):
            grown.extend(b"x" * size)
            del grown[size // 2:]
        lists = [list(range(1000, 1000 + size % 700)) for _ in range(50)]
        for one in lists:
            one.append(1)
            del one[3:]
    {i: str(i) for i in range(1000, 20_000)}
for _ in range(3):
    assert task(work) == 16
    now, peak = slots.read()
    assert abs(now) < 30_000, now
    assert 2 * MB < peak < 5 * MB, peak
"""
    )


@native
def test_allocators_are_as_before_when_no_task_asks_any_more() -> None:
    run(
        BEFORE
        + """
api = ctypes.pythonapi
class Allocator(ctypes.Structure):
    _fields_ = [(n, ctypes.c_void_p) for n in "ctx malloc calloc realloc free".split()]
def of(domain):
    found = Allocator()
    api.PyMem_GetAllocator(domain, ctypes.byref(found))
    return [getattr(found, name) for name, _ in Allocator._fields_]
before = of(1), of(2)
seen = []
task(lambda: seen.append((of(1), of(2))))
assert seen[0] != before and (of(1), of(2)) == before
task(lambda: task(lambda: seen.append((of(1), of(2))), 1))
assert seen[1] == seen[0] and (of(1), of(2)) == before
def out():
    tally.release()
    assert (of(1), of(2)) == before
    assert tally.acquire()
task(out)
assert (of(1), of(2)) == before
task(make)
close(slots.read()[1], SIZE, 0.02)
"""
    )


@native
def test_tracemalloc_may_come_and_go_meanwhile() -> None:
    run(
        BEFORE
        + """
import tracemalloc
task(make)
tracemalloc.start()
task(make)  # as arenas tell
tracemalloc.stop()
task(make)
close(slots.read()[1], SIZE, 0.02)
task(tracemalloc.start)
task(make)
task(tracemalloc.stop)
for _ in range(2):
    task(make)
    close(slots.read()[1], SIZE, 0.02)
"""
    )


@native
@pytest.mark.parametrize("allocator", ["malloc", "debug"])
def test_other_allocators_of_pythons_are_left_alone(allocator: str) -> None:
    run(
        BEFORE
        + """
assert task(make) == 0
""",
        PYTHONMALLOC=allocator,
    )


@native
def test_forked_child_goes_on_without_counting() -> None:
    run(
        BEFORE
        + """
def fork():
    child = os.fork()
    if child == 0:
        kept = make()
        del kept
        make()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
task(fork)
assert slots.read()[1] < 0.1 * SIZE, slots.read()
task(make)
close(slots.read()[1], SIZE, 0.02)
"""
    )


@pytest.mark.slow
@native
def test_hooks_come_and_go_while_threads_make_objects() -> None:
    run(
        BEFORE
        + """
sys.setswitchinterval(1e-5)
stop, done = False, [0] * 4
def work(n):
    kept = []
    while not stop:
        begun = tally.begin(slots.mapping, 512 * n, n % 2 == 0)
        kept = [make(2000), *kept[:20]]
        {i: str(i) * (i % 40) for i in range(1000)}
        if begun:
            tally.end()
        done[n] += 1
threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
for thread in threads: thread.start()
for _ in range(60):
    tally.release()
    assert tally.acquire() or "it counted" in tally.refused, tally.refused
    tally.installed or tally.acquire()
stop = True
for thread in threads: thread.join()
assert min(done) > 0, done
assert tally.installed or tally.acquire()
task(make)
close(slots.read()[1], SIZE, 0.02)
"""
    )
