"""The shared storage's parts that need no cluster: what is stored, what is loaded."""

from __future__ import annotations

import pickle
import threading

import dask.array as da
import numpy as np
import pandas as pd
import pytest
from dask._task_spec import DataNode, Task, TaskRef, convert_legacy_graph
from dask.core import flatten
from distributed.spill import SpillBuffer

from dask_memdash import FSMemory, SharedStorage, WorkerMemory
from dask_memdash.boundary import boundary
from dask_memdash.errors import StorageError, UnreachableError
from dask_memdash.intermediates.lineage import Lineage, lineages
from dask_memdash.intermediates.memory import OBJECTS, object_id
from dask_memdash.intermediates.shared import worker_side
from dask_memdash.intermediates.shared.graphs import Graphs
from dask_memdash.intermediates.shared.index import StoreIndex
from dask_memdash.intermediates.shared.ledger import KEPT, WANTED, Followed, Ledger
from dask_memdash.intermediates.shared.loading import load_stored
from dask_memdash.intermediates.shared.naming import Naming, make_body
from dask_memdash.intermediates.shared.resume import (
    is_persist,
    judge,
    may_be_stored,
    resume,
)
from dask_memdash.intermediates.shared.stored_data import around
from dask_memdash.intermediates.shared.worker_side import Job
from dask_memdash.intermediates.stored import Stored

NOTHING = Lineage({}, writes=False)


def twice(x):
    return 2 * x


def write_parquet(x):
    return x


write_parquet.__module__ = "dask.dataframe.io"


def chain(*, writer=False):
    """Return source → middle → end, whose end may come after a writer."""
    function = write_parquet if writer else abs
    return {
        "source": Task("source", int, 1),
        "middle": Task("middle", function, TaskRef("source")),
        "end": Task("end", abs, TaskRef("middle")),
    }


def indexed(memory, *names):
    for name in names:
        memory.put(OBJECTS + name, [b"x"])
    index = StoreIndex(memory)
    index.refresh()
    return index


def resumed(tasks, keys, index, *, known=(), kept=None, lineages=None):
    return resume(
        tasks,
        keys,
        (kept or {}).get,
        set(known).__contains__,
        lineages or {},
        lambda keys: {},
        index,
        WorkerMemory(),
    )


# -- what is said before a key ---------------------------------------------------


def test_a_value_rests_on_the_functions_before_it():
    tasks = chain() | {"mine": Task("mine", twice, TaskRef("end"))}
    found = lineages(tasks, ["end", "mine"])
    assert found["end"] == NOTHING
    assert [name.rpartition(".")[2] for name in found["mine"].functions] == ["twice"]


def test_what_comes_after_a_writer_writes():
    assert lineages(chain(writer=True), ["source", "end"]) == {
        "source": NOTHING,
        "end": Lineage({}, writes=True),
    }


def test_a_walk_stops_at_what_is_known():
    known = {"source": Lineage({"my.function": "abc"}, writes=False)}
    tasks = chain()
    del tasks["source"]
    found = lineages(tasks, ["end"], known)
    assert found["end"].functions == {"my.function": "abc"}


def test_the_tasks_that_dask_stores_arrays_with_are_writers():
    target = {}
    stored = da.ones((4,), chunks=2).store(target, compute=False, lock=False)
    tasks = convert_legacy_graph(dict(stored.__dask_graph__()))
    found = lineages(tasks, list(flatten(stored.__dask_keys__())))
    assert [one.writes for one in found.values()] == [True, True]


# -- which graphs and keys ---------------------------------------------------------


@pytest.mark.parametrize(
    ("kinds", "actors", "expected"),
    [
        (["Array"], None, True),
        (["DataFrame", "Delayed"], None, True),
        (["low-level-graph"], None, False),
        (["Future"], None, False),
        ([], None, False),
        (["Array"], True, False),
    ],
)
def test_persist_is_told_from_compute_and_submit(kinds, actors, expected):
    metadata = {"collections": [{"type": kind} for kind in kinds]}
    assert is_persist(metadata, actors) is expected


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (("sum-1", 0), True),
        ("finalize-1", False),
        ("f-0f1d2c3b-1a2b-4c3d-8e9f-001122334455", False),
        (("shuffle-transfer-1", 0), False),
        ("shuffle-barrier-1", False),
        (("store-map-1", 0, 0), False),
        (b"bytes", True),
    ],
)
def test_some_keys_are_no_results(key, expected):
    assert may_be_stored(key, Task(key, int, 1)) is expected


