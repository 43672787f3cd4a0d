"""What arguments, closures and records of tasks weigh on a worker."""

from __future__ import annotations

import operator
import pickle
import time

import cloudpickle
import numpy as np
import pytest
from dask._task_spec import DataNode, List, Task, TaskRef

from dask_memdash.model.event_parts import GraphRow
from dask_memdash.plugins.worker.graph_bytes import (
    RECORD,
    GraphBytes,
    SentTasks,
    has_data,
)

MB = 1_000_000


def sent(spec):
    """Make a task's run_spec as it arrives on a worker."""
    return pickle.loads(cloudpickle.dumps(spec))


def weighed(specs):
    graph = GraphBytes(specs.get)
    for key in specs:
        graph.arrived(key)
    assert graph.weigh(time.perf_counter, 10.0)
    return graph


def test_every_argument_counts_and_every_task_has_its_records():
    specs = {
        f"score-{n}": sent(Task(f"score-{n}", operator.getitem, np.ones(3 * MB, "u1")))
        for n in range(8)
    }
    graph = weighed(specs)
    (row,) = graph.rows().values()
    assert list(graph.rows()) == ["score"]
    assert (row.tasks, row.records) == (8, 8 * RECORD)
    assert row.arguments == pytest.approx(24 * MB, rel=0.001)
    assert graph.total == row.size


@pytest.mark.parametrize("way", ["closure", "default", "partial", "global", "keyword"])
def test_what_a_function_was_sent_with_counts_for_every_task(way):
    data = np.ones(2 * MB, "u1")
    values = {"__name__": "__main__", "data": data}
    makers = {
        "closure": "def make(x):\n    return lambda i: x[i]\nf = make(data)",
        "default": "def f(i, x=data): return x[i]",
        "partial": "import functools\nf = functools.partial(print, data)",
        "global": "def f(i): return data[i]",
        "keyword": "def f(i, x=None): return i",
    }
    exec(makers[way], values)
    keywords = {"x": data} if way == "keyword" else {}
    specs = {
        f"f-{n}": sent(Task(f"f-{n}", values["f"], n, **keywords)) for n in range(5)
    }
    (row,) = weighed(specs).rows().values()
    assert row.arguments == pytest.approx(10 * MB, rel=0.01)


def test_data_in_the_graph_counts():
    node = DataNode("x-1", np.ones(MB, "u1"))
    assert weighed({"x-1": sent(node)}).total == pytest.approx(MB + RECORD, rel=0.01)


def test_data_in_the_graph_is_storage_once_it_is_an_output():
    graph = weighed({"x-1": sent(DataNode("x-1", np.ones(MB, "u1")))})
    graph.stored("x-1")
    graph.stored("never-seen")
    assert graph.total == pytest.approx(RECORD, abs=1_000)  # what the node itself takes
    assert graph.rows()["x"].arguments < 1_000
    graph.forgotten("x-1")
    graph.weigh(time.perf_counter, 1.0)
    assert graph.total == 0


def test_tasks_that_are_forgotten_weigh_nothing_any_more():
    specs = {f"a-{n}": Task(f"a-{n}", len, b"x" * MB) for n in range(3)}
    graph = weighed(specs)
    for key in specs:
        graph.forgotten(key)
    graph.forgotten("never-seen")
    graph.weigh(time.perf_counter, 1.0)
    assert (graph.total, graph.rows()) == (0, {})


def test_a_task_that_arrives_twice_or_is_gone_already_is_not_counted_for_it():
    graph = GraphBytes({"a-1": Task("a-1", len, b"x" * MB)}.get)
    assert graph.arrived("a-1")
    assert not graph.arrived("a-1")
    graph.arrived("gone-1")
    graph.forgotten("gone-1")
    graph.weigh(time.perf_counter, 1.0)
    assert {name: row.tasks for name, row in graph.rows().items()} == {"a": 1}


def test_many_small_tasks_are_weighed_by_a_sample_and_a_large_one_is_still_seen():
    specs = {("x", n): Task(("x", n), operator.neg, TaskRef("y")) for n in range(2000)}
    specs["x", 1999] = Task(("x", 1999), operator.getitem, np.ones(MB, "u1"), 0)
    (row,) = weighed(specs).rows().values()
    assert row.tasks == 2000
    assert MB + 2000 * 300 < row.arguments < MB + 2000 * 1_500


