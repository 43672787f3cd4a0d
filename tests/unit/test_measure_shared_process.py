"""The process that workers share: what is beyond storage, and who runs in it."""

import os
import sys
import threading
import time
from types import SimpleNamespace

import pytest

from dask_memdash.measure import shared_process as module
from dask_memdash.measure.arrow import ArrowPool
from dask_memdash.measure.isolated import Traffic
from dask_memdash.measure.shared_process import SharedProcess
from dask_memdash.system.proc import HighWater, RssParts

MiB = 2**20


class Member:
    """A worker of the process that says what it is told."""

    def __init__(self, stored=0, moving=0, quiet=True, live=0, methods=()):
        self.now = {"stored": stored, "moving": moving, "quiet": quiet}
        self.tasks = SimpleNamespace(
            live=lambda: live,
            left_behind=0,
            by_thread={
                n: SimpleNamespace(method=method) for n, method in enumerate(methods)
            },
        )

    def stored(self):
        return self.now["stored"]

    def moving(self):
        return self.now["moving"]

    def named(self):
        return self.now.get("named", 0)

    def traffic(self):
        return Traffic()

    def quiet(self):
        return self.now["quiet"]


@pytest.fixture
def free(monkeypatch):
    """Say what the allocator has free."""
    made = SimpleNamespace(now=0)
    monkeypatch.setattr(module, "allocator_free", lambda: made.now)
    return made


@pytest.fixture
def pool(monkeypatch):
    """Say what Arrow's pool holds."""
    made = SimpleNamespace(now=None)
    monkeypatch.setattr(module, "uncounted_pool", lambda: made.now)
    # what another test has imported is nothing to these
    monkeypatch.setattr(module, "arrow_pool", lambda: None)
    return made


@pytest.fixture
def shared(free, pool):
    made = SharedProcess()
    yield made
    for member in list(made._members):
        made.leave(member)


def test_before_a_quiet_instant_nothing_is_known_to_be_beyond(shared):
    shared.join(Member(quiet=False))
    shared.observe(1.0, 500)
    assert shared.in_execution(900) is None


def test_beyond_is_without_storage_transfer_and_what_was_left(shared):
    member = Member(stored=100, moving=10)
    shared.join(member)
    shared.observe(1.0, 400)  # so that 290 were left
    member.now = {"stored": 150, "moving": 30, "quiet": False}
    shared.observe(2.0, 700)
    assert shared.in_execution(700) == 700 - 150 - 30 - 290
    assert shared.in_execution(300) == -170, "of either sign"


def test_within_a_moment_the_heap_is_asked_once(shared, monkeypatch):
    shared.join(Member())
    shared.observe(1.0, 400)
    asked = []
    monkeypatch.setattr(module, "allocator_free", lambda: asked.append(1) or 7)
    with shared.moment():
        inside = shared.idle_rest(), shared.idle_rest(), shared.reusable()
        other = []
        thread = threading.Thread(target=lambda: other.append(shared.idle_rest()))
        thread.start()
        thread.join(10)
    assert len(asked) == 2, "once here, and once by a thread that is in no moment"
    assert inside[0] == inside[1] == other[0] == 407
    shared.idle_rest()
    assert len(asked) == 3


def test_a_graph_that_arrives_is_nobodys_execution_and_no_part_of_what_was_left(shared):
    member = Member()
    shared.join(member)
    member.now["named"] = 50
    shared.observe(1.0, 400)
    assert shared.baseline.bytes == 350
    member.now |= {"quiet": False, "named": 192}
    shared.observe(2.0, 700)
    assert shared.in_execution(700) == 700 - 350 - 192


def test_what_the_allocator_got_free_meanwhile_is_nobodys(shared, free):
    member = Member()
    shared.join(member)
    free.now = 40
    shared.observe(1.0, 400)
    member.now["quiet"] = False
    free.now = 100
    shared.observe(2.0, 700)
    assert shared.in_execution(700) == 240
    free.now = 10  # less is free than then: used by whoever runs
    shared.observe(3.0, 700)
    assert shared.in_execution(700) == 300


def test_all_workers_of_the_process_count(shared):
    quiet = Member(100, live=5, methods=["exact"])
    busy = Member(30, 7, quiet=False, live=8, methods=["unmeasured", "estimated"])
    shared.join(quiet)
    shared.join(busy)
    assert (shared.stored(), shared.held_by_tasks()) == (130, 13)
    assert [mark.method for mark in shared.running()] == ["exact", "estimated"]
    shared.observe(1.0, 900)
    assert shared.in_execution(900) is None, "it is quiet when all of them are"
    shared.leave(busy)
    shared.observe(2.0, 900)
    assert shared.in_execution(950) == 50


