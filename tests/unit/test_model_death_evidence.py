"""What the model keeps of a death: holdings, inputs, growth, silence."""

from __future__ import annotations

from dataclasses import replace

import pytest
from builders import (
    T0,
    A,
    B,
    MiB,
    added,
    died,
    executing,
    info,
    removed,
    reported,
    row,
    sampled,
)

from dask_memdash.model.breakdown import Reading
from dask_memdash.model.cluster import ClusterModel
from dask_memdash.model.event_parts import (
    ActorRow,
    GraphRow,
    Held,
    SpillRoom,
    TaskInputs,
    Thresholds,
)
from dask_memdash.model.events import WorkerLeaving, WorkerTimedOut

INPUTS = TaskInputs(count=2, size=90 * MiB, n_fetched=1, fetched=60 * MiB)


def held(size, why="pinned", keys=3, **more):
    values = {"pinned": 0, "awaited": 0, "awaited_by": {}}
    return Held(because={why: size}, keys=keys, **{**values, **more})


def leaving(time=T0 + 9, **more):
    values = {"held": {"open": held(300 * MiB)}}
    return WorkerLeaving(time=time, address=A, **{**values, **more})


def play(*events):
    model = ClusterModel()
    for event in events:
        model.handle(event)
    return model, next(iter(model.incidents), None)


def test_a_worker_too_young_to_have_reported_has_what_the_scheduler_knew_it_held():
    _, incident = play(added(), leaving(), removed())
    assert incident.facts.held["open"].because == {"pinned": 300 * MiB}
    assert incident.facts.held_share == 1.0
    assert incident.facts.claimed == {"open": 300 * MiB}
    assert [(s.prefix, s.managed, s.count) for s in incident.storage] == [
        ("open", 300 * MiB, 3)
    ]


def test_what_was_stored_since_the_last_report_is_added_and_spilled_stays_spilled():
    rows = {"open": row(100 * MiB, 150 * MiB, keys=2)}
    _, incident = play(added(), reported(rows=rows), leaving(), removed())
    assert incident.facts.claimed == {"open": 150 * MiB}


def test_without_a_look_at_the_removal_the_last_scan_is_not_taken_for_one():
    _, incident = play(added(), reported(rows={"open": row(100 * MiB)}), removed())
    assert incident.facts.held_share is None
    assert incident.facts.claimed == {"open": 100 * MiB}


@pytest.mark.parametrize("report_first", [False, True])
def test_news_may_come_in_any_order(report_first):
    report = died(executing=(executing("sum-1"),), recorded=True)
    assigned = (replace(info("sum-1"), inputs=INPUTS, arguments=7),)
    removal = removed(n_assigned=1, assigned=(info("sum-1"),))
    look = leaving(assigned=assigned, held_share=0.5)
    news = [report, look, removal] if report_first else [look, removal, report]
    model, incident = play(added(), *news)
    assert len(model.incidents) == 1
    assert incident.facts.held_share == 0.5
    assert incident.facts.claimed == {"open": 300 * MiB}
    (suspect,) = incident.suspects
    assert (suspect.inputs, suspect.arguments) == (INPUTS, 7)
    assert incident.assigned == assigned


def test_a_task_is_charged_with_what_the_rss_grew_by_since_it_began():
    tasks = (
        executing("sum-1", 8 * MiB, rss_at_begin=100 * MiB),
        executing("open-1", 5 * MiB),
    )
    reading = Reading(time=T0 + 10, rss=400 * MiB)
    _, incident = play(added(), removed(), died(reading=reading, executing=tasks))
    grown = {s.prefix: (s.grown, s.rss_at_begin) for s in incident.suspects}
    assert grown == {"sum": (300 * MiB, 100 * MiB), "open": (None, None)}


def test_a_task_in_a_worker_that_shrank_is_charged_with_nothing():
    tasks = (executing("sum-1", rss_at_begin=500 * MiB),)
    reading = Reading(time=T0 + 10, rss=400 * MiB)
    _, incident = play(added(), removed(), died(reading=reading, executing=tasks))
    assert incident.suspects[0].grown == 0


def test_growth_is_known_from_heartbeats_too():
    tasks = (executing("sum-1", rss_at_begin=150 * MiB),)
    _, incident = play(added(), reported(executing=tasks), removed())
    assert incident.suspects[0].grown == 250 * MiB


def test_the_graph_and_the_actors_are_kept_and_the_larger_count_of_each_prefix():
    said = {"score": GraphRow(8, 190 * MiB, 52_000), "one": GraphRow(1, 0, 6_500)}
    counted = {"score": GraphRow(2, 48 * MiB, 13_000), "late": GraphRow(1, 5, 6_500)}
    report = reported(
        graph=said,
        actors={"counter": ActorRow(1, 60 * MiB, 40 * MiB)},
        spill_room=SpillRoom(max_spill=5, disk_free=7),
    )
    look = leaving(graph=counted, actors=("counter", "other"))
    _, incident = play(added(), report, look, removed())
    facts = incident.facts
    assert facts.graph == {**said, "late": counted["late"]}
    assert facts.actors == {
        "counter": ActorRow(1, 60 * MiB, 40 * MiB),
        "other": ActorRow(0, 0, 0),
    }
    assert facts.spill_room == SpillRoom(5, 7)


