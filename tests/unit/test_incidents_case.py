"""What is kept of an incident for its diagnosis, and what the accounts add up to."""

import pytest
from builders import (
    A,
    B,
    MiB,
    added,
    died,
    executing,
    finished,
    removed,
    reported,
    row,
)
from cases import T0, case, facts, held, parts, stored, suspect

from dask_memdash.analysis.incidents.case import Attempt, SpillFailure
from dask_memdash.analysis.incidents.gathering import case_of
from dask_memdash.analysis.incidents.retention_reasons import held_in_memory
from dask_memdash.model.breakdown import Reading
from dask_memdash.model.cluster import ClusterModel
from dask_memdash.model.event_parts import Held, TaskInputs, Thresholds
from dask_memdash.model.events import SpillFailed, StorageHeld
from dask_memdash.model.evidence import MAX_BASELINE, MAX_PREFIXES, thin
from dask_memdash.model.incidents import IncidentLog, StoredAtDeath, WorkerRef

T = 1_760_000_000.0
TASK = executing("sum-1", 300 * MiB)


def feed(*events):
    model = ClusterModel()
    for event in events:
        model.handle(event)
    return model


def newest(model):
    return next(iter(model.incidents))


# -- the snapshot --------------------------------------------------------------


def busy(address=A, pid=100, **more):
    values = {
        "rows": {"open": row(90 * MiB)},
        "executing": (TASK,),
        "thresholds": Thresholds(target=600 * MiB),
        "finished": {"sum": finished(MiB, 3 * MiB, outputs=[5, 7])},
        **more,
    }
    return added(address, pid), reported(address, pid, **values)


def test_a_death_keeps_what_was_known_when_it_happened():
    kept = {"open": Held(0, 90, {"sum": 90}, because={"awaited": 90})}
    model = feed(*busy(), StorageHeld(T + 2, A, kept), removed(), died())
    known = newest(model).facts
    assert (known.nthreads, known.thresholds.target) == (2, 600 * MiB)
    assert known.held == kept
    assert known.claimed == {"open": 90 * MiB}
    assert known.awaited == {"open": 90}
    assert known.baseline == ((T + 1, 310 * MiB),)
    usual = known.expected["sum"]
    assert (usual.finished, usual.max) == (2, 3 * MiB)
    assert usual.p50 == pytest.approx(MiB, rel=0.01)
    assert (usual.output_p50, usual.output_max) == (5, 7)


def test_what_happens_after_a_death_does_not_change_its_evidence():
    model = feed(*busy(), *busy(B, 2), removed())
    before = newest(model).facts.expected["sum"]
    model.handle(
        reported(B, 2, T + 20, finished={"sum": finished(900 * MiB, 900 * MiB)})
    )
    assert newest(model).facts.expected["sum"] == before
    assert before.finished == 4


def test_what_the_report_names_newly_is_looked_up_when_it_comes():
    model = feed(*busy(finished={"new": finished(2 * MiB)}, executing=()), removed())
    model.handle(died(executing=(executing("new-1", MiB),)))
    assert newest(model).facts.expected["new"].max == 2 * MiB


def test_a_worker_that_nobody_knew_has_no_evidence_and_is_a_case_all_the_same():
    model = feed(died(B, 7, executing=(TASK,)))
    known = case_of(newest(model), model.incidents)
    assert (known.limit, known.expected("sum"), known.target) == (None, None, None)
    assert [suspect.key for suspect in known.suspects] == ["sum-1"]


def test_the_evidence_is_bounded_whatever_the_number_of_prefixes():
    rows = {f"p{n}": row((n + 1) * MiB) for n in range(500)}
    done = {f"p{n}": finished(MiB) for n in range(500)}
    model = feed(*busy(rows=rows, finished=done), removed())
    known = newest(model).facts
    for part in (known.expected, known.claimed, known.awaited):
        assert len(part) <= MAX_PREFIXES
    assert "p499" in known.claimed, "the largest are kept"
    assert "p0" not in known.claimed


def test_earlier_attempts_say_how_they_ended_and_what_the_task_held():
    events = [*busy(A, 1, executing=()), died(A, 1, by="nanny", executing=(TASK,))]
    events += [removed(A), *busy(B, 2, executing=()), died(B, 2, executing=(TASK,))]
    model = feed(*events)
    known = case_of(newest(model), model.incidents)
    assert known.attempts == {"sum-1": (Attempt("1", "terminated", 300 * MiB),)}


