"""The shared storage's parts that need no cluster: what is stored, what is loaded."""

from __future__ import annotations

import threading

import dask.array as da
import numpy as np
import pytest
from dask._task_spec import DataNode, Task, TaskRef, convert_legacy_graph
from dask.core import flatten

from dask_memdash import FSMemory, SharedStorage, WorkerMemory
from dask_memdash.errors import StorageError, UnreachableError
from dask_memdash.intermediates.lineage import Lineage, lineages
from dask_memdash.intermediates.memory import OBJECTS, object_id
from dask_memdash.intermediates.shared import worker_side
from dask_memdash.intermediates.shared.index import StoreIndex
from dask_memdash.intermediates.shared.ledger import Followed, Ledger
from dask_memdash.intermediates.shared.loading import load_stored
from dask_memdash.intermediates.shared.resume import (
    is_persist,
    judge,
    may_be_stored,
    resume,
)
from dask_memdash.intermediates.shared.worker_side import Job

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
    assert outcome.facts == {"shape": [2, 3], "dtype": "<f8"}
    assert len(memory.get(OBJECTS + "id")) == outcome.size


@pytest.mark.parametrize("value", [None, threading.Lock()])
def test_none_and_what_cannot_be_taken_apart_are_never_stored(value):
    outcome = worker_side.write(WorkerMemory(), Job("x", "id", read=lambda: value))
    assert outcome.error
    assert not outcome.again


def test_a_store_that_refuses_may_be_asked_again():
    class Full(WorkerMemory):
        def put(self, name, frames, new=False):
            raise StorageError("it is full")

    outcome = worker_side.write(Full(), Job("x", "id", read=lambda: 1))
    assert (outcome.error, outcome.again) == ("StorageError: it is full", True)


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


# -- the plugin ------------------------------------------------------------------------


def test_only_a_memory_is_taken():
    with pytest.raises(StorageError, match="no memory"):
        SharedStorage("/scratch/store")


def test_the_plugin_says_where_it_stores(tmp_path):
    shown = repr(SharedStorage(FSMemory(tmp_path)))
    assert f"file://{tmp_path}" in shown
    assert "not started" in shown
