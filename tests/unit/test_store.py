"""The live store: the shapes of the store in every state, ready for JSON."""

import json
import types
import typing
from dataclasses import replace

import pytest
from builders import (
    A,
    B,
    C,
    MiB,
    added,
    died,
    executing,
    finished,
    info,
    killed,
    removed,
    reported,
    row,
    sampled,
)

from dask_memdash.errors import (
    UnknownIncidentError,
    UnknownPrefixError,
    UnknownWorkerError,
)
from dask_memdash.model.breakdown import PARTS, Reading
from dask_memdash.model.event_parts import (
    Held,
    SelfCost,
    Storing,
    Thresholds,
    Unseen,
    Weighed,
)
from dask_memdash.model.events import (
    GraphArrived,
    IntermediatesTold,
    MemoryErrorRaised,
    Noticed,
    StorageHeld,
    Ticked,
    WorkerStatusChanged,
)
from dask_memdash.store import cluster_shapes, prefix_shapes, worker_shapes
from dask_memdash.store.live import LiveStore
from dask_memdash.store.natural_order import natural

T = 1_760_000_000.0

INCIDENT = {
    "id",
    "time",
    "until",
    "kind",
    "worker",
    "exit",
    "limit",
    "breakdown",
    "diagnosis",
    "evidence",
    "failure",
    "settled",
}
FAILURE = {
    *("id", "opened", "closed", "kind", "count", "deaths", "kinds", "workers"),
    *("worker_names", "graph", "text", "responsible", "diagnosis", "cost"),
    *("killed_workers", "tasks_given_up", "incidents", "settled"),
}
DETAILS = INCIDENT | {
    "suspects",
    "innocent",
    "storage",
    "spill",
    "children",
    "findings",
    "cost",
    "timeline",
    "last_seconds",
    "thresholds",
}
KILLED = {"tasks", "n_tasks", "task", "attempts"}
SUSPECT = {
    "key",
    "prefix",
    "bytes",
    "peak",
    "share",
    "seconds",
    "thread",
    "priority",
    "order_position",
    "order_total",
    "attempts",
    "method",
    "expected",
    "grown",
    "rss_at_begin",
    "inputs",
    "arguments",
    "gathering",
    "filling",
    "largest_block",
}


def feed(model, *events):
    for event in events:
        model.handle(event)


def busy(address=A, pid=100, **more):
    values = {
        "rss": 400 * MiB,
        "rows": {"open": row(90 * MiB, 10 * MiB, keys=3)},
        "executing": (executing(), executing("async-1", None, thread=None)),
        "finished": {"open": finished(MiB, outputs=[5], errors=[1])},
        "thresholds": Thresholds(spill=700 * MiB),
        "notices": ("no idle moment yet",),
        "reading": {
            "busy": True,
            "live": 100 * MiB,
            "incoming": 1,
            "outgoing": 2,
            "shuffle": 3,
            "spilled": 10 * MiB,
            "spilled_disk": 5 * MiB,
        },
        **more,
    }
    return added(address, pid), reported(address, pid, **values)


STATES = {
    "empty": [],
    "joined": [added(A, 1, limit=None), added(B, 2)],
    "busy": [
        GraphArrived(T, "g", ("sum",), {"0.0,1.0": (1.0, 5.0)}),
        *busy(A, 1),
        *busy(B, 2),
        StorageHeld(T, A, {"open": Held(5, 7, {"sum": 7}, 9, 1)}),
        sampled(A, 1, notices=("the recorder cannot be opened",)),
        Noticed(T, "scheduler", ("one", "two")),
    ],
    "after a death": [
        *busy(A, 1),
        *busy(B, 2),
        WorkerStatusChanged(T + 3, B, "paused"),
        killed("sum-1", A),
        removed(A, n_assigned=2, assigned=(info(), info("x-1", None))),
        died(
            A,
            1,
            reading=Reading(T, 500 * MiB),
            executing=(executing(),),
            samples=((T, 5),),
            known=(info(),),
        ),
        died(C, 9),
    ],
    "shared": [*busy(A, 1), *busy(B, 1), added(C, 1)],
}


