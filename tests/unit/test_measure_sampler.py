"""The sampler's thread: there while somebody watches, and not a moment longer."""

import threading
import time

import pytest

from dask_memdash.measure.sampler import Sampler

NAME = "sampler under test"


def threads():
    return [thread for thread in threading.enumerate() if thread.name == NAME]


@pytest.fixture
def sampler():
    """Return a sampler, and check that no thread is left of it."""
    yield Sampler(NAME)
    deadline = time.monotonic() + 5
    while threads() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threads() == []


class Tick:
    """A tick that counts its calls, and can hold the sampler up."""

    def __init__(self):
        self.times = []
        self.called = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()
        self.running = False

    def __call__(self, now):
        self.running = True
        self.times.append(now)
        self.called.set()
        self.go_on.wait(5)
        self.running = False


def test_without_a_watch_there_is_no_thread(sampler):
    assert threads() == []


def test_a_tick_is_called_with_the_time_again_and_again(sampler):
    tick = Tick()
    before = time.time()
    sampler.add(tick, 0.005)
    deadline = time.monotonic() + 5
    while len(tick.times) < 5 and time.monotonic() < deadline:
        time.sleep(0.005)
    sampler.remove(tick)
    assert len(tick.times) >= 5
    assert before <= tick.times[0] <= tick.times[-1] <= time.time()
    assert tick.times == sorted(tick.times)


def test_the_thread_comes_with_the_first_watch_and_ends_with_the_last(sampler):
    one, two = Tick(), Tick()
    sampler.add(one, 0.005)
    sampler.add(two, 0.005)
    assert len(threads()) == 1
    assert threads()[0].daemon
    sampler.remove(one)
    assert len(threads()) == 1
    sampler.remove(two)
    assert threads() == []


def test_it_can_start_again(sampler):
    tick = Tick()
    for _ in range(3):
        tick.called.clear()
        sampler.add(tick, 0.005)
        assert tick.called.wait(5)
        sampler.remove(tick)
        assert threads() == []


def test_removing_waits_until_the_tick_is_done(sampler):
    tick, other = Tick(), Tick()
    tick.go_on.clear()
    sampler.add(other, 0.005)
    sampler.add(tick, 0.005)
    assert tick.called.wait(5)
    threading.Timer(0.05, tick.go_on.set).start()
    sampler.remove(tick)
    assert not tick.running
    calls = len(tick.times)
    other.called.clear()
    assert other.called.wait(5), "the others go on"
    sampler.remove(other)
    assert len(tick.times) == calls


def test_removing_the_last_waits_until_it_is_done(sampler):
    tick = Tick()
    tick.go_on.clear()
    sampler.add(tick, 0.005)
    assert tick.called.wait(5)
    threading.Timer(0.05, tick.go_on.set).start()
    sampler.remove(tick)
    assert not tick.running
    assert threads() == []


@pytest.mark.timeout(20)
@pytest.mark.parametrize("others", [0, 1])
def test_a_tick_may_remove_itself(sampler, others):
    done = threading.Event()
    more = [Tick() for _ in range(others)]
    for tick in more:
        sampler.add(tick, 0.005)

    def once(now):
        sampler.remove(once)
        done.set()

    sampler.add(once, 0.005)
    assert done.wait(5)
    for tick in more:
        tick.called.clear()
        assert tick.called.wait(5)
        sampler.remove(tick)


def test_removing_what_is_not_watched_changes_nothing(sampler):
    sampler.remove(Tick())
    tick = Tick()
    sampler.add(tick, 0.005)
    sampler.remove(Tick())
    tick.called.clear()
    assert tick.called.wait(5)
    sampler.remove(tick)


def test_a_tick_that_takes_long_leaves_the_processor_to_others(sampler):
    times = []

    def slow(now):
        times.append(time.monotonic())
        time.sleep(0.04)

    sampler.add(slow, 0.001)
    time.sleep(0.4)
    sampler.remove(slow)
    # at most half of the time
    assert len(times) <= 6


def test_two_threads_may_add_and_remove_at_once(sampler):
    failures = []

    def run():
        try:
            for _ in range(20):
                tick = Tick()
                sampler.add(tick, 0.001)
                sampler.remove(tick)
                assert not tick.running
        except Exception as error:  # noqa: BLE001
            failures.append(error)

    runners = [threading.Thread(target=run) for _ in range(3)]
    for thread in runners:
        thread.start()
    for thread in runners:
        thread.join()
    assert failures == []
