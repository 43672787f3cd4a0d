"""What the model keeps of graphs as they run."""

from array import array

import pytest
from order_graphs import CHAINS, T, arrived, moves

from dask_memdash.model import order_log
from dask_memdash.model.events import GraphArrived, GraphChecked, OutputsMoved
from dask_memdash.model.graph_columns import GraphColumns, RootGroup
from dask_memdash.model.order_log import OrderLog
from dask_memdash.model.room import Room

#: What the workers have room for.
ROOM = Room(processes=1, storage=1000, task=500, unknown="")

ROOT = RootGroup("load", 2, 8, False, False, 1.1, 0, 0)


@pytest.fixture
def log():
    return OrderLog()


def add(log, event, threads=4, room=ROOM):
    log.add(event, threads, room)
    return log.graphs[event.graph]


def move(log, *pairs, time=T + 1, threads=4, room=ROOM):
    log.move(OutputsMoved(time, moves(*pairs)), threads, room)


def spans(record):
    """Return for each key when it was stored and left."""
    return dict(
        zip(
            CHAINS,
            zip(record.tasks.stored_at, record.tasks.left_at, strict=True),
            strict=True,
        )
    )


def test_a_graph_arrives_with_nothing_done(log):
    graph = add(log, arrived())
    assert (graph.name, graph.total, graph.done) == ("join", 5, 0)
    assert (graph.threads, graph.capacity) == (4, 1000)
    assert graph.prefixes == ("load", "cut", "join")
    assert (graph.finished, graph.settled, graph.uncovered) == (False, False, "")


def test_outputs_come_and_go_with_the_number_of_finished_tasks(log):
    graph = add(log, arrived())
    move(log, ("load-1", 10), ("load-2", 20), ("cut-1", 2), ("load-1", -1))
    assert graph.done == 3
    assert spans(graph) == {
        "load-1": (1, 3),
        "cut-1": (3, 0),
        "load-2": (2, 0),
        "cut-2": (0, 0),
        "join-1": (0, 0),
    }
    assert (graph.held, graph.peak, graph.held_by) == (22, 32, [20, 2, 0])


def test_a_graph_is_finished_when_all_has_run_and_settled_when_all_has_left(log):
    graph = add(log, arrived())
    move(log, *((key, 1) for key in CHAINS))
    assert (graph.finished, graph.settled) == (True, False)
    move(log, *((key, -1) for key in CHAINS), threads=9)
    assert (graph.settled, graph.held, graph.threads) == (True, 0, 4)
    move(log, ("load-1", 7))  # another graph's, with the same key
    assert (graph.held, spans(graph)["load-1"]) == (0, (1, 5))


def test_a_key_that_is_computed_again_counts_once(log):
    graph = add(log, arrived())
    move(log, ("load-1", 10), ("load-2", 20), ("load-1", -1), ("load-1", 12))
    assert (graph.done, graph.held) == (2, 32)
    assert spans(graph)["load-1"] == (1, 0)


def test_an_output_that_is_stored_twice_is_held_once(log):
    graph = add(log, arrived())
    move(log, ("load-1", 10), ("load-1", 10), ("load-1", -1), ("load-1", -1))
    assert (graph.done, graph.held, graph.peak) == (1, 0, 10)


def test_what_was_there_before_does_not_count_as_finished(log):
    graph = add(log, arrived(given=("load-1",), moved=[("load-1", 10)]))
    assert (graph.total, graph.done, graph.held) == (4, 0, 10)
    move(log, ("cut-1", 2), ("load-1", -1))
    assert (graph.done, graph.held) == (1, 2)
    assert spans(graph)["load-1"] == (0, 1)


def test_what_leads_only_to_what_is_there_is_not_to_run(log):
    graph = add(log, arrived(given=("cut-1",), moved=[("cut-1", 2)]))
    assert graph.total == 3  # neither cut-1 nor load-1


def test_moves_since_the_arrival_come_with_the_graph(log):
    graph = add(log, arrived(moved=[("load-1", 10), ("cut-1", 2), ("load-1", -1)]))
    assert (graph.done, graph.held) == (2, 2)
    assert graph.done_at(T) == 2


def test_the_cluster_is_taken_at_its_strongest_while_a_graph_runs(log):
    graph = add(log, arrived())
    move(log, ("load-1", 10), threads=8, room=Room(2, 2000, 1000))
    move(log, ("load-2", 10), threads=6, room=Room())
    assert (graph.threads, graph.capacity) == (8, 2000)


def test_keys_of_other_graphs_are_ignored(log):
    graph = add(log, arrived())
    move(log, ("stranger-1", 10), ("stranger-1", -1))
    assert (graph.done, graph.held, graph.version) == (0, 0, 0)


def test_a_key_that_two_graphs_share_counts_in_both(log):
    first = add(log, arrived(name="a"))
    second = add(log, arrived({"load-1": ((), 10), "end-1": (("load-1",), 1)}, "b"))
    move(log, ("load-1", 10))
    assert (first.done, second.done) == (1, 1)


def test_moves_that_one_graph_missed_are_not_the_others(log):
    first, second = add(log, arrived(name="a")), add(log, arrived(name="b"))
    log.move(OutputsMoved(T, moves(("load-1", 10)), "b"), 4, 1000)
    assert (first.done, second.done) == (0, 1)


