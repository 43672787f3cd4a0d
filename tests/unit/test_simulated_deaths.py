"""Simulated deaths: what the real model says of them, and what must hold of any."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from random import Random

import pytest

from dask_memdash.analysis.incidents.diagnose import diagnose
from dask_memdash.analysis.incidents.gathering import case_of
from dask_memdash.analysis.incidents.growth_attribution import give_out
from dask_memdash.analysis.incidents.relief import spillable
from dask_memdash.model.cluster import ClusterModel
from dask_memdash.model.incidents import DEATHS
from dask_memdash.store.live import LiveStore

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from corpus import faults, judging, scenarios

DEATHS_OF_A_SLICE = 150


@pytest.fixture(scope="module")
def verdicts():
    return [judging.simulate(seed) for seed in range(DEATHS_OF_A_SLICE)]


def test_every_death_is_explained_as_its_evidence_allows(verdicts):
    wrong = [v.seed for v in verdicts if not v.right]
    assert not wrong, f"python benchmarks simulated_deaths --seed {wrong[0]}"


def test_none_is_unknown_without_a_loss_that_makes_it_so(verdicts):
    assert not [v.seed for v in verdicts if v.missed]


def test_relief_and_responsible_are_right_where_nothing_was_lost(verdicts):
    assert not [v.seed for v in verdicts if v.relief_right is False]
    assert not [v.seed for v in verdicts if v.responsible_right is False]


def test_a_seed_tells_the_same_death_each_time(verdicts):
    assert judging.simulate(3) == verdicts[3]


@pytest.mark.slow
def test_the_simulation_has_every_cause_relief_and_fault():
    seen = [judging.imagine(seed) for seed in range(600)]
    causes = {cause for told in seen for cause in told.truth.causes}
    assert causes == set(scenarios.CAUSES)
    assert {told.plan.relief for told in seen} == set(scenarios.RELIEFS)
    assert {told.fault for told in seen} == {f.__name__ for f in faults.FAULTS}


def cases(model: ClusterModel):
    log = model.incidents
    return [case_of(i, log) for i in log if i.kind in DEATHS]


@pytest.mark.parametrize("part", range(5))
def test_no_part_exceeds_its_whole_and_accounts_sum(part):
    for seed in range(part, DEATHS_OF_A_SLICE, 5):
        model = judging.told_model(judging.imagine(seed))
        for case in cases(model):
            check_accounts(case)


def check_accounts(case):
    parts = case.parts
    process = parts.process
    whole = parts.managed + parts.transfer + parts.executing + parts.retained
    assert whole + parts.baseline == process
    known = case.idle + parts.managed + parts.transfer + parts.retained
    assert known + case.counted + case.in_use + case.unexplained + case.grown == process
    assert sum(s.bytes or 0 for s in case.running) <= parts.executing
    assert sum(case.stored().values()) in (parts.managed, 0)
    assert 0 <= spillable(case) <= process
    growth = give_out(case)
    given = (growth.graph, growth.actors, growth.hidden, growth.moved, growth.leaked)
    given = (*given, growth.ended)
    sizes = [*(size for by in given for size in by.values()), growth.unaccounted]
    sizes.append(growth.untold)
    assert min(sizes) >= 0
    assert sum(sizes) + growth.running == case.grown + case.unexplained
    for finding in diagnose(case).findings:
        assert 0 <= finding.weight <= 1


@pytest.mark.parametrize("part", range(5))
def test_evidence_that_contradicts_itself_never_makes_it_raise(part):
    for seed in range(part, 100, 5):
        random = Random(seed)
        told = judging.imagine(seed)
        told.told.beats = [wild(b, random) for b in told.told.beats]
        told.told.reports = [wild(r, random) for r in told.told.reports]
        told.told.leaving = [wild(r, random) for r in told.told.leaving]
        model = judging.told_model(told)
        store = LiveStore(model)
        for incident in store.incidents():
            whole = store.incident(incident["id"])
            assert 0 <= whole["diagnosis"]["confidence"] <= 1
        for case in cases(model):
            check_accounts(case)


WILD = (0, 1, 2**20, 2**33, 2**46, 2**62)


def wild(event, random):
    """Return an event with some of its figures replaced by any others."""
    if not dataclasses.is_dataclass(event):
        return event
    changes = {}
    for field in dataclasses.fields(event):
        value = getattr(event, field.name)
        if field.name in ("time", "pid", "address", "nanny"):
            continue
        if type(value) is int and random.random() < 0.3:
            changes[field.name] = random.choice(WILD)
        elif isinstance(value, tuple) and value and random.random() < 0.3:
            changes[field.name] = tuple(wild(item, random) for item in value)
        elif isinstance(value, dict) and random.random() < 0.5:
            changes[field.name] = {k: wild(v, random) for k, v in value.items()}
        elif dataclasses.is_dataclass(value):
            changes[field.name] = wild(value, random)
    return dataclasses.replace(event, **changes)
