"""Failures: which incidents are one, when it is over, and what it has cost."""

import random
from dataclasses import replace

import pytest
from builders import A, B, C, MiB, added, died, executing, info, killed, removed

from dask_memdash.model import failures as failures_module
from dask_memdash.model.breakdown import Reading
from dask_memdash.model.cluster import ClusterModel
from dask_memdash.model.event_parts import Held, TaskInfo
from dask_memdash.model.events import (
    FailureChecked,
    GraphArrived,
    GraphChecked,
    MemoryErrorRaised,
    SpillFailed,
    Ticked,
    WorkerLeaving,
)
from dask_memdash.model.failure_parts import Loss

T = 1_760_000_000.0

#: Two graphs of some tasks each; they share no group and no priority.
LOAD = GraphArrived(T, "graph-1", ("load",), {"0.0,1.0": (1.0, 2.0, 3.0)})
REGRID = GraphArrived(T, "graph-2", ("regrid",), {"0.0,2.0": (1.0, 2.0, 3.0)})


@pytest.fixture
def model():
    model = ClusterModel()
    feed(model, LOAD, REGRID)
    return model


def feed(model, *events):
    for event in events:
        model.handle(event)


def load(number=1):
    return info(f"load-{number}", (0.0, 1.0, float(number)))


def regrid(number=1):
    return info(f"regrid-{number}", (0.0, 2.0, float(number)))


def submit(key, client="me", dependencies=()):
    """Return a task that is no graph's: the priority is nobody else's."""
    name = key.partition("-")[0]
    return TaskInfo(
        key,
        name,
        name,
        (0.0, 9.0, 9.0),
        client=client,
        dependencies=dependencies,
    )


def death(task, address=A, pid=100, time=T + 10, name="0", size=300 * MiB, **lost):
    """Return the events of a worker that comes, runs a task and dies."""
    tasks = (task,) if isinstance(task, TaskInfo) else task
    ran = (executing(tasks[0].key, size),) if tasks else ()
    return (
        added(address, pid, time - 1, name=name),
        removed(address, time, n_assigned=len(tasks), assigned=tasks, **lost),
        died(address, pid, time + 0.1, executing=ran, by="nanny"),
    )


def only(model):
    (failure,) = model.failures
    return failure


def shapes(model):
    """Return graph and incidents of every failure, oldest first."""
    return [(f.graph, list(f.members)) for f in reversed(list(model.failures))]


# -- which incidents are one ---------------------------------------------------


def test_all_deaths_of_one_graph_are_one_failure(model):
    feed(model, *death(load(1)), *death(load(2), B, 7, T + 12, "1"))
    feed(model, *death(load(3), C, 8, T + 40))
    failure = only(model)
    assert (failure.id, failure.graph, failure.kind) == ("1", "graph-1", "terminated")
    assert (failure.count, failure.deaths, failure.workers) == (3, 3, {"0", "1"})
    assert (failure.opened, failure.last, failure.closed) == (T + 10, T + 40, None)
    assert [model.failures.of(i.id).id for i in model.incidents] == ["1", "1", "1"]


def test_graphs_that_fail_at_the_same_time_are_a_failure_each(model):
    feed(model, *death(load(1)), *death(regrid(1), B, 7, T + 11))
    feed(model, *death(load(2), C, 8, T + 12), *death(regrid(2), A, 9, T + 13))
    assert shapes(model) == [("graph-1", ["1", "3"]), ("graph-2", ["2", "4"])]


def stored(prefix, size=300 * MiB):
    """Return what the scheduler says of a worker's outputs as it is removed."""
    held = Held(pinned=size, awaited=0, awaited_by={}, because={"pinned": size}, keys=3)
    return WorkerLeaving(T + 9, A, {prefix: held})


def finish(model, graph):
    """Let all tasks of a graph have finished at T + 5."""
    record = model.orders.graphs[graph]
    record.done = record.total
    record.progress.append((T + 5, record.total))


