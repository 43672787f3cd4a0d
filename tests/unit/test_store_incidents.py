"""Incidents as plain data: shapes, and diagnoses that follow the evidence."""

import json

import pytest
from builders import A, B, MiB, added, died, executing, killed, removed, reported

from dask_memdash.boundary import boundary
from dask_memdash.model.breakdown import Reading
from dask_memdash.model.cluster import ClusterModel
from dask_memdash.store import incidents as module
from dask_memdash.store.incidents import IncidentReader
from dask_memdash.terms import CAUSES

T = 1_760_000_000.0
HOG = executing("hog-1", 850 * MiB)


def death(address=A, pid=1, task=HOG):
    reading = Reading(T, 960 * MiB, base=100 * MiB, live=850 * MiB, busy=True)
    return [
        added(address, pid),
        reported(address, pid, rss=120 * MiB),
        removed(address),
        died(
            address,
            pid,
            signal=15,
            by="nanny",
            reading=reading,
            executing=() if task is None else (task,),
        ),
    ]


@pytest.fixture
def reader():
    model = ClusterModel()
    reader = IncidentReader(model)
    reader.model = model
    yield reader
    boundary.clear()


def feed(reader, *events):
    for event in events:
        reader.model.handle(event)


def newest(reader):
    return next(iter(reader.model.incidents))


def test_a_death_is_told_with_its_cause_findings_and_what_its_task_usually_needs(
    reader,
):
    feed(reader, *death())
    told = reader.whole(newest(reader))
    assert told["diagnosis"]["cause"] == "task-too-large"
    assert told["diagnosis"]["responsible"] == {"prefix": "hog", "key": "hog-1"}
    assert told["findings"][0]["responsible"] == {"prefix": "hog", "key": "hog-1"}
    assert set(told["findings"][0]) == {"cause", "weight", "text", "responsible"}
    assert "Cause: one task needs too much." in told["diagnosis"]["text"]
    assert told["suspects"][0]["expected"] is None, "none of its like has finished"
    assert json.loads(json.dumps(told)) == told


def test_the_diagnosis_changes_with_the_evidence(reader):
    first, second, gone, report = death()
    feed(reader, first, second, gone)
    assert reader.brief(newest(reader))["diagnosis"]["cause"] == "unknown"
    feed(reader, report)
    assert reader.brief(newest(reader))["diagnosis"]["cause"] == "task-too-large"


def test_a_diagnosis_is_worked_out_once_while_its_evidence_stands(reader, monkeypatch):
    feed(reader, *death())
    calls = []

    def counted(case):
        calls.append(case)
        return module.UNKNOWN_CAUSE

    monkeypatch.setattr(module, "_of", counted)
    for _ in range(3):
        reader.brief(newest(reader))
    assert len(calls) == 1


def test_a_rule_that_fails_costs_its_incident_the_cause_and_nothing_else(
    reader, monkeypatch
):
    def fails(case):
        raise ZeroDivisionError

    guarded = boundary.guarded(fails, "diagnosing an incident", module.UNKNOWN_CAUSE)
    monkeypatch.setattr(module, "_of", guarded)
    feed(reader, *death())
    told = reader.whole(newest(reader))
    assert told["diagnosis"]["cause"] == "unknown"
    assert [s["key"] for s in told["suspects"]] == ["hog-1"]
    assert "diagnosing an incident" in boundary.texts()[0]


def test_a_killed_worker_has_the_cause_of_the_deaths_behind_it(reader):
    first, second, gone, report = death()
    feed(reader, first, second, killed("hog-1", A), gone)
    killed_worker = next(i for i in reader.model.incidents if i.kind == "killed-worker")
    assert reader.brief(killed_worker)["diagnosis"]["cause"] == "unknown"
    feed(reader, report)
    told = reader.brief(killed_worker)["diagnosis"]
    assert (told["cause"], told["responsible"]["key"]) == ("task-too-large", "hog-1")


def test_earlier_attempts_of_a_suspect_are_told_with_how_they_ended(reader):
    feed(reader, *death(A, 1), *death(B, 2))
    (suspect,) = reader.whole(newest(reader))["suspects"]
    assert suspect["attempts"] == [{"incident": "1", "kind": "terminated"}]


@pytest.mark.parametrize("task", [HOG, None])
def test_every_cause_that_is_told_is_one_of_the_contract(reader, task):
    feed(reader, *death(task=task))
    assert reader.brief(newest(reader))["diagnosis"]["cause"] in CAUSES