def test_data_in_the_graph_is_not_stored_again():
    assert not may_be_stored("x", DataNode("x", 1))


def test_a_verdict_names_the_object_or_says_never():
    verdicts = judge(chain(), ["end"], {}, None)
    assert verdicts["end"].object_id == object_id("end")
    assert judge(chain(writer=True), ["end"], {}, None)["end"].object_id is None
    assert judge(chain(), ["end"], {}, "2")["end"].object_id != object_id("end")


# -- graphs that arrive ----------------------------------------------------------------


def test_what_is_stored_is_loaded_and_what_only_it_needed_is_gone():
    index = indexed(WorkerMemory(), object_id("middle"))
    made = resumed(chain(), ["end"], index)
    assert set(made.tasks) == {"middle", "end"}
    assert made.tasks["middle"].func is load_stored
    assert not made.tasks["middle"].dependencies
    assert made.loads["middle"].object_id == object_id("middle")


def test_a_graph_of_which_nothing_is_stored_stays_as_it_is():
    assert resumed(chain(), ["end"], indexed(WorkerMemory())) is None
    assert resumed(chain(), ["end"], indexed(WorkerMemory(), object_id("z"))) is None


def test_what_the_scheduler_knows_stays_what_it_is():
    index = indexed(WorkerMemory(), object_id("middle"))
    assert resumed(chain(), ["end"], index, known=["middle"]) is None


def test_a_load_that_stands_in_already_is_kept():
    stand_in = Task("middle", load_stored, 1)
    made = resumed(chain(), ["end"], indexed(WorkerMemory()), kept={"middle": stand_in})
    assert made.tasks["middle"] is stand_in
    assert set(made.tasks) == {"middle", "end"}
    assert not made.loads


def test_a_writer_always_writes():
    index = indexed(WorkerMemory(), object_id("middle"), object_id("end"))
    assert resumed(chain(writer=True), ["end"], index) is None


def test_the_result_of_other_source_is_not_loaded():
    tasks = chain() | {"mine": Task("mine", twice, TaskRef("end"))}
    index = indexed(WorkerMemory(), object_id("mine"), object_id("mine", "a" * 12))
    assert resumed(tasks, ["mine"], index) is None


# -- the index ------------------------------------------------------------------------


def test_the_index_knows_what_was_stored_while_it_listed():
    class Slow(WorkerMemory):
        def list(self, prefix=""):
            found = list(super().list(prefix))
            index.add("b" * 40)
            index.discard("a" * 40)
            return iter(found)

    memory = Slow()
    memory.put(OBJECTS + "a" * 40, [b"x"])
    index = StoreIndex(memory)
    index.refresh()
    assert "b" * 40 in index
    assert "a" * 40 not in index


def test_the_index_keeps_what_it_knows_where_the_store_does_not_answer():
    class Broken(WorkerMemory):
        def list(self, prefix=""):
            raise UnreachableError("no")

    index = StoreIndex(Broken())
    index.add(object_id("x"))
    with pytest.raises(UnreachableError):
        index.refresh()
    assert index.may_have("x")
    assert object_id("x") in index
    assert not index.due()


# -- book-keeping ----------------------------------------------------------------------


@pytest.fixture
def clock():
    class Clock:
        now = 0.0

        def __call__(self):
            return self.now

    return Clock()


