"""What actors on a worker hold, and whose calls their methods are."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from dask_memdash.plugins.worker.actor_state import REST, ActorState

MB = 1_000_000


class Counter:
    def __init__(self):
        self.kept = [np.ones(MB, "u1")]


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        self.now += 0.001
        return self.now


def state(**actors):
    return ActorState(SimpleNamespace(actors=actors))


def test_the_state_of_actors_is_told_by_prefix_with_what_it_grew_by():
    first, second, clock = Counter(), Counter(), Clock()
    actors = ActorState(
        SimpleNamespace(actors={"Counter-1": first, "Counter-2": second})
    )
    (row,) = (actors.look(clock) or {}).values()
    assert (row.actors, row.grown) == (2, 0)
    assert row.size == pytest.approx(2 * MB, rel=0.01)
    first.kept.append(np.ones(3 * MB, "u1"))
    clock.now += 10
    (row,) = (actors.look(clock) or {}).values()
    assert row.grown == pytest.approx(3 * MB, rel=0.01)
    assert actors.total == row.size == pytest.approx(5 * MB, rel=0.01)


def test_nothing_is_told_where_nothing_changed_or_there_are_no_actors():
    clock = Clock()
    assert state().look(clock) is None
    actors = ActorState(SimpleNamespace(actors={"Counter-1": Counter()}))
    assert actors.look(clock)
    clock.now += 10
    assert actors.look(clock) is None


def test_an_actor_that_is_gone_is_told_of_once():
    alive = {"Counter-1": Counter()}
    actors, clock = ActorState(SimpleNamespace(actors=alive)), Clock()
    actors.look(clock)
    alive.clear()
    clock.now += 10
    assert (actors.look(clock), actors.total) == ({}, 0)
    clock.now += 10
    assert actors.look(clock) is None


def test_after_a_look_there_is_rest_in_proportion_to_it():
    actors, clock = ActorState(SimpleNamespace(actors={"a-1": Counter()})), Clock()
    actors.look(clock)
    took = 0.003
    actors._state.actors["a-1"].kept.append(np.ones(MB, "u1"))
    clock.now += (REST - 2) * took
    assert actors.look(clock) is None
    clock.now += 3 * took
    assert actors.look(clock)


def test_a_call_of_a_method_counts_for_its_actor():
    actors = ActorState(SimpleNamespace(actors={"Counter-0123456789abcdef": Counter()}))
    assert actors.prefix_of("Counter.add") == "Counter"
    assert actors.prefix_of("other.add") == "other.add"
    assert actors.prefix_of("sum") == "sum"