def test_room_is_what_the_heap_and_the_arenas_have_free(shared, free, monkeypatch):
    free.now = 40
    monkeypatch.setattr(module, "current", lambda: None)
    assert shared.reusable() == 40
    counting = SimpleNamespace(
        arena_free=lambda: 5, counts_resident=False, mapped_by_allocators=int
    )
    monkeypatch.setattr(module, "current", lambda: counting)
    assert shared.reusable() == 45
    counting.counts_resident = True
    monkeypatch.setattr(module, "LARGE_ARE_MAPPED", False)
    assert shared.reusable() == 45
    monkeypatch.setattr(module, "LARGE_ARE_MAPPED", True)
    assert shared.reusable() == 5, "what comes from the heap is counted"
    monkeypatch.setattr(module, "current", lambda: None)
    assert shared.reusable() == 40
    free.now = None
    assert shared.reusable() == 0


def test_what_an_allocator_that_nobody_counts_has_kept_may_be_used_again(
    shared, free, monkeypatch
):
    counting = SimpleNamespace(
        arena_free=lambda: 5, counts_resident=True, mapped_by_allocators=int
    )
    monkeypatch.setattr(module, "current", lambda: counting)
    monkeypatch.setattr(module, "LARGE_ARE_MAPPED", True)
    monkeypatch.setitem(sys.modules, "polars", SimpleNamespace())
    idle(shared, 1000, file=300, stored=100)
    shared._rss = Rss(1700, file=400)
    assert shared.reusable() == 605
    free.now = 50  # that is counted when it is used
    assert shared.reusable() == 555
    monkeypatch.delitem(sys.modules, "polars")
    assert shared.reusable() == 5


def test_arrows_pool_counts_from_the_last_quiet_instant(shared, pool):
    member = Member(stored=100)
    shared.join(member)
    assert shared.arrow_growth() == 0, "pyarrow has not been imported"
    pool.now = ArrowPool(60, 90, None)
    shared.observe(1.0, 500)
    member.now["quiet"] = False
    pool.now = ArrowPool(200, 250, None)
    assert shared.arrow_growth() == 140
    member.now["stored"] = 180  # of which 80 may be tables
    assert shared.arrow_growth() == 60
    member.now["stored"] = 20
    assert shared.arrow_growth() == 140


def test_the_rss_serves_for_as_long_as_one_says(shared, monkeypatch):
    clock = SimpleNamespace(now=50.0)
    monkeypatch.setattr(
        module, "time", SimpleNamespace(monotonic=lambda: clock.now, time=time.time)
    )
    shared.join(Member())
    readings = iter([100, 200, 300])
    monkeypatch.setattr(shared, "read_rss", lambda: next(readings))
    assert shared.recent_rss(1.0) == 100
    clock.now += 0.5
    assert shared.recent_rss(1.0) == 100
    assert shared.recent_rss(0.1) == 200
    clock.now += 0.001
    assert shared.recent_rss(0.0) == 300


def available():
    mark = HighWater()
    try:
        return mark.available
    finally:
        mark.close()


def test_with_the_last_worker_all_files_are_closed(shared):
    before = len(os.listdir("/proc/self/fd"))
    one, other = Member(), Member()
    shared.join(one)
    shared.join(other)
    assert shared.read_rss() > 1_000_000
    assert shared.high_water == available()
    shared.leave(one)
    assert shared.read_rss() > 1_000_000
    shared.leave(other)
    assert shared.read_rss() is None
    assert shared.high_water is False
    assert len(os.listdir("/proc/self/fd")) == before
    # …and a worker that comes later finds everything anew
    shared.join(one)
    assert shared.read_rss() > 1_000_000
    assert shared.baseline.last is None


def test_a_look_at_a_process_that_all_have_left_sees_nothing(shared):
    """A task may end after its worker has gone."""
    member = Member()
    shared.join(member)
    look = shared.close_look
    before = look.begin(shared.read_rss())
    shared.leave(member)
    assert look.begin(5) is None
    if before is not None:
        assert look.end(before, 0) is None


def test_what_tasks_left_behind_counts_from_the_last_quiet_instant(free):
    process, worker = SharedProcess(), Member(100)
    process._members = [worker]
    worker.tasks.left_behind = 40
    process.observe(0.0, 1000)
    assert process.left_since_idle() == 0
    worker.tasks.left_behind = 65
    assert process.left_since_idle() == 25
    worker.tasks.left_behind = 10
    assert process.left_since_idle() == 0, "what was there before has gone"


