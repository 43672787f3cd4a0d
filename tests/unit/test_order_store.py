"""Graphs as the store shows them."""

import json
import time
import typing

import fake_parts
import fake_store
import pytest
from builders import MiB, added, died, executing, removed, reported
from order_graphs import CHAINS, T, arrived, moves

from dask_memdash.errors import UnknownGraphError
from dask_memdash.model.cluster import ClusterModel
from dask_memdash.model.event_parts import Thresholds
from dask_memdash.model.events import (
    GraphArrived,
    GraphChecked,
    OutputsMoved,
    Ticked,
)
from dask_memdash.model.evidence import OrderFacts
from dask_memdash.model.graph_columns import RootGroup
from dask_memdash.store import graph_orders, incidents, order_shapes
from dask_memdash.store.graph_orders import Orders
from dask_memdash.store.live import LiveStore

SIZES = {key: size * MiB for key, (_, size) in CHAINS.items()}


@pytest.fixture
def model():
    made = ClusterModel()
    made.handle(added(nthreads=2, limit=400 * MiB, time=T))
    made.handle(idle())
    return made


def idle(**more):
    """Make the first report of a worker whose process takes 60 MiB when idle."""
    thresholds = Thresholds(240 * MiB, 280 * MiB, 320 * MiB, 380 * MiB)
    return reported(
        time=T,
        rss=60 * MiB,
        reading={"base": 60 * MiB},
        thresholds=more.pop("thresholds", thresholds),
        **more,
    )


def move(model, *keys, time=T + 1):
    pairs = [(k.lstrip("-"), -1 if k.startswith("-") else SIZES[k]) for k in keys]
    model.handle(OutputsMoved(time, moves(*pairs)))


def run(model, name="g", at=T):
    """Let a graph arrive and run in its own order."""
    model.handle(arrived(name=name, time=at))
    move(model, "load-1", "cut-1", "-load-1", "load-2", "cut-2", "-load-2", time=at + 1)
    move(model, "join-1", "-cut-1", "-cut-2", time=at + 2)


def test_a_graph_that_ran_is_shown_with_all_its_fields(model):
    root = RootGroup("load", 2, 2, False, False, 1.1, 0, 0)
    run(model)
    model.handle(GraphChecked(T + 2, "g", (root,), ended=False))
    (graph,) = LiveStore(model).order()
    assert set(graph) == set(typing.get_type_hints(order_shapes.Graph))
    json.dumps(graph, allow_nan=False)
    assert graph["verdict"]["kind"] == "fits"
    names = ("id", "name", "tasks", "done", "finished", "threads", "time", "covered")
    assert [graph[name] for name in names] == ["g", "join", 5, 5, True, 2, T, None]
    assert graph["minimum"] == 25 * MiB
    assert graph["minimum_position"] == 4
    assert graph["minimum_threads"] == 32 * MiB
    assert graph["actual_peak"] == 25 * MiB
    assert (graph["run_ahead"], graph["run_ahead_by"]) == (0, [])
    assert graph["capacity"] == 340 * MiB
    assert graph["need"] == {
        "prefix": "cut",
        "bytes": 23 * MiB,
        "has": 320 * MiB,
        "at_least": True,  # no peak was measured
    }
    assert graph["at_once"] is None  # nothing is left to run
    assert graph["curve"] == {
        "position": [1, 2, 3, 4, 5],
        "ideal": [n * MiB for n in (10, 12, 22, 25, 6)],
        "ideal_threads": [n * MiB for n in (10, 30, 32, 25, 6)],
        "actual": [n * MiB for n in (10, 12, 22, 25, 6)],
    }
    assert graph["rootish"] == [
        {
            "prefix": "load",
            "rootish": False,
            "queued": False,
            "why": "The scheduler does not take it for root tasks: its 2 "
            "tasks are not more than twice the 2 threads.",
        }
    ]


def test_a_graph_that_runs_has_nothing_actual_beyond_what_is_done(model):
    model.handle(arrived())
    move(model, "load-1", "load-2")
    (graph,) = LiveStore(model).order()
    assert graph["curve"]["actual"] == [10 * MiB, 30 * MiB, None, None, None]
    assert (graph["done"], graph["finished"]) == (2, False)


def test_graphs_are_listed_newest_first_in_pages(model):
    for number in range(4):
        run(model, f"g{number}", T + 10 * number)
    store = LiveStore(model)
    assert [graph["id"] for graph in store.order()] == ["g3", "g2", "g1", "g0"]
    assert [graph["id"] for graph in store.order(2, 1)] == ["g2", "g1"]
    assert store.order(0) == []
    assert store.graph("g2") == store.order()[1]


