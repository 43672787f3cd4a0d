"""Deaths and KilledWorker: one incident each, whatever is heard first."""

import pytest
from builders import (
    A,
    B,
    MiB,
    added,
    died,
    executing,
    info,
    killed,
    removed,
    reported,
    row,
)

from dask_memdash.model.breakdown import Reading
from dask_memdash.model.cluster import ClusterModel
from dask_memdash.model.events import (
    GraphArrived,
    Ticked,
    WorkerClosing,
    WorkersRestarting,
)
from dask_memdash.model.incidents import Exit, StoredAtDeath, WorkerRef

T = 1_760_000_000.0
TASK = executing("sum-1", 300 * MiB, seconds=4.0)


def feed(model, *events):
    for event in events:
        model.handle(event)


def busy(address=A, pid=100, home="", **more):
    """Return the events of a worker that has reported a running task."""
    values = {"executing": (TASK,), "rows": {"open": row(90 * MiB)}, **more}
    return added(address, pid, home=home), reported(address, pid, **values)


def only(model):
    (incident,) = model.incidents
    return incident


def kinds(model):
    return [incident.kind for incident in model.incidents]


# -- what is heard first -------------------------------------------------------


def test_a_removal_and_then_the_report_are_one_incident(model):
    feed(model, *busy(), removed(time=T + 10))
    assert (only(model).kind, only(model).evidence) == ("lost", "heartbeat")
    feed(model, died(executing=(TASK,), signal=9, by="unknown"))
    incident = only(model)
    assert (incident.id, incident.kind, incident.time) == ("1", "killed", T + 10)
    assert incident.evidence == "flight-recorder"
    assert incident.exit == Exit(code=None, signal=9, by="unknown")
    assert incident.worker == WorkerRef(A, "0", "10.0.0.1", 100)


N = "tcp://10.0.0.1:900"


def from_nanny(pid=100, **more):
    """Return the report of a nanny that says who it is."""
    said = {"nanny": N, "name": "0", "host": "10.0.0.1", **more}
    return died(pid=pid, executing=(TASK,), **said)


@pytest.mark.parametrize("address", ["", B, A])
@pytest.mark.parametrize("order", [(0, 1), (1, 0), (0, 1, 1), (1, 0, 1), (1, 1, 0)])
def test_nanny_and_pid_say_whose_death_it_is_whatever_the_address(
    model, address, order
):
    # B lives: it has the address that the dead worker's predecessor had
    feed(model, added(A, 100, home=N), added(B, 77, home="tcp://10.0.0.1:901"))
    news = (removed(A), from_nanny(address=address))
    feed(model, *(news[n] for n in order))
    incident = only(model)
    assert (incident.kind, incident.evidence) == ("killed", "flight-recorder")
    assert incident.worker == WorkerRef(A, "0", "10.0.0.1", 100)
    assert [s.key for s in incident.suspects] == ["sum-1"]


def test_a_report_without_a_nanny_is_joined_by_address_and_pid(model):
    feed(model, added(A, 100, home=N), removed(A), died(executing=(TASK,)))
    assert only(model).evidence == "flight-recorder"


def test_two_workers_of_one_nanny_that_die_in_turn_are_two_incidents(model):
    for pid in (100, 101):
        feed(model, added(A, pid, home=N), removed(A), from_nanny(pid, address=A))
    assert [i.worker.pid for i in model.incidents] == [101, 100]
    assert {i.evidence for i in model.incidents} == {"flight-recorder"}


def test_a_worker_that_was_given_up_and_then_ended_died_once(model):
    feed(model, *busy(home=N), removed(A))
    feed(model, added(A, 100, home=N), removed(A, time=T + 20))
    feed(model, from_nanny(by="nanny", signal=15, address=A, time=T + 21))
    assert kinds(model) == ["terminated"]


def test_a_worker_that_died_before_it_was_known_is_an_incident(model):
    feed(model, from_nanny(address="", time=T + 5))
    incident = only(model)
    assert (incident.kind, incident.time) == ("killed", T + 5)
    assert incident.worker == WorkerRef("", "0", "10.0.0.1", 100)
    assert incident.settled(T + 5)
    feed(model, added(B, 101, home=N, time=T + 7))
    assert incident.back == T + 7