def test_a_graph_of_which_lost_outputs_are_made_again_is_of_the_failure_that_lost_them(
    model,
):
    finish(model, "graph-1")
    model.orders.graphs["graph-1"].prefixes = ("load",)
    came, *gone = death(regrid(1))
    feed(model, came, stored("load"), *gone)
    feed(model, *death(load(2), B, 7, T + 12, "1"))
    feed(model, *death(regrid(2), C, 8, T + 14, "2"))
    assert shapes(model) == [("graph-2", ["1", "2", "3"])]


def test_a_graph_that_had_not_finished_fails_for_itself_whatever_another_lost(model):
    model.orders.graphs["graph-1"].prefixes = ("load",)
    came, *gone = death(regrid(1))
    feed(model, came, stored("load"), *gone)
    feed(model, *death(load(2), B, 7, T + 12, "1"))
    assert shapes(model) == [("graph-2", ["1"]), ("graph-1", ["2"])]


def test_the_largest_task_that_ran_says_which_graph_it_was(model):
    ran = (executing("regrid-1", 400 * MiB), executing("load-1", 10 * MiB))
    feed(model, added(), removed(assigned=(load(), regrid())), died(executing=ran))
    assert only(model).graph == "graph-2"


def test_a_task_that_dies_twice_is_one_failure_where_nobody_counted_whose_it_was(model):
    """A submit takes native memory beside a graph's small tasks, and then alone."""
    native = submit("native-1")
    full = Reading(T + 10, 900 * MiB, base=100 * MiB, busy=True)
    both = (executing("load-1", 10 * MiB), executing("native-1", 0))
    feed(model, added(), removed(assigned=(load(), native)))
    feed(model, died(executing=both, reading=full, by="nanny"))
    feed(model, added(B, 7, T + 12), removed(B, T + 20, assigned=(native,)))
    feed(model, died(B, 7, T + 21, executing=both[1:], reading=full, by="nanny"))
    assert list(only(model).members) == ["1", "2"]


def test_a_task_that_dies_twice_beside_others_to_blame_joins_no_failures(model):
    small = executing("note-1", 1 * MiB)
    for n, one in enumerate((load(), regrid())):
        full = Reading(T + 10, 900 * MiB, base=100 * MiB, live=790 * MiB, busy=True)
        ran = (executing(one.key, 790 * MiB), small)
        feed(model, added(A, n, T + n), removed(A, T + n + 5, assigned=(one,)))
        feed(model, died(A, n, T + n + 6, executing=ran, reading=full, by="nanny"))
    assert len(model.failures) == 2


def test_tasks_that_were_assigned_say_it_where_none_is_known_to_have_run(model):
    feed(model, added(), removed(assigned=(regrid(1), load(1), load(2))))
    assert only(model).graph == "graph-1"


def test_a_first_guess_is_corrected_by_the_report(model):
    feed(model, *death(load(1)))
    feed(model, added(B, 7), removed(B, T + 11, assigned=(load(2), regrid(1))))
    assert shapes(model) == [("graph-1", ["1", "2"])]
    feed(model, died(B, 7, T + 12, executing=(executing("regrid-1", MiB),)))
    assert shapes(model) == [("graph-1", ["1"]), ("graph-2", ["2"])]


def test_a_correction_keeps_the_id_where_the_failure_has_no_other_incident(model):
    feed(model, added(), removed(assigned=(load(2), regrid(1))))
    assert only(model).graph == "graph-1"
    feed(model, died(executing=(executing("regrid-1", MiB),)))
    assert (only(model).id, only(model).graph) == ("1", "graph-2")


def test_a_task_that_is_given_up_belongs_to_the_death_that_it_was_given_up_for(model):
    """The task itself is of another graph: it was merely assigned, four times."""
    feed(model, added())
    model.handle(replace(killed("regrid-1", time=T + 10), task=regrid(1)))
    feed(model, removed(assigned=(load(1), regrid(1))))
    feed(model, died(executing=(executing("load-1", 300 * MiB),), by="nanny"))
    failure = only(model)
    assert (failure.graph, failure.kind) == ("graph-1", "killed-worker")
    assert (failure.count, failure.deaths, failure.killed) == (2, 1, ["2"])


