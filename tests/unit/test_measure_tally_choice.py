"""Who counts a worker's tasks, and what measures them where nobody does."""

from types import SimpleNamespace

import pytest

from dask_memdash import terms
from dask_memdash.flight.writer import FlightRecorder
from dask_memdash.measure import tally_choice
from dask_memdash.measure.meter import RssMeter, TallyMeter
from dask_memdash.measure.methods import BEST_FIRST, least_exact
from dask_memdash.measure.tally_choice import (
    acquire_tally,
    best_method,
    choose_meter,
)


class FakeTally:
    def __init__(self, acquires=True, refused=""):
        self.refused = refused
        self.users = 0
        self._acquires = acquires

    def acquire(self):
        self.users += self._acquires
        return self._acquires


@pytest.fixture
def world(monkeypatch):
    """Both tallies are here and work, none is installed, and the trial succeeds."""
    world = SimpleNamespace(
        first=FakeTally(), native=FakeTally(), trials=[], trial="", installed=None
    )

    def try_out(tally):
        world.trials.append(tally)
        return world.trial

    monkeypatch.setattr(tally_choice, "current", lambda: world.installed)
    monkeypatch.setattr(tally_choice, "load", lambda: world.first)
    monkeypatch.setattr(tally_choice, "why_not", lambda: "it was not built")
    monkeypatch.setattr(tally_choice.trial, "try_out", try_out)
    monkeypatch.setattr(tally_choice.native_tally, "load", lambda: world.native)
    monkeypatch.setattr(
        tally_choice.native_tally, "why_not", lambda: "it is not for this platform"
    )
    return world


def test_off_is_off(world):
    assert acquire_tally("off") == (None, "")
    assert world.first.users == world.native.users == 0


def test_python_is_the_first_generation(world):
    assert acquire_tally("python") == (world.first, "")
    assert world.trials == []


def test_native_is_taken_without_a_trial(world):
    assert acquire_tally("native") == (world.native, "")
    assert world.trials == []
    assert world.first.users == 0


def test_auto_is_native_after_one_trial_in_a_process(world):
    assert acquire_tally("auto") == (world.native, "")
    assert acquire_tally("auto") == (world.native, "")
    assert world.trials == [world.native]


FALLS_BACK = "tasks are counted in Python and NumPy only, not in native libraries: "


def test_what_fails_its_trial_is_never_installed_and_the_reason_is_said(world):
    world.trial = "its trial ended with signal 11"
    for _ in range(2):
        assert acquire_tally("auto") == (world.first, FALLS_BACK + world.trial)
    assert world.native.users == 0
    assert len(world.trials) == 1


def test_what_refuses_falls_back_and_says_why(world):
    world.native = FakeTally(False, "the tally cannot be used: it miscounts")
    assert acquire_tally("native") == (world.first, FALLS_BACK + world.native.refused)


def test_where_the_native_tally_is_not_built_it_falls_back_and_says_why(world):
    world.native = None
    assert acquire_tally("auto") == (
        world.first,
        FALLS_BACK + "it is not for this platform",
    )


def test_a_tally_that_is_installed_serves_all_workers_of_the_process(world):
    world.installed = world.native
    assert acquire_tally("python") == (world.native, "")
    assert world.first.users == 0


def test_a_first_generation_that_refuses_is_not_taken_and_says_why(world):
    world.first = FakeTally(False, "the tally cannot be used: it miscounts")
    assert acquire_tally("python") == (None, "the tally cannot be used: it miscounts")


def test_where_no_tally_was_built_the_reason_is_said(world):
    world.first = None
    assert acquire_tally("python") == (None, "it was not built")


def test_the_tally_counts_where_there_is_one_and_else_the_rss_is_shared_out():
    recorder = FlightRecorder(2, "tcp://a:1", private=True)
    tally = SimpleNamespace(begin=None, end=None)
    for choice, expected in ((tally, TallyMeter), (None, RssMeter)):
        meter = choose_meter(choice, recorder, lambda rss: None, lambda prefix: None)
        assert type(meter) is expected
    recorder.close()


@pytest.mark.parametrize(
    ("tally", "nthreads", "high_water", "expected"),
    [
        (object(), 4, False, "exact"),
        (None, 1, True, "hwm"),
        (None, 2, True, "estimated"),
        (None, 1, False, "estimated"),
    ],
)
def test_the_best_method_is_named(tally, nthreads, high_water, expected):
    assert best_method(tally, nthreads, high_water=high_water) == expected


def test_several_tasks_are_as_exact_as_the_least_exact_of_them():
    assert least_exact(["exact", "exact"]) == "exact"
    assert least_exact(["exact", "estimated", "hwm"]) == "estimated"
    assert least_exact([]) == "unmeasured"


def test_the_glossary_explains_every_method():
    assert set(terms.METHODS) >= set(BEST_FIRST)
