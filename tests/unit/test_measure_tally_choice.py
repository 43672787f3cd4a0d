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


def tally_that(acquires, refused=""):
    return SimpleNamespace(acquire=lambda: acquires, refused=refused)


def test_the_tally_is_taken_where_its_hooks_can_be_installed(monkeypatch):
    tally = tally_that(True)
    monkeypatch.setattr(tally_choice, "load", lambda: tally)
    assert acquire_tally() == (tally, "")


def test_a_tally_that_refuses_is_not_taken_and_says_why(monkeypatch):
    tally = tally_that(False, "the tally cannot be used: it miscounts")
    monkeypatch.setattr(tally_choice, "load", lambda: tally)
    assert acquire_tally() == (None, "the tally cannot be used: it miscounts")


def test_where_no_tally_was_built_the_reason_is_said(monkeypatch):
    monkeypatch.setattr(tally_choice, "load", lambda: None)
    monkeypatch.setattr(tally_choice, "why_not", lambda: "it was not built")
    assert acquire_tally() == (None, "it was not built")


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