def test_a_worker_that_becomes_known_after_its_death_is_the_same(model):
    feed(model, from_nanny(address=""), added(A, 100, home=N), removed(A))
    assert only(model).worker == WorkerRef(A, "0", "10.0.0.1", 100)


def test_a_nanny_that_closes_before_a_worker_is_back_makes_no_second_incident(model):
    feed(model, added(A, 100, home=N), removed(A), from_nanny(address=A))
    feed(model, from_nanny(101, address="", asked=True, time=T + 30))
    incident = only(model)
    assert (incident.kind, incident.given_up) == ("killed", T + 30)
    assert incident.nanny_closed_after == T + 30 - incident.time


def test_a_report_and_then_the_removal_are_one_incident(model):
    feed(model, *busy(), died(executing=(TASK,), time=T + 9))
    assert (only(model).kind, only(model).evidence) == ("killed", "flight-recorder")
    lost = {"keys_lost": 3, "bytes_lost": 5}
    feed(model, removed(n_assigned=2, assigned=(info("sum-1"), info("x-1")), **lost))
    incident = only(model)
    assert (incident.kind, incident.time) == ("killed", T + 9)
    assert (incident.keys_lost, incident.bytes_lost) == (3, 5)
    assert (incident.n_innocent, [t.key for t in incident.innocent]) == (1, ["x-1"])


def test_what_was_stored_since_the_last_report_is_known_from_what_was_lost(model):
    rows = {"open": row(90 * MiB, spilled=10 * MiB), "sum": row(50 * MiB)}
    lost = {"open": (3, 130 * MiB), "sum": (1, 20 * MiB), "new": (2, 7 * MiB)}
    feed(model, *busy(rows=rows), removed(lost=lost))
    stored = {s.prefix: (s.managed, s.spilled, s.count) for s in only(model).storage}
    assert stored == {
        "open": (120 * MiB, 10 * MiB, 3),
        "sum": (50 * MiB, 0, 1),
        "new": (7 * MiB, 0, 2),
    }


def test_a_report_alone_is_an_incident(model):
    feed(model, *busy(), died(executing=(TASK,)))
    incident = only(model)
    assert [s.key for s in incident.suspects] == ["sum-1"]
    assert incident.worker == WorkerRef(A, "0", "10.0.0.1", 100)


def test_a_removal_alone_is_a_lost_worker_with_what_its_heartbeats_said(model):
    feed(model, *busy(), removed())
    incident = only(model)
    assert (incident.kind, incident.evidence, incident.exit) == (
        "lost",
        "heartbeat",
        None,
    )
    assert incident.breakdown.process == 400 * MiB
    assert [s.key for s in incident.suspects] == ["sum-1"]
    assert incident.timeline == ((T + 1, 400 * MiB),)


def test_a_worker_that_never_reported_leaves_the_schedulers_word_only(model):
    feed(model, added(), removed())
    incident = only(model)
    assert (incident.kind, incident.evidence) == ("lost", "scheduler")
    assert (incident.breakdown, incident.suspects, incident.timeline) == (None, (), ())


def test_a_report_that_comes_twice_is_one_incident(model):
    feed(model, *busy(), died(), died(time=T + 12), removed(), died(time=T + 13))
    assert kinds(model) == ["killed"]


def test_the_death_of_a_worker_that_was_never_known_is_an_incident(model):
    feed(model, died(B, 7, executing=(TASK,)), died(B, 7, executing=(TASK,)))
    incident = only(model)
    assert incident.kind == "killed"
    assert (incident.worker.address, incident.worker.pid) == (B, 7)
    assert [s.key for s in incident.suspects] == ["sum-1"]


def test_the_late_report_of_a_former_process_does_not_touch_its_successor(model):
    feed(model, *busy(A, 1), removed(A), added(A, 2, time=T + 11), died(A, 1))
    assert kinds(model) == ["killed"]
    assert A in model.processes.workers
    feed(model, died(A, 2, signal=11, time=T + 20))
    assert kinds(model) == ["crashed", "killed"]