@pytest.mark.parametrize(
    ("sizes", "managed", "size"),
    [
        ((120,), 130, 120),
        ((120, 120), 130, 120),
        ((120, 90), 130, None),
        ((120,), 9, None),
    ],
)
def test_inputs_that_are_not_known_are_those_of_its_like(sizes, managed, size):
    log = IncidentLog(keep=10)
    worker = WorkerRef("tcp://a:1", "0", "a", 100)
    for n, known in enumerate((*sizes, None)):
        inputs = None if known is None else TaskInputs(1, known * MiB, 0, 0)
        incident = log.add(
            "terminated",
            1_760_000_000.0 + n,
            worker,
            limit=1000 * MiB,
            breakdown=parts(managed=managed, executing=90),
            evidence="flight-recorder",
        )
        incident.suspects = (suspect(f"use-{n}", 90, inputs=inputs),)
    (last,) = case_of(incident, log).suspects
    assert (last.inputs and last.inputs.size) == (size and size * MiB)


def test_failures_to_spill_on_the_same_worker_belong_to_the_case():
    failed = SpillFailed(T + 2, A, "open-1", "open", "disk-full", MiB, "no space", 3)
    model = feed(*busy(), *busy(B, 2), failed, removed(A), removed(B))
    of_b, of_a = [i for i in model.incidents if i.kind == "lost"]
    assert case_of(of_a, model.incidents).spill_failures == (
        SpillFailure("disk-full", "open", 3),
    )
    assert case_of(of_b, model.incidents).spill_failures == ()


def test_every_change_of_an_incident_counts():
    model = feed(*busy(), removed())
    incident = newest(model)
    before = incident.revision
    model.handle(died(reading=Reading(T, 900 * MiB)))
    assert incident.revision > before


# -- accounts ------------------------------------------------------------------


def test_the_accounts_add_up_to_the_process():
    known = case(
        breakdown=parts(
            managed=200, transfer=50, executing=300, retained=40, baseline=180
        ),
        suspects=(suspect("a-1", 150), suspect("b-1", 50), suspect("c-1", None)),
        facts=facts(baseline=(100, 120, 150)),
    )
    assert (known.idle, known.grown) == (100 * MiB, 80 * MiB)
    assert (known.counted, known.unexplained) == (200 * MiB, 100 * MiB)
    assert known.above == 670 * MiB
    assert known.usable == 850 * MiB
    whole = known.idle + known.grown + known.counted + known.unexplained
    assert whole + (200 + 50 + 40) * MiB == known.parts.process == 770 * MiB


def test_spilled_outputs_in_use_explain_what_no_task_is_known_to_hold():
    running = (suspect("a-1", 150),)
    known = case(breakdown=parts(executing=300, inputs=100), suspects=running)
    assert (known.counted, known.in_use, known.unexplained) == (
        *(150 * MiB, 100 * MiB, 50 * MiB),
    )
    known = case(breakdown=parts(executing=200, inputs=100), suspects=running)
    assert (known.in_use, known.unexplained) == (50 * MiB, 0)


def test_where_nothing_runs_spilled_outputs_in_use_are_no_growth():
    known = case(
        breakdown=parts(baseline=300, inputs=150),
        facts=facts(baseline=(100, 120)),
    )
    assert (known.idle, known.in_use, known.grown) == (100 * MiB, 150 * MiB, 50 * MiB)


def test_spilled_outputs_in_use_are_in_memory_and_held_for_the_same_reasons():
    known = case(
        breakdown=parts(managed=40, executing=200, inputs=100),
        storage=(
            StoredAtDeath("a", 40 * MiB, 0, 1),
            StoredAtDeath("b", 0, 160 * MiB, 2),
        ),
        facts=facts(held={"b": held(awaited=160)}),
    )
    assert known.stored() == {"a": 40 * MiB}
    assert known.in_memory() == {"a": 40 * MiB, "b": 100 * MiB}
    assert held_in_memory(known, "awaited") == {"b": 100 * MiB}