def test_submits_of_one_prefix_are_one_failure(model):
    feed(model, *death(submit("hog-1")), *death(submit("hog-2"), B, 7, T + 12))
    assert shapes(model) == [(None, ["1", "2"])]


def test_submits_of_two_prefixes_that_share_nothing_are_two(model):
    feed(model, *death(submit("hog-1")), *death(submit("cat-2"), B, 7, T + 12))
    assert shapes(model) == [(None, ["1"]), (None, ["2"])]


def test_submits_of_two_clients_are_two(model):
    mine, yours = submit("hog-1", "me"), submit("hog-2", "you")
    feed(model, *death(mine), *death(yours, B, 7, T + 12))
    assert shapes(model) == [(None, ["1"]), (None, ["2"])]


def test_submits_that_need_the_same_key_are_one_failure(model):
    table = hash("table-1")
    one, two = submit("hog-1", "me", (table,)), submit("cat-1", "me", (table,))
    feed(model, *death(one), *death(two, B, 7, T + 12))
    assert shapes(model) == [(None, ["1", "2"])]


def test_a_submit_that_needs_another_is_of_its_failure(model):
    one, two = submit("hog-1"), submit("cat-1", "me", (hash("hog-1"),))
    feed(model, *death(one), *death(two, B, 7, T + 12))
    assert shapes(model) == [(None, ["1", "2"])]


def test_failures_that_turn_out_to_share_a_key_become_one_known_by_both_ids(model):
    one, two = submit("hog-1"), submit("cat-1")
    feed(model, *death(one), *death(two, B, 7, T + 12))
    both = submit("cat-2", "me", (hash("hog-1"),))
    feed(model, *death(both, C, 8, T + 13))
    assert shapes(model) == [(None, ["1", "2", "3"])]
    assert model.failures.get("2") is model.failures.get("1") is only(model)


def test_single_submits_that_came_together_are_no_graph(model):
    several = GraphArrived(
        T, "graph-3", ("hog", "cat"), {"0.0,9.0": (1.0, 2.0)}, submits=True
    )
    hog = TaskInfo("hog-1", "hog", "hog", (0.0, 9.0, 1.0), client="me")
    cat = TaskInfo("cat-1", "cat", "cat", (0.0, 9.0, 2.0), client="me")
    feed(model, several, *death(hog), *death(cat, B, 7, T + 12))
    assert shapes(model) == [(None, ["1"]), (None, ["2"])]


def test_a_graph_that_becomes_known_late_keeps_the_failure_of_its_prefix():
    """Large graphs are copied in slices; a worker may die before that is done."""
    model = ClusterModel()
    feed(model, *death(load(1)), LOAD, *death(load(2), B, 7, T + 12))
    assert shapes(model) == [("graph-1", ["1", "2"])]


def test_a_memory_error_is_of_its_tasks_graph(model):
    feed(model, *death(load(1)), added(B, 7, name="1"))
    feed(model, MemoryErrorRaised(T + 11, B, load(2), "MemoryError()"))
    feed(model, MemoryErrorRaised(T + 12, B, regrid(2), "MemoryError()"))
    assert shapes(model) == [("graph-1", ["1", "2"]), ("graph-2", ["3"])]
    assert model.failures.get("2").kind == "memory-error"


def test_an_output_that_cannot_be_spilled_joins_by_its_prefix(model):
    feed(model, *death(submit("hog-1")), added(B, 7, name="1"))
    feed(model, SpillFailed(T + 11, B, "hog-7", "hog", "disk-full", None, ""))
    assert shapes(model) == [(None, ["1", "2"])]


def test_workers_that_die_idle_are_one_failure_without_a_graph(model):
    feed(model, *death(()), *death((), B, 7, T + 11, "1"))
    failure = only(model)
    assert (failure.graph, failure.deaths, failure.workers) == (None, 2, {"0", "1"})


# -- incidents that are none ---------------------------------------------------


