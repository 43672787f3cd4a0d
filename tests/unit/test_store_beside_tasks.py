"""What belongs to no task: named, with the part it lies in, and advice."""

from builders import T0, A, MiB, added, reported

from dask_memdash.model.cluster import ClusterModel
from dask_memdash.model.event_parts import ChildRow, GraphRow
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


def test_before_the_first_reading_nothing_is_named():
    model = ClusterModel()
    model.handle(added())
    assert LiveStore(model).cluster()["others"] == []