def test_a_worker_that_returns_before_its_removal_was_told_loses_nothing(model):
    feed(model, *busy(A, 1), added(A, 2, time=T + 5), died(A, 1))
    assert kinds(model) == ["killed"]
    assert model.processes.workers[A].info.pid == 2


# -- asked to end --------------------------------------------------------------


def test_a_worker_that_was_asked_to_end_is_no_incident(model):
    feed(model, *busy(), died(asked=True), removed())
    assert kinds(model) == []


def test_a_report_that_it_was_asked_withdraws_the_incident(model):
    feed(model, *busy(), removed())
    assert kinds(model) == ["lost"]
    feed(model, died(asked=True))
    assert kinds(model) == []


def test_an_expected_removal_is_no_incident_and_neither_is_its_report(model):
    feed(model, *busy(), removed(expected=True), died(code=0, signal=None))
    assert kinds(model) == []


def test_restarted_workers_are_no_incidents(model):
    feed(
        model,
        *busy(A, 1),
        *busy(B, 2),
        WorkersRestarting(T + 5),
        killed(address=A),
        removed(A),
        removed(B),
        died(A, 1, signal=15),
        added(A, 3, time=T + 15),
    )
    assert kinds(model) == []
    feed(model, died(A, 3, time=T + 20))
    assert kinds(model) == ["killed"], "a restart is over when the worker is"


def test_a_worker_that_closes_in_good_order_is_no_incident(model):
    feed(
        model,
        *busy(),
        WorkerClosing(T + 9, A, "worker-lifetime-reached"),
        removed(),
        died(code=0, signal=None, closing=True),
    )
    assert kinds(model) == []


@pytest.mark.parametrize(
    "reason", ["worker-execute-fail-hard", "worker-heartbeat-error", "x-fail-hard"]
)
def test_a_worker_that_closes_because_it_failed_has_exited(model, reason):
    feed(model, *busy(), WorkerClosing(T + 9, A, reason), removed())
    incident = only(model)
    assert (incident.kind, incident.closing) == ("exited", reason)
    feed(model, died(code=1, signal=None, closing=True))
    assert only(model).kind == "exited"
    assert only(model).exit == Exit(code=1, signal=None, by="unknown")


def test_a_closing_workers_report_waits_for_the_removal_that_knows_why(model):
    feed(model, *busy(), died(code=0, signal=None, closing=True))
    assert kinds(model) == []
    feed(model, WorkerClosing(T + 11, A, "nanny-close"), removed(time=T + 12))
    assert kinds(model) == []


def test_a_restarting_workers_report_that_comes_first_is_no_incident(model):
    feed(model, *busy(), WorkersRestarting(T + 5), died(signal=15), removed())
    assert kinds(model) == []


def test_a_failed_workers_report_that_comes_first_is_not_lost(model):
    feed(
        model,
        *busy(executing=()),
        died(code=1, signal=None, closing=True, executing=(TASK,)),
        WorkerClosing(T + 11, A, "worker-execute-fail-hard"),
        removed(time=T + 12),
    )
    incident = only(model)
    assert (incident.kind, incident.evidence) == ("exited", "flight-recorder")
    assert [s.key for s in incident.suspects] == ["sum-1"]


# -- kinds and exits -----------------------------------------------------------


@pytest.mark.parametrize(
    ("report", "kind"),
    [
        ({"signal": 15, "by": "nanny"}, "terminated"),
        ({"signal": 9, "by": "nanny"}, "terminated"),
        ({"signal": 9, "by": "kernel"}, "oom-killed"),
        ({"signal": 9}, "killed"),
        ({"signal": 15}, "killed"),
        ({"signal": 11}, "crashed"),
        ({"signal": 6}, "crashed"),
        ({"signal": None, "code": 0}, "exited"),
        ({"signal": None, "code": 3}, "exited"),
        ({"signal": None, "code": None}, "lost"),
    ],
)
def test_the_kind_of_a_death_follows_from_how_the_process_ended(model, report, kind):
    feed(model, *busy(), died(**report))
    assert kinds(model) == [kind]


def test_a_report_brings_the_last_reading_and_the_last_minute(model):
    reading = Reading(T + 11, rss=900, managed_claimed=200, live=500, busy=True)
    samples = ((T + 9, 500), (T + 11, 900))
    feed(model, *busy(), died(reading=reading, samples=samples))
    incident = only(model)
    assert (incident.breakdown.process, incident.breakdown.managed) == (900, 200)
    assert incident.timeline == samples