def test_a_failed_write_is_asked_for_again_later_and_later(clock):
    ledger = Ledger(clock)
    ledger.follow("x", Followed("id", NOTHING))
    assert list(ledger.wanted()) == ["x"]
    waits = []
    for _ in range(6):
        ledger.ask("x", "worker")
        assert not list(ledger.wanted())
        ledger.failed("x", "it is full", again=True)
        begun = clock.now
        while not list(ledger.wanted()):
            clock.now += 1
        waits.append(clock.now - begun)
    assert waits == [5, 10, 20, 40, 80, 120]
    assert ledger.error == "it is full"


def test_what_cannot_be_stored_is_never_asked_for_again(clock):
    ledger = Ledger(clock)
    ledger.follow("x", Followed("id", NOTHING))
    ledger.ask("x", "worker")
    ledger.failed("x", "it is None", again=False)
    ledger.lost("x")
    assert ledger.counts()["never"] == 1
    assert not list(ledger.wanted())


def test_what_a_worker_leaves_unwritten_is_wanted_again(clock):
    ledger = Ledger(clock)
    for key in "ab":
        ledger.follow(key, Followed(key, NOTHING))
        ledger.ask(key, "worker")
    ledger.stored("a", 10, {})
    assert ledger.left("worker") == ["b"]
    assert list(ledger.wanted()) == ["b"]
    assert ledger.left("worker") == []
    ledger.forget("b")
    assert ledger.counts()["stored"] == 1


# -- writing --------------------------------------------------------------------------


def test_a_value_is_written_with_what_a_name_needs_of_it():
    memory = WorkerMemory()
    outcome = worker_side.write(memory, Job("x", "id", read=lambda: np.ones((2, 3))))
    assert outcome.error is None
    assert outcome.facts["shape"] == [2, 3]
    assert pickle.loads(outcome.facts["meta"]) == np.dtype("f8")
    assert len(memory.get(OBJECTS + "id")) == outcome.size


@pytest.mark.parametrize("value", [None, threading.Lock()])
def test_none_and_what_cannot_be_taken_apart_are_never_stored(value):
    outcome = worker_side.write(WorkerMemory(), Job("x", "id", read=lambda: value))
    assert outcome.error
    assert not outcome.again


@pytest.mark.parametrize("kind", [StorageError, UnreachableError, OSError, ValueError])
def test_a_store_that_refuses_may_be_asked_again(kind):
    class Full(WorkerMemory):
        def put(self, name, frames, new=False):
            raise kind("it is full")

    outcome = worker_side.write(Full(), Job("x", "id", read=lambda: 1))
    assert (outcome.error, outcome.again) == (f"{kind.__name__}: it is full", True)


def test_a_value_that_went_is_no_failure():
    def gone():
        raise KeyError("x")

    outcome = worker_side.write(WorkerMemory(), Job("x", "id", read=gone))
    assert outcome.gone
    assert outcome.error is None


def test_what_is_spilled_is_read_without_disturbing_dask():
    class Buffer(dict):
        pass

    data = Buffer(a=1, b=2)
    data.fast, data.slow = {"a": 1}, {"b": 2}
    assert worker_side.reader_of(data, "a")() == 1
    assert worker_side.reader_of(data, "b")() == 2
    assert worker_side.reader_of({"c": 3}, "c")() == 3


# -- names --------------------------------------------------------------------------


def test_a_name_stands_for_the_collections_that_its_values_make_up():
    facts = {
        ("a", i, j): worker_side.facts_of(np.ones((i + 1, 2 - j), dtype="i4"))
        for i, j in [(1, 1), (0, 0), (1, 0), (0, 1)]
    }
    frame = pd.DataFrame({"x": [1, 2]})
    facts |= {("b", n): worker_side.facts_of(frame) for n in (1, 0, 10, 2)}
    facts |= {("c", n): worker_side.facts_of([n]) for n in (0, 1)}
    facts |= {"d": worker_side.facts_of("text")}
    body = make_body(facts)
    assert [leaf.kind for leaf in body.leaves] == [
        *("array", "dataframe", "bag", "delayed")
    ]
    array, frames, bag, _ = body.leaves
    assert array.about["chunks"] == ((1, 2), (2, 1))
    assert array.about["dtype"] == np.dtype("i4")
    assert body.keys[0] == [("a", 0, 0), ("a", 0, 1), ("a", 1, 0), ("a", 1, 1)]
    assert body.keys[1] == [("b", 0), ("b", 1), ("b", 2), ("b", 10)]
    assert list(frames.about["meta"].columns) == ["x"]
    assert frames.about["divisions"] == (None,) * 5
    assert bag.about == {"npartitions": 2}


