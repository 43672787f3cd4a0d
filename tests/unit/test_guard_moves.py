"""Room is made by what is used least, and what is sent is answered for."""

from types import SimpleNamespace

import pytest
from guard_storage import Pause, Request, SpillBuffer

from dask_memdash.boundary import boundary
from dask_memdash.guard import making_room, sending
from dask_memdash.guard.making_room import TRIES_AGAIN, RoomMaker
from dask_memdash.guard.reading import OnDisk
from dask_memdash.guard.sending import ASKS_AGAIN, OWED_AFTER, OWED_FOR, Sending

MB = 1_000_000


@pytest.fixture
def clock(monkeypatch):
    made = SimpleNamespace(now=100.0)
    made.monotonic = lambda: made.now
    monkeypatch.setattr(making_room, "time", made)
    monkeypatch.setattr(sending, "time", made)
    return made


@pytest.fixture
def world(clock):
    """A worker that stores four outputs of 10 MB, beside 100 MB."""
    data = SpillBuffer(lambda key: 10 * MB)
    for key in "abcd":
        data[key] = key.upper()
    manager = SimpleNamespace(
        memory_spill_fraction=0.7,
        memory_target_fraction=0.6,
        _throttled_gc=SimpleNamespace(collect=lambda: None),
    )
    worker = SimpleNamespace(data=data, memory_manager=manager)
    process = SimpleNamespace(
        recent_rss=lambda age: 100 * MB + data.fast.total_weight, age=None
    )
    return SimpleNamespace(
        data=data, worker=worker, manager=manager, room=RoomMaker(worker, process)
    )


def test_as_much_goes_to_disk_as_is_lacking_the_oldest_first(world):
    assert world.room.make(11 * MB, ()) == 2
    assert list(world.data.fast) == ["c", "d"]
    assert world.room.make(0, ()) == 0


def test_what_is_in_use_stays_in_memory(world):
    assert world.room.evictable(["a", "b", "gone"]) == 20 * MB
    assert world.room.make(500 * MB, ["a", "b", "gone"]) == 2
    assert sorted(world.data.fast) == ["a", "b"]
    assert world.room.evictable(["a", "b"]) == 0


def test_one_look_takes_no_longer_than_a_moment(world, clock):
    """A disk may be slow; the worker's loop has other things to do."""
    evict = world.data.evict

    def slowly():
        clock.now += 0.08
        return evict()

    world.data.evict = slowly
    assert world.room.make(500 * MB, ()) == 2


def test_where_nothing_can_be_written_it_is_tried_again_after_a_while(world, clock):
    world.data.evict = lambda: -1
    assert world.room.make(10 * MB, ()) == 0
    assert world.room.evictable(()) == 0
    clock.now += TRIES_AGAIN
    assert world.room.evictable(()) == 40 * MB


def test_what_lingers_in_memory_though_it_is_on_disk_is_room_to_come(world):
    world.data.evict()
    world.data.slow.cache["a"] = "A"
    assert world.room.evictable(()) == 40 * MB
    assert world.room.evictable(["a"]) == 30 * MB
    collected = []
    collector = SimpleNamespace(collect=lambda: collected.append(1))
    world.manager._throttled_gc = collector
    assert world.room.make(10 * MB, ()) == 1
    assert not collected
    assert world.room.make(500 * MB, ()) == 2
    assert collected


def test_where_nothing_is_spilled_no_room_is_made(world):
    world.manager.memory_spill_fraction = world.manager.memory_target_fraction = False
    assert world.room.evictable(()) == 0
    assert world.room.make(10 * MB, ()) == 0
    world.worker.data = {"a": 1}
    world.manager.memory_spill_fraction = 0.7
    assert world.room.evictable(()) == 0


def test_what_is_on_disk_and_in_use_is_not_read_back(world):
    world.data.evict()
    assert OnDisk(world.data).size("a") == 10 * MB
    assert OnDisk(world.data).size("b") == 0
    world.data.slow.cache["a"] = "A"
    assert OnDisk(world.data).size("a") == 0
    assert not OnDisk({"a": 1})


# -- sending -------------------------------------------------------------------


class Host:
    """A worker that sends when it is asked."""

    def __init__(self, rule):
        self.served = []
        self.theirs = self.get_data
        self.handlers = {"get_data": self.theirs}
        self.sending = Sending(self, rule)
        self.sending.install()

    async def get_data(self, comm, keys, who=None, serializers=None):
        self.served.append((list(keys), who))
        return {"status": "OK"}

    def ask(self, **more):
        """Ask as another worker does; return the answer."""
        asked = self.handlers["get_data"](None, keys=["a"], **more)
        with pytest.raises(StopIteration) as ended:
            asked.send(None)
        return ended.value.value["status"]


def test_what_does_not_fit_is_asked_for_again(clock):
    answers = iter([(False, 70), (True, 70), (True, 0)])
    host = Host(lambda keys: next(answers))
    assert [host.ask(who="w"), host.ask(who="w"), host.ask()] == ["busy", "OK", "OK"]
    assert host.served == [(["a"], "w"), (["a"], None)]
    assert host.sending.refused == 1
    assert not host.sending.keys


def test_what_was_asked_for_in_vain_for_a_while_is_owed(clock):
    rule = SimpleNamespace(may=False)
    host = Host(lambda keys: (rule.may, 70))
    host.ask()
    assert host.sending.owed(clock.now) == 0
    clock.now += OWED_AFTER
    host.ask()
    assert host.sending.owed(clock.now) == 70
    assert host.sending.waited(clock.now) == OWED_AFTER
    # nobody asks any more
    assert host.sending.owed(clock.now + OWED_FOR + 0.1) == 0
    rule.may = True
    host.ask()
    assert (host.sending.owed(clock.now), host.sending.waited(clock.now)) == (0, 0)
    rule.may = False
    host.ask()
    clock.now += ASKS_AGAIN + 1
    host.ask()
    assert host.sending.waited(clock.now) == 0


def test_what_is_being_sent_is_known_until_it_is(clock):
    data = SpillBuffer(lambda key: 1)
    data["a"] = "A"

    async def sends(comm, keys):
        await Pause()

    host = SimpleNamespace(handlers={"get_data": sends})
    made = Sending(host, lambda keys: (True, 0))
    made.install()
    one, other = Request(0.0, 0), Request(0.0, 0)
    assert one.ask(host.handlers["get_data"], "a")
    assert other.ask(host.handlers["get_data"], "a")
    assert list(made.keys) == ["a"]
    one.end()
    assert list(made.keys) == ["a"]
    other.end()
    assert not made.keys


def test_a_look_that_fails_lets_the_host_send(clock):
    def fails(keys):
        raise ValueError("no look")

    boundary.clear()
    try:
        assert Host(fails).ask() == "OK"
        assert len(boundary.texts()) == 1
    finally:
        boundary.clear()


def test_the_hosts_own_is_put_back_unless_others_stand_in_for_ours(clock):
    host = Host(lambda keys: (False, 1))
    host.sending.remove()
    assert host.handlers["get_data"] == host.theirs
    host = Host(lambda keys: (False, 1))
    ours = host.handlers["get_data"]

    async def above(comm, keys, **more):
        return await ours(comm, keys=keys, **more)

    host.handlers["get_data"] = above
    host.sending.remove()
    assert host.handlers["get_data"] is above
    assert host.ask() == "OK"
