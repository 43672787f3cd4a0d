"""What the store says of cluster, workers, prefixes and tasks adds up to the byte."""

import pytest
from builders import A, B, MiB, added, executing, reported
from hypothesis import settings
from hypothesis.stateful import invariant, run_state_machine_as_test
from test_model_cluster import Cluster, row

from dask_memdash.model.breakdown import PARTS
from dask_memdash.model.cluster import ClusterModel
from dask_memdash.store.all_rows import all_rows
from dask_memdash.store.live import LiveStore

SPILLED = ("spilled", "spilled_disk")


def processes_of(store):
    """Return the breakdown of each process that has one, and its workers' tasks."""
    found = {}
    for worker in store.workers():
        if worker["breakdown"]["process"] is not None:
            parts, tasks = found.setdefault(
                (worker["host"], worker["pid"]), (worker["breakdown"], [])
            )
            assert parts == worker["breakdown"], "workers of one process say the same"
            tasks.extend(worker["executing_tasks"])
    return list(found.values())


def total(rows, kind, name):
    return sum(row[kind][name] or 0 for row in rows)


def check_figures(store):
    """Check that cluster, processes, prefixes, rows of no task and tasks agree."""
    whole, found = store.cluster()["breakdown"], processes_of(store)
    if not found:
        assert whole["process"] in (None, 0)
        return
    assert sum(whole[part] for part in PARTS) == whole["process"]
    for name in ("process", *PARTS, *SPILLED):
        assert (whole[name] or 0) == sum(parts[name] or 0 for parts, _ in found), name
    prefixes, others = store.prefixes(), store.cluster()["others"]
    for name in ("managed", *SPILLED):
        assert total(prefixes, "storage", name) == (whole[name] or 0), name
    running = [task for _, tasks in found for task in tasks]
    by_prefix = total(prefixes, "execution", "executing")
    assert by_prefix == sum(task["bytes"] or 0 for task in running)
    for parts, tasks in found:
        assert sum(task["bytes"] or 0 for task in tasks) <= parts["executing"]
    of_no_task = dict.fromkeys((*PARTS, None), 0)
    for other in others:
        of_no_task[other["part"]] += other["bytes"] or 0
    assert by_prefix + of_no_task["executing"] == whole["executing"]
    for part in ("transfer", "actors", "retained", "graph", "baseline"):
        assert of_no_task[part] == whole[part], part
    rows = [row for row in all_rows(store) if row["kind"] == "task" or row["part"]]
    assert sum(row["bytes"] or 0 for row in rows) == whole["process"]
    totals = store.prefix_totals()
    assert totals["managed"] == whole["managed"]
    assert (totals["executing"] or 0) == by_prefix
    assert (totals["spilled"] or 0) == (whole["spilled"] or 0)


class Figures(Cluster):
    """A cluster in which everything happens at any time, read through its store."""

    @invariant()
    def figures_add_up(self):
        check_figures(LiveStore(self.model))


def test_figures_add_up_whatever_happens_in_whatever_order():
    quick = settings(max_examples=40, stateful_step_count=25)
    run_state_machine_as_test(Figures, settings=quick)


def told(*events):
    model = ClusterModel()
    for event in events:
        model.handle(event)
    return LiveStore(model)


@pytest.mark.parametrize(
    ("counted", "shown", "rest"),
    [((200, 100), [200, 100], 100), ((500, 300), [250, 150], 0), ((), [], 400)],
)
def test_what_no_task_counts_of_execution_is_a_row_of_its_own(counted, shown, rest):
    tasks = tuple(
        executing(f"sum-{n}", size * MiB, prefix="sum")
        for n, size in enumerate(counted)
    )
    reading = {"base": 100 * MiB, "busy": True, "live": 300 * MiB}
    store = told(added(), reported(rss=500 * MiB, reading=reading, executing=tasks))
    (worker,) = store.workers()
    assert worker["breakdown"]["executing"] == 400 * MiB
    assert [task["bytes"] // MiB for task in worker["executing_tasks"]] == shown
    others = {o["name"]: o["bytes"] for o in store.cluster()["others"]}
    assert others.get("not counted", 0) == rest * MiB
    check_figures(store)


def test_a_shared_process_adds_up_to_what_its_workers_hold_and_run():
    reading = {"base": 100 * MiB, "busy": True, "live": 150 * MiB, "spilled": 7}
    one = {"rows": {"x": row(30 * MiB)}, "executing": (executing("x-1", 80 * MiB),)}
    two = {"rows": {"y": row(20 * MiB)}, "executing": (executing("y-1", 70 * MiB),)}
    store = told(
        added(A, 7),
        added(B, 7),
        reported(A, 7, rss=300 * MiB, reading=reading, **one),
        reported(B, 7, rss=300 * MiB, reading=reading, **two),
    )
    assert store.cluster()["n_processes"] == 1
    assert store.cluster()["breakdown"]["managed"] == 50 * MiB
    check_figures(store)