@pytest.fixture(params=STATES)
def store(request, model):
    feed(model, *STATES[request.param])
    return LiveStore(model)


@pytest.fixture
def store_of(model):
    """Make a store of some events."""

    def make(*events):
        feed(model, *events)
        return LiveStore(model)

    return make


def conforms(value, kind, where="it"):
    """Check a value against one of the shapes, its keys exactly."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if typing.is_typeddict(kind):
        hints = typing.get_type_hints(kind)
        assert set(value) == set(hints), where
        for name, hint in hints.items():
            conforms(value[name], hint, f"{where}.{name}")
    elif origin is list:
        assert isinstance(value, list), where
        for item in value:
            conforms(item, args[0], where)
    elif origin is dict:
        assert isinstance(value, dict), where
        for name, item in value.items():
            conforms(name, args[0], where)
            conforms(item, args[1], f"{where}.{name}")
    elif origin in (typing.Union, types.UnionType):
        if value is not None:
            (inner,) = (a for a in args if a is not type(None))
            conforms(value, inner, where)
    elif kind is float:
        assert isinstance(value, int | float), where
        assert not isinstance(value, bool), where
    elif kind is not typing.Any:
        assert type(value) is kind, f"{where} is {value!r}"


def check_json(value):
    assert json.loads(json.dumps(value, allow_nan=False)) == value


# -- shapes --------------------------------------------------------------------


def test_the_cluster_has_its_shape(store):
    conforms(store.cluster(), cluster_shapes.Cluster)
    check_json(store.cluster())


def test_workers_have_their_shape(store):
    conforms(store.workers(), list[worker_shapes.Worker])
    for worker in store.workers():
        assert set(worker["transfer"]) == {"incoming", "outgoing", "shuffle"}
    check_json(store.workers())


def test_workers_that_have_left_have_the_same_shape(store):
    conforms(store.departed(), list[worker_shapes.Worker])
    check_json(store.departed())


def test_prefixes_have_their_shape(store):
    conforms(store.prefixes(), list[prefix_shapes.Prefix])
    check_json(store.prefixes())
    conforms(store.prefix_totals(), prefix_shapes.PrefixTotals)


def test_each_prefix_can_be_had_with_the_distribution_of_its_outputs(store):
    for prefix in store.prefixes():
        details = store.prefix(prefix["prefix"])
        conforms(details, prefix_shapes.PrefixDetails)
        assert {k: details[k] for k in prefix} == prefix
    with pytest.raises(UnknownPrefixError):
        store.prefix("no such prefix")


def test_totals_of_prefixes_are_the_sums_over_them(store):
    totals, prefixes = store.prefix_totals(), store.prefixes()
    assert totals["prefixes"] == len(prefixes)
    assert totals["managed"] == sum(p["storage"]["managed"] for p in prefixes)
    assert totals["count"] == sum(p["storage"]["count"] for p in prefixes)
    assert totals["running"] == sum(p["execution"]["running"] for p in prefixes)


def test_workers_that_left_and_what_ran_have_their_shape(store):
    conforms(store.departed(), list[worker_shapes.Worker])
    check_json(store.departed())
    for worker in (*store.workers(), *store.departed()):
        conforms(store.task_history(worker["address"]), list[worker_shapes.PastTask])
        store.history(worker["address"])
    with pytest.raises(UnknownWorkerError):
        store.task_history("tcp://nobody:1")


def test_failures_have_their_shape(store):
    assert store.cluster()["n_failures"] == len(store.failures())
    for failure in store.failures():
        assert set(failure) == FAILURE
        assert set(failure["diagnosis"]) == {
            *("cause", "relief", "confidence", "text", "advice"),
        }
        assert store.failure(failure["id"]) == failure
        for incident_id in failure["incidents"]:
            assert store.incident(incident_id)["failure"] == failure["id"]
        check_json(failure)


def test_histories_have_their_shape(store):
    for worker in (None, *(w["address"] for w in store.workers())):
        history = store.history(worker)
        conforms(history, cluster_shapes.History)
        beside = {"pauses", "n_pauses"}
        lengths = {len(c) for name, c in history.items() if name not in beside}
        assert len(lengths) == 1
        check_json(history)


def test_pauses_are_told_with_the_history_and_counted(store_of):
    store = store_of(
        *(added(A, 1), added(B, 2, name="1"), reported(A, 1)),
        *(
            WorkerStatusChanged(T + 5, A, "paused"),
            WorkerStatusChanged(T + 6, B, "paused"),
        ),
        WorkerStatusChanged(T + 8, A, "running"),
    )
    whole = store.history()
    assert whole["pauses"] == [[T + 5, T + 8], [T + 6, None]]
    assert whole["n_pauses"] == 2
    assert store.history(A)["pauses"] == [[T + 5, T + 8]]
    assert store.history(A, since=T + 9)["pauses"] == []
    assert store.history(A, since=T + 9)["n_pauses"] == 1
    assert [worker["n_pauses"] for worker in store.workers()] == [1, 1]


def test_incidents_have_their_shape(store):
    for incident in store.incidents():
        assert set(incident) == INCIDENT
        conforms(incident["breakdown"], worker_shapes.Breakdown)
        details = store.incident(incident["id"])
        more = KILLED if incident["kind"] == "killed-worker" else set()
        assert set(details) == DETAILS | more
        assert {name: details[name] for name in INCIDENT} == incident
        for suspect in details["suspects"]:
            assert set(suspect) == SUSPECT
        for stored in details["storage"]:
            assert set(stored) == {"prefix", "managed", "spilled", "count", "because"}
        assert set(details["timeline"]) == {"time", "process", "clock_offset"}
        check_json(details)


def test_a_breakdown_sums_exactly_wherever_it_is_shown(store):
    shown = [store.cluster(), *store.workers(), *store.incidents()]
    for breakdown in (item["breakdown"] for item in shown):
        if breakdown["process"] is None:
            assert set(breakdown.values()) == {None}
        else:
            assert sum(breakdown[name] for name in PARTS) == breakdown["process"]


# -- values --------------------------------------------------------------------


def test_an_empty_cluster_knows_nothing_rather_than_zero(store_of):
    cluster = store_of().cluster()
    assert (cluster["n_workers"], cluster["limit"]) == (0, None)
    assert set(cluster["breakdown"].values()) == {None}


def test_the_cluster_at_a_glance(store_of):
    cluster = store_of(*busy(A, 1), *busy(B, 2), *busy(C, 2)).cluster()
    assert (cluster["schema_version"], cluster["time"]) == (1, T + 1)
    assert (cluster["n_workers"], cluster["n_processes"]) == (3, 2)
    assert cluster["limit"] == 2000 * MiB
    assert cluster["breakdown"]["process"] == 800 * MiB


def test_workers_that_share_a_process_share_the_least_of_their_limits(store_of):
    shared = added(A, 1, limit=300), added(B, 1, limit=200), added(C, 2, limit=50)
    assert store_of(*shared).cluster()["limit"] == 250


def test_a_cluster_with_a_worker_without_limit_has_none(store_of):
    assert store_of(added(A, 1, limit=None), added(B, 2)).cluster()["limit"] is None


def test_degradations_are_listed_with_where_and_since(store_of):
    cluster = store_of(*STATES["busy"]).cluster()
    assert cluster["degraded"] == [
        {"where": "scheduler", "text": "one", "since": T},
        {"where": "scheduler", "text": "two", "since": T},
        {"where": f"worker {A}", "text": "no idle moment yet", "since": T},
        {
            "where": f"nanny of {A}",
            "text": "the recorder cannot be opened",
            "since": T,
        },
        {"where": f"worker {B}", "text": "no idle moment yet", "since": T},
    ]


def test_a_worker_is_shown_with_its_tasks_and_thresholds(store_of):
    (worker,) = store_of(*busy(A, 1)).workers()
    assert (worker["address"], worker["pid"], worker["status"]) == (A, 1, "running")
    assert worker["thresholds"] == {
        "target": None,
        "spill": 700 * MiB,
        "pause": None,
        "terminate": None,
    }
    assert worker["transfer"] == {"incoming": 1, "outgoing": 2, "shuffle": 3}
    assert worker["executing_tasks"] == [
        {
            "key": "sum-1",
            "prefix": "sum",
            "thread": 7,
            "seconds": 2.0,
            "bytes": 100 * MiB,
            "peak": 100 * MiB,
            "method": "estimated",
            "error": 0,
            "largest_block": None,
        },
        {
            "key": "async-1",
            "prefix": "async",
            "thread": None,
            "seconds": 2.0,
            "bytes": None,
            "peak": None,
            "method": "unmeasured",
            "error": None,
            "largest_block": None,
        },
    ]
    assert (worker["method"], worker["degraded"]) == (
        "estimated",
        ["no idle moment yet"],
    )


def test_a_worker_before_its_first_report_is_not_known(store_of):
    (worker,) = store_of(added(A, 1)).workers()
    assert (worker["method"], worker["executing_tasks"]) == ("none", [])
    assert set(worker["breakdown"].values()) == {None}
    assert set(worker["transfer"].values()) == {None}


def test_a_worker_without_memdash_says_so_in_its_row_and_takes_it_back(model):
    store, absent = LiveStore(model), "dask_memdash cannot be imported"
    feed(model, added(A, 1), added(B, 2), Noticed(T, f"worker {A}", (absent,)))
    assert [row["degraded"] for row in store.workers()] == [[absent], []]
    feed(model, Noticed(T, f"worker {A}", ()))
    assert [row["degraded"] for row in store.workers()] == [[], []]


def test_workers_that_share_a_process_show_the_whole_process(store_of):
    workers = store_of(*STATES["shared"]).workers()
    assert [w["shares_process_with"] for w in workers] == [2, 2, 2]
    assert [w["breakdown"]["process"] for w in workers] == [400 * MiB] * 3


def test_workers_come_by_name_and_numbers_by_value(store_of):
    names = ["10", "b", "2", "a", "1"]
    store = store_of(
        *(added(f"tcp://x:{n}", n, name=name) for n, name in enumerate(names))
    )
    assert [w["name"] for w in store.workers()] == ["1", "2", "10", "a", "b"]


def test_a_memory_of_intermediates_is_told_with_what_all_workers_did(store_of):
    told = IntermediatesTold(
        *(5.0, "s3://bucket/store", 9, 4, 1, 0, 2, 3, 4, 1),
        names={"b": (1, 2), "a": (3, 3)},
        error="it is full",
    )
    wrote = Storing(3, 300, 1.5, 1, 10, ram=100, error="it is full")
    read = Storing(read_back=2, read_back_bytes=20, ram=50)
    store = store_of(
        added("tcp://x:1", 1),
        added("tcp://x:2", 2),
        added("tcp://x:3", 3),
        replace(reported("tcp://x:1", 1), storing=wrote),
        replace(reported("tcp://x:2", 2), storing=read),
        StorageHeld(5.0, "tcp://x:1", {"sum": Held(0, 0, {}, stored=7)}),
        told,
    )
    cluster = store.cluster()
    found = cluster["intermediates"]
    assert (cluster["stored"], cluster["stored_pending"]) == (7, 0)
    assert found["names"] == [
        {"name": "a", "stored": 3, "total": 3},
        {"name": "b", "stored": 1, "total": 2},
    ]
    together = found["workers"]
    assert (together["stored_bytes"], together["read_back_bytes"]) == (300, 20)
    assert (together["ram"], together["error"]) == (150, "it is full")
    assert [w["storing"] is None for w in store.workers()] == [False, False, True]
    assert [w["stored"] for w in store.workers()] == [7, 0, 0]
    gone = store_of(replace(told, address="")).cluster()
    assert gone["intermediates"] is None


def test_prefixes_come_largest_first_with_storage_and_execution(store_of):
    prefixes = store_of(*STATES["busy"]).prefixes()
    assert [p["prefix"] for p in prefixes] == ["open", "sum", "async"]
    assert prefixes[0] == {
        "prefix": "open",
        "kind": "task",
        "bytes": 180 * MiB,
        "part": None,
        "method": "estimated",
        "storage": {
            "managed": 180 * MiB,
            "managed_claimed": 180 * MiB,
            "replicas": 9,
            "spilled": 20 * MiB,
            "spilled_disk": 10 * MiB,
            "pinned": 5,
            "awaited": 7,
            "stored": 0,
            "stored_pending": 0,
            "count": 5,
            "output_bytes": {"min": 5, "p50": 5, "p95": 5, "max": 5},
            "awaited_by": [{"prefix": "sum", "bytes": 7}],
            "sizeof": None,
        },
        "execution": {
            "executing": 0,
            "running": 0,
            "finished": 2,
            "peak": {"p50": MiB, "p95": MiB, "max": MiB, "at_least": None},
            "method": "estimated",
            "error": 1,
            "unseen": {"native": 0, "arrow": 0, "untouched": 0, "small": 0},
            "leak": None,
        },
        "children": {"processes": 0, "rss": 0, "peak": None},
        "graph_bytes": 0,
        "advice": None,
    }
    assert prefixes[2]["execution"]["executing"] is None, "not measured is not 0"


def weighed(count, believed, left, because=""):
    """Make tasks of a prefix that were weighed, one of them after a close look."""
    return replace(
        finished(*[MiB] * count),
        method="exact",
        weighed=Weighed(count, believed, left, because),
        unseen=Unseen(native=3 * MiB, arrow=2 * MiB, untouched=MiB, small=5),
    )


def test_a_prefix_is_audited_once_enough_of_its_tasks_were_weighed(store_of):
    joined = added(A, 1)
    few = {"view": weighed(2, 100 * MiB, 0)}
    more = {
        "view": weighed(2, 100 * MiB, 0, "views of other arrays"),
        "leak": weighed(4, 0, 120 * MiB),
    }
    store = store_of(joined, reported(A, 1, finished=few, reading={"base": 0}))
    assert store.prefixes()[0]["storage"]["sizeof"] is None
    store = store_of(reported(A, 1, finished=more, reading={"base": 80 * MiB}))
    by_name = {p["prefix"]: p for p in store.prefixes()}
    assert by_name["view"]["storage"]["sizeof"] == {
        "count": 4,
        "believed": 50 * MiB,
        "measured": 0,
        "ratio": None,
        "flag": "too-heavy",
        "because": "views of other arrays",
    }
    assert by_name["view"]["execution"]["leak"] == {"bytes": 0, "per_task": 0}
    # the worker has grown by 80 MiB, and nothing but the leak explains it
    assert by_name["leak"]["execution"]["leak"] == {
        "bytes": 80 * MiB,
        "per_task": 20 * MiB,
    }
    assert by_name["leak"]["execution"]["unseen"] == {
        "native": 3 * MiB,
        "arrow": 2 * MiB,
        "untouched": MiB,
        "small": 5,
    }
    assert store.prefix("leak")["execution"] == by_name["leak"]["execution"]


def test_what_memdash_costs_is_averaged_and_the_worst_is_named(store_of):
    store = store_of(
        added(A, 1),
        added(B, 2),
        added(C, 3),
        reported(A, 1, cost=SelfCost(0.01, 1000), nanny_cost=SelfCost(0.02)),
        reported(B, 2, cost=SelfCost(0.03, 500, held_back=2)),
        Ticked(T + 2, SelfCost(0.004, 9000)),
    )
    assert store.cluster()["self_cost"] == {
        "scheduler": {"cpu": 0.004, "cpu_max": 0.004, "bytes": 9000, "held_back": 0},
        "workers": {"cpu": 0.02, "cpu_max": 0.03, "bytes": 1500, "held_back": 1},
        "nannies": {"cpu": 0.02, "cpu_max": 0.02, "bytes": None, "held_back": 0},
    }
    workers = {w["address"]: w["self_cost"] for w in store.workers()}
    assert workers[B] == {
        "worker": {"cpu": 0.03, "cpu_max": 0.03, "bytes": 500, "held_back": 1},
        "nanny": {"cpu": None, "cpu_max": None, "bytes": None, "held_back": 0},
    }
    assert workers[C]["worker"]["cpu"] is None, "not known is not 0"


def test_spilled_bytes_that_no_worker_can_tell_are_none(store_of):
    (prefix,) = store_of(
        added(), reported(rows={"open": row(90)}, reading={"spilled": None})
    ).prefixes()
    assert prefix["storage"]["spilled"] is None
    assert prefix["storage"]["spilled_disk"] is None


def test_a_death_is_told_with_its_suspects_and_its_cost(store_of):
    store = store_of(*STATES["after a death"])
    found = [(i["id"], i["kind"]) for i in store.incidents()]
    assert found == [
        ("3", "killed"),
        ("2", "killed-worker"),
        ("1", "killed"),
    ]
    death = store.incident("1")
    assert death["exit"] == {"code": None, "signal": 9, "by": "unknown"}
    assert death["worker"] == {
        "address": A,
        "name": "0",
        "host": "10.0.0.1",
        "pid": 1,
    }
    assert [s["key"] for s in death["suspects"]] == ["sum-1"]
    assert death["suspects"][0]["priority"] == [0.0, 1.0, 5.0]
    assert death["innocent"] == {"count": 1, "keys": ["x-1"]}
    assert death["storage"] == [
        {
            "prefix": "open",
            "managed": 90 * MiB,
            "spilled": 10 * MiB,
            "count": 3,
            "because": [
                {"why": "other", "prefix": None, "bytes": 100 * MiB, "client": None}
            ],
        }
    ]
    assert death["cost"] == {
        "keys_lost": 0,
        "bytes_lost": 0,
        "seconds_recomputed": None,
        "keys_stored": 0,
        "bytes_stored": 0,
        "seconds_away": None,
        "nanny_closed_after": None,
    }
    assert death["timeline"] == {"time": [T], "process": [5], "clock_offset": 0.0}
    assert death["settled"] is True
    assert death["diagnosis"]["cause"] == "external"
    assert "1 task was running: sum-1" in death["diagnosis"]["text"]


def test_a_killed_worker_is_told_with_its_tasks_and_attempts(store_of):
    store = store_of(
        GraphArrived(T, "g", ("sum",), {"0.0,1.0": (1.0, 5.0)}),
        *busy(A, 1),
        killed("sum-1", A),
    )
    details = store.incident("2")
    task = {
        "key": "sum-1",
        "prefix": "sum",
        "priority": [0.0, 1.0, 5.0],
        "order_position": 2,
        "order_total": 2,
        "inputs": None,
    }
    assert (details["tasks"], details["n_tasks"], details["task"]) == ([task], 1, task)
    assert details["attempts"] == ["1"]


# -- paging, versions, errors --------------------------------------------------


@pytest.mark.parametrize("method", ["workers", "prefixes", "incidents", "failures"])
def test_lists_are_given_in_pages(store_of, method):
    addresses = [f"tcp://x:{n}" for n in range(5)]
    store = store_of(
        *(added(a, n, name=str(n)) for n, a in enumerate(addresses)),
        *(reported(a, n, rows={f"p{n}": row(n + 1)}) for n, a in enumerate(addresses)),
        *(
            MemoryErrorRaised(T + 5, a, info(f"p{n}-1"), "MemoryError()")
            for n, a in enumerate(addresses)
        ),
    )
    page = getattr(store, method)
    whole = page()
    assert len(whole) == 5
    assert page(2) == whole[:2]
    assert page(2, 3) == whole[3:]
    assert page(limit=None, offset=4) == whole[4:]
    assert page(0) == []
    assert page(10, 99) == []


def test_what_is_not_known_is_an_error(store):
    for unknown in ("nonsense", "", "99"):
        with pytest.raises(UnknownIncidentError, match=f"no incident '{unknown}'"):
            store.incident(unknown)
        with pytest.raises(UnknownWorkerError, match=f"no worker '{unknown}'"):
            store.history(unknown)


def test_the_version_grows_with_every_event_and_stands_otherwise(store_of, model):
    store = store_of(added(A, 1))
    version = store.version
    store.workers()
    assert store.version == version
    before = store.workers()
    feed(model, *busy(B, 2))
    assert store.version > version
    assert len(before) == 1
    assert len(store.workers()) == 2


def test_a_callers_page_is_its_own(store_of):
    store = store_of(*busy(A, 1))
    store.workers().clear()
    store.prefixes().clear()
    assert len(store.workers()) == 1
    assert store.prefixes() != []


def test_history_is_given_since_an_instant_and_thinned_out(store_of):
    events = [reported(A, 1, time=T + n, rss=n * MiB) for n in range(1, 15)]
    store = store_of(added(A, 1), *events)
    assert store.history(since=T + 12)["time"] == [T + 13, T + 14]
    assert store.history(A, since=T + 14)["time"] == []
    thin = store.history(points=4)
    assert len(thin["time"]) == 4
    assert (thin["time"][-1], thin["process"][-1]) == (T + 14, 14 * MiB)


def test_workers_stand_in_the_order_in_which_people_count():
    names = ["worker-10", "worker-2", "10", "2", "², 1", "9" * 30, "a"]
    expected = ["2", "10", "9" * 30, "a", "worker-2", "worker-10", "², 1"]
    assert sorted(names, key=natural) == expected


def test_a_silent_worker_is_stale_and_degraded_with_its_age(model):
    for event in (added(), reported(), Ticked(T + 21, silent=((A, 20.0),))):
        model.handle(event)
    store = LiveStore(model)
    said = (
        "no heartbeat for 20 s; the figures of this worker may be that old. A task "
        "that holds the GIL, or a machine that swaps, keeps it silent"
    )
    (worker,) = store.workers()
    assert (worker["stale_for"], worker["degraded"]) == (20.0, [said])
    assert [(n["where"], n["text"]) for n in store.cluster()["degraded"]] == [
        (f"worker {A}", said)
    ]
    model.handle(reported(time=T + 22))
    (worker,) = store.workers()
    assert (worker["stale_for"], worker["degraded"]) == (None, [])


@pytest.mark.parametrize(("seconds", "told"), [(9.0, []), (10.0, [T + 1])])
def test_only_a_long_silence_is_told_of_the_cluster_and_since_when(
    model, seconds, told
):
    silent = Ticked(T + 1 + seconds, silent=((A, seconds),))
    for event in (added(), reported(time=T + 1), silent):
        model.handle(event)
    notices = LiveStore(model).cluster()["degraded"]
    assert [notice["since"] for notice in notices] == told


# -- how figures that are made of several are known ------------------------------------


def running(key, method, error):
    """Return a task that runs with 100 MiB."""
    return executing(key, 100 * MiB, method=method, error=error)


@pytest.mark.parametrize(
    ("tasks", "together"),
    [
        ((), "exact"),
        ((running("sum-1", "exact", 0),), "exact"),
        (
            (running("sum-1", "exact", 0), running("sum-2", "exact", 90 * MiB)),
            "counted",
        ),
        ((running("sum-1", "exact", 0), running("sum-2", "estimated", 0)), "estimated"),
        ((running("sum-1", "exact", 0), executing("sum-2", None)), "exact"),
    ],
)
def test_worker_and_prefix_are_as_exact_as_the_least_of_what_runs(
    store_of, tasks, together
):
    done = {"sum": replace(finished(100 * MiB, errors=(0,)), method="exact")}
    report = reported(method="exact", executing=tasks, finished=done)
    store = store_of(added(), report)
    (worker,), (prefix,) = store.workers(), store.prefixes()
    assert worker["method"] == prefix["execution"]["method"] == together


def test_peaks_that_were_measured_worse_stay_in_what_a_prefix_says(store_of):
    well, worse = finished(100 * MiB, errors=(0,)), finished(90 * MiB, errors=(0,))
    store = store_of(
        added(),
        reported(method="exact", finished={"sum": replace(worse, method="estimated")}),
        reported(method="exact", finished={"sum": replace(well, method="exact")}),
    )
    (prefix,) = store.prefixes()
    assert prefix["execution"]["method"] == "estimated"


def test_a_task_that_ends_takes_its_doubt_along(store_of):
    doubtful = running("sum-1", "exact", 90 * MiB)
    store = store_of(
        added(),
        reported(method="exact", executing=(doubtful,)),
        reported(time=T + 2, method="exact", executing=()),
    )
    (worker,) = store.workers()
    assert worker["method"] == "exact"