def test_a_name_is_given_when_all_its_results_are_stored():
    given = []
    ledger = Ledger()
    naming = Naming(WorkerMemory(), ledger, StoreIndex(WorkerMemory()), given.append)
    naming.arrived(
        {
            "keys": {("a", 0), ("a", 1), ("b", 0)},
            "global_annotations": {"persist_as": "all"},
            "annotations_by_type": {"persist_as": {("b", 0): "b"}},
        }
    )
    assert naming.progress() == {"all": (0, 2), "b": (0, 1)}
    for key in (("a", 0), ("a", 1), ("b", 0)):
        ledger.follow(key, Followed(str(key), NOTHING))
    for key in (("a", 0), ("b", 0)):
        ledger.stored(key, 1, {"kind": "other"})
        naming.stored(key)
    assert naming.progress() == {"all": (1, 2), "b": (1, 1)}
    assert len(given) == 1
    ledger.stored(("a", 1), 1, {"kind": "other"})
    naming.stored(("a", 1))
    naming.stored(("a", 1))
    assert len(given) == 2


def test_a_name_is_tried_again_and_what_the_store_has_lost_is_wanted_first(tmp_path):
    memory, now = FSMemory(tmp_path / "store"), [0.0]
    memory.create()
    index, ledger = StoreIndex(memory), Ledger()
    index.refresh()
    naming = Naming(memory, ledger, index, lambda call: call(), lambda: now[0])
    naming.arrived({"keys": {"a"}, "global_annotations": {"persist_as": "all"}})
    ledger.follow("a", Followed("a" * 40, NOTHING))
    ledger.stored("a", 1, {"kind": "other"})
    # it was deleted before the name could pin it
    naming.stored("a")
    assert not (tmp_path / "store" / "names").exists()
    naming.retry()
    assert ledger.keys["a"].state == KEPT
    now[0] = 5.0
    naming.retry()
    assert ledger.keys["a"].state == WANTED
    assert naming.progress() == {"all": (0, 1)}
    memory.put("objects/" + "a" * 40, [b"x"])
    ledger.stored("a", 1, {"kind": "other"})
    naming.stored("a")
    assert naming.progress() == {"all": (1, 1)}
    assert (tmp_path / "store" / "names" / "all").exists()


def test_a_name_that_something_else_has_is_refused_and_nothing_of_ours_failed(tmp_path):
    memory = FSMemory(tmp_path / "store")
    memory.create()
    index, ledger = StoreIndex(memory), Ledger()
    for name, number in (("first", "a" * 40), ("second", "b" * 40)):
        memory.put("objects/" + number, [b"x"])
        ledger.follow(name, Followed(number, NOTHING))
        ledger.stored(name, 1, {"kind": "other"})
    index.refresh()
    refused = []
    boundary.clear()
    for name in ("first", "second"):
        naming = Naming(memory, ledger, index, lambda call: call())
        naming.arrived({"keys": {name}, "global_annotations": {"persist_as": "mine"}})
        refused.append(naming.refused())
    assert refused[0] == []
    assert "mine" in refused[1][0]
    assert boundary.texts() == ()


def test_only_a_name_is_a_name():
    naming = Naming(WorkerMemory(), Ledger(), StoreIndex(WorkerMemory()), list)
    with pytest.raises(StorageError, match="is no name"):
        naming.arrived({"keys": {"a"}, "global_annotations": {"persist_as": "../x"}})
    naming.arrived({"keys": {"a"}, "global_annotations": {}})
    assert naming.progress() == {}


# -- a share of RAM -----------------------------------------------------------------