def test_a_report_that_says_nothing_new_changes_nothing():
    said = {"score": GraphRow(8, 190 * MiB, 52_000)}
    model, _ = play(added(), reported(graph=said), reported(time=T0 + 2))
    assert model.processes.workers[A].graph == said


def test_the_call_of_an_actors_method_counts_for_the_actor():
    look = leaving(actors=("counter",))
    call = executing("counter.add", prefix="counter.add")
    report = died(executing=(call, executing("a.b", prefix="a.b")))
    _, incident = play(added(), look, removed(), report)
    assert sorted(s.prefix for s in incident.suspects) == ["a.b", "counter"]


@pytest.mark.parametrize("report_first", [False, True])
def test_a_worker_given_up_for_its_silence_was_not_asked_for_by_anybody(report_first):
    report = died(asked=True, signal=15, by="unknown", time=T0 + 10)
    news = [report, removed()] if report_first else [removed(), report]
    _, incident = play(added(), WorkerTimedOut(T0 + 8, A, 31.5), *news)
    assert (incident.kind, incident.unresponsive) == ("lost", 31.5)
    assert incident.exit.signal == 15


def test_a_silent_worker_that_the_kernel_killed_died_of_that():
    report = died(asked=False, signal=9, by="kernel")
    _, incident = play(added(), WorkerTimedOut(T0 + 8, A, 31.5), removed(), report)
    assert (incident.kind, incident.unresponsive) == ("oom-killed", 31.5)


def test_a_worker_that_answered_and_was_asked_to_end_is_no_incident():
    _, incident = play(added(), removed(), died(asked=True))
    assert incident is None


def test_a_nanny_that_sees_an_actors_method_run_makes_no_prefix_of_it():
    call = executing("counter.add", prefix="counter.add")
    model, _ = play(
        added(),
        reported(actors={"counter": ActorRow(1, 60 * MiB, 0)}),
        sampled(executing=(call,)),
    )
    assert [task.prefix for task in model.processes.workers[A].executing] == ["counter"]
    assert "counter.add" not in model.prefixes.by_name


def test_without_a_recorder_the_nannys_samples_say_how_large_the_process_was():
    report = died(recorded=False, samples=((T0 + 9, 400 * MiB), (T0 + 10, 900 * MiB)))
    _, incident = play(added(), reported(rss=300 * MiB), removed(), report)
    assert incident.evidence == "heartbeat"
    assert incident.breakdown.process == 900 * MiB
    assert incident.unseen == 600 * MiB


def test_a_slot_with_figures_that_no_process_can_have_counts_as_not_measured():
    for size in (2**62, -(2**40)):
        task = executing("sum-1", size)
        _, incident = play(added(), reported(), removed(), died(executing=(task,)))
        assert [(s.bytes, s.method) for s in incident.suspects] == [
            (None, "unmeasured")
        ]


def test_a_worker_that_never_reported_has_the_thresholds_of_others_of_its_limit():
    own = Thresholds(pause=800 * MiB, terminate=950 * MiB)
    others = (added(B, pid=7), reported(B, pid=7, thresholds=own))
    _, incident = play(*others, added(), removed())
    assert incident.facts.thresholds == own
    smaller = (added(B, pid=7, limit=MiB), reported(B, pid=7, thresholds=own))
    _, incident = play(*smaller, added(), removed())
    assert incident.facts.thresholds == Thresholds()


def test_growth_before_the_first_heartbeat_is_seen_against_the_recorders_baseline():
    reading = Reading(time=T0 + 9, rss=900 * MiB, base=100 * MiB)
    _, incident = play(added(), removed(), died(reading=reading))
    assert incident.facts.base == 100 * MiB
    assert incident.breakdown.baseline == 900 * MiB


@pytest.mark.parametrize(("threads", "grown"), [(1, 800), (2, 200)])
def test_a_task_that_still_ran_alone_is_charged_with_what_only_samples_saw(
    threads, grown
):
    task = executing("sum-1", 10 * MiB, rss_at_begin=100 * MiB)
    beat = reported(rss=300 * MiB, executing=(task,))
    gone = removed(n_assigned=2, assigned=(info("sum-1"), info("sum-2")))
    report = died(recorded=False, samples=((T0 + 10, 900 * MiB),))
    for order in ((gone, report), (report, gone)):
        _, incident = play(added(nthreads=threads), beat, *order)
        assert [s.grown for s in incident.suspects] == [grown * MiB]
