"""The ideal and the actual curve: small graphs by hand, and dask.order's own count."""

import time

import dask.array as da
import numpy as np
import pytest
from dask._task_spec import convert_legacy_graph
from dask.order import diagnostics, order
from hypothesis import given
from hypothesis import strategies as st
from order_graphs import CHAINS, snapshot

from dask_memdash.analysis.order import simulate
from dask_memdash.analysis.order.comparison import Usual, judge
from dask_memdash.analysis.order.points import facts, look
from dask_memdash.analysis.order.simulate import Shape
from dask_memdash.analysis.order.sizes import fill_sizes
from dask_memdash.analysis.order.storage_curve import curve, thin
from dask_memdash.model.evidence import OrderFacts
from dask_memdash.model.graph_columns import GIVEN, PINNED


def shape_of(needs, flags=None):
    """Make a shape from the ranks that each task needs."""
    offsets = np.cumsum([0, *map(len, needs)])
    flat = np.array([need for own in needs for need in own], int)
    return Shape(offsets, flat, bytes(flags or [0] * len(needs)))


def curve_of(shape, sizes, at_a_time=1, **options):
    come = shape.finish(at_a_time)
    gone = shape.last_use(come, **options)
    return curve(come, gone, np.array(sizes), shape.total).tolist()


# -- the ideal -----------------------------------------------------------------

CHAIN_SIZES = [10, 2, 20, 3, 1]


@pytest.fixture
def chains():
    return shape_of([[], [0], [], [2], [1, 3]], [0, 0, 0, 0, PINNED])


def test_one_at_a_time_holds_the_newest_output_and_its_inputs(chains):
    assert chains.finish(1).tolist() == [1, 2, 3, 4, 5]
    assert curve_of(chains, CHAIN_SIZES) == [0, 10, 12, 22, 25, 6]


def test_several_at_a_time_take_what_is_ready_in_rounds(chains):
    assert chains.finish(2).tolist() == [1, 3, 2, 4, 5]
    assert curve_of(chains, CHAIN_SIZES, 2) == [0, 10, 30, 32, 25, 6]


def test_more_threads_than_tasks_change_nothing_more(chains):
    assert chains.finish(100).tolist() == chains.finish(2).tolist()


def test_what_a_client_wants_stays_and_what_nobody_wants_goes_at_once():
    shape = shape_of([[], [], []], [PINNED, 0, PINNED])
    assert curve_of(shape, [5, 7, 11]) == [0, 5, 12, 16]
    assert curve_of(shape, [5, 7, 11], pinned=False) == [0, 5, 7, 11]


def test_a_client_keeps_an_output_that_others_use():
    shape = shape_of([[], [0]], [PINNED, PINNED])
    assert curve_of(shape, [5, 1]) == [0, 5, 6]


def test_a_priority_that_comes_before_its_inputs_waits_for_them():
    shape = shape_of([[1], [], [0]])
    assert shape.finish(1).tolist() == [2, 1, 3]


def test_what_was_there_before_is_held_from_the_start_and_not_run():
    shape = shape_of([[], [0], [1]], [GIVEN, 0, PINNED])
    assert shape.total == 2
    assert shape.finish(1).tolist() == [0, 1, 2]
    assert curve_of(shape, [10, 2, 1]) == [10, 12, 3]


def test_a_graph_of_which_all_is_there_has_nothing_to_run():
    shape = shape_of([[]], [GIVEN | PINNED])
    assert curve_of(shape, [10]) == [10]


COLLECTIONS = {
    "rechunk": lambda x: x.rechunk((400, 50)).sum(),
    "transpose": lambda x: (x + x.T).mean(axis=0),
    "shared": lambda x: da.stack([x.sum(axis=0), (x - x.mean()).sum(axis=0)]),
    "persisted": lambda x: x + 1,
}


