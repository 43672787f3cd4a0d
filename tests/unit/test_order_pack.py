"""Tasks in any order become columns by rank."""

from array import array

import pytest
from order_graphs import CHAINS, hashes, moves, raw

from dask_memdash.analysis.order import pack as packing
from dask_memdash.analysis.order.pack import PackError, pack
from dask_memdash.model.graph_columns import read
from dask_memdash.model.graph_index import GraphIndex


def columns_of(made):
    """Return for each key, by rank: prefix, flags, and ranks of what it needs."""
    ranks = read("i", made.ranks)
    keys = dict(zip(read("q", made.hashes), ranks, strict=True))
    names = {hashes(key)[0]: key for key in (*CHAINS, "open-1")}
    by_rank = {rank: names[key_hash] for key_hash, rank in keys.items()}
    offsets, needs = read("I", made.offsets), read("I", made.dependencies)
    prefix = read("H", made.prefix)
    return [
        (
            by_rank[rank],
            made.prefixes[prefix[rank]],
            made.flags[rank],
            sorted(needs[offsets[rank] : offsets[rank + 1]]),
        )
        for rank in range(len(made.flags))
    ]


def test_tasks_come_in_the_order_of_their_priorities():
    places = {key: (0, 1, 9 - n) for n, key in enumerate(CHAINS)}
    made = pack(raw(CHAINS, priorities=places))
    assert columns_of(made) == [
        ("join-1", "join", 1, [1, 3]),
        ("cut-2", "cut", 0, [2]),
        ("load-2", "load", 0, []),
        ("cut-1", "cut", 0, [4]),
        ("load-1", "load", 0, []),
    ]
    assert (made.heads, made.orders, made.first) == ({"0.0,1.0": 5}, b"", 5.0)


def test_annotated_priorities_and_generations_go_before_the_order():
    places = {
        "load-1": (0, 2, 0),
        "cut-1": (0, 2, 5),
        "load-2": (0, 1, 9),
        "cut-2": (-3, 2, 7),
        "join-1": (0, 2, 6),
    }
    made = pack(raw(CHAINS, priorities=places))
    assert [row[0] for row in columns_of(made)] == [
        *("cut-2", "load-2", "load-1", "cut-1", "join-1"),
    ]
    assert made.heads == {"-3.0,2.0": 1, "0.0,1.0": 1, "0.0,2.0": 3}
    index = GraphIndex()
    index.add("g", ["x"], made.priorities())
    assert index.position("x", (0.0, 2.0, 5.0)) == (4, 5)
    assert index.position("x", (-3.0, 2.0, 7.0)) == (1, 5)
    assert index.position("x", (0.0, 2.0, 1.0)) is None


def orders_of(numbers):
    places = {key: (0, 1, n) for key, n in zip(CHAINS, numbers, strict=True)}
    made = pack(raw(CHAINS, priorities=places))
    return len(made.orders), dict(made.priorities())


@pytest.mark.parametrize(
    ("numbers", "size", "kept"),
    [
        ([7, 8, 9, 10, 11], 0, range(7, 12)),
        ([0, 2, 4, 6, 8], 5 * 4, array("i", [0, 2, 4, 6, 8])),
        ([0, 2, 4, 6, 2**31], 5 * 8, array("d", [0, 2, 4, 6, 2**31])),
        ([0.5, 1.5, 2.5, 3.5, 4.5], 5 * 8, array("d", [0.5, 1.5, 2.5, 3.5, 4.5])),
    ],
)
def test_priorities_are_kept_as_small_as_they_are(numbers, size, kept):
    assert orders_of(numbers) == (size, {(0.0, 1.0): kept})


def test_dependencies_on_strangers_are_left_out():
    graph = {
        "load-1": (("stranger-1",), 1),
        "cut-1": (("stranger-2", "load-1", "stranger-1"), 1),
        "open-1": ((), 1),
    }
    assert [row[3] for row in columns_of(pack(raw(graph)))] == [[], [0], []]


def test_a_graph_without_dependencies_is_packed():
    made = pack(raw({"load-1": ((), 1), "load-2": ((), 1)}))
    assert (made.offsets, made.dependencies) == (array("I", [0, 0, 0]).tobytes(), b"")


def test_what_was_stored_since_the_arrival_was_not_given():
    moved = array("q")
    moved.frombytes(moves(("load-1", 10), ("load-2", -1)))
    made = pack(raw(CHAINS, given=("load-1", "load-2")), moved)
    assert [row[2] for row in columns_of(made)] == [0, 0, 2, 0, 1]


def test_what_leads_only_to_what_is_there_counts_as_given():
    made = pack(raw(CHAINS, given=("cut-1",)))
    assert [row[2] for row in columns_of(made)] == [2, 2, 0, 0, 1]
    assert made.n_given == 2


def test_two_keys_with_one_hash_are_refused():
    both = raw(CHAINS)
    both.hashes[0] = both.hashes[1]
    with pytest.raises(PackError, match="same hash"):
        pack(both)


def test_too_many_prefixes_are_refused(monkeypatch):
    monkeypatch.setattr(packing, "MAX_PREFIXES", 2)
    with pytest.raises(PackError, match="have 3 prefixes; at most 2 are told apart"):
        pack(raw(CHAINS))