def test_weighing_stops_in_time_and_goes_on_where_it_stopped():
    now = iter(range(10_000))
    specs = {f"a-{n}": Task(f"a-{n}", len, ()) for n in range(100)}
    graph = GraphBytes(specs.get)
    for key in specs:
        graph.arrived(key)
    rounds = 1
    while not graph.weigh(lambda: next(now), 1.5):
        rounds += 1
    assert rounds > 3
    assert graph.rows()["a"].tasks == 100


def test_rows_are_told_when_they_have_changed():
    specs = {"a-1": Task("a-1", len, ()), "b-1": Task("b-1", len, b"x" * 3 * MB)}
    graph = GraphBytes(specs.get)
    assert graph.new_rows() == {}
    graph.arrived("a-1")
    graph.weigh(time.perf_counter, 1.0)
    assert graph.new_rows() is None
    graph.arrived("b-1")
    graph.weigh(time.perf_counter, 1.0)
    assert list(graph.new_rows() or ()) == ["b", "a"]
    assert graph.new_rows() is None


def test_tasks_are_weighed_where_they_are_sent_from_in_bounded_time_and_scaled():
    specs = [Task(f"a-{n}", len, b"x" * MB) for n in range(50)]
    for deadline in (10.0, -1.0):
        sent = SentTasks(lambda: 0.0, deadline)
        sizes = [sent.add("a", spec) for spec in specs]
        assert sizes[0] == pytest.approx(MB, rel=0.01)
        assert (sizes[1] is None) is (deadline < 0)
        assert sent.add("scattered", None) is None
        assert sent.rows() == {
            "a": GraphRow(50, pytest.approx(50 * MB, rel=0.01), 50 * RECORD)
        }
        assert sent.rows(2.0)["a"].tasks == 100


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([1, "x", None, TaskRef("y"), (slice(0, 1),), len], False),
        ([np.ones(3)], True),
        ([1, [np.ones(3)]], True),
        (["x" * 2_000], True),
        ([List(TaskRef("y"))], False),
    ],
)
def test_arguments_that_are_data_are_told_from_others(arguments, expected):
    assert has_data(arguments) is expected


def test_what_a_task_gathers_in_its_default_argument_did_not_come_with_the_others():
    values = {"__name__": "__main__"}
    exec("def keep(i, kept=[]): return kept.append(i)", values)
    specs = {f"keep-{n}": sent(Task(f"keep-{n}", values["keep"], n)) for n in range(8)}
    specs["keep-0"].func.__defaults__[0].append(np.ones(15 * MB, "u1"))
    begun = {"keep-0", "keep-1"}
    graph = GraphBytes(specs.get, lambda key: key in begun)
    for key in specs:
        graph.arrived(key)
    assert graph.weigh(time.perf_counter, 10.0)
    assert graph.rows()["keep"].arguments < MB
    assert graph.total == graph.rows()["keep"].size
    for key in specs:
        graph.forgotten(key)
    assert graph.weigh(time.perf_counter, 10.0)
    assert graph.total == 0


def test_a_prefix_that_was_weighed_at_its_arrival_is_not_sent_what_it_gathers_later():
    values = {"__name__": "__main__"}
    exec("kept = []\ndef keep(i): kept.append(i)", values)
    specs = {f"keep-{n}": sent(Task(f"keep-{n}", values["keep"], n)) for n in range(8)}
    graph = GraphBytes(specs.get, lambda key: len(graph._sizes) > 0)
    assert graph.is_unmet("keep-0")
    graph.weigh_first("keep-0")
    assert not graph.is_unmet("keep-1")
    for spec in specs.values():  # each runs before the next look, and gathers 10 MB
        spec.func.__globals__["kept"].append(np.ones(10 * MB, "u1"))
    for key in specs:
        graph.arrived(key)
    assert graph.weigh(time.perf_counter, 10.0)
    assert graph.rows()["keep"].tasks == 8
    assert graph.rows()["keep"].arguments < MB


def test_what_came_with_tasks_counts_also_where_all_have_begun():
    values = {"__name__": "__main__", "data": np.ones(2 * MB, "u1")}
    exec("def look(i): return data[i]", values)
    specs = {f"look-{n}": sent(Task(f"look-{n}", values["look"], n)) for n in range(3)}
    graph = GraphBytes(specs.get, lambda key: True)
    for key in specs:
        graph.arrived(key)
    assert graph.weigh(time.perf_counter, 10.0)
    assert graph.rows()["look"].arguments == pytest.approx(6 * MB, rel=0.01)