@pytest.mark.parametrize("name", COLLECTIONS)
def test_outputs_are_counted_as_dask_counts_them(name):
    made = COLLECTIONS[name](da.random.random((400, 400), chunks=(50, 50)))
    graph = convert_legacy_graph(dict(made.__dask_graph__()))
    ranks = order(graph)
    keys = sorted(graph, key=ranks.__getitem__)
    shape = shape_of([[ranks[n] for n in graph[key].dependencies] for key in keys])
    _, pressure = diagnostics(graph, ranks)
    assert len(pressure) > 50
    held = curve_of(shape, [1] * len(keys))[1:]
    assert held == [before + 1 for before in pressure]


@st.composite
def graphs(draw):
    n = draw(st.integers(1, 30))
    order = draw(st.permutations(range(n)))
    needs = [[] for _ in range(n)]
    for place in range(1, n):
        chosen = st.sets(st.sampled_from(order[:place]), max_size=4)
        needs[order[place]] = sorted(draw(chosen))
    return needs


@given(graphs(), st.integers(1, 5))
def test_every_task_runs_once_after_its_inputs(needs, at_a_time):
    finished = shape_of(needs).finish(at_a_time)
    assert sorted(finished.tolist()) == list(range(1, len(needs) + 1))
    for rank, own in enumerate(needs):
        assert all(finished[need] < finished[rank] for need in own)


def test_a_process_of_its_own_gives_the_same_order(monkeypatch):
    rng = np.random.default_rng(0)
    needs = [
        sorted({int(n) for n in rng.integers(0, rank, 2)}) if rank else []
        for rank in range(3000)
    ]
    here = shape_of(needs).finish(7).tolist()
    ran = []
    run = simulate.subprocess.run
    monkeypatch.setattr(
        simulate.subprocess, "run", lambda *a, **k: ran.append(a) or run(*a, **k)
    )
    monkeypatch.setattr(simulate, "HERE", 100)
    assert shape_of(needs).finish(7).tolist() == here
    assert len(ran) == 1


@pytest.mark.parametrize("executable", ["", "/nowhere/python", "/bin/false"])
def test_where_no_process_can_be_started_it_is_done_here(monkeypatch, executable):
    monkeypatch.setattr(simulate, "HERE", 0)
    monkeypatch.setattr(simulate.sys, "executable", executable)
    assert shape_of([[], [], [0, 1]]).finish(2).tolist() == [1, 2, 3]


def test_thinning_keeps_ends_and_peaks():
    low = np.zeros(10_000)
    low[5_017], low[7_331] = 9, 5
    kept = thin([low, -low], 100)
    assert len(kept) <= 100
    assert {0, 5_017, 7_331, 9_999} <= set(kept.tolist())
    assert thin([low[:50]], 100).tolist() == list(range(50))


# -- the judgement -------------------------------------------------------------


def test_a_graph_that_has_not_run_is_judged_by_its_order():
    made = judge(snapshot(threads=2))
    assert (made.minimum, made.minimum_position) == (25, 4)
    assert made.minimum_threads == 32
    assert made.minimum_by == [("load", 20), ("cut", 5)]
    assert made.uncertainty == 0
    assert (made.actual_peak, made.run_ahead) == (None, None)
    assert made.position.tolist() == [1, 2, 3, 4, 5]
    assert made.ideal.tolist() == [10, 12, 22, 25, 6]
    assert made.ideal_threads.tolist() == [10, 30, 32, 25, 6]
    assert made.actual.tolist() == []


#: Both loads first, where the order would have cut the first one.
AHEAD = (("load-1", 1, 3), ("load-2", 2, 0), ("cut-1", 3, 0))


def test_run_ahead_is_what_was_held_above_the_order_at_the_same_number_done():
    made = judge(snapshot(stored=AHEAD))
    assert made.actual.tolist() == [10, 30, 32]
    assert made.actual_peak == 32
    assert (made.run_ahead, made.run_ahead_position) == (18, 2)
    assert made.run_ahead_by == [("load", 20)]


def test_with_as_many_threads_the_same_is_no_run_ahead():
    assert judge(snapshot(threads=2, stored=AHEAD)).run_ahead == 0