def test_a_death_that_was_asked_for_leaves_its_failure(model):
    feed(model, *death(load(1)), added(B, 7, name="1"))
    feed(model, removed(B, T + 12, assigned=(load(2),)))
    assert (only(model).count, only(model).workers) == (2, {"0", "1"})
    feed(model, died(B, 7, T + 13, asked=True))
    assert (only(model).count, only(model).workers) == (1, {"0"})


def test_a_failure_without_incidents_vanishes_with_what_was_given_up(model):
    feed(model, added(), replace(killed("load-1"), task=load(1)), removed())
    assert only(model).count == 2
    feed(model, died(asked=True))
    assert list(model.failures) == []
    assert model.failures.get("1") is None


# -- when it is over -----------------------------------------------------------


def test_a_failure_without_a_graph_is_closed_a_minute_after_its_last_incident(model):
    feed(model, *death(submit("hog-1")), *death(submit("hog-2"), B, 7, T + 50))
    feed(model, Ticked(T + 109))
    assert only(model).closed is None
    feed(model, Ticked(T + 110))
    assert only(model).closed == T + 110


@pytest.mark.parametrize("seconds", [61, 600, 86_400])
def test_deaths_of_one_graph_are_one_failure_whatever_the_time_between(model, seconds):
    feed(model, *death(load(1)), *ticks(10, seconds))
    assert only(model).closed is None
    feed(model, *death(load(2), B, 7, T + 10 + seconds))
    assert (len(model.failures), only(model).count, only(model).closed) == (1, 2, None)
    feed(model, GraphChecked(T + 11 + seconds, "graph-1", (), ended=True))
    feed(model, Ticked(T + 16 + seconds))
    assert only(model).closed == T + 16 + seconds


def test_a_graph_of_which_dask_gave_a_task_up_is_not_waited_for(model):
    feed(model, *given_up(load(1)), Ticked(T + 70))
    assert only(model).closed == T + 70


def test_a_graph_that_has_all_its_outputs_is_not_waited_for(model):
    feed(model, *death(load(1)))
    model.orders.graphs["graph-1"].done = 3
    feed(model, Ticked(T + 70))
    assert only(model).closed == T + 70


@pytest.mark.parametrize("seconds", [61, 600, 86_400])
def test_a_submit_that_runs_again_dies_in_the_same_failure(model, seconds):
    task = submit("hog-1")
    feed(model, *death(task))
    assert model.failures.look_for() == {"1": ["hog-1"]}
    feed(model, FailureChecked(T + 12, "1", True), *ticks(10, seconds))
    assert only(model).closed is None
    feed(model, *death(task, B, 7, T + 10 + seconds))
    assert (len(model.failures), only(model).count) == (1, 2)
    feed(model, FailureChecked(T + 80 + seconds, "1", False))
    feed(model, Ticked(T + 81 + seconds))
    assert only(model).closed == T + 81 + seconds
    assert model.failures.look_for() == {}


def test_nobody_looks_for_tasks_that_dask_gave_up_or_whose_graph_is_known(model):
    feed(model, *given_up(submit("hog-1")))
    feed(model, *death(load(1), B, 7, T + 12))
    assert len(model.failures) == 2
    assert model.failures.look_for() == {}


def test_a_look_at_a_failure_that_is_gone_changes_nothing(model):
    feed(model, FailureChecked(T, "7", True))
    assert len(model.failures) == 0


@pytest.mark.parametrize("seed", range(20))
def test_graphs_that_live_are_one_failure_each_however_their_deaths_are_spread(seed):
    model, chance = ClusterModel(), random.Random(seed)
    feed(model, LOAD, REGRID)
    moment, pid, seen = T + 10, 1, set()
    for _ in range(12):
        moment += chance.choice([1, 30, 61, 3_000, 100_000])
        which, pid = chance.choice([load, regrid]), pid + 1
        number = chance.randint(1, 3)
        name = chance.choice("01")
        feed(model, *death(which(number), A, pid, moment, name), Ticked(moment + 0.9))
        seen.add(which)
        assert len(model.failures) == len(seen)
        assert all(failure.closed is None for failure in model.failures)
    assert sum(failure.deaths for failure in model.failures) == 12
    for graph in ("graph-1", "graph-2"):
        feed(model, GraphChecked(moment + 1, graph, (), ended=True))
    feed(model, Ticked(moment + 6))
    assert all(failure.closed == moment + 6 for failure in model.failures)


