"""What is no run-ahead: sizes that are not known, and tasks that are late."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from order_graphs import snapshot

from dask_memdash.analysis.order.comparison import judge
from dask_memdash.analysis.order.nearby import most_between, reached
from dask_memdash.analysis.order.points import facts
from dask_memdash.analysis.order.sizes import fill_sizes
from dask_memdash.model.graph_columns import RootGroup

MiB = 2**20


def named(taken, **names):
    """Give prefixes of a snapshot names that have hyphens."""
    taken.prefixes = tuple(names.get(name, name) for name in taken.prefixes)
    return taken


def joined(groups=4, of=4, size=7 * MiB):
    """Loads of which each few are joined by one task, which hands them over."""
    graph = {}
    for group in range(groups):
        loads = [f"load-{group * of + n}" for n in range(of)]
        graph |= dict.fromkeys(loads, ((), size))
        graph[f"join-{group}"] = (tuple(loads), -1)
    graph["barrier-0"] = (tuple(f"join-{group}" for group in range(groups)), -1)
    return graph


def test_loads_that_wait_for_a_join_that_dies_are_not_ahead():
    # Two workers: the tasks that join their first four never finish, and others load.
    stored = [(f"load-{n}", n + 1, 0) for n in range(12)]
    taken = snapshot(joined(), threads=2, stored=stored, wanted=("barrier-0",))
    taken = named(taken, join="rechunk-merge-rechunk-transfer")
    found = facts(judge(taken), 12)
    assert (found.ideal, found.held) == (14 * MiB, 84 * MiB)
    assert found.run_ahead == {"load": 70 * MiB}  # if the joins are worth nothing
    assert found.near == 63 * MiB  # two joins at a time have eight, and one is loaded
    assert found.doubt >= 28 * MiB  # what a join makes of its inputs is not known
    assert found.beyond == 0


def test_loads_that_wait_for_one_late_join_are_not_ahead_where_all_is_known():
    # The first join is late, all else runs as the order has it.
    graph = {key: (needs, max(0, size)) for key, (needs, size) in joined().items()}
    loads = [(f"load-{n}", n + 1, 0) for n in range(4)]
    more = [(f"load-{n}", n + 1, 9) for n in range(4, 8)]
    stored = (*loads, *more, ("join-1", 9, 0), ("load-8", 10, 0))
    taken = snapshot(graph, threads=2, stored=stored, wanted=("barrier-0",))
    found = facts(judge(taken), 10)
    assert (found.held, found.near, found.doubt) == (35 * MiB, 63 * MiB, 0)
    assert found.beyond == 0


def pairs(n=24, size=10 * MiB, cut=MiB):
    """Loads of which each has a task that takes little of it, and one last sum."""
    graph = {}
    for number in range(n):
        graph[f"load-{number}"] = ((), size)
        graph[f"cut-{number}"] = ((f"load-{number}",), cut)
    graph["sum-0"] = (tuple(f"cut-{number}" for number in range(n)), MiB)
    return graph


AHEAD = (("load-0", 1, 2), ("cut-0", 2, 0))
AHEAD += tuple((f"load-{n}", n + 2, 0) for n in range(1, 20))


def test_loads_far_beyond_what_their_consumers_have_taken_are_ahead():
    found = facts(judge(snapshot(pairs(), threads=2, stored=AHEAD)), 21)
    assert found.held == 191 * MiB
    assert found.beyond > 140 * MiB
    assert found.run_ahead.keys() == {"load"}


def test_loads_are_not_ahead_while_it_is_not_known_what_their_consumers_make():
    taken = snapshot(pairs(cut=-1), threads=2, stored=AHEAD[2:])
    found = facts(judge(taken), 21)
    assert found.held - found.near > 100 * MiB
    assert found.beyond == 0  # each may keep as much as it takes


def test_facts_tell_how_the_scheduler_holds_back_root_tasks():
    taken = snapshot(pairs(), stored=AHEAD)
    values = {"tasks": 24, "threads": 2, "groups": 0, "group_tasks": 0}
    taken.roots = (
        RootGroup("load", rootish=True, queued=True, saturation=1.1, **values),
        RootGroup("free", rootish=True, queued=False, saturation=None, **values),
        RootGroup("odd", rootish=True, queued=False, saturation=1.1, **values),
        RootGroup("cut", rootish=False, queued=False, saturation=1.1, **values),
    )
    assert facts(judge(taken), 9).saturation == {"load": 1.1, "free": None}


# -- sizes that follow from inputs ----------------------------------------------


def test_a_join_of_chunks_is_as_large_as_all_of_them():
    taken = named(snapshot(joined(2), wanted=("barrier-0",)), join="rechunk-merge")
    sizes, doubt = fill_sizes(taken)
    assert sizes[[4, 9]].tolist() == [28 * MiB, 28 * MiB]
    assert doubt[[4, 9]].tolist() == [0, 0]
    # What is not known may be as large as all that it takes.
    assert (sizes[10], doubt[10]) == (0, 56 * MiB)


def test_pieces_of_a_chunk_share_it_and_are_not_all_equal():
    graph = {"load-0": ((), 30)}
    graph |= {f"cut-{n}": (("load-0",), -1) for n in range(3)}
    graph["join-0"] = (("cut-0", "cut-1", "cut-2"), -1)
    names = {"cut": "rechunk-split", "join": "rechunk-merge"}
    taken = named(snapshot(graph, wanted=("join-0",)), **names)
    sizes, doubt = fill_sizes(taken)
    assert sizes.tolist() == [30, 10, 10, 10, 30]
    assert doubt.tolist() == [0, 10, 10, 10, 30]


def test_a_later_step_of_a_rechunk_is_not_like_an_earlier_one():
    graph = {
        "load-0": ((), 8),
        "load-1": ((), 8),
        "join-0": (("load-0", "load-1"), 16),
        "join-1": (("load-0", "load-1"), 16),
        "join-2": (("join-0", "join-1"), -1),
    }
    taken = named(snapshot(graph, wanted=("join-2",)), join="rechunk-merge")
    sizes, doubt = fill_sizes(taken)
    assert (sizes[4], doubt[4]) == (32, 0)


@pytest.mark.parametrize(
    "name", ["rechunk-merge-sum", "rechunk-merge-rechunk-transfer", "my-rechunk-merge"]
)
def test_a_join_that_is_fused_with_what_makes_something_else_is_not_known(name):
    taken = named(snapshot(joined(1), wanted=("barrier-0",)), join=name)
    sizes, doubt = fill_sizes(taken)
    assert (sizes[4], doubt[4]) == (0, 28 * MiB)


# -- between which points -------------------------------------------------------


@given(st.permutations(range(1, 13)), st.integers(0, 12), st.permutations(range(12)))
def test_a_cluster_is_between_its_first_open_and_its_furthest_finished_task(
    order, done, ran
):
    come = np.array(order)
    stored_at = np.zeros(12, np.uint32)
    for when, task in enumerate(ran[:done], 1):
        stored_at[task] = when
    low, high = reached(come, stored_at, done)
    for position in range(done + 1):
        finished = [come[task] for task in ran[:position]]
        still_open = [n for n in range(1, 13) if n not in finished]
        assert low[position] == min([*still_open, 13]) - 1
        assert high[position] == max([*finished, 0])


@given(
    st.lists(st.integers(0, 99), min_size=1, max_size=40),
    st.lists(st.tuples(st.integers(0, 45), st.integers(0, 45)), max_size=20),
)
def test_the_most_between_two_points_is_that_of_all_points_between(curve, stretches):
    low = np.array([min(a, b, len(curve) - 1) for a, b in stretches], np.int64)
    high = np.array([max(a, b) for a, b in stretches], np.int64)
    found = most_between(np.array(curve, float), low, high).tolist()
    assert found == [max(curve[a : b + 1]) for a, b in zip(low, high, strict=True)]


def test_a_cluster_that_keeps_to_the_order_is_at_one_point():
    come = np.arange(1, 9)
    low, high = reached(come, come.astype(np.uint32), 8)
    assert low.tolist() == high.tolist() == list(range(9))
    assert all(b - a == 1 for a, b in pairwise(low.tolist()))