@pytest.mark.parametrize(
    ("managed", "expected"),
    [
        (0, {}),
        (60, {"a": 60}),
        (120, {"a": 104, "b": 16}),
        (160, {"a": 112, "b": 48}),
        (350, {"a": 210, "b": 140}),  # more than there was: in proportion
    ],
)
def test_what_is_stored_beyond_the_last_heartbeat_came_back_from_disk(
    managed, expected
):
    storage = (
        StoredAtDeath("a", 100 * MiB, 20 * MiB, 1),
        StoredAtDeath("b", 0, 80 * MiB, 1),
    )
    known = case(breakdown=parts(managed=managed), storage=storage)
    expected = {name: size * MiB for name, size in expected.items()}
    assert known.stored() == pytest.approx(expected, abs=1)


def test_tasks_that_say_they_hold_more_than_is_in_execution_are_cut():
    known = case(breakdown=parts(executing=100), suspects=(suspect("a-1", 150),))
    assert (known.counted, known.unexplained) == (100 * MiB, 0)


def test_a_baseline_that_shrinks_has_not_grown():
    known = case(breakdown=parts(baseline=90), facts=facts(baseline=(100, 120)))
    assert (known.grown, known.idle) == (0, 90 * MiB)


def test_without_a_breakdown_nothing_is_known_and_nothing_fails():
    known = case(breakdown=None, limit=None, facts=facts(thresholds=Thresholds()))
    assert (known.pressure, known.ceiling, known.usable, known.above) == (
        None,
        None,
        None,
        1,
    )
    assert (known.stored(), known.target, known.grown) == ({}, None, 0)


@pytest.mark.parametrize(
    ("thresholds", "evidence", "spilling", "target"),
    [
        (Thresholds(target=500 * MiB, spill=700 * MiB), "heartbeat", True, 500 * MiB),
        (Thresholds(spill=700 * MiB), "heartbeat", True, 700 * MiB),
        (Thresholds(terminate=950 * MiB), "heartbeat", False, 600 * MiB),
        (Thresholds(), "flight-recorder", None, 600 * MiB),  # no heartbeat told them
        (Thresholds(), "scheduler", None, 600 * MiB),
    ],
)
def test_whether_a_worker_spills_follows_from_its_thresholds(
    thresholds, evidence, spilling, target
):
    known = case(facts=facts(thresholds=thresholds), evidence=evidence)
    assert (known.spilling, known.target) == (spilling, target)


def test_a_worker_without_any_threshold_does_not_spill_unless_it_has():
    known = facts(thresholds=Thresholds(), baseline=(100,))
    assert case(facts=known).spilling is False
    assert case(facts=known, breakdown=parts(spilled=5)).spilling is True


@pytest.mark.parametrize("n", [0, 1, MAX_BASELINE, MAX_BASELINE + 1, 5000])
def test_a_long_baseline_keeps_its_ends(n):
    points = thin([float(i) for i in range(n)], list(range(n)))
    assert len(points) == min(n, MAX_BASELINE)
    if n:
        assert (points[0], points[-1]) == ((0.0, 0), (n - 1.0, n - 1))


def test_what_is_on_disk_and_no_heartbeat_has_told_is_stored_and_not_in_memory():
    known = case(
        breakdown=parts(managed=200, executing=300, spilled=400, inputs=300),
        storage=(stored("view", 600),),
    )
    assert known.in_memory() == {"view": 500 * MiB}


def test_an_idle_process_had_no_more_than_the_process_ever_had():
    """Where no heartbeat tells of its first moments, the nanny's samples bound them."""
    known = case(
        breakdown=parts(baseline=400, managed=100),
        facts=facts(baseline=()),
        timeline=((T0 - 9, 150 * MiB), (T0, 500 * MiB)),
    )
    assert known.baselines == [400 * MiB]
    assert (known.idle, known.grown) == (150 * MiB, 250 * MiB)


def test_a_process_that_is_starting_is_not_taken_for_an_idle_worker():
    samples = ((T0 - 9, 10 * MiB), (T0 - 5, 150 * MiB), (T0, 500 * MiB))
    young = case(
        breakdown=parts(baseline=100, managed=400),
        facts=facts(baseline=()),
        timeline=samples,
    )
    assert (young.idle, young.grown) == (80 * MiB, 20 * MiB)
    told = case(
        breakdown=parts(baseline=180, managed=320),
        facts=facts(baseline=(120, 200)),
        timeline=samples,
    )
    assert (told.idle, told.grown) == (120 * MiB, 60 * MiB)
