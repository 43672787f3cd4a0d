"""Heartbeats of very many workers: which reports wait, and that nothing is lost."""

import random
from types import SimpleNamespace

import pytest
from builders import (
    T0,
    A,
    MiB,
    added,
    check_invariants,
    died,
    executing,
    finished,
    removed,
    reported,
)

from dask_memdash.boundary import boundary
from dask_memdash.model.cluster import ClusterModel
from dask_memdash.model.event_parts import StorageRow, WaitingTasks
from dask_memdash.model.event_readers import to_dict
from dask_memdash.model.events import (
    ClusterStuck,
    Noticed,
    StorageHeld,
    WorkerRemoved,
    WorkerReported,
)
from dask_memdash.plugins.scheduler import reports as module
from dask_memdash.plugins.scheduler.inbound import Inbound
from dask_memdash.plugins.scheduler.reports import Reports
from dask_memdash.plugins.worker.packing import pack
from dask_memdash.store.live import LiveStore

MANY, FEW = 1000, 100
INTERVAL = 6.0
LIMIT = 1000 * MiB


def address_of(number):
    return A if number == 0 else f"tcp://10.1.{number // 250}.{number % 250}:1"


class World:
    """A scheduler's side of MemDash with so many workers, and a clock moved by hand."""

    def __init__(self, workers=MANY, eager=False, limit=LIMIT):
        self.now = T0
        self.model = ClusterModel()
        for number in range(workers):
            self.model.handle(
                added(address_of(number), 100 + number, name=str(number), limit=limit)
            )
        self.scheduler = SimpleNamespace(
            workers={}, tasks={}, stream_comms={}, _starting_nannies=set()
        )
        self.handled = []
        inbound = Inbound(self.scheduler, self.read, self.read)
        self.eager = eager
        self.reports = Reports(
            inbound, self.model, self.handle, lambda: self.eager, self.read, self.read
        )
        self.store = LiveStore(self.model, self.reports.looked)
        self.border = inbound
        self.pass_by(module.LOOKED_FOR)  # since MemDash began, nobody has looked

    def read(self):
        return self.now

    def pass_by(self, seconds=INTERVAL):
        self.now += seconds

    def handle(self, event):
        """Take an event in, as the plugin does."""
        self.reports.before(event)
        self.handled.append(event)
        self.model.handle(event)

    def beat(self, number=0, **more):
        """Let a worker's heartbeat come with a report of these parts."""
        self.send(sent(number, **more), number)

    def send(self, message, number=0):
        worker = SimpleNamespace(
            address=address_of(number), memory=SimpleNamespace(unmanaged_old=0)
        )
        self.reports.heartbeat(worker, message)

    def rss(self, number=0):
        reading = self.model.processes.workers[address_of(number)].reading
        return None if reading is None else reading.rss


def sent(number=0, **more):
    """Return a report as a worker packs it."""
    plain = to_dict(reported(address_of(number), 100 + number, **more))
    del plain["time"], plain["address"]
    message = pack({**plain, "protocol": 2})
    assert "packed" in message
    return message


@pytest.fixture
def world():
    made = World()
    made.beat(rss=400 * MiB)  # the first of a worker never waits
    assert made.rss() == 400 * MiB
    made.pass_by()
    return made


# -- what waits ------------------------------------------------------------------------


def test_while_nobody_looks_a_report_waits_and_the_next_takes_its_place(world):
    for rss in (410, 420, 430):
        world.beat(rss=rss * MiB, rows={"sum": StorageRow(1, MiB, 0, 0)})
        world.pass_by()
    assert world.rss() == 400 * MiB
    assert len(world.handled) == 1
    assert world.store.worker(A)["breakdown"]["process"] == 430 * MiB
    assert len(world.handled) == 2, "those between were never unpacked"


def test_a_report_is_taken_in_at_the_time_at_which_it_came(world):
    came = world.now
    world.beat(rss=410 * MiB)
    world.pass_by()
    world.store.cluster()
    assert world.handled[-1].time == came


@pytest.mark.parametrize(
    "more",
    [
        {"finished": {"sum": finished(5 * MiB)}},
        {"notices": ("its tally is off",)},
        {"rss": 500 * MiB},
        {"rss": 300 * MiB},
    ],
    ids=["finished tasks", "a notice", "a tenth more", "a tenth less"],
)
def test_what_brings_news_does_not_wait(world, more):
    world.beat(**more)
    assert len(world.handled) == 2
    assert not world.reports.waiting