def test_a_report_without_a_recorder_keeps_what_heartbeats_said(model):
    feed(model, *busy(), died(recorded=False, signal=9))
    incident = only(model)
    assert (incident.kind, incident.evidence) == ("killed", "heartbeat")
    assert [s.key for s in incident.suspects] == ["sum-1"]
    assert incident.breakdown.process == 400 * MiB


def test_an_incident_says_what_was_stored(model):
    rows = {"open": row(100, 50, keys=2), "sum": row(300, keys=1)}
    feed(model, *busy(rss=200, rows=rows), removed())
    assert only(model).storage == (
        StoredAtDeath("sum", 150, 0, 1),
        StoredAtDeath("open", 50, 50, 2),
    )


# -- suspects ------------------------------------------------------------------


def test_of_a_task_that_dies_over_and_over_the_last_attempts_are_named(model):
    for pid in range(1, 31):
        address = f"tcp://10.0.0.9:{pid}"
        feed(model, added(address, pid), died(address, pid, executing=(TASK,)))
    (suspect,) = next(iter(model.incidents)).suspects
    assert suspect.attempts == tuple(str(n) for n in range(10, 30))


def test_suspects_come_with_bytes_share_priority_and_order_position(model):
    feed(
        model,
        GraphArrived(T, "g", ("sum",), {"0.0,1.0": (1.0, 5.0, 9.0)}),
        *busy(executing=()),
        died(
            executing=(
                executing("open-1", 10 * MiB),
                executing("sum-1", 250 * MiB, seconds=3.5, thread=77),
                executing("async-1", None, thread=None),
            ),
            known=(info("sum-1"),),
        ),
    )
    largest, second, unmeasured = only(model).suspects
    assert (largest.key, largest.bytes, largest.share) == ("sum-1", 250 * MiB, 0.25)
    assert (largest.seconds, largest.thread) == (3.5, 77)
    assert largest.priority == (0.0, 1.0, 5.0)
    assert (largest.order_position, largest.order_total) == (2, 3)
    assert (second.key, second.priority, second.order_position) == (
        "open-1",
        None,
        None,
    )
    assert (unmeasured.bytes, unmeasured.share, unmeasured.method) == (
        None,
        None,
        "unmeasured",
    )


def test_the_removal_names_the_suspects_that_heartbeats_knew(model):
    feed(
        model,
        GraphArrived(T, "g", ("sum",), {"0.0,1.0": (1.0, 5.0, 9.0)}),
        *busy(),
        removed(n_assigned=1, assigned=(info("sum-1"),)),
    )
    (suspect,) = only(model).suspects
    assert suspect.priority == (0.0, 1.0, 5.0)
    assert (suspect.order_position, suspect.order_total) == (2, 3)


def test_the_report_still_names_suspects_that_the_removal_told_of(model):
    feed(
        model,
        *busy(),
        removed(n_assigned=1, assigned=(info("sum-1"),)),
        died(executing=(TASK,)),
    )
    assert only(model).suspects[0].priority == (0.0, 1.0, 5.0)


def test_a_worker_without_a_limit_has_no_shares(model):
    feed(model, added(limit=None), died(executing=(TASK,)))
    assert only(model).suspects[0].share is None


def test_assigned_tasks_that_were_not_running_are_innocent(model):
    assigned = tuple(info(f"x-{n}") for n in range(40))
    feed(
        model,
        *busy(),
        died(executing=(TASK,)),
        removed(n_assigned=300, assigned=(info("sum-1"), *assigned)),
    )
    incident = only(model)
    assert incident.n_innocent == 299
    assert [t.key for t in incident.innocent] == [f"x-{n}" for n in range(20)]


def test_suspects_name_the_earlier_deaths_at_which_they_were_running(model):
    other = executing("open-9")
    feed(
        model,
        *busy(A, 1),
        died(A, 1, executing=(TASK, other)),
        removed(A),
        *busy(B, 2),
        died(B, 2, executing=(TASK,), time=T + 20),
        removed(B, time=T + 20),
        added(A, 3, time=T + 21),
        died(A, 3, executing=(TASK, other), time=T + 30),
    )
    newest = next(iter(model.incidents))
    attempts = {s.key: s.attempts for s in newest.suspects}
    assert attempts == {"sum-1": ("1", "2"), "open-9": ("1",)}


