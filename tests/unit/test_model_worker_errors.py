"""WorkerErrors without a death, when evidence has settled, and who is back when."""

import pytest
from builders import A, B, MiB, added, died, info, killed, removed, reported

from dask_memdash.analysis.incidents.describe import describe
from dask_memdash.model.events import MemoryErrorRaised, SpillFailed, Ticked

T = 1_760_000_000.0
TEXT = "MemoryError('Unable to allocate 29.1 TiB')"


def feed(model, *events):
    for event in events:
        model.handle(event)


def raised(key="load-1", address=A, time=T + 5):
    return MemoryErrorRaised(time, address, info(key), TEXT)


def failed(key="load-1", address=A, time=T + 5, reason="disk-full", **more):
    values = {"size": 5 * MiB, "text": "No space left on device", **more}
    return SpillFailed(time, address, key, "load", reason, **values)


def kinds(model):
    return [incident.kind for incident in model.incidents]


# -- memory errors -------------------------------------------------------------


def test_a_memory_error_is_an_incident_with_its_task_and_the_workers_breakdown(model):
    feed(model, added(), reported(rss=400 * MiB), raised())
    (incident,) = model.incidents
    assert (incident.kind, incident.worker.address) == ("memory-error", A)
    assert [(t.key, t.prefix) for t in incident.tasks] == [("load-1", "load")]
    assert incident.breakdown.process == 400 * MiB
    assert (incident.detail, incident.limit) == (TEXT, 1000 * MiB)
    assert incident.settled(T + 5)
    assert describe(incident) == (
        "Task load-1 ran out of memory on worker 0: it asked for 29.1 TiB. The worker "
        "lives on; it used 400 MiB of 0.98 GiB (40 %)."
    )
    assert (incident.stage, incident.cluster_limit) == ("running", 1000 * MiB)


def test_stages_of_one_prefix_are_incidents_of_their_own(model):
    feed(model, added(A, 1), added(B, 2))
    for stage in ("running", "refused", "receiving"):
        feed(model, MemoryErrorRaised(T, A, info("load-1"), TEXT, stage))
    assert [i.stage for i in model.incidents] == ["receiving", "refused", "running"]
    assert {i.cluster_limit for i in model.incidents} == {2000 * MiB}


def test_equal_memory_errors_that_follow_each_other_are_one_incident(model):
    feed(model, added(), reported())
    feed(model, *(raised(f"load-{n}", time=T + 5 + n) for n in range(30)))
    (incident,) = model.incidents
    assert (incident.n_tasks, len(incident.tasks)) == (30, 20)
    assert (incident.time, incident.until) == (T + 5, T + 34)
    feed(model, raised("load-99", time=T + 45))
    assert kinds(model) == ["memory-error", "memory-error"], "after a rest"


def test_memory_errors_of_other_prefixes_and_workers_are_incidents_of_their_own(model):
    feed(model, added(A, 1), added(B, 2))
    feed(model, raised("load-1", A), raised("sum-1", A), raised("load-1", B))
    assert kinds(model) == ["memory-error"] * 3


def test_a_memory_error_of_a_worker_that_is_not_known_is_dropped(model):
    feed(model, raised())
    assert kinds(model) == []


# -- spilling ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reason", "says"),
    [
        ("max-spill", "as much is spilled as distributed.worker.memory.max-spill allo"),
        ("disk-full", "the disk is full (No space left on device)"),
        ("disk-error", "the disk cannot be written to"),
        ("unpicklable", "it cannot be pickled"),
    ],
)
def test_a_failure_to_spill_is_an_incident_with_its_key_and_reason(model, reason, says):
    feed(model, added(), reported(), failed(reason=reason))
    (incident,) = model.incidents
    assert (incident.kind, incident.detail) == (
        "spill-failed",
        f"{reason}: No space left on device",
    )
    assert [(t.key, t.prefix) for t in incident.tasks] == [("load-1", "load")]
    assert says in describe(incident)


def test_failures_for_the_same_reason_are_counted_in_one_incident(model):
    feed(model, added(), reported(), failed(), failed("load-2", time=T + 9, count=40))
    (incident,) = model.incidents
    assert incident.n_tasks == 41
    assert [t.key for t in incident.tasks] == ["load-1", "load-2"]
    feed(model, failed(reason="max-spill", time=T + 9))
    assert kinds(model) == ["spill-failed", "spill-failed"]


# -- settling ------------------------------------------------------------------


def test_a_death_is_settled_with_its_nannys_report(model):
    feed(model, added(nanny=True), reported(), removed(time=T + 10))
    (incident,) = model.incidents
    assert not model.incidents.settled(incident, T + 10)
    feed(model, died(time=T + 10.1))
    assert model.incidents.settled(incident, T + 10.1)


def test_a_death_whose_report_does_not_come_is_settled_after_a_while(model):
    feed(model, added(nanny=True), reported(), removed(time=T + 10), Ticked(T + 14))
    (incident,) = model.incidents
    assert not model.incidents.settled(incident, T + 14)
    assert model.incidents.settled(incident, T + 15.1)


def test_the_death_of_a_worker_without_a_nanny_is_settled_at_once(model):
    feed(model, added(nanny=False), reported(), removed(time=T + 10))
    (incident,) = model.incidents
    assert model.incidents.settled(incident, T + 10)


def test_a_killed_worker_waits_for_the_deaths_behind_it(model):
    feed(model, added(nanny=True), reported(), killed(time=T + 10), removed())
    given_up, death = model.incidents
    assert (given_up.kind, given_up.attempts) == ("killed-worker", (death.id,))
    assert not model.incidents.settled(given_up, T + 10)
    feed(model, died(time=T + 10.1))
    assert model.incidents.settled(given_up, T + 10.1)


# -- back again ----------------------------------------------------------------


def test_how_long_a_worker_was_away_is_told_by_the_next_one_of_the_same_nanny(model):
    home = "tcp://10.0.0.1:9"
    feed(model, added(A, 1, home=home), removed(time=T + 10))
    (incident,) = model.incidents
    assert incident.seconds_away is None
    feed(model, added(B, 2, time=T + 11, home="tcp://10.0.0.2:9"))
    assert incident.seconds_away is None
    feed(model, added(A, 3, time=T + 12.5, home=home))
    assert incident.seconds_away == 2.5
    feed(model, added(B, 4, time=T + 60, home=home))
    assert incident.seconds_away == 2.5, "who comes later changes nothing"


def test_a_worker_without_nanny_or_name_is_never_taken_for_another(model):
    feed(model, added(A, 1, home=""), removed(time=T + 10))
    feed(model, added(B, 2, time=T + 11, home=""))
    (incident,) = model.incidents
    assert incident.seconds_away is None


def test_what_a_death_costs_comes_with_the_removal(model):
    feed(model, added(), removed(keys_lost=3, bytes_lost=9, seconds_lost=1.5))
    (incident,) = model.incidents
    assert (incident.keys_lost, incident.bytes_lost) == (3, 9)
    assert incident.seconds_lost == 1.5