@pytest.fixture
def share():
    """Return a mapping of values of 10 bytes, of which three stored ones fit."""
    lying = {name: name.upper() for name in "abcdef"}
    moves = []
    data = around(
        {}, 30, lambda key: 10, lambda s: lying[s.key], lambda *move: moves.append(move)
    )
    data.moves = moves
    return data


def stored(key):
    return Stored(WorkerMemory(), key, key)


def test_stored_values_beyond_their_share_are_dropped_and_read_back(share):
    for key in "abcde":
        share[key] = key.upper()
    assert share.spilled_total == (0, 0)
    for key in "abcd":
        share.is_stored(key, stored(key))
    assert set(share.away) == {"a"}
    assert (share.here_bytes, share.away_bytes) == (30, 10)
    assert share.moves == [("a", False)]
    assert share.spilled_total == (10, 0)
    assert share["a"] == "A"
    # what was used longest ago went in its place; what is not stored stays
    assert set(share.away) == {"b"}
    assert sorted(share) == list("abcde")
    assert len(share) == 5
    assert "b" in share
    assert set(share.inner) == set("acde")


def test_a_value_that_is_used_is_not_dropped(share):
    for key in "abcd":
        share[key] = key.upper()
    share.pin("ab")
    share.pin("a")
    for key in "abcd":
        share.is_stored(key, stored(key))
    assert set(share.away) == {"c"}
    share.unpin("ab")
    share["e"] = "E"
    share.is_stored("e", stored("e"))
    assert set(share.away) == {"c", "b"}


def test_what_is_released_is_gone_wherever_it_was(share):
    for key in "abcd":
        share[key] = key.upper()
        share.is_stored(key, stored(key))
    del share["a"], share["b"]
    assert sorted(share) == ["c", "d"]
    assert (share.here_bytes, share.away_bytes) == (20, 0)
    share.came("a", "A")
    assert "a" not in share
    with pytest.raises(KeyError):
        del share["a"]
    share["c"] = "new"
    assert share.here_bytes == 10


def test_what_is_stored_is_dropped_before_anything_is_spilled(tmp_path):
    inner = SpillBuffer(str(tmp_path), target=10**9)
    data = around(inner, 10**6, lambda key: 8, lambda s: 1)
    data["a"], data["b"] = 1, 2
    data.is_stored("b", stored("b"))
    assert data.evict() == 8
    assert set(data.away) == {"b"}
    assert data.evict() > 0
    assert set(data.disk) == {"a"}
    assert data.spilled_total.memory == 8 + inner.spilled_total.memory
    # what was spilled when it was stored need not lie on the disk too
    data.is_stored("a", stored("a"))
    assert set(data.away) == {"a", "b"}
    assert not inner


@pytest.mark.parametrize(
    ("ram", "limit", "expected"),
    [(None, 400, None), (0.25, 400, 100), (50, 400, 50), (0.25, None, None)],
)
def test_the_share_is_of_the_workers_limit(ram, limit, expected):
    memory = WorkerMemory()
    memory.ram = ram
    assert worker_side.ram_limit(memory, limit) == expected


# -- the plugin ------------------------------------------------------------------------


def test_only_a_memory_is_taken():
    with pytest.raises(StorageError, match="no memory"):
        SharedStorage("/scratch/store")


def test_the_plugin_says_where_it_stores(tmp_path):
    shown = repr(SharedStorage(FSMemory(tmp_path)))
    assert f"file://{tmp_path}" in shown
    assert "not started" in shown


# -- a scheduler that is another one than ours ----------------------------------------


@pytest.mark.parametrize(
    ("args", "arguments"),
    [(({"a": 1}, ["a"]), {}), ((), {"graph": {"a": 1}, "keys": ["a"]})],
)
def test_tasks_made_in_a_way_that_is_not_known_are_dasks_alone(
    args, arguments, process_border
):
    graphs = Graphs(*[None] * 8)
    calls = []

    def theirs(*args, **arguments):
        calls.append((args, arguments))
        return "made"

    assert graphs.make_tasks(theirs, *args, **arguments) == "made"
    assert calls == [(args, arguments)]
    (text,) = process_border.texts()
    assert "new way" in text
