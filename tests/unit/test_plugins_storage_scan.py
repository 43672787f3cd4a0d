"""The walk over what workers hold: every byte for one reason, and types by name."""

from __future__ import annotations

from types import SimpleNamespace

from dask_memdash.model.event_parts import Held
from dask_memdash.plugins.scheduler.storage_scan import (
    LONGEST_REST,
    REST,
    StorageScan,
    look_at,
)

T = 1_760_000_000.0


class Worker:
    """A worker as the scheduler knows it; compared by identity, as there."""

    def __init__(self, address):
        self.address = address
        self.has_what = {}

    def hold(self, prefix="open", size=10, *, wanted=False, waiters=(), **more):
        task = SimpleNamespace(
            state="memory",
            nbytes=size,
            prefix=SimpleNamespace(name=prefix),
            type="numpy.ndarray",
            who_wants=[SimpleNamespace(client_key="Client-1")] if wanted else [],
            waiters=[
                SimpleNamespace(prefix=SimpleNamespace(name=name)) for name in waiters
            ],
            who_has={self},
        )
        for name, value in more.items():
            setattr(task, name, value)
        self.has_what[len(self.has_what)] = task
        return task


def look(*workers):
    """Walk once over the workers; give what each holds."""
    for worker in workers:
        worker.has_what = list(worker.has_what.values())
    scheduler = SimpleNamespace(workers={w.address: w for w in workers}, tasks={0: 0})
    walk = StorageScan(scheduler)
    found = {}
    while len(found) < len(workers):
        for event in walk.step(T):
            found[event.address] = event.held
    return found


def test_what_is_stored_too_is_told():
    worker = Worker("tcp://a:1")
    for number, size in enumerate((10, 20, 40)):
        worker.hold(size=size, key=f"open-{number}")
    worker.has_what = list(worker.has_what.values())
    states = {"open-0": "stored", "open-1": "pending"}
    held, _ = look_at(worker, 1.0, None, states.get)
    assert (held["open"].stored, held["open"].stored_pending) == (10, 20)
    assert held["open"].size == 70


def test_a_copy_is_not_stored_a_second_time():
    one, two = Worker("tcp://a:1"), Worker("tcp://b:1")
    both = one.hold(size=10, key="open-0", who_has={one, two})
    two.has_what = [both]
    one.has_what = list(one.has_what.values())

    def total(fetched):
        looks = [look_at(w, 1.0, fetched, lambda key: "stored")[0] for w in (one, two)]
        return [held["open"].stored for held in looks]

    assert total(lambda worker, task: worker is two) == [10, 0]
    assert total(lambda worker, task: False) == [5, 5], "nobody knows which is the copy"


def still() -> float:
    """Be a clock that stands still: nothing takes time, so that nothing rests."""
    return 0.0


def test_every_byte_has_one_reason():
    worker = Worker("a")
    worker.hold(size=1, waiters=["sum"])
    worker.hold(size=20, wanted=True)
    worker.hold(size=300, wanted=True, waiters=["sum"])
    worker.hold(size=4000)
    (held,) = look(worker).values()
    assert held["open"] == Held(
        pinned=320,
        awaited=301,
        awaited_by={"sum": 301},
        because={"awaited": 301, "pinned": 20, "other": 4000},
        types=("numpy.ndarray",),
        clients={"Client-1": 20},
        keys=4,
    )


def test_all_but_one_of_the_copies_are_replicas_shared_by_their_holders():
    a, b, c = Worker("a"), Worker("b"), Worker("c")
    shared = a.hold(size=900, waiters=["sum"])
    shared.who_has = {a, b, c}
    b.has_what = {0: shared}
    c.has_what = {0: shared}
    found = look(a, b, c)
    for worker in "abc":
        assert found[worker]["open"].because == {"replica": 600, "awaited": 300}
    # What is copied, of all that is stored, is counted once for each copy.
    assert [found[worker]["open"].replicas for worker in "abc"] == [0, 900, 900]


def test_the_types_of_outputs_are_named_and_bounded():
    worker = Worker("a")
    for number in range(10):
        worker.hold(type=f"module{number}." + "T" * 200)
    worker.hold("sum", type=None)
    (held,) = look(worker).values()
    assert len(held["open"].types) == 4
    assert all(len(name) == 100 for name in held["open"].types)
    assert held["sum"].types == ()


def test_a_task_that_is_no_longer_in_memory_is_passed_over():
    worker = Worker("a")
    worker.hold(state="released")
    assert look(worker) == {"a": {}}


def test_workers_without_outputs_are_told_of_once_when_they_had_some():
    a, b = Worker("a"), Worker("b")
    a.hold(size=5)
    outputs, a.has_what = a.has_what, list(a.has_what.values())
    scheduler = SimpleNamespace(workers={"a": a, "b": b}, tasks=outputs)
    walk = StorageScan(scheduler, clock=still)
    (event,) = walk.step(T)
    assert (event.address, event.held["open"].because) == ("a", {"other": 5})
    a.has_what = []
    scheduler.tasks = {}
    (event,) = walk.step(T)
    assert (event.address, event.held) == ("a", {})
    assert list(walk.step(T)) == []


def test_a_worker_that_has_left_is_not_looked_at_again():
    a = Worker("a")
    a.hold(size=5)
    a.has_what = list(a.has_what.values())
    scheduler = SimpleNamespace(workers={"a": a}, tasks={})
    walk = StorageScan(scheduler)
    scheduler.tasks = {0: 0}
    assert len(list(walk.step(T))) == 1
    scheduler.workers, scheduler.tasks = {}, {}
    assert list(walk.step(T)) == []


def test_a_pass_is_followed_by_a_rest_of_many_times_its_length():
    worker = Worker("a")
    worker.hold(size=5)
    worker.has_what = list(worker.has_what.values())
    scheduler = SimpleNamespace(workers={"a": worker}, tasks={0: 0})
    now = 0.0

    def clock() -> float:
        return now

    walk = StorageScan(scheduler, clock=clock)
    for _ in walk.step(T):
        now += 0.001  # what is made of it counts too
    assert now == 0.001
    now += (REST - 1) * 0.001
    assert list(walk.step(T)) == []
    now += 0.002
    for _ in walk.step(T):
        now += 1.0
    now += LONGEST_REST - 0.001
    assert list(walk.step(T)) == []
    now += 0.002
    assert len(list(walk.step(T))) == 1
