"""Frozen dataclasses made quickly are what they would be otherwise."""

import dataclasses
import pickle

import pytest

from dask_memdash.model.breakdown import Breakdown, Reading
from dask_memdash.model.event_parts import Executing, SelfCost, Weighed
from dask_memdash.model.events import WorkerReported
from dask_memdash.model.quick_making import quickly

READING = Reading(time=1.0, rss=2)
REPORT = (1.0, "a", 7, READING, None, (), {}, None, "exact")


@pytest.mark.parametrize(
    ("cls", "values"),
    [
        (Reading, (1.0, 2)),
        (Reading, tuple(range(23))),
        (Breakdown, tuple(range(10))),
        (Executing, ("k", "", "p", 1, 0.5, 2, 3, 4, "exact")),
        (Weighed, ()),
        (WorkerReported, REPORT),
    ],
)
def test_what_is_made_quickly_is_the_same(cls, values):
    made, usual = quickly(cls)(*values), cls(*values)
    assert type(made) is cls
    assert made == usual
    assert repr(made) == repr(usual)
    assert pickle.loads(pickle.dumps(made)) == usual
    assert dataclasses.asdict(made) == dataclasses.asdict(usual)


def test_it_is_frozen_and_its_hash_is_that_of_its_fields():
    made = quickly(Reading)(1.0, 2)
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.rss = 3
    assert hash(made) == hash(Reading(1.0, 2))


def test_a_default_that_a_factory_makes_is_made_each_time():
    make = quickly(WorkerReported)
    assert make(*REPORT).cost == SelfCost()
    assert make(*REPORT, cost=SelfCost(0.5)).cost == SelfCost(0.5)


def test_a_field_without_a_default_is_needed():
    with pytest.raises(TypeError, match="rss"):
        quickly(Reading)(1.0)


def test_what_checks_its_fields_is_left_alone():
    @dataclasses.dataclass(frozen=True, slots=True)
    class Checked:
        size: int

        def __post_init__(self):
            assert self.size >= 0

    with pytest.raises(TypeError, match="Checked"):
        quickly(Checked)