def test_a_notice_that_stands_is_no_news(world):
    notices = ("its tally is off",)
    world.beat(rss=401 * MiB, notices=notices)
    world.beat(rss=402 * MiB, notices=notices)
    assert world.rss() == 401 * MiB
    world.beat(rss=403 * MiB)
    assert world.rss() == 403 * MiB, "it is gone"


@pytest.mark.parametrize("notices", [7, None, {"a": 1}])
def test_notices_that_are_none_stop_nothing(world, notices):
    world.send({**sent(rss=402 * MiB), "notices": notices})
    world.store.cluster()
    assert world.rss() == 402 * MiB


def test_of_a_worker_that_is_nearly_full_nothing_waits(world):
    world.beat(rss=800 * MiB)
    world.pass_by()
    world.beat(rss=801 * MiB)
    assert world.rss() == 801 * MiB


def test_without_a_limit_news_is_so_many_bytes():
    world = World(limit=None)
    world.beat(rss=400 * MiB)
    world.beat(rss=527 * MiB)
    assert world.rss() == 400 * MiB
    world.beat(rss=528 * MiB)
    assert world.rss() == 528 * MiB


def test_nothing_grows_older_than_some_time(world):
    while world.rss() == 400 * MiB:
        world.beat(rss=401 * MiB)
        world.pass_by()
    first, second = world.handled
    assert module.OLDEST <= second.time - first.time < module.OLDEST + INTERVAL


def test_a_report_of_a_worker_that_falls_silent_is_taken_in_by_a_tick(world):
    world.beat(rss=410 * MiB)
    world.reports.step()
    assert world.rss() == 400 * MiB
    world.pass_by(module.OLDEST + 1)
    world.reports.step()
    assert world.rss() == 410 * MiB


def test_a_clock_that_was_set_back_makes_nothing_wait_until_it_is_there_again(world):
    world.reports._monotonic = world.border._monotonic = lambda: T0 + 1000
    world.beat(rss=410 * MiB)
    world.now -= 3600
    world.reports.step()
    assert world.rss() == 410 * MiB
    world.beat(rss=420 * MiB)
    assert world.rss() == 420 * MiB
    world.beat(rss=430 * MiB)
    assert world.rss() == 420 * MiB, "from here on as ever"


# -- what never waits ------------------------------------------------------------------


def test_of_few_workers_nothing_waits():
    world = World(FEW)
    for rss in (400, 401, 402):
        world.beat(rss=rss * MiB)
        assert world.rss() == rss * MiB


def test_nothing_waits_for_a_record_or_the_guard(world):
    world.eager = True
    world.beat(rss=401 * MiB)
    assert world.rss() == 401 * MiB


def test_nothing_waits_for_ten_seconds_after_a_look(world):
    world.store.workers(limit=1)
    world.beat(rss=401 * MiB)
    assert world.rss() == 401 * MiB
    world.pass_by(module.LOOKED_FOR)
    world.beat(rss=402 * MiB)
    assert world.rss() == 401 * MiB


@pytest.mark.parametrize(
    "look",
    [
        lambda s: s.cluster(),
        lambda s: s.workers(),
        lambda s: s.worker(A),
        lambda s: s.prefixes(),
        lambda s: s.prefix_totals(),
        lambda s: s.prefix("sum"),
        lambda s: s.prefix_minute("sum"),
        lambda s: s.limits(),
        lambda s: s.history(A),
        lambda s: s.strips(T0, T0 + 60),
        lambda s: s.then(T0, T0 + 60),
        lambda s: s.task_history(A),
    ],
)
def test_every_question_about_memory_is_a_look(world, look):
    world.beat(rss=401 * MiB, rows={"sum": StorageRow(1, MiB, 0, 0)})
    assert world.reports.waiting
    look(world.store)
    assert world.rss() == 401 * MiB


def test_alerts_and_metrics_are_no_looks(world):
    world.beat(rss=401 * MiB)
    world.store.incidents()
    world.store.failures()
    assert world.rss() == 400 * MiB


@pytest.mark.parametrize(
    "part",
    [
        {"packed": bytes(32_776)},
        {"names": ["x" * 32_768]},
        {"names": [""] * 32_769},
        {"names": [["x" * 9]]},
    ],
)
def test_nothing_large_or_odd_is_kept_and_what_waits_stays(world, part):
    world.beat(rss=410 * MiB)
    (before,) = world.reports.waiting.values()
    world.send({**sent(rss=411 * MiB), **part})
    assert [*world.reports.waiting.values()] == [before]
    assert world.border.texts(), "it was refused at once"


