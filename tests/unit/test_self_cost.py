"""The self-cost meter: processor time by sample, backing off, weighing."""

import time
from array import array
from collections import deque
from dataclasses import dataclass

import pytest

from dask_memdash.self_cost import RESTS, Backoff, CostMeter, Scale, weigh


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def burn(seconds):
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def test_the_time_of_a_costly_function_is_counted_whole():
    meter = CostMeter()
    work = meter.metered(burn)
    for _ in range(3):
        work(0.01)
    assert meter.seconds == pytest.approx(0.03, rel=0.1)


def test_cheap_calls_are_counted_by_sample_and_come_to_about_the_same():
    meter, calls = CostMeter(), []
    work = meter.metered(lambda: burn(2e-5) or calls.append(1))
    begun = time.thread_time()
    for _ in range(3000):
        work()
    spent = time.thread_time() - begun
    assert len(calls) == 3000
    assert meter.seconds == pytest.approx(spent, rel=0.3)


def test_waiting_costs_nothing():
    meter = CostMeter()
    meter.metered(time.sleep)(0.05)
    assert meter.seconds < 0.01


def test_what_a_function_gives_and_raises_comes_through_and_is_charged():
    meter = CostMeter()

    def fails():
        burn(0.01)
        raise KeyError("x")

    assert meter.metered(lambda a, b=1: a + b)(2, b=3) == 5
    with pytest.raises(KeyError):
        meter.metered(fails)()
    assert meter.seconds >= 0.01


def test_the_rate_is_the_share_of_a_core_over_the_last_seconds():
    clock = Clock()
    meter = CostMeter(clock)
    meter.seconds = 0.5
    clock.now += 4
    assert meter.rate() is None
    clock.now += 1
    assert meter.rate() == pytest.approx(0.1)
    meter.seconds = 0.6
    assert meter.rate() == pytest.approx(0.1), "until five more seconds have passed"
    clock.now += 10
    assert meter.rate() == pytest.approx(0.01)


def test_backing_off_goes_step_by_step_and_comes_back():
    backoff = Backoff(budget=0.02, most=2)
    assert [backoff.judge(rate) for rate in (None, 0.01, 0.03, 0.03, 0.04, 0.05)] == [
        0,
        0,
        1,
        1,  # the same reading again says nothing new
        2,
        2,
    ]
    assert [backoff.judge(rate) for rate in (0.015, 0.004, 0.003, 0.002)] == [
        2,
        1,
        0,
        0,
    ]


def test_what_a_start_costs_is_no_reason_to_hold_back():
    backoff = Backoff(budget=0.02, most=2, young=2)
    assert [backoff.judge(rate) for rate in (0.9, 0.8, 0.01, 0.03)] == [0, 0, 0, 1]


def test_it_is_known_for_how_many_rates_it_has_held_back():
    backoff = Backoff(budget=0.02, most=1, eased=0.5)
    lasted = []
    for rate in (0.03, 0.031, 0.031, 0.015, 0.001, 0.04):
        backoff.judge(rate)
        lasted.append(backoff.lasts)
    assert lasted == [1, 2, 2, 3, 0, 1]


def test_one_dear_call_among_cheap_ones_does_not_have_the_next_timed():
    meter = CostMeter()
    assert [meter.charge(1e-6, 1), meter.charge(1e-6, 16), meter.charge(1e-6, 31)] == [
        2,
        31,
        31,
    ]
    assert meter.charge(0.01, 31) == 7
    assert meter.charge(0.01, 7) == meter.charge(0.01, 1) == 1
    assert meter.seconds == pytest.approx(0.39, rel=0.01)


def test_a_level_that_saves_little_is_given_back_within_the_budget():
    backoff = Backoff(budget=0.02, most=2, eased=0.75)
    assert [backoff.judge(rate) for rate in (0.03, 0.018, 0.014)] == [1, 1, 0]


@dataclass(slots=True)
class Slotted:
    numbers: array
    name: str


@pytest.mark.parametrize(
    ("thing", "least", "most"),
    [
        (array("d", [0.0] * 10_000), 80_000, 90_000),
        ({i: str(i) * 10 for i in range(1000)}, 100_000, 200_000),
        ([bytes(100)] * 1000, 100_000, 160_000),
        (deque([(1, 2.0)] * 100), 8_000, 30_000),
        (Slotted(array("d", [0.0] * 1000), "name"), 8_000, 9_000),
        ({}, 40, 100),
    ],
)
def test_weighing_comes_near(thing, least, most):
    assert least <= weigh(thing) <= most


def test_weighing_what_holds_itself_ends():
    loop = []
    loop.append(loop)
    assert weigh(loop) > 0


def test_what_takes_long_to_weigh_is_weighed_more_rarely(monkeypatch):
    clock, weighed = Clock(), []

    def slow(thing):
        weighed.append(thing)
        clock.now += thing
        return 7

    monkeypatch.setattr("dask_memdash.self_cost.weigh", slow)
    monkeypatch.setattr("dask_memdash.self_cost.time.thread_time", clock)
    scale = Scale(10.0)
    assert scale.weight(0.0, now=0) == scale.weight(0.0, now=9.9) == 7
    assert weighed == [0.0]
    scale.weight(0.1, now=10)
    scale.weight(0.0, now=10 + 0.1 * RESTS - 1)
    assert weighed == [0.0, 0.1]
    scale.weight(0.0, now=10 + 0.1 * RESTS + 1)
    assert weighed == [0.0, 0.1, 0.0]
    scale.weight(0.0, now=5)  # the clock was set back
    assert len(weighed) == 4


def test_what_cannot_be_weighed_is_not_tried_again_at_once(monkeypatch):
    tried = []

    def fail(thing):
        tried.append(thing)
        raise RuntimeError("dictionary changed size during iteration")

    monkeypatch.setattr("dask_memdash.self_cost.weigh", fail)
    scale = Scale(10.0)
    with pytest.raises(RuntimeError):
        scale.weight({}, now=0)
    assert scale.weight({}, now=9.9) == 0
    assert len(tried) == 1