def test_a_graph_that_is_not_covered_says_why_and_knows_nothing(model):
    model.handle(
        GraphArrived(T, "g", (), {}, name="map", tasks=9, uncovered="Too large.")
    )
    store = LiveStore(model)
    (graph,) = store.order()
    assert (graph["tasks"], graph["done"], graph["minimum"]) == (9, None, None)
    assert graph["verdict"] == {"kind": "unknown", "text": "Too large."}
    assert graph["covered"] == "Too large."
    assert store.order_point("g", 3) == {"position": 3, "of": "unknown", "held": []}


def test_what_is_not_known_is_an_error(model):
    store = LiveStore(model)
    with pytest.raises(UnknownGraphError, match="no graph 'g' is known"):
        store.graph("g")
    with pytest.raises(UnknownGraphError):
        store.order_point("g", 1)


def test_nothing_is_worked_out_twice(model, monkeypatch):
    judged = []
    foresee = graph_orders.foresee

    def noted(snapshot, *known):
        judged.append(snapshot)
        return foresee(snapshot, *known)

    monkeypatch.setattr(graph_orders, "foresee", noted)
    run(model)
    store = LiveStore(model)
    assert judged == []
    for _ in range(3):
        model.handle(Ticked(T + 9))
        store.order()
        store.order_point("g", 3)
    assert len(judged) == 1


def test_a_graph_that_runs_is_judged_again_after_a_while(model, monkeypatch):
    monkeypatch.setattr(graph_orders, "PAUSE", 1000.0)
    store = LiveStore(model)
    model.handle(arrived())
    assert store.order()[0]["actual_peak"] is None
    move(model, "load-1")
    assert store.order()[0]["actual_peak"] is None
    assert store.order()[0]["done"] == 1
    monkeypatch.setattr(graph_orders, "PAUSE", 0.0)
    monkeypatch.setattr(graph_orders, "PAUSE_FACTOR", 0)
    assert store.order()[0]["actual_peak"] == 10 * MiB


def test_a_graph_that_has_finished_is_judged_at_once(model, monkeypatch):
    monkeypatch.setattr(graph_orders, "PAUSE", 1000.0)
    store = LiveStore(model)
    model.handle(arrived())
    store.order()
    move(model, *CHAINS)
    assert store.order()[0]["finished"]
    assert store.order()[0]["actual_peak"] == 36 * MiB


def test_workers_that_leave_afterwards_change_nothing(model):
    run(model)
    store = LiveStore(model)
    before = store.order()
    model.handle(removed(expected=True, time=T + 9))
    model.handle(OutputsMoved(T + 10, moves(("join-1", -1))))
    (graph,) = store.order()
    assert (graph["threads"], graph["capacity"]) == (2, 340 * MiB)
    assert graph["verdict"] == before[0]["verdict"]


def test_a_large_graph_is_worked_out_in_a_thread(model):
    run(model)
    made = Orders(model, at_once=0)
    (graph,) = made.list(None, 0)
    assert graph["verdict"]["text"] == "This is being worked out."
    assert graph["minimum"] is None
    deadline = time.monotonic() + 30
    while made.list(None, 0)[0]["minimum"] is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert made.graph("g")["minimum"] == 25 * MiB
    assert made.point("g", 1)["of"] == "actual"


def test_the_curve_stays_when_the_tasks_are_given_up(model):
    run(model)
    store = LiveStore(model)
    (before,) = store.order()
    model.orders.graphs["g"].tasks = None
    model.orders.graphs["g"].uncovered = "Given up."
    (after,) = store.order()
    assert after == {**before, "covered": "Given up."}


# -- points and incidents ------------------------------------------------------


def test_a_point_says_what_was_held_and_for_whom(model):
    run(model)
    assert LiveStore(model).order_point("g", 4) == {
        "position": 4,
        "of": "actual",
        "held": [
            {
                "prefix": "load",
                "bytes": 20 * MiB,
                "keys": 1,
                "run_ahead": 0,
                "awaited_by": [],
            },
            {
                "prefix": "cut",
                "bytes": 5 * MiB,
                "keys": 2,
                "run_ahead": 0,
                "awaited_by": [{"prefix": "join", "bytes": 5 * MiB}],
            },
        ],
    }


def test_incidents_are_on_the_curve(model):
    model.handle(arrived())
    move(model, "load-1", "load-2", time=T + 1)
    model.handle(removed(expected=False, time=T + 1.5))
    move(model, "cut-1", "cut-2", "join-1", time=T + 2)
    model.handle(Ticked(T + 60))
    (graph,) = LiveStore(model).order()
    assert graph["incidents"] == [{"id": "1", "position": 2}]