# -- order and damage ------------------------------------------------------------------


def test_storage_that_the_next_report_builds_on_is_not_lost(world):
    rows = {"sum": StorageRow(3, 30 * MiB, 0, 0)}
    world.beat(rss=410 * MiB, rows=rows)
    world.pass_by()
    for rss in (411, 412, 411):
        world.beat(rss=rss * MiB, rows=None)  # nothing has changed since the last
        world.pass_by()
    assert len(world.handled) == 1, "that is no reason to take any of them in"
    world.store.cluster()
    assert world.model.processes.workers[A].rows == rows
    assert world.rss() == 411 * MiB


def test_storage_that_waits_is_taken_in_before_news_that_build_on_it(world):
    rows = {"sum": StorageRow(3, 30 * MiB, 0, 0)}
    world.beat(rss=410 * MiB, rows=rows)
    world.beat(rss=411 * MiB, rows=None)
    world.beat(rss=600 * MiB, rows=None)
    assert [event.reading.rss // MiB for event in world.handled] == [400, 410, 600]
    assert world.model.processes.workers[A].rows == rows
    assert not world.reports.waiting


def test_a_heartbeat_that_says_nothing_leaves_what_waits(world):
    world.beat(rss=410 * MiB, rows={"sum": StorageRow(1, MiB, 0, 0)})
    world.send({"protocol": 2})
    assert world.reports.waiting
    world.store.cluster()
    assert world.rss() == 410 * MiB


def test_what_else_is_told_of_a_worker_comes_after_what_waited(world):
    world.beat(rss=410 * MiB, executing=(executing("sum-1"),))
    world.handle(StorageHeld(world.now, A, {}))
    assert world.reports.waiting, "a report does not say why outputs are held"
    world.handle(removed(time=world.now + 1))
    kinds = [type(event) for event in world.handled]
    assert kinds == [WorkerReported, StorageHeld, WorkerReported, WorkerRemoved]


def test_an_older_report_does_not_take_back_what_is_noticed_after_it(world):
    world.beat(rss=410 * MiB)
    world.send({"protocol": 2, "notices": ["its probe fails"]})
    assert world.rss() == 410 * MiB
    where = f"worker {A}"
    assert world.model.notices[where] == (world.now, ("its probe fails",))
    world.beat(rss=411 * MiB)
    world.handle(Noticed(world.now, where, ("dask_memdash is missing",)))
    world.store.cluster()
    assert world.model.notices[where][1] == ("dask_memdash is missing",)


def test_a_plain_report_comes_after_the_one_that_waits(world):
    world.beat(rss=410 * MiB)
    plain = to_dict(reported(A, 100, rss=411 * MiB))
    world.send({**plain, "protocol": 2})
    assert [event.reading.rss // MiB for event in world.handled] == [400, 410, 411]


def test_a_stall_is_told_with_what_waited_of_the_paused(world):
    other = address_of(1)
    world.beat(1, rss=420 * MiB)
    world.beat(rss=430 * MiB)
    waiting = (WaitingTasks("sum", 3, 0),)
    counts = {"n_waiting": 3, "n_paused": 2, "n_workers": 2, "by_hand": 2, "running": 0}
    stuck = {"since": world.now - 60, "waiting": waiting, "paused": (A, other)}
    world.handle(ClusterStuck(time=world.now, **stuck, **counts))
    (incident,) = world.model.incidents
    assert incident.worker.address == A, "the fullest"
    assert incident.breakdown.process == 430 * MiB


def test_a_death_without_an_address_is_told_with_what_waited():
    world = World(MANY - 1)
    home = "tcp://10.0.0.1:9"
    world.model.handle(added(address_of(MANY), 777, home=home))
    message = {**sent(rss=400 * MiB), "pid": 777}
    world.send(message, MANY)
    tasks = (executing("sum-1", 50 * MiB),)
    world.send({**sent(rss=450 * MiB, executing=tasks), "pid": 777}, MANY)
    assert world.reports.waiting
    world.handle(died("", 777, world.now, nanny=home, recorded=False, reading=None))
    (incident,) = world.model.incidents
    assert [suspect.key for suspect in incident.suspects] == ["sum-1"]


def test_a_damaged_report_is_refused_when_it_is_read_and_nothing_else_stops(world):
    world.beat(1, rss=400 * MiB)
    message = sent(rss=410 * MiB)
    message["names"] = []
    world.send(message)
    world.beat(1, rss=410 * MiB)
    assert len(world.reports.waiting) == 2
    world.store.cluster()
    assert world.rss(1) == 410 * MiB
    assert any(
        "damaged" in text for texts in world.border.texts().values() for text in texts
    )


def test_a_fault_of_ours_stops_neither_the_reader_nor_the_others(world, monkeypatch):
    world.beat(1, rss=400 * MiB)
    world.beat(rss=410 * MiB)
    world.beat(1, rss=420 * MiB)
    handle = world.model.handle

    def break_on_first(event):
        if getattr(event, "address", "") == A:
            raise ZeroDivisionError
        handle(event)

    monkeypatch.setattr(world.model, "handle", break_on_first)
    boundary.clear()
    assert world.store.cluster()["n_workers"] == MANY
    assert world.rss(1) == 420 * MiB
    assert any("a report that waited" in text for text in boundary.texts())
    boundary.clear()


def many_waiting():
    """Return a world in which more waits than can be taken in at once."""
    world = World()
    for number in range(1, 60):
        world.beat(number, rss=400 * MiB)
    for number in range(1, 60):
        world.beat(number, rss=(400 + number) * MiB)
    ticking = world.read

    def slow():  # each look at the clock takes two hundredths of a second
        world.now += 0.02
        return ticking()

    world.reports._monotonic = slow
    return world


def test_a_look_takes_so_long_at_most_the_largest_changes_first():
    world = many_waiting()
    world.store.cluster()
    assert world.rss(59) == 459 * MiB
    assert world.rss(1) == 400 * MiB
    assert 0 < len(world.reports.waiting) < 59
    for _ in range(100):
        world.reports.step()
    assert not world.reports.waiting, "a tick after the other takes in the rest"
    assert world.rss(1) == 401 * MiB


def test_questions_that_follow_each_other_agree_and_ticks_take_in_the_rest():
    world = many_waiting()
    whole = world.store.cluster()["breakdown"]["process"]
    left = len(world.reports.waiting)
    rows = world.store.workers()
    assert sum(row["breakdown"]["process"] or 0 for row in rows) == whole
    assert len(world.reports.waiting) == left > 0
    world.reports.step()
    assert len(world.reports.waiting) < left


def test_the_worker_that_is_asked_for_comes_first():
    for look in ("worker", "task_history", "history"):
        world = many_waiting()
        getattr(world.store, look)(address_of(1))
        assert world.rss(1) == 401 * MiB, "the least change of all"
        assert world.reports.waiting


# -- nothing is lost -------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_after_a_look_all_is_as_if_nothing_had_waited(seed):
    chance = random.Random(seed)
    lazy, eager = World(), World(eager=True)
    looks = chance.choice((0.0, 0.02))
    rss = dict.fromkeys(range(5), 400)
    for _ in range(200):
        number = chance.randrange(5)
        rss[number] += chance.choice((-120, -30, -5, 0, 5, 30, 120))
        rss[number] = min(950, max(100, rss[number]))
        more = {"rss": rss[number] * MiB}
        if chance.random() < 0.6:
            more["rows"] = {
                name: StorageRow(
                    chance.randrange(1, 5), chance.randrange(50) * MiB, 0, 0
                )
                for name in chance.sample(("sum", "mean", "load"), 2)
            }
        if chance.random() < 0.2:
            more["finished"] = {"sum": finished(chance.randrange(1, 90) * MiB)}
        if chance.random() < 0.5:
            more["executing"] = (executing(f"sum-{chance.randrange(9)}"),)
        for world in (lazy, eager):
            world.beat(number, **more)
            world.pass_by(1.0)
        if chance.random() < looks:
            lazy.store.cluster()
    lazy.store.cluster()
    check_invariants(lazy.model)
    assert len(lazy.handled) < len(eager.handled)
    for number in range(5):
        one, other = (
            w.model.processes.workers[address_of(number)] for w in (lazy, eager)
        )
        for name in ("reading", "rows", "executing", "shares", "last_seen"):
            assert getattr(one, name) == getattr(other, name), name
    assert lazy.model.processes.total == eager.model.processes.total
    for name, state in eager.model.prefixes.by_name.items():
        found = lazy.model.prefixes.by_name[name]
        for figure in ("finished", "managed", "executing", "count", "running"):
            assert getattr(found, figure) == getattr(state, figure), (name, figure)
        assert found.peaks.buckets == state.peaks.buckets
