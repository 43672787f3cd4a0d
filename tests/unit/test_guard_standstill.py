"""Tasks that use what paused workers have stored are sent to them; nothing else is."""

from types import SimpleNamespace

from distributed.core import Status

from dask_memdash.guard.standstill import MOST, Standstill


class Scheduler:
    """As much of a scheduler as is looked at, and changed."""

    def __init__(self):
        self.workers = {name: worker(name) for name in ("a", "b")}
        self.running, self.idle = set(), {}
        self.idle_task_count, self.saturated = set(), set()
        self.unrunnable = []
        self.asked = []
        self.seen = None

    def transitions(self, wanted, stimulus):
        self.asked.append(wanted)
        self.seen = {w.address for w in self.running if w.status == Status.running}
        self.idle.update({w.address: w for w in self.running})


def worker(name):
    return Worker(address=name, status=Status.paused)


class Worker(SimpleNamespace):
    __hash__ = object.__hash__


def user(key, priority, *holders):
    needed = SimpleNamespace(who_has=set(holders) or None)
    return SimpleNamespace(key=key, priority=(priority,), dependencies=[needed])


def test_after_a_while_what_uses_stored_outputs_is_assigned_in_its_order():
    scheduler = Scheduler()
    here = scheduler.workers["a"]
    scheduler.unrunnable = [user("late", 2, here), user("soon", 1, here), user("x", 0)]
    standstill = Standstill(scheduler)
    assert [standstill.step(now, ["a", "b"]) for now in (5.0, 6.9, 7.0)] == [0, 0, 2]
    # the last one is the first
    assert [list(wanted) for wanted in scheduler.asked] == [["late", "soon"]]
    assert scheduler.seen == {"a", "b"}
    # all is as it was
    assert (scheduler.running, scheduler.idle) == (set(), {})
    assert {w.status for w in scheduler.workers.values()} == {Status.paused}
    # and not at once again
    assert [standstill.step(now, ["a", "b"]) for now in (8.0, 9.0)] == [0, 2]


def test_nothing_happens_while_a_worker_runs_or_nothing_waits():
    scheduler = Scheduler()
    here = scheduler.workers["a"]
    standstill = Standstill(scheduler)
    assert [standstill.step(now, ["a"]) for now in (5.0, 9.0)] == [0, 0]
    scheduler.unrunnable = [user("soon", 1, here)]
    scheduler.running = {scheduler.workers["b"]}
    assert [standstill.step(now, ["a"]) for now in (10.0, 19.0)] == [0, 0]
    # counted from when the last one was paused
    scheduler.running = set()
    assert [standstill.step(now, ["a"]) for now in (20.0, 21.0, 22.0)] == [0, 0, 1]


def test_workers_without_a_guard_are_left_alone():
    scheduler = Scheduler()
    scheduler.unrunnable = [user("soon", 1, scheduler.workers["b"])]
    standstill = Standstill(scheduler)
    assert [standstill.step(now, ["a", "gone"]) for now in (5.0, 9.0)] == [0, 0]
    assert scheduler.asked == []


def test_only_so_many_are_assigned_at_a_time():
    scheduler = Scheduler()
    here = scheduler.workers["a"]
    scheduler.unrunnable = [user(str(i), i, here) for i in range(MOST + 9)]
    standstill = Standstill(scheduler)
    assert [standstill.step(now, ["a"]) for now in (5.0, 9.0)] == [0, MOST]