def test_incidents_before_and_after_a_graph_are_not(model):
    model.handle(removed(expected=False, time=T - 5))
    model.handle(added(address="tcp://10.0.0.9:1", pid=9, time=T, limit=400 * MiB))
    run(model)
    model.handle(removed(address="tcp://10.0.0.9:1", expected=False, time=T + 30))
    (graph,) = LiveStore(model).order()
    assert graph["incidents"] == []


def test_an_incident_gets_storage_against_the_order(model):
    model.handle(arrived())
    move(model, "load-1", "load-2", time=T + 1)
    model.handle(removed(expected=False, time=T + 1.5))
    model.handle(Ticked(T + 3))
    made = Orders(model)
    early = made.facts("1", T + 1.5)
    assert (early.held, early.minimum) == (30 * MiB, 20 * MiB)  # cuts: not known yet
    move(model, "cut-1", "-load-1", "cut-2", "-load-2", "join-1", time=T + 4)
    expected = OrderFacts(
        graph="g",
        done=2,
        total=5,
        ideal=30 * MiB,
        held=30 * MiB,
        minimum=25 * MiB,
        capacity=340 * MiB,
        run_ahead={},
        need=23 * MiB,
        near=30 * MiB,
    )
    assert made.facts("1", T + 1.5) == expected
    model.orders.graphs.clear()
    assert made.facts("1", T + 1.5) == expected
    assert made.facts("2", T - 5) is None


def test_a_diagnosis_is_made_with_storage_against_the_order(model, monkeypatch):
    cases = []
    diagnose = incidents._of
    monkeypatch.setattr(
        incidents, "_of", lambda case: cases.append(case) or diagnose(case)
    )
    model.handle(arrived())
    move(model, "load-1", "load-2", time=T + 1)
    model.handle(removed(expected=False, time=T + 1.5))
    LiveStore(model).incident("1")
    assert cases[-1].facts.order.graph == "g"
    assert (cases[-1].facts.order.done, cases[-1].facts.order.held) == (2, 30 * MiB)


def test_without_spilling_there_is_room_up_to_the_pause_threshold(model):
    model.handle(idle(thresholds=Thresholds(None, None, 320 * MiB, None)))
    run(model)
    (graph,) = LiveStore(model).order()
    assert graph["capacity"] == 260 * MiB
    assert graph["need"]["has"] == 340 * MiB  # the limit: nobody terminates it


@pytest.mark.parametrize("made", [fake_store.with_graphs, fake_store.hostile])
def test_the_store_that_is_made_up_for_views_has_the_same_shape(made):
    def names(value):
        if isinstance(value, dict):
            return {key: names(item) for key, item in value.items()}
        return [names(item) for item in value[:1]] if isinstance(value, list) else None

    model = ClusterModel()
    model.handle(added(nthreads=2, limit=400 * MiB, time=T))
    model.handle(idle())
    model.handle(arrived())
    move(model, "load-1", "load-2", time=T + 1)
    model.handle(removed(expected=False, time=T + 1.5))
    root = RootGroup("load", 2, 2, False, False, 1.1, 0, 0)
    model.handle(GraphChecked(T + 2, "g", (root,), ended=False))
    (real,) = LiveStore(model).order()
    real["run_ahead_by"] = [{"prefix": "load", "bytes": 1}]
    real["foreseen"]["unknown"] = []
    invented = made().all_graphs[0]
    assert names(invented) == names(real)
    point = LiveStore(model).order_point("g", 2)
    assert names(fake_parts.point(2)) == names(point)


def test_a_worker_that_died_for_memory_under_a_graph_is_in_its_verdict(model):
    model.handle(arrived())
    move(model, "load-1", "cut-1", "-load-1", time=T + 1)
    store = LiveStore(model)
    assert "died" not in store.graph("g")["verdict"]["text"]
    tasks = tuple(
        executing(f"load-{n}", 170 * MiB, peak=170 * MiB) for n in range(2, 4)
    )
    model.handle(removed(time=T + 3))
    model.handle(died(time=T + 3, by="nanny", executing=tasks))
    model.handle(added(nthreads=2, limit=400 * MiB, time=T + 4, pid=101))
    model.handle(Ticked(T + 5))
    (incident,) = store.incidents()
    assert incident["kind"] == "terminated"
    verdict = store.graph("g")["verdict"]
    assert verdict["kind"] == "unknown"
    assert verdict["text"].endswith(
        f"1 worker died for memory while it ran: incident {incident['id']} says why."
    )
