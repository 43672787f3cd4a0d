"""Order positions: a task's rank by priority within the graph that brought it."""

import pytest

from dask_memdash.model import graph_index
from dask_memdash.model.graph_index import GraphIndex


def test_a_task_is_ranked_within_its_graph():
    index = GraphIndex()
    index.add("g", ["sum", "open"], {(0.0, 1.0): [7.0, 3.0, 5.0, 9.0]})
    assert index.position("sum", (0.0, 1.0, 3.0)) == (1, 4)
    assert index.position("open", (0.0, 1.0, 9.0)) == (4, 4)


def test_ranks_run_on_over_several_heads_in_their_order():
    index = GraphIndex()
    index.add(
        "g",
        ["sum"],
        {(0.0, 2.0): [1.0, 2.0], (-1.0, 5.0): [8.0, 9.0, 10.0], (0.0, 1.0): [4.0]},
    )
    assert index.position("sum", (-1.0, 5.0, 10.0)) == (3, 6)
    assert index.position("sum", (0.0, 1.0, 4.0)) == (4, 6)
    assert index.position("sum", (0.0, 2.0, 1.0)) == (5, 6)
    assert index.position("sum", (0.0, 2.0, 2.0)) == (6, 6)


def test_the_newest_graph_that_knows_the_priority_ranks_the_task():
    index = GraphIndex()
    index.add("old", ["sum"], {(0.0, 1.0): [1.0, 2.0, 3.0]})
    index.add("new", ["sum"], {(0.0, 2.0): [1.0, 2.0]})
    assert index.position("sum", (0.0, 2.0, 2.0)) == (2, 2)
    assert index.position("sum", (0.0, 1.0, 3.0)) == (3, 3)


@pytest.mark.parametrize(
    ("group", "priority"),
    [
        ("other", (0.0, 1.0, 1.0)),
        ("sum", (0.0, 9.0, 1.0)),
        ("sum", (0.0, 1.0, 1.5)),
        ("sum", (0.0, 1.0, 99.0)),
        ("sum", ()),
        ("sum", None),
    ],
)
def test_what_is_not_in_a_graph_has_no_rank(group, priority):
    index = GraphIndex()
    index.add("g", ["sum"], {(0.0, 1.0): [1.0, 2.0]})
    assert index.position(group, priority) is None


def test_a_graph_of_one_task_has_no_ranks():
    index = GraphIndex()
    index.add("g", ["sum"], {(0.0, 1.0): [1.0]})
    assert index.position("sum", (0.0, 1.0, 1.0)) is None


def test_the_oldest_graphs_are_forgotten(monkeypatch):
    monkeypatch.setattr(graph_index, "MAX_GRAPHS", 2)
    index = GraphIndex()
    for n in range(4):
        index.add(f"g{n}", ["sum", f"own-{n}"], {(float(n),): [1.0, 2.0]})
    assert index.position("sum", (1.0, 1.0)) is None
    assert index.position("own-1", (1.0, 1.0)) is None
    assert index.position("sum", (2.0, 1.0)) == (1, 2)
    assert index.position("own-3", (3.0, 2.0)) == (2, 2)


def test_the_number_of_tasks_is_bounded_but_the_newest_graph_stays(monkeypatch):
    monkeypatch.setattr(graph_index, "MAX_TASKS", 5)
    index = GraphIndex()
    index.add("a", ["sum"], {(1.0,): [1.0, 2.0, 3.0]})
    index.add("b", ["sum"], {(2.0,): [1.0, 2.0, 3.0]})
    assert index.position("sum", (1.0, 1.0)) is None
    assert index.position("sum", (2.0, 3.0)) == (3, 3)
    index.add("c", ["sum"], {(3.0,): [float(n) for n in range(9)]})
    assert index.position("sum", (3.0, 8.0)) == (9, 9)
    assert index.position("sum", (2.0, 3.0)) is None
