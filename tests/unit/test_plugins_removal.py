"""What a worker holds is looked at before the scheduler removes it: harmlessly."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace

import pytest
from dask._task_spec import Task as Spec

from dask_memdash.model.event_parts import TaskInputs
from dask_memdash.plugins.scheduler import removal
from dask_memdash.plugins.scheduler.removal import (
    RemovalWatch,
    worker_leaving,
)
from dask_memdash.plugins.scheduler.translate import inputs_of

T = 1_760_000_000.0
MB = 1_000_000


class Task:
    """A task as the scheduler knows it; compared by identity, as there."""

    def __init__(self, key, nbytes=-1, *, needs=(), run_spec=None, **more):
        self.key, self.nbytes = key, nbytes
        self.prefix = SimpleNamespace(name=key.partition("-")[0])
        self.group = self.prefix
        self.priority = (0, 1, 5)
        self.state = "memory" if nbytes >= 0 else "processing"
        self.dependencies = set(needs)
        self.run_spec = run_spec
        self.type, self.who_wants, self.waiters = "numpy.ndarray", set(), set()
        self.who_has = set()
        vars(self).update(more)


class Client:
    client_key = "Client-1"


class Worker:
    def __init__(self, address="tcp://a:1"):
        self.address = address
        self.has_what, self.processing, self.actors = {}, {}, set()

    @property
    def nbytes(self):
        return sum(task.nbytes for task in self.has_what)

    def hold(self, *tasks):
        for task in tasks:
            self.has_what[task] = None
            task.who_has.add(self)


class Scheduler:
    """As much of a scheduler as is wrapped."""

    def __init__(self, *workers):
        self.workers = {worker.address: worker for worker in workers}
        self.plugins = {}
        self.status = SimpleNamespace(name="running")
        self.handlers = {"unregister": self.remove_worker}
        self.removed = []

    async def remove_worker(self, address, *, stimulus_id, expected=False, close=True):
        if address == "boom":
            raise KeyError(address)
        self.removed.append((address, stimulus_id, expected, close))
        worker = self.workers.pop(address, None)
        if worker is not None:
            worker.has_what.clear()
            worker.processing.clear()
        return "OK"


def watch(scheduler, wanted=lambda address: True):
    events = []
    made = RemovalWatch(scheduler, events.append, wanted)
    made.attach()
    return made, events


def remove(scheduler, address, **more):
    return asyncio.run(scheduler.remove_worker(address, stimulus_id="s", **more))


def test_what_a_worker_held_is_told_although_the_removal_empties_its_books():
    worker = Worker()
    worker.hold(Task("open-1", 5 * MB, who_wants={Client()}))
    worker.hold(Task("sum-1", 2 * MB, waiters={Task("total-1")}))
    scheduler = Scheduler(worker)
    _, events = watch(scheduler)
    assert remove(scheduler, worker.address) == "OK"
    (event,) = events
    assert (event.address, event.held_share) == ("tcp://a:1", 1.0)
    assert event.held["open"].because == {"pinned": 5 * MB}
    assert event.held["open"].clients == {"Client-1": 5 * MB}
    assert event.held["sum"].because == {"awaited": 2 * MB}
    assert event.held["sum"].awaited_by == {"total": 2 * MB}


def test_everything_passes_through_and_comes_back():
    scheduler = Scheduler()
    watch(scheduler)
    assert remove(scheduler, "x", expected=True, close=False) == "OK"
    assert scheduler.removed == [("x", "s", True, False)]
    with pytest.raises(KeyError, match="boom"):
        remove(scheduler, "boom")


def test_a_look_that_fails_stops_no_removal(monkeypatch, process_border):
    def fail(*args):
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(removal, "worker_leaving", fail)
    scheduler = Scheduler(Worker())
    _, events = watch(scheduler)
    assert remove(scheduler, "tcp://a:1") == "OK"
    assert (events, len(process_border.texts())) == ([], 1)
    process_border.clear()


def test_the_scheduler_is_left_as_it_was_found():
    scheduler = Scheduler(Worker())
    handler = scheduler.handlers["unregister"]
    made, events = watch(scheduler)
    assert "remove_worker" in vars(scheduler)
    assert scheduler.handlers["unregister"] is scheduler.remove_worker
    made.detach()
    assert "remove_worker" not in vars(scheduler)
    assert scheduler.handlers["unregister"] == handler
    remove(scheduler, "tcp://a:1")
    assert events == []


def test_what_was_wrapped_over_ours_stays_and_ours_is_silent():
    scheduler = Scheduler(Worker())
    made, events = watch(scheduler)
    ours = scheduler.remove_worker

    async def other(*args, **kwargs):
        return await ours(*args, **kwargs)

    scheduler.remove_worker = other
    made.detach()
    assert scheduler.remove_worker is other
    assert remove(scheduler, "tcp://a:1") == "OK"
    assert events == []


@pytest.mark.parametrize("why", ["expected", "closing", "unwanted", "unknown"])
def test_a_worker_that_is_meant_to_go_is_not_looked_at(why):
    scheduler = Scheduler(Worker())
    _, events = watch(scheduler, lambda address: why != "unwanted")
    scheduler.status.name = "closing" if why == "closing" else "running"
    address = "tcp://b:1" if why == "unknown" else "tcp://a:1"
    remove(scheduler, address, expected=why == "expected")
    assert events == []


def test_many_removals_at_once_are_each_looked_at_for_a_shorter_time(monkeypatch):
    paces = []

    def slow(worker, pace, now, *more):
        paces.append(pace)
        time.sleep(0.02)
        return worker_leaving(worker, pace, now, *more)

    monkeypatch.setattr(removal, "worker_leaving", slow)
    workers = [Worker(f"tcp://a:{n}") for n in range(8)]
    scheduler = Scheduler(*workers)
    watch(scheduler)
    for worker in workers:
        remove(scheduler, worker.address)
    assert paces[0] == 1.0
    assert paces == sorted(paces, reverse=True)
    assert paces[-1] == removal.LEAST


def test_assigned_tasks_are_told_with_their_inputs_and_arguments():
    worker, other = Worker("tcp://b:1"), Worker("tcp://a:1")
    mine, copied, far = Task("x-1", 10), Task("x-2", 20), Task("x-3", 40)
    worker.hold(mine, copied)
    other.hold(copied, far)
    spec = Spec("use-1", len, b"x" * MB)
    worker.processing[Task("use-1", needs=(mine, copied, far), run_spec=spec)] = 0.5
    event = worker_leaving(worker, 100.0, T)
    (info,) = event.assigned
    assert info.inputs == TaskInputs(count=3, size=70, n_fetched=2, fetched=60)
    assert info.arguments == pytest.approx(MB, rel=0.01)
    assert event.graph["use"].tasks == 1
    assert event.graph["use"].arguments == info.arguments


def test_what_was_run_there_is_still_there_as_it_was_sent_but_not_copies():
    worker, other = Worker(), Worker("tcp://b:1")
    spec = Spec("score-1", len, b"x" * MB)
    copy = Task("open-1", 8, run_spec=spec)
    other.hold(copy)
    worker.hold(Task("score-1", 8, run_spec=spec), Task("scattered-1", 8), copy)
    graph = worker_leaving(worker, 100.0, T).graph
    assert {name: row.tasks for name, row in graph.items()} == {"score": 1}


def test_a_broadcast_is_seen_at_every_worker_the_first_one_too():
    workers = [Worker(f"tcp://{name}:1") for name in "abc"]
    output = Task("big-1", 300 * MB)
    for worker in workers:
        worker.hold(output)
    held = [worker_leaving(worker, 100.0, T).held["big"] for worker in workers]
    assert [h.replicas for h in held] == [0, 300 * MB, 300 * MB]
    assert [(h.shared, h.n_shared, h.max_copies) for h in held] == [
        (300 * MB, 1, 3)
    ] * 3


def test_the_actors_on_a_worker_are_named():
    worker = Worker()
    worker.actors = {Task("Counter-1", 8), Task("Counter-2", 8)}
    assert worker_leaving(worker, 100.0, T).actors == ("Counter",)


def test_a_worker_with_very_many_keys_is_looked_at_in_a_sample_in_bounded_time():
    worker = Worker()
    waiter = Task("later-1")
    for n in range(60_000):
        wanted = {"waiters": {waiter}} if n % 2 else {}
        worker.has_what[Task(f"open-{n}", 1_000, who_has={worker}, **wanted)] = None
    worker.hold(Task("big-1", 100 * MB, waiters={waiter}))
    begun = time.thread_time()
    event = worker_leaving(worker, 1.0, T)
    assert time.thread_time() - begun < 0.15  # 20 ms, and what a busy machine adds
    assert 0 < event.held_share < 0.9
    assert event.held["big"].because == {"awaited": 100 * MB}
    held = event.held["open"]
    assert held.size == pytest.approx(60 * MB, rel=0.02)
    assert held.awaited == pytest.approx(30 * MB, rel=0.1)


def test_inputs_beyond_a_number_are_added_up_from_a_part():
    worker = Worker()
    inputs = [Task(f"x-{n}", 10) for n in range(5_000)]
    worker.hold(*inputs)
    found = inputs_of(Task("sum-1", needs=inputs), worker.address)
    assert found == TaskInputs(count=5_000, size=50_000, n_fetched=0, fetched=0)
