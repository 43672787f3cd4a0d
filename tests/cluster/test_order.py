"""Graphs on real clusters against their own order."""

import os
import signal
import time

import dask
import numpy as np
import pytest
from clusters import wait_for
from distributed import wait

pytestmark = [pytest.mark.cluster, pytest.mark.hooks]

MB = 1_000_000
PAIRS = 40
SIZE = 10 * MB


def load(i):
    return np.zeros(SIZE // 8)  # quicker than the scheduler hears of it


def add(left, right):
    time.sleep(0.02)
    return float(left.sum() + right.sum())


def pairs(number, n=PAIRS):
    """Make a graph that adds pairs of arrays of 10 MB, and then all sums."""
    graph = {(f"load-{number}", i): (load, i) for i in range(2 * n)}
    for i in range(n):
        needs = [(f"load-{number}", j) for j in (2 * i, 2 * i + 1)]
        graph[f"add-{number}", i] = (add, *needs)
    graph[f"total-{number}"] = (sum, [(f"add-{number}", i) for i in range(n)])
    return graph


def finished(session, name, n=1):
    """Wait until `n` graphs of a name have finished, and give them, newest first."""

    def found():
        graphs = [g for g in session.api("order") if g["name"] == name]
        done = [g for g in graphs if g["finished"] and g["minimum"] is not None]
        return done if len(done) >= n else None

    return wait_for(found, f"{n} graphs {name} to finish")


def test_a_cluster_without_queuing_runs_ahead_and_says_of_what(start):
    with dask.config.set({"distributed.scheduler.worker-saturation": float("inf")}):
        session = start()
    session.client.get(pairs(1), "total-1")
    (graph,) = finished(session, "total")
    assert (graph["tasks"], graph["done"], graph["threads"]) == (121, 121, 2)
    # one at a time: both arrays of a pair, and the sums so far
    assert 2 * SIZE <= graph["minimum"] < 2.1 * SIZE
    assert 2 * SIZE <= graph["minimum_threads"] < 4.1 * SIZE
    assert graph["actual_peak"] > 8 * SIZE
    # two limits of 400 MB, less what idle processes take
    assert 500 * MB < graph["capacity"] < 700 * MB
    assert graph["run_ahead_by"][0]["prefix"] == "load"
    assert graph["curve"]["position"] == list(range(1, 122))
    (root,) = graph["rootish"]
    assert (root["prefix"], root["rootish"], root["queued"]) == ("load", True, False)
    assert "worker-saturation is inf" in root["why"]
    position = graph["run_ahead_position"]
    point = session.api(f"order/{graph['id']}?position={position}")
    assert point["of"] == "actual"
    (loads,) = [held for held in point["held"] if held["prefix"] == "load"]
    assert loads["run_ahead"] == graph["run_ahead_by"][0]["bytes"]
    assert loads["awaited_by"][0]["prefix"] == "add"
    assert graph["run_ahead"] >= 4 * SIZE
    assert graph["verdict"]["kind"] == "runs-ahead"
    assert "nearly all of the difference is `load`" in graph["verdict"]["text"]
    assert "worker-saturation` (now inf" in graph["verdict"]["text"]


@pytest.mark.slow
def test_a_cluster_that_queues_stays_near_the_order(start):
    session = start(memory_limit="1 GB")
    session.client.get(pairs(1), "total-1")
    (graph,) = finished(session, "total")
    assert graph["verdict"]["kind"] == "fits"
    assert graph["actual_peak"] < 15 * SIZE
    (root,) = graph["rootish"]
    assert (root["rootish"], root["queued"]) == (True, True)
    assert graph["uncertainty"] == 0


@pytest.mark.slow
def test_a_worker_that_dies_is_on_the_curve_and_its_keys_count_once(start):
    session = start(threads_per_worker=1)
    future = session.client.get(pairs(1), "total-1", sync=False)
    wait_for(
        lambda: [g for g in session.api("order") if (g["done"] or 0) >= 20],
        "some tasks to finish",
    )
    pids = session.client.run(os.getpid)
    os.kill(min(pids.values()), signal.SIGKILL)
    assert future.result() == 0
    (graph,) = finished(session, "total")
    assert (graph["done"], graph["tasks"]) == (121, 121)
    (incident,) = graph["incidents"]
    assert incident["id"] == session.api.deaths()[0]["id"]
    assert 20 <= incident["position"] <= 121


@pytest.mark.slow
def test_graphs_that_come_again_and_share_keys_are_each_their_own(start):
    session = start()
    kept = session.client.get(pairs(1), "total-1", sync=False)
    kept.result()
    shared = {**pairs(1), "again-1": (float, "total-1")}
    assert session.client.get(shared, "again-1") == kept.result()
    (again,) = finished(session, "again")
    assert (again["tasks"], again["done"]) == (1, 1)  # all else was there
    kept.release()
    wait_for(
        lambda: (
            not session.client.run_on_scheduler(
                lambda dask_scheduler: len(dask_scheduler.tasks)
            )
        ),
        "the tasks to be forgotten",
    )
    session.client.get(pairs(1), "total-1")
    first, second = reversed(finished(session, "total", 2))
    assert first["tasks"] == second["tasks"] == 121
    assert first["actual_peak"] < 15 * SIZE


@pytest.mark.slow
def test_submitted_tasks_are_gathered_and_a_map_is_a_graph(start):
    session = start()
    client = session.client
    submitted = [client.submit(load, i, key=f"single-{i}") for i in range(5)]
    mapped = client.map(load, range(7), key=[f"mapped-{i}" for i in range(7)])
    wait([*submitted, *mapped])
    (singles,) = finished(session, "single")
    (maps,) = finished(session, "mapped")
    assert (singles["tasks"], maps["tasks"]) == (5, 7)
    assert 7 * SIZE <= maps["minimum"] < 7.1 * SIZE  # a client keeps them all
    assert maps["verdict"]["kind"] == "fits"


@pytest.mark.slow
def test_a_large_graph_is_taken_in_slices_and_known_by_its_order(start):
    session = start()
    n = 5_000
    graph = {("one-1", i): (int, 1) for i in range(n)}
    for i in range(0, n, 50):
        graph["part-1", i] = (sum, [("one-1", i + j) for j in range(50)])
    graph["whole-1"] = (sum, [("part-1", i) for i in range(0, n, 50)])
    future = session.client.get(graph, "whole-1", sync=False)
    assert future.result() == n
    (known,) = finished(session, "whole")
    assert (known["tasks"], known["done"], known["covered"]) == (5_101, 5_101, None)
    assert len(known["curve"]["position"]) <= 500
    assert known["actual_peak"] > 0


@pytest.mark.slow
def test_a_priority_annotation_moves_a_part_of_the_graph_to_the_front(start):
    session = start(n_workers=1)
    make = dask.delayed(bytes)
    with dask.annotate(priority=10):
        late = [make(2 * MB, dask_key_name=f"urgent-{i}") for i in range(3)]
    early = [make(1 * MB, dask_key_name=f"normal-{i}") for i in range(3)]
    total = dask.delayed(len)([*early, *late], dask_key_name="both-1")
    assert session.client.compute(total, optimize_graph=False).result() == 6
    (graph,) = finished(session, "both")
    # the large ones first, though the order of the graph itself has them last
    assert [round(size / MB) for size in graph["curve"]["ideal"]] == [
        2,
        4,
        6,
        7,
        8,
        9,
        9,
    ]


def swell(i):
    taken = np.ones(12 * MB)  # 96 MB: four do not fit into 300 MB, one does
    time.sleep(1.5)
    return float(taken[0])


@pytest.mark.slow
def test_a_graph_that_died_of_tasks_at_once_is_not_said_to_fit(start):
    with dask.config.set({"distributed.scheduler.allowed-failures": 0}):
        session = start(n_workers=1, threads_per_worker=4, memory_limit="300 MB")
    session.client.run(time.sleep, 0.2)  # an idle moment, for what the process takes
    graph = {("swell-1", i): (swell, i) for i in range(8)}
    graph["total-1"] = (sum, [("swell-1", i) for i in range(8)])
    future = session.client.get(graph, "total-1", sync=False)
    assert future.exception() is not None
    session.api.deaths()

    def judged():
        (known,) = [g for g in session.api("order") if g["name"] == "total"]
        return known if "died for memory" in known["verdict"]["text"] else None

    known = wait_for(judged, "the verdict to tell of the death")
    assert known["verdict"]["kind"] in ("too-many-at-once", "unknown")
    if known["verdict"]["kind"] == "too-many-at-once":
        assert known["at_once"]["surely"] > known["at_once"]["has"]
        assert "at least" in known["verdict"]["text"]
