"""What belongs to no task: named, with the part it lies in, and advice."""

import pytest
from builders import T0, A, MiB, added, reported

from dask_memdash.model.cluster import ClusterModel
from dask_memdash.model.event_parts import (
    ActorRow,
    ChildRow,
    GraphRow,
    NamedMemory,
    StorageRow,
)
from dask_memdash.store.all_rows import all_rows, number_of_rows
from dask_memdash.store.beside_tasks import arrow_advice, graph_advice
from dask_memdash.store.live import LiveStore


def test_advice_comes_where_each_task_carries_much():
    text = graph_advice("score", GraphRow(6, 360 * MiB, 18_000))
    assert text == (
        "Each of 6 tasks carries 60 MiB of arguments or closure: scatter it once, "
        "`x = client.scatter(x)`, and pass that to `score` instead."
    )
    assert graph_advice("score", GraphRow(1, 60 * MiB, 3_000)).startswith("Its task")
    assert graph_advice("tiny", GraphRow(15_000, 15 * MiB, 45 * MiB)) is None
    assert graph_advice("none", GraphRow(0, 0, 0)) is None


def test_advice_on_arrow_comes_where_it_keeps_much():
    assert "release_unused" in arrow_advice(420 * MiB)
    assert arrow_advice(MiB) is None
    assert arrow_advice(None) is None


def test_rows_are_named_and_never_more_than_their_part():
    model = ClusterModel()
    model.handle(added())
    model.handle(
        reported(
            rss=900 * MiB,
            reading={
                "base": 100 * MiB,
                "graph": 150 * MiB,
                "file": 40 * MiB,
                "free": 400 * MiB,
                "arrow_kept": 390 * MiB,
            },
            graph={"score": GraphRow(6, 120 * MiB, 30 * MiB)},
            children=(ChildRow("score", "score-1", "gdal", 1, 1, 70 * MiB, 80 * MiB),),
        )
    )
    store = LiveStore(model)
    rows = {row["name"]: row for row in store.cluster()["others"]}
    sizes = {name: row["bytes"] // MiB for name, row in rows.items()}
    assert sizes == {
        "arrow pool": 390,
        "baseline": 310,
        "graph arguments": 120,
        "child processes": 70,
        "file pages": 40,
        "graph records": 30,
        "allocator": 10,
    }
    assert rows["child processes"]["part"] is None
    (prefix,) = store.prefixes()
    assert prefix["graph_bytes"] == 150 * MiB
    assert "6 tasks" in prefix["advice"]
    model.handle(reported(time=T0 + 9, address=A, rss=MiB, graph={}))
    assert store.prefixes()[0]["graph_bytes"] == 0


def full() -> ClusterModel:
    """Return a cluster whose one worker has some of everything."""
    model = ClusterModel()
    model.handle(added())
    model.handle(
        reported(
            rss=900 * MiB,
            reading={
                "managed_claimed": 200 * MiB,
                "incoming": 30 * MiB,
                "base": 100 * MiB,
                "graph": 150 * MiB,
                "actors": 60 * MiB,
                "file": 40 * MiB,
                "free": 100 * MiB,
            },
            rows={"load": StorageRow(2, 200 * MiB, 0, 0)},
            graph={"score": GraphRow(6, 120 * MiB, 30 * MiB)},
            actors={
                "Counter": ActorRow(2, 40 * MiB, 0),
                "Server": ActorRow(1, 20 * MiB, 0),
            },
            named=(
                NamedMemory("global", "app.CACHE", 90 * MiB),
                NamedMemory("plugin", "Model", 50 * MiB),
                NamedMemory("client.run", "", 20 * MiB, 1),
            ),
            children=(ChildRow("score", "score-1", "gdal", 1, 1, 70 * MiB, 80 * MiB),),
        )
    )
    return model


def test_all_rows_together_are_the_processes_and_count_nothing_twice():
    store = LiveStore(full())
    rows = all_rows(store)
    inside = [r for r in rows if r["prefix"] != "child processes"]
    assert sum(r["bytes"] for r in inside) == 900 * MiB
    assert {r["kind"] for r in rows} == {"task", "other"}
    assert number_of_rows(store) == len(rows)


def test_what_workers_named_of_the_baseline_has_a_row_of_its_own():
    rows = {row["name"]: row for row in LiveStore(full()).cluster()["others"]}
    named = {
        name: (row["bytes"] // MiB, row["part"], row["method"])
        for name, row in rows.items()
        if row["group"] in ("global", "plugin", "client.run", "actors")
    }
    assert named == {
        "actor Counter": (40, "actors", "looked into"),
        "actor Server": (20, "actors", "looked into"),
        "global app.CACHE": (90, "baseline", "looked into"),
        "plugin Model": (50, "baseline", "looked into"),
        "client.run": (20, "baseline", "before and after"),
    }
    assert "`app.CACHE` keeps 90 MiB" in rows["global app.CACHE"]["advice"]
    assert rows["client.run"]["text"].startswith("1 call ran beside tasks")
    assert rows["actor Counter"]["text"] == "2 actors of this class."
    assert rows["graph arguments"]["inside"] == [{"name": "score", "bytes": 120 * MiB}]


def test_what_is_named_is_never_more_than_the_baseline():
    model = ClusterModel()
    model.handle(added())
    model.handle(
        reported(
            rss=100 * MiB,
            reading={"base": 100 * MiB},
            named=(
                NamedMemory("global", "app.CACHE", 80 * MiB),
                NamedMemory("plugin", "Model", 70 * MiB),
            ),
        )
    )
    rows = {row["name"]: row for row in LiveStore(model).cluster()["others"]}
    assert rows["global app.CACHE"]["bytes"] == 80 * MiB
    assert rows["plugin Model"]["bytes"] == 20 * MiB
    assert "baseline" not in rows


def test_calls_that_all_ran_beside_tasks_are_said_to_be_not_measured():
    model = ClusterModel()
    model.handle(added())
    named = (NamedMemory("client.run", "", 0, 3),)
    model.handle(reported(rss=100 * MiB, reading={"base": 90 * MiB}, named=named))
    rows = {row["name"]: row for row in LiveStore(model).cluster()["others"]}
    assert rows["client.run"]["bytes"] is None
    assert rows["client.run"]["method"] == "not measured"


@pytest.mark.parametrize("length", [1, 2, 3, 7, 50])
def test_pages_of_rows_follow_each_other(length):
    """Whatever the length of a page, each row is on one page, in the same order."""
    model = full()
    tasks = {f"task{n}": StorageRow(1, n * 11 * MiB, 0, 0) for n in range(12)}
    model.handle(reported(time=T0 + 9, rss=900 * MiB, rows=tasks))
    store = LiveStore(model)
    whole = [row["prefix"] for row in all_rows(store)]
    assert len(whole) == number_of_rows(store) > 15
    pages = [
        row["prefix"]
        for offset in range(0, len(whole) + length, length)
        for row in all_rows(store, length, offset)
    ]
    assert pages == whole


def test_before_the_first_reading_nothing_is_named():
    model = ClusterModel()
    model.handle(added())
    assert LiveStore(model).cluster()["others"] == []
