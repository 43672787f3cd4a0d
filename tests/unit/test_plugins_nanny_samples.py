"""When a nanny speaks for its worker, and how it holds back."""

import time
from types import SimpleNamespace

import pytest

from dask_memdash import config
from dask_memdash.flight.reader import RecorderReader
from dask_memdash.flight.writer import FlightRecorder
from dask_memdash.plugins.nanny import probe as module
from dask_memdash.plugins.nanny.probe import NannyProbe
from dask_memdash.plugins.nanny.watching import Watched

MB = 1_000_000


class Watch:
    """A look at a worker whose tasks hold what the test says."""

    def __init__(self, reader):
        self.recorders = [reader]
        self.parts = None
        self.children = SimpleNamespace(rows=tuple)
        self.held = 0
        self.ticks = 0

    def tick(self, now):
        self.ticks += 1
        task = SimpleNamespace(
            gathering=False,
            filling=0,
            block=None,
            key="sum-1", digest="", thread=7, begin=now - 1, measured=True,
            now=self.held, peak=self.held, error=0, rss=MB,
        )  # fmt: skip
        return SimpleNamespace(time=now, rss=300 * MB, tasks=(task,))

    def last_tasks(self):
        return []

    def close(self):
        self.recorders = []


class Nanny:
    """A nanny with its worker's process, and a loop that keeps what it is asked."""

    def __init__(self):
        self.address_safe = "tcp://nanny:1"
        self.messages = []
        self.loop = SimpleNamespace(
            add_callback=lambda function, message: self.messages.append(message)
        )
        process = SimpleNamespace(exitcode=None, pid=17)
        self.process = SimpleNamespace(
            process=process,
            worker_address="tcp://a:1",
            status=SimpleNamespace(name="running"),
        )
        self.status = SimpleNamespace(name="running")


@pytest.fixture
def clock(monkeypatch):
    made = SimpleNamespace(now=1000.0)
    fake = SimpleNamespace(monotonic=lambda: made.now, time=time.time)
    monkeypatch.setattr(module, "time", fake)
    return made


@pytest.fixture
def nanny():
    return Nanny()


@pytest.fixture
def recorder():
    made = FlightRecorder(4, "tcp://a:1", private=True)
    yield made
    made.close()


@pytest.fixture
def probe(process_border, monkeypatch, clock, nanny, recorder):
    """Return a probe that watches a worker which spoke just now, and never ticks."""
    monkeypatch.setattr(module.sampler, "add", lambda *arguments: None)
    monkeypatch.setattr(module.sampler, "remove", lambda *arguments: None)
    made = NannyProbe(config.defaults())
    made.setup(nanny)
    recorder.write_reading({"time": clock.now, "rss": 1})
    watched = Watched(nanny.process.process, None)
    watched.watch = Watch(RecorderReader(recorder.buffer))
    watched.oom = SimpleNamespace(look=lambda now: None, killed=lambda: False)
    watched.sent = clock.now
    made._watched = watched
    yield made
    made._watched = None
    made.teardown(nanny)
    assert process_border.texts() == ()


def look(probe, clock, later=0.0):
    """Let time pass, and let the probe look; give what it has sent, in bytes held."""
    clock.now += later
    probe._look(clock.now)
    messages, probe._nanny.messages[:] = list(probe._nanny.messages), []
    probe._sending = False
    return [message["executing"][0]["bytes"] for message in messages]


def test_a_worker_that_speaks_is_not_spoken_for(probe, clock):
    assert look(probe, clock) == []
    assert look(probe, clock, 1.0) == []


def test_a_worker_that_is_silent_is_spoken_for(probe, clock):
    assert look(probe, clock, 2.0) == []
    assert look(probe, clock, 0.4) == [0]
    assert look(probe, clock, 0.4) == [], "not at every tick"
    assert look(probe, clock, 1.2) == [0]


def test_tasks_that_hold_much_more_or_less_are_not_left_to_the_next_heartbeat(
    probe, clock
):
    assert look(probe, clock) == []
    probe._watched.watch.held = 100 * MB
    assert look(probe, clock, 0.8) == [100 * MB]
    probe._interval = 1.0
    assert look(probe, clock, 0.2) == [], "that has been said"
    probe._watched.watch.held = 20 * MB
    assert look(probe, clock, 0.2) == [], "not so soon again"
    assert look(probe, clock, 0.15) == [20 * MB]


def test_a_little_more_is_left_to_the_next_heartbeat(probe, clock):
    assert look(probe, clock) == []
    probe._watched.watch.held = 30 * MB
    assert look(probe, clock, 1.0) == []


def test_what_the_worker_has_said_itself_need_not_be_said(probe, clock, recorder):
    assert look(probe, clock) == []
    probe._watched.watch.held = 100 * MB
    clock.now += 1.0
    recorder.write_reading({"time": clock.now, "rss": 1})  # a heartbeat came between
    assert look(probe, clock) == []
    probe._watched.watch.held = 20 * MB
    assert look(probe, clock, 0.8) == [20 * MB]


def test_the_schedulers_interval_slows_samples_down(probe, clock, recorder):
    assert look(probe, clock) == []
    probe._interval = 6.0  # with a thousand workers
    probe._watched.watch.held = 100 * MB
    assert look(probe, clock, 2.0) == []
    assert look(probe, clock, 1.1) == [100 * MB]


def test_nothing_is_sent_while_a_sample_is_on_its_way(probe, clock):
    assert look(probe, clock) == []
    probe._sending = True
    probe._watched.watch.held = 100 * MB
    assert look(probe, clock, 0.9) == []


def test_a_nanny_that_costs_too_much_samples_half_as_often_and_says_so(
    probe, clock, recorder
):
    rate = [0.001]
    probe._cost.rate = lambda: rate[0]
    for _ in range(8):
        look(probe, clock)
    assert probe._watched.watch.ticks == 8
    assert recorder.sampler() == (0.001, 0.05)
    rate[0] = 0.5  # far above two hundredths of a core
    for _ in range(8):
        look(probe, clock)
    assert probe._watched.watch.ticks == 12
    assert recorder.sampler() == (0.5, 0.1)
    rate[0] = 0.4
    for _ in range(8):
        look(probe, clock)
    assert probe._watched.watch.ticks == 14
    assert recorder.sampler() == (0.4, 0.2)
    # a death is looked for at every tick all the same
    deaths = []
    probe._report_death = lambda watched, now: deaths.append(watched.pid)
    probe._nanny.process.process.exitcode = 0
    look(probe, clock)
    assert deaths == [17]


def test_before_a_rate_is_known_nothing_is_written(probe, clock, recorder):
    look(probe, clock)
    assert recorder.sampler() == (None, None)