def given_up(task, time=T + 10):
    """Return the events of a death for which Dask gives a task up."""
    come, *rest = death(task, time=time)
    return (come, replace(killed(task.key, time=time), task=task), *rest)


def ticks(start, seconds):
    """Return the ticks of so many seconds, not each of them."""
    return [Ticked(T + start + n * seconds / 7) for n in range(1, 7)]


def test_a_failure_is_closed_soon_after_its_graph_has_left(model):
    feed(model, *death(load(1)), GraphChecked(T + 12, "graph-1", (), ended=True))
    feed(model, Ticked(T + 14))
    assert only(model).closed is None
    feed(model, Ticked(T + 15))
    assert only(model).closed == T + 15


def test_a_graph_that_fails_again_later_opens_its_failure_again(model):
    feed(model, *given_up(load(1)), Ticked(T + 71))
    assert only(model).closed == T + 71
    feed(model, *death(load(2), B, 7, T + 500))
    assert (only(model).closed, only(model).count) == (None, 3)


def test_submits_that_fail_again_after_a_minute_are_another_failure(model):
    feed(model, *death(submit("hog-1")), Ticked(T + 70))
    feed(model, *death(submit("hog-2"), B, 7, T + 71))
    assert shapes(model) == [(None, ["1"]), (None, ["2"])]


def test_a_report_that_comes_late_changes_nothing_of_a_closed_failure(model):
    loading, regridding = load(1), regrid(1)
    gone = replace(killed(loading.key, time=T + 10), task=loading)
    feed(model, added(), gone, removed(assigned=(loading, regridding)), Ticked(T + 80))
    feed(model, died(time=T + 81, executing=(executing("regrid-1", MiB),)))
    assert (only(model).closed, only(model).count) == (T + 80, 2)


# -- what it has cost ----------------------------------------------------------


def test_losses_are_summed_where_they_are_known(model):
    lost = {"keys_lost": 3, "bytes_lost": 5 * MiB, "seconds_lost": 1.5}
    feed(model, *death(load(1), **lost))
    more = {"keys_lost": 2, "bytes_lost": None, "seconds_lost": 0.5}
    feed(model, *death(load(2), B, 7, T + 12, **more))
    stored = {"keys_stored": 2, "bytes_stored": MiB}
    feed(model, *death(load(3), C, 9, T + 14, **stored))
    assert only(model).loss == Loss(5, 5 * MiB, 2.0, 2, MiB)


def test_what_is_not_known_of_any_incident_is_not_known():
    model = ClusterModel()
    feed(model, added(), MemoryErrorRaised(T + 11, A, load(2), "MemoryError()"))
    assert only(model).loss == Loss(keys=None, bytes=None, seconds=None)


# -- bounds --------------------------------------------------------------------


def test_a_failure_lists_its_newest_incidents_and_counts_them_all(model, monkeypatch):
    monkeypatch.setattr(failures_module, "MAX_LISTED", 3)
    for n in range(5):
        feed(model, *death(load(1), A, 10 + n, T + 10 + n, f"w{n}", keys_lost=n))
    failure = only(model)
    assert list(failure.members) == ["3", "4", "5"]
    assert (failure.count, failure.deaths, len(failure.workers)) == (5, 5, 5)
    assert failure.loss.keys == 0 + 1 + 2 + 3 + 4


def test_only_the_newest_failures_are_kept(model, monkeypatch):
    monkeypatch.setattr(failures_module, "MAX_FAILURES", 2)
    for n, name in enumerate(("hog", "cat", "dog")):
        feed(model, *death(submit(f"{name}-1"), A, 10 + n, T + 10 + n))
    assert [failure.id for failure in model.failures] == ["3", "2"]
    assert model.failures.of("1") is None