# -- KilledWorker --------------------------------------------------------------


def lose(model, address, pid, time, keys=("sum-1",), **more):
    """Let a worker die to which some keys were assigned."""
    feed(
        model,
        added(address, pid, time=time - 5),
        reported(address, pid, time=time - 4),
        *(killed(key, address, time) for key in more.pop("given_up", ())),
        removed(
            address,
            time=time,
            n_assigned=len(keys),
            assigned=tuple(info(key) for key in keys),
            assigned_hashes=tuple(hash(key) for key in keys),
        ),
        died(address, pid, time=time + 1),
    )


def test_a_killed_worker_lists_the_deaths_behind_it(model):
    for n in range(3):
        lose(model, A, n + 1, T + 10 * n)
    lose(model, A, 9, T + 100, keys=("other-1",))
    lose(model, A, 10, T + 110, given_up=["sum-1"])
    assert kinds(model) == ["killed-worker", *["killed"] * 5]
    incident = next(iter(model.incidents))
    assert incident.attempts == ("1", "2", "3", "5")
    assert [t.key for t in incident.tasks] == ["sum-1"]
    assert incident.n_tasks == 1
    assert incident.exit == Exit(None, 9, "unknown")


def test_only_as_many_deaths_are_listed_as_the_scheduler_allowed(model):
    for n in range(6):
        lose(model, A, n + 1, T + 10 * n)
    feed(model, *busy(B, 50), killed(address=B, time=T + 100, allowed_failures=2))
    assert next(iter(model.incidents)).attempts == ("5", "6", "7")


def test_several_tasks_of_one_death_are_one_incident(model):
    keys = [f"sum-{n}" for n in range(30)]
    lose(model, A, 1, T + 10, keys=keys, given_up=keys)
    assert kinds(model) == ["killed-worker", "killed"]
    incident = next(iter(model.incidents))
    assert incident.n_tasks == 30
    assert [t.key for t in incident.tasks] == keys[:20]


def test_a_killed_worker_before_the_removal_allots_the_deaths_number(model):
    feed(model, *busy(), killed(time=T + 10))
    assert kinds(model) == ["killed-worker", "lost"]
    assert next(iter(model.incidents)).attempts == ("1",)
    reading = Reading(T + 11, rss=900, busy=True)
    feed(model, removed(), died(reading=reading, by="nanny", signal=15))
    assert kinds(model) == ["killed-worker", "terminated"]
    incident = next(iter(model.incidents))
    assert incident.evidence == "flight-recorder"
    assert incident.breakdown.process == 900


def test_a_killed_worker_after_the_nannys_report_joins_its_death(model):
    feed(model, *busy(), died(executing=(TASK,)), killed(time=T + 12), removed())
    assert kinds(model) == ["killed-worker", "killed"]
    assert next(iter(model.incidents)).evidence == "flight-recorder"


def test_a_withdrawn_death_is_no_attempt(model):
    feed(model, *busy(), killed(time=T + 10), removed(), died(asked=True))
    assert [i.attempts for i in model.incidents if i.kind == "killed-worker"] in (
        [],
        [()],
    )
    assert "lost" not in kinds(model)


# -- bounds --------------------------------------------------------------------


def test_the_oldest_incidents_go_first_and_numbers_are_never_used_twice():
    model = ClusterModel(incidents_keep=3)
    for n in range(5):
        lose(model, A, n + 1, T + 10 * n)
    assert [incident.id for incident in model.incidents] == ["5", "4", "3"]
    assert model.incidents.get("1") is None
    assert model.incidents.get(None) is None


def test_a_late_report_about_a_forgotten_incident_is_no_error():
    model = ClusterModel(incidents_keep=1)
    feed(model, *busy(A, 1), removed(A), *busy(B, 2), removed(B), died(A, 1))
    assert [incident.id for incident in model.incidents] == ["2"]
    feed(model, Ticked(T + 30))