def test_what_arrow_keeps_is_bounded_by_what_nothing_else_explains(
    shared, free, monkeypatch
):
    pool = ArrowPool(0, 0, 0)
    monkeypatch.setattr(module, "arrow_pool", lambda: pool)
    free.now = 0
    shared.join(Member())
    shared.observe(0.0, 100)
    assert shared.arrow_kept == 0
    pool = ArrowPool(0, 420, 900)  # it had 420, and holds nothing any more
    shared.observe(1.0, 460)
    assert shared.arrow_kept == 360
    assert shared.baseline.bytes == 100, "it is no part of the baseline"
    assert shared.in_execution(470) == 10
    pool = ArrowPool(300, 420, 900)
    shared.observe(2.0, 460)
    assert shared.arrow_kept == 120


# -- what comes with a task that is about to begin -------------------------------------


class Rss:
    """An RSS, and what it is made of, that are what the test says."""

    def __init__(self, rss, file=0):
        self.now, self.file = rss, file

    def read(self):
        return self.now

    def parts(self):
        return RssParts(self.now - self.file, self.file, 0)

    def close(self):
        """Hold nothing."""


def idle(shared, rss, file=0, **member):
    """Let a process be seen when nothing is under way."""
    joined = Member(**member)
    shared.join(joined)
    shared._rss.close()
    shared._rss = Rss(rss, file)
    shared.observe(1.0, rss)
    return joined


def test_modules_that_come_with_a_task_are_of_the_idle_process(shared):
    member = idle(shared, 100 * MiB, file=30 * MiB)
    shared._rss = Rss(180 * MiB, file=70 * MiB)
    member.now["quiet"] = False
    assert shared.load()
    assert shared.loaded == 80 * MiB
    assert shared.baseline.bytes == 180 * MiB
    assert shared.baseline.file == 70 * MiB
    assert shared.in_execution(400 * MiB) == 220 * MiB
    shared.observe(2.0, 400 * MiB)  # while it runs
    assert shared.baseline.bytes == 180 * MiB


def test_what_is_stored_sent_or_counted_did_not_come_with_it_as_modules_do(shared):
    member = idle(shared, 100 * MiB)
    shared._rss = Rss(190 * MiB)
    member.now.update(stored=50 * MiB, moving=10 * MiB, named=29 * MiB)
    assert shared.load()
    assert shared.loaded == 1 * MiB


def test_what_came_while_something_was_under_way_may_be_anybodys(shared):
    idle(shared, 100 * MiB)
    shared.disturb()
    shared._rss = Rss(180 * MiB)
    assert not shared.load()
    assert (shared.loaded, shared.baseline.bytes) == (0, 100 * MiB)


def test_a_trifle_and_what_was_never_seen_idle_are_left_as_they_are(shared):
    idle(shared, 100 * MiB)
    shared._rss = Rss(101 * MiB - 1)
    assert not shared.load()
    assert shared.loaded == 0
    busy = SharedProcess()
    busy.join(Member(quiet=False))
    busy.observe(1.0, 100 * MiB)
    assert not busy.load()
    for member in list(busy._members):
        busy.leave(member)


def test_what_did_not_stay_is_found_out_at_the_next_idle_instant(shared):
    member = idle(shared, 100 * MiB)
    shared._rss = Rss(180 * MiB)
    assert shared.load()
    member.now["quiet"] = True
    shared._rss = Rss(120 * MiB)
    shared.observe(3.0, 120 * MiB)
    assert shared.baseline.bytes == 120 * MiB


def test_what_was_loaded_is_not_taken_for_what_arrow_keeps(shared, monkeypatch):
    pool = SimpleNamespace(held=0, most=50 * MiB)
    monkeypatch.setattr(module, "arrow_pool", lambda: pool)
    member = idle(shared, 100 * MiB)
    shared._rss = Rss(180 * MiB)
    assert shared.load()
    member.now["quiet"] = True
    shared.observe(3.0, 190 * MiB)
    assert shared.arrow_kept == 10 * MiB
    assert shared.baseline.last == 180 * MiB


def test_a_leak_between_idle_instants_is_not_taken_for_modules(shared):
    idle(shared, 100 * MiB)
    for second in range(2, 12):  # a thread takes 10 MiB a second; nothing else runs
        rss = (90 + 10 * second) * MiB
        shared._rss = Rss(rss)
        shared.observe(float(second), rss)
    shared._rss = Rss(205 * MiB)
    assert shared.load()
    assert shared.loaded == 5 * MiB