def test_progress_tells_how_far_a_graph_was_at_a_time(log):
    graph = add(log, arrived())
    move(log, ("load-1", 10), time=T + 1)
    move(log, ("load-2", 10), ("cut-1", 10), time=T + 2)
    move(log, time=T + 3)
    assert [graph.done_at(T + s) for s in (-1, 0, 1, 1.5, 2, 99)] == [
        None,
        *(0, 1, 1, 3, 3),
    ]


def test_progress_is_bounded(log, monkeypatch):
    monkeypatch.setattr(order_log, "MAX_PROGRESS", 10)
    graph = add(log, arrived({f"load-{n}": ((), 1) for n in range(200)}))
    for n in range(200):
        move(log, (f"load-{n}", 1), time=T + n)
    assert len(graph.progress) <= 10
    assert graph.progress[0] == (T, 0)
    assert graph.progress[-1] == (T + 199, 200)


def test_a_graph_that_the_scheduler_forgot_has_ended(log):
    graph = add(log, arrived())
    log.check(GraphChecked(T + 5, "g", (ROOT,), ended=False))
    assert (graph.ended, graph.roots) == (None, (ROOT,))
    log.check(GraphChecked(T + 6, "g", (), ended=True))
    assert (graph.ended, graph.finished, graph.roots) == (T + 6, True, (ROOT,))
    move(log, ("load-1", 10))
    assert graph.done == 0
    log.check(GraphChecked(T + 7, "never heard of", (), ended=True))


# -- bounds --------------------------------------------------------------------


def test_a_graph_that_only_its_priorities_are_known_of_is_not_covered(log):
    event = GraphArrived(T, "g", ("sum",), {"0.0": (1.0, 2.0)})
    assert add(log, event).total == 2
    assert log.graphs["g"].uncovered == "Only the priorities of its tasks are known."


def test_a_graph_that_is_too_large_is_named_as_not_covered(log, monkeypatch):
    monkeypatch.setattr(order_log, "MAX_TASKS", 4)
    graph = add(log, arrived())
    assert graph.tasks is None
    assert graph.uncovered == "It has 5 tasks; graphs of more than 4 are left out."


def test_a_graph_that_does_not_fit_beside_others_is_named_so(log, monkeypatch):
    monkeypatch.setattr(order_log, "MAX_ALL_TASKS", 9)
    add(log, arrived(name="a"))
    assert add(log, arrived(name="b")).uncovered == (
        "5 tasks of other graphs are followed, and no more fit."
    )


def test_a_large_graph_with_too_many_dependencies_is_named_so(log, monkeypatch):
    monkeypatch.setattr(order_log, "FREE", 0)
    graph = {f"load-{n}": ((), 1) for n in range(100)}
    graph["sum-1"] = (tuple(graph), 1)
    assert add(log, arrived(graph, wanted=("sum-1",))).uncovered == ""
    graph |= {f"all-{n}": (tuple(f"load-{i}" for i in range(100)), 1) for n in range(9)}
    said = add(log, arrived(graph, name="h", wanted=("sum-1",))).uncovered
    assert said.startswith(
        "Its tasks have 9.1 dependencies each, which would take 67 b"
    )


def test_the_cost_of_a_task_is_counted_all_in(log):
    graph = add(log, arrived({f"load-{n}": ((), 1) for n in range(1000)}))
    # hash 8, rank 4, prefix 2, offset 4, flags 1, size 4, stored and left 8
    assert graph.tasks.nbytes == 1000 * 31 + 4
    assert log.nbytes == graph.tasks.nbytes


def test_graphs_are_listed_in_bounds(log, monkeypatch):
    monkeypatch.setattr(order_log, "MAX_GRAPHS", 3)
    for number in range(5):
        add(log, arrived(name=f"g{number}"))
    assert list(log.graphs) == ["g2", "g3", "g4"]


def test_only_the_newest_graphs_are_followed(log, monkeypatch):
    monkeypatch.setattr(order_log, "MAX_FOLLOWED", 2)
    graphs = [add(log, arrived(name=f"g{number}")) for number in range(3)]
    move(log, ("load-1", 10))
    assert [graph.done for graph in graphs] == [0, 1, 1]
    assert graphs[0].uncovered.startswith("It is no longer followed")


def test_finished_graphs_give_their_tasks_up_for_newer_ones(log, monkeypatch):
    monkeypatch.setattr(order_log, "FINISHED_BYTES", 200)
    graphs = []
    for number in range(3):
        graphs.append(add(log, arrived(name=f"g{number}", time=T + number)))
        move(log, *((key, 1) for key in CHAINS))
        move(log, *((key, -1) for key in CHAINS))
    assert [graph.tasks is None for graph in graphs] == [True, True, False]
    assert graphs[0].uncovered.startswith("It finished long ago")
    assert graphs[0].done == 5


def test_priorities_are_given_back_by_head():
    columns = GraphColumns(
        hashes=b"",
        ranks=b"",
        prefixes=(),
        prefix=b"",
        offsets=b"",
        dependencies=b"",
        flags=b"\x00\x01\x02\x03",
        heads={"-1.0,2.0": 1, "0.0,1.0": 3},
        orders=array("d", [7.0, 1.0, 2.0, 9.0]).tobytes(),
    )
    assert columns.priorities() == {
        (-1.0, 2.0): array("d", [7.0]),
        (0.0, 1.0): array("d", [1.0, 2.0, 9.0]),
    }
    assert columns.n_given == 2