def test_facts_of_an_incident():
    made = judge(snapshot(stored=AHEAD, capacity=100))
    assert facts(made, 2) == OrderFacts(
        graph="g",
        done=2,
        total=5,
        ideal=12,
        held=30,
        minimum=25,
        capacity=100,
        run_ahead={"load": 20},
        need=23,
        near=22,
    )


def test_a_position_beyond_what_is_done_has_the_facts_of_the_last():
    assert facts(judge(snapshot(stored=AHEAD)), 99).done == 3


def shown(found):
    return {h.prefix: (h.bytes, h.keys, h.run_ahead, h.awaited_by) for h in found}


def test_a_point_says_what_was_held_and_for_whom():
    of, found = look(judge(snapshot(stored=AHEAD)), 2)
    assert of == "actual"
    assert shown(found) == {"load": (30, 2, 20, [("cut", 30)])}


def test_a_point_that_the_graph_has_not_reached_is_the_orders():
    of, found = look(judge(snapshot(stored=AHEAD)), 4)
    assert of == "ideal"
    assert shown(found) == {
        "load": (20, 1, 0, []),
        "cut": (5, 2, 0, [("join", 5)]),
    }


def test_a_client_waits_for_what_it_wants():
    of, found = look(judge(snapshot()), 5)
    assert of == "ideal"
    assert shown(found)["join"] == (1, 1, 0, [(None, 1)])


# -- sizes ---------------------------------------------------------------------


def test_a_size_that_is_not_known_is_its_prefixs_median_with_its_spread():
    graph = {f"load-{n}": ((), 10 + n) for n in range(101)}
    taken = snapshot(graph, wanted=())
    taken.sizes[50] = -1
    sizes, doubt = fill_sizes(taken)
    assert sizes[50] == 60
    assert doubt[50] == pytest.approx(45.5, abs=1)
    assert doubt.sum() == doubt[50]


def test_a_prefix_that_was_never_measured_is_what_it_usually_is():
    taken = snapshot()
    taken.sizes[:] = -1
    taken.usual = {"load": Usual(100, 7)}
    sizes, doubt = fill_sizes(taken)
    assert sizes.tolist() == [100, 0, 100, 0, 0]
    assert doubt.tolist() == [7, 100, 7, 100, 100]


def test_the_uncertainty_is_that_of_what_is_held_at_the_peak():
    taken = snapshot()
    taken.sizes[1] = -1
    made = judge(taken)
    assert (made.minimum, made.uncertainty) == (26, 0)
    taken.sizes[3] = -1
    taken.usual = {"cut": Usual(4, 3)}
    made = judge(taken)
    assert (made.minimum, made.minimum_position) == (28, 4)
    assert made.uncertainty == 6


@pytest.mark.slow
def test_a_graph_in_which_every_task_is_a_prefix_of_its_own_is_judged_quickly():
    graph = {f"only{n}": ((), n) for n in range(20_000)}
    taken = snapshot(graph, wanted=())
    taken.sizes[::2] = -1
    begun = time.process_time()
    sizes, doubt = fill_sizes(taken)
    assert time.process_time() - begun < 5  # quadratic, it would take minutes
    assert (sizes[7], sizes[8], doubt[7], doubt[8]) == (7, 0, 0, 19_999)


# -- what if -------------------------------------------------------------------


def test_what_if_scales_chunks_threads_and_what_clients_keep():
    changes = {w.change: w.minimum for w in judge(snapshot(threads=4)).what_if}
    assert changes == {
        "load in chunks half as large": 15,
        "load in chunks twice as large": 45,
        "cut in chunks half as large": 22,
        "cut in chunks twice as large": 30,
        "no output kept by a client": 25,
        "1 task at a time": 25,
        "2 tasks at a time": 32,
        "4 tasks at a time": 32,
    }


def test_the_snapshot_of_the_tests_is_the_graph_drawn_above():
    assert list(CHAINS) == ["load-1", "cut-1", "load-2", "cut-2", "join-1"]
    assert snapshot().offsets.tolist() == [0, 0, 1, 1, 2, 4]
