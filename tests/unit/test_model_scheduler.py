"""The scheduler's own memory: when it is in danger, and what is said of it."""

from builders import T0, MiB

from dask_memdash.model.cluster import ClusterModel
from dask_memdash.model.event_parts import ClientRow, GraphRow
from dask_memdash.model.events import SchedulerLooked
from dask_memdash.store.live import LiveStore


def looked(time=T0, rss=100, cgroup=None, used=None, host=8000, free=4000, **more):
    def size(mib):
        return None if mib is None else mib * MiB

    return SchedulerLooked(
        time=time,
        address="tcp://s:1",
        pid=7,
        rss=rss * MiB,
        cgroup=size(cgroup),
        cgroup_used=size(used),
        host=size(host),
        available=size(free),
        tasks=12,
        **more,
    )


GRAPH = {"score": GraphRow(8, 700 * MiB, 0), "sum": GraphRow(4, 2 * MiB, 0)}


def test_what_was_seen_is_shown():
    model = ClusterModel()
    assert LiveStore(model).cluster()["scheduler"] is None
    model.handle(looked(rss=900, cgroup=1000, used=600, graph=GRAPH))
    found = LiveStore(model).cluster()["scheduler"]
    assert (found["rss"], found["limit"]) == (900 * MiB, 1000 * MiB)
    assert found["available"] == 400 * MiB
    assert found["graph_bytes"] == 702 * MiB
    assert found["graph"][0] == {"prefix": "score", "tasks": 8, "bytes": 700 * MiB}
    assert found["largest"] is None
    assert not list(model.incidents)


def test_a_scheduler_that_fills_its_container_is_an_incident_before_it_dies():
    model = ClusterModel()
    for second in range(5):
        model.handle(looked(T0 + second, rss=900, cgroup=1000, used=950, graph=GRAPH))
    (incident,) = LiveStore(model).incidents()
    assert incident["kind"] == "kernel-near"
    assert incident["worker"]["name"] == "scheduler"
    diagnosis = incident["diagnosis"]
    assert diagnosis["cause"] == "graph"
    assert diagnosis["responsible"] == {"prefix": "score", "key": None}
    assert diagnosis["relief"] is None
    assert "The scheduler is about to run out of memory" in diagnosis["text"]
    assert "its cgroup used 950 of 1,000 MiB" in diagnosis["text"]
    assert "scatter" in diagnosis["advice"][0]
    LiveStore(model).incident(incident["id"])


def test_what_no_task_carries_is_not_blamed_on_tasks():
    model = ClusterModel()
    model.handle(looked(rss=7000, host=8000, free=100))
    (incident,) = LiveStore(model).incidents()
    assert incident["diagnosis"]["cause"] == "unaccounted"
    assert incident["diagnosis"]["responsible"]["prefix"] is None


def test_a_machine_that_others_fill_is_not_the_schedulers():
    model = ClusterModel()
    model.handle(looked(rss=200, host=8000, free=100))
    assert not list(model.incidents)


def test_a_container_with_room_is_no_danger():
    model = ClusterModel()
    model.handle(looked(rss=800, cgroup=1000, used=850))
    assert not list(model.incidents)


def test_a_scheduler_that_fills_its_address_space_is_an_incident_before_it_fails():
    model = ClusterModel()
    space = {"rlimit": 2000 * MiB, "rlimit_used": 1850 * MiB, "graph": GRAPH}
    model.handle(looked(rss=200, cgroup=4000, used=300, **space))
    (incident,) = LiveStore(model).incidents()
    assert (incident["kind"], incident["limit"]) == ("kernel-near", 2000 * MiB)
    text = incident["diagnosis"]["text"]
    assert "its address space, which ulimit -v limits, used 1,850 of 2,000 MiB" in text
    found = LiveStore(model).cluster()["scheduler"]
    assert (found["limit"], found["available"]) == (2000 * MiB, 150 * MiB)


def test_an_address_space_with_room_is_no_danger():
    model = ClusterModel()
    model.handle(looked(rlimit=2000 * MiB, rlimit_used=1700 * MiB))
    model.handle(looked(rlimit=2000 * MiB))
    assert not list(model.incidents)


def test_clients_are_told_with_what_they_sent_and_advice_where_dask_warns():
    model = ClusterModel()
    clients = {
        "Client-1": ClientRow(8, 192 * MiB, 24 * MiB, "score", 310 * MiB, 4000 * MiB),
        "Client-2": ClientRow(1, 2 * MiB, 2 * MiB, "sum"),
    }
    model.handle(looked(clients=clients, warns_above=10 * MiB))
    first, second = LiveStore(model).cluster()["scheduler"]["clients"]
    assert (first["client"], first["graphs"], first["rss"]) == (
        *("Client-1", 8),
        310 * MiB,
    )
    assert first["advice"].startswith(
        "Its largest graph came with 24 MiB; Dask warns above 10 MiB. Scatter"
    )
    assert (second["rss"], second["limit"], second["advice"]) == (None, None, None)
