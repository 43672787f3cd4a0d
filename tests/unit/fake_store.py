"""What views and web show in tests: a store whose answers tests may edit.

The answers are the real store's, of clusters that were told to the real model in events
(:mod:`stories`).  Graphs and audits of limits are written out.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import stories
from stories import NOW, MiB

from dask_memdash.errors import (
    UnknownFailureError,
    UnknownGraphError,
    UnknownIncidentError,
    UnknownPrefixError,
    UnknownWorkerError,
)
from dask_memdash.store.cluster_shapes import Cluster, History
from dask_memdash.store.limit_shapes import LimitAudit
from dask_memdash.store.live import LiveStore
from dask_memdash.store.order_shapes import Graph, OrderPoint
from dask_memdash.store.prefix_shapes import (
    Prefix,
    PrefixDetails,
    PrefixTotals,
    SizeBin,
)
from dask_memdash.store.worker_shapes import Breakdown, ExecutingTask, PastTask, Worker

HOSTILE = "<img src=x onerror=\"document.title='owned'\">$$x^2$$@{address}"

PARTS = ("managed", "transfer", "executing", "retained", "baseline")


def breakdown(*parts: int, spilled: int = 0, error: int = 5 * MiB) -> Breakdown:
    """Make a breakdown from its five parts, in bytes."""
    managed, transfer, executing, retained, baseline = parts
    process = sum(parts)
    return {
        "process": process,
        "managed": managed,
        "transfer": transfer,
        "executing": executing,
        "retained": retained,
        "baseline": baseline,
        "error": error,
        "managed_claimed": managed,
        "unmanaged": process - managed,
        "unmanaged_old": baseline,
        "unmanaged_recent": process - managed - baseline,
        "inputs": 0,
        "spilled": spilled,
        "spilled_disk": spilled // 2,
        "shuffle_disk": None,
    }


def no_breakdown() -> Breakdown:
    """Make the breakdown of before the first reading."""
    return dict.fromkeys(breakdown(0, 0, 0, 0, 0), None)  # type: ignore[return-value]


def worker(number: int, **values: Any) -> Worker:
    """Return a worker of 1 GiB with all parts in it; `values` stand in for its own."""
    (known,) = deepcopy(stories.one(number).workers())
    return {**known, **values}  # type: ignore[typeddict-item]


def task(key: str = "('sum', 0)", prefix: str = "sum", **values: Any) -> ExecutingTask:
    """Return a task that is running."""
    known = {**worker(1)["executing_tasks"][0], "key": key, "prefix": prefix}
    return {**known, **values}  # type: ignore[typeddict-item]


def task_history(
    key: str = "('sum', 0)", prefix: str = "sum", **values: Any
) -> PastTask:
    """Return a task that was seen to run."""
    known = stories.busy().task_history(stories.address(1))[0]
    return {**known, "key": key, "prefix": prefix, **values}  # type: ignore[typeddict-item]


def prefix(name: str, managed: int, executing: int = 0, **storage: Any) -> Prefix:
    """Return a prefix that stores and executes this much, in bytes."""
    known = deepcopy(stories.busy().prefix("rechunk-split"))
    del known["output_bins"]  # type: ignore[misc]
    known["prefix"] = name
    known["storage"].update(managed=managed, managed_claimed=managed, **storage)  # type: ignore[typeddict-item]
    known["execution"].update(executing=executing, running=2 if executing else 0)
    return known


def incident(number: int, kind: str = "terminated", **values: Any) -> dict[str, Any]:
    """Return an incident in full, with one suspect."""
    time = NOW - 60 + 10 * number
    known = deepcopy(stories.after_incident().incident("4"))
    known["timeline"]["time"] = [time - 30 + i for i in range(31)]
    known["worker"] = {"name": f"worker-{number}", "host": f"10.0.0.{number}"}
    known["worker"].update(stories.identity(number))
    return {**known, "id": str(number), "time": time, "kind": kind, **values}


def given_up(number: int, attempts: list[str], **values: Any) -> dict[str, Any]:
    """Return an incident in which a task was given up after these deaths."""
    known = deepcopy(stories.after_incident().incident("5"))
    time = NOW - 60 + 10 * number
    return {**known, "id": str(number), "time": time, "attempts": attempts, **values}


def audit(number: int, **values: Any) -> LimitAudit:
    """Make the audit of a worker whose limit is right, in a container of 4 GiB."""
    gib = 1024 * MiB
    group = "/sys/fs/cgroup/memory.max"
    known: dict[str, Any] = {
        "address": f"tcp://10.0.0.{number}:4000",
        "name": f"worker-{number}",
        "host": f"10.0.0.{number}",
        "pid": 1000 + number,
        "nthreads": 2,
        "machine": "3f0d6e52-5b7c-4d3c-9a52-0c8f0e6f6a11",
        "environment": "container",
        "limit": 1 * gib,
        "set_by": "given",
        "dask": 4 * gib,
        "effective": 4 * gib,
        "source": "cgroup",
        "sources": {
            "host": 32 * gib,
            "cgroup": 4 * gib,
            "batch": None,
            "rlimit": None,
            "available": 23 * gib,
        },
        "siblings": 4 * gib,
        "n_siblings": 4,
        "chain": [
            _link("host", "MemTotal", "/proc/meminfo", 32 * gib, "kills"),
            _link("available", "MemAvailable", "/proc/meminfo", 23 * gib, "none"),
            _link("cgroup", "memory.max", group, 4 * gib, "kills", binding=True),
            _link("siblings", "4 workers", "this machine", 4 * gib, "none"),
            _link("worker", "memory limit", "given", 1 * gib, "dask"),
        ],
        "verdict": "ok",
        "severity": "ok",
        "advice": [],
        "findings": [],
        "recommended": 1 * gib,
        "live": {
            "available": 20 * gib,
            "cgroup_used": 3 * gib,
            "swapped": 0,
            "pressure": 0.0,
            "scratch_free": 80 * gib,
        },
        "headroom": {"bytes": 384 * MiB, "slope": 12 * MiB, "seconds": 32.0},
        "swap_total": 0,
        "swap_limit": None,
        "trim_threshold": 65536,
        "allocator": "glibc",
        "scratch": {
            "path": "/tmp/dask-scratch-space/worker-1",
            "filesystem": "ext4",
            "total": 100 * gib,
            "free": 80 * gib,
        },
        "skipped": [],
    }
    return {**known, **values}  # type: ignore[typeddict-item]


def _link(
    level: str, name: str, where: str, size: int, effect: str, *, binding: bool = False
) -> dict[str, Any]:
    return {
        "level": level,
        "name": name,
        "where": where,
        "bytes": size,
        "effect": effect,
        "binding": binding,
    }


def limit_finding(verdict: str = "too-high", severity: str = "bad") -> dict[str, Any]:
    """Make one verdict on a worker's limit."""
    return {
        "verdict": verdict,
        "severity": severity,
        "text": "The limits of the 4 workers on this machine sum to 27.80 GiB, and "
        "23.10 GiB were available when they started: the kernel kills before Dask "
        "terminates.",
        "advice": "Start each worker with --memory-limit 5914MiB.",
        "numbers": {"siblings": 29_850_022_707, "available": 24_803_436_134},
    }


def failure(number: int, incidents: list[str], **values: Any) -> dict[str, Any]:
    """Make a failure: three deaths, and a task that was given up."""
    failed = {
        "id": str(number),
        "opened": NOW - 50,
        "closed": NOW - 5,
        "kind": "killed-worker",
        "count": len(incidents),
        "deaths": 3,
        "kinds": {"terminated": 2, "oom-killed": 1, "killed-worker": 1},
        "workers": 2,
        "worker_names": ["worker-1", "worker-2"],
        "graph": "graph-4",
        "text": "3 deaths of 2 workers (terminated 2, oom-killed 1) and Dask gave 1 "
        "task up (KilledWorker).",
        "responsible": {"prefix": "rechunk-split", "key": None},
        "diagnosis": {
            "cause": "task-too-large",
            "relief": "too-fast",
            "confidence": 0.86,
            "text": "Cause: one task needs too much. `rechunk-split` held at least 380 "
            "MiB, and an empty worker has 410 MiB.",
            "advice": ["Make chunks smaller: x.rechunk((500, 500))."],
        },
        "cost": {"keys_lost": 90, "bytes_lost": 764 * MiB, "seconds_recomputed": 4.5},
        "killed_workers": ["5"],
        "tasks_given_up": 1,
        "incidents": incidents,
        "settled": True,
    }
    return {**failed, **values}


def graph(number: int, **values: Any) -> Graph:
    """Make a graph that ran ahead of its order, 900 of its 1210 tasks done."""
    positions = list(range(1, 1211, 10))
    ideal = [(40 + min(p, 1210 - p) * 3 // 4) * MiB for p in positions]
    known: dict[str, Any] = {
        "id": f"graph-{number}",
        "name": "mean_agg-aggregate",
        "tasks": 1210,
        "done": 900,
        "minimum": max(ideal),
        "minimum_threads": max(ideal) + 24 * MiB,
        "minimum_position": 601,
        "threads": 8,
        "actual_peak": 3100 * MiB,
        "run_ahead": 2400 * MiB,
        "run_ahead_position": 501,
        "capacity": 4096 * MiB,
        "need": {"prefix": "rechunk-merge", "bytes": 420 * MiB, "has": 900 * MiB},
        "verdict": {
            "kind": "runs-ahead",
            "text": "The cluster stored 3.03 GiB where the order needs 0.68 "
            "GiB; nearly all of the difference is `random_sample`. Lower "
            "distributed.scheduler.worker-saturation (now inf).",
        },
        "run_ahead_by": [
            {"prefix": "random_sample", "bytes": 2300 * MiB},
            {"prefix": "rechunk-split", "bytes": 100 * MiB},
        ],
        "uncertainty": 12 * MiB,
        "covered": None,
        "curve": {
            "position": positions,
            "ideal": ideal,
            "ideal_threads": [size + 24 * MiB for size in ideal],
            "actual": [
                None if p > 900 else min(6 * p, 3100, 4800 - 4 * p) * MiB
                for p in positions
            ],
        },
        "incidents": [{"id": "4", "position": 610}, {"id": "1", "position": 480}],
        "rootish": [
            {
                "prefix": "random_sample",
                "rootish": True,
                "queued": False,
                "why": "Root-ish (400 tasks, 8 threads), but nothing queues: "
                "worker-saturation is inf.",
            },
            {
                "prefix": "ones_like",
                "rootish": False,
                "queued": False,
                "why": "Not root-ish: its 12 tasks are not more than twice the 8 "
                "threads.",
            },
        ],
        "what_if": [
            {"change": "random_sample in chunks half as large", "minimum": 300 * MiB},
            {"change": "random_sample in chunks twice as large", "minimum": 900 * MiB},
            {"change": "8 tasks at a time", "minimum": max(ideal) + 24 * MiB},
            {"change": "outputs not kept", "minimum": 400 * MiB},
        ],
        "finished": False,
        "time": NOW - 100 + number,
    }
    return {**known, **values}  # type: ignore[typeddict-item]


def point(position: int, **values: Any) -> OrderPoint:
    """Make what a graph held at a number of finished tasks."""
    known: dict[str, Any] = {
        "position": position,
        "of": "actual",
        "held": [
            {
                "prefix": "random_sample",
                "bytes": 2500 * MiB,
                "keys": 320,
                "run_ahead": 2300 * MiB,
                "awaited_by": [{"prefix": "rechunk-split", "bytes": 2500 * MiB}],
            },
            {
                "prefix": "mean_agg-aggregate",
                "bytes": 1 * MiB,
                "keys": 1,
                "run_ahead": 0,
                "awaited_by": [{"prefix": None, "bytes": 1 * MiB}],
            },
        ],
    }
    return {**known, **values}  # type: ignore[typeddict-item]


class FakeStore:
    """A store whose contents tests set; :meth:`change` moves its version on."""

    def __init__(self) -> None:
        self.version = 1
        self.asked: list[str] = []
        self.all_workers: list[Worker] = []
        self.all_prefixes: list[Prefix] = []
        self.all_departed: list[Worker] = []
        self.all_ran: list[PastTask] = []
        self.output_bins: list[SizeBin] = []
        self.all_incidents: list[dict[str, Any]] = []
        self.all_failures: list[dict[str, Any]] = []
        self.all_limits: list[LimitAudit] = []
        self.all_graphs: list[Graph] = []
        self.all_points: list[OrderPoint] = []
        self.degraded: list[dict[str, Any]] = []
        self.points: list[Breakdown] = []
        self.pauses: list[list[float | None]] = []

    def change(self) -> None:
        """Say that something is new."""
        self.version += 1

    def cluster(self) -> Cluster:
        """Sum the workers, each process once."""
        self.asked.append("cluster")
        processes = {(w["host"], w["pid"]): w for w in self.all_workers}
        total: Any = no_breakdown()
        for name in total:
            values = [w["breakdown"][name] for w in processes.values()]  # type: ignore[literal-required]
            known = [value for value in values if value is not None]
            total[name] = sum(known) if known else None
        limits = [w["limit"] for w in self.all_workers]
        known_limits = [limit for limit in limits if limit is not None]
        complete = bool(limits) and len(known_limits) == len(limits)
        return {
            "schema_version": 1,
            "time": NOW,
            "n_workers": len(self.all_workers),
            "n_processes": len(processes),
            "n_incidents": len(self.all_incidents),
            "n_failures": len(self.all_failures),
            "limit": sum(known_limits) if complete else None,
            "breakdown": total,
            "self_cost": stories.busy().cluster()["self_cost"],
            "degraded": list(self.degraded),  # type: ignore[arg-type]
        }

    def workers(self, limit: int | None = None, offset: int = 0) -> list[Worker]:
        """Return the workers."""
        self.asked.append("workers")
        return self.all_workers[offset:][:limit]

    def prefixes(self, limit: int | None = None, offset: int = 0) -> list[Prefix]:
        """Return the prefixes."""
        self.asked.append("prefixes")
        return self.all_prefixes[offset:][:limit]

    def prefix_totals(self) -> PrefixTotals:
        """Sum the prefixes."""
        self.asked.append("prefix_totals")
        known = self.all_prefixes

        def total(kind: str, name: str) -> int:
            return sum(p[kind][name] or 0 for p in known)  # type: ignore[literal-required]

        return {
            "prefixes": len(known),
            "managed": total("storage", "managed"),
            "spilled": total("storage", "spilled"),
            "executing": total("execution", "executing"),
            "count": total("storage", "count"),
            "running": total("execution", "running"),
        }

    def prefix(self, name: str) -> PrefixDetails:
        """Return one prefix; all have the same distribution."""
        self.asked.append("prefix")
        for known in self.all_prefixes:
            if known["prefix"] == name:
                return {**known, "output_bins": list(self.output_bins)}
        raise UnknownPrefixError(name)

    def departed(self, limit: int | None = None, offset: int = 0) -> list[Worker]:
        """Return the workers that have left."""
        self.asked.append("departed")
        return self.all_departed[offset:][:limit]

    def task_history(self, worker: str) -> list[PastTask]:
        """Return what workers ran; all the same."""
        self.asked.append("ran")
        if worker not in self._addresses():
            raise UnknownWorkerError(worker)
        return list(self.all_ran)

    def _addresses(self) -> set[str]:
        return {w["address"] for w in (*self.all_workers, *self.all_departed)}

    def incidents(
        self, limit: int | None = None, offset: int = 0
    ) -> list[dict[str, Any]]:
        """Return the incidents without their details."""
        self.asked.append("incidents")
        details = ("suspects", "innocent", "storage", "findings", "cost", "timeline")
        return [
            {name: value for name, value in known.items() if name not in details}
            for known in self.all_incidents[offset:][:limit]
        ]

    def failures(
        self, limit: int | None = None, offset: int = 0
    ) -> list[dict[str, Any]]:
        """Return the failures."""
        self.asked.append("failures")
        return self.all_failures[offset:][:limit]

    def failure(self, failure_id: str) -> dict[str, Any]:
        """Return one failure."""
        self.asked.append("failure")
        for known in self.all_failures:
            if known["id"] == failure_id:
                return known
        raise UnknownFailureError(failure_id)

    def incident(self, incident_id: str) -> dict[str, Any]:
        """Return one incident in full."""
        self.asked.append("incident")
        for known in self.all_incidents:
            if known["id"] == incident_id:
                return known
        raise UnknownIncidentError(incident_id)

    def limits(self, limit: int | None = None, offset: int = 0) -> list[LimitAudit]:
        """Return the audits of the workers' limits."""
        self.asked.append("limits")
        return self.all_limits[offset:][:limit]

    def order(self, limit: int | None = None, offset: int = 0) -> list[Graph]:
        """Return the graphs."""
        self.asked.append("order")
        return self.all_graphs[offset:][:limit]

    def graph(self, graph_id: str) -> Graph:
        """Return one graph."""
        self.asked.append("graph")
        for known in self.all_graphs:
            if known["id"] == graph_id:
                return known
        raise UnknownGraphError(graph_id)

    def order_point(self, graph_id: str, position: int) -> OrderPoint:
        """Return the point of this position, or one made up."""
        self.graph(graph_id)
        self.asked.append("order_point")
        known = (p for p in self.all_points if p["position"] == position)
        return next(known, point(position))

    def history(
        self, worker: str | None = None, since: float | None = None, points: int = 300
    ) -> History:
        """Return one point a second up to now."""
        self.asked.append("history")
        if worker is not None and worker not in self._addresses():
            raise UnknownWorkerError(worker)
        times = [NOW - len(self.points) + 1 + i for i in range(len(self.points))]
        new = [i for i, time in enumerate(times) if since is None or time > since]
        kept = [self.points[i] for i in new][-points:]
        result: Any = {
            "time": [times[i] for i in new][-points:],
            "process": [point["process"] for point in kept],
            "spilled": [point["spilled"] for point in kept],
            "pauses": [p for p in self.pauses if p[1] is None or p[1] > (since or 0)],
            "n_pauses": len(self.pauses),
        }
        for name in PARTS:
            result[name] = [point[name] for point in kept]  # type: ignore[literal-required]
        answer: History = result
        return answer


def empty() -> FakeStore:
    """Return the store of a cluster without workers."""
    return FakeStore()


def told(live: LiveStore) -> FakeStore:
    """Return a store that answers as another does, until a test edits it."""
    store = FakeStore()
    store.all_workers = deepcopy(live.workers())
    store.all_prefixes = deepcopy(live.prefixes())
    store.all_departed = deepcopy(live.departed())
    store.all_incidents = [
        deepcopy(live.incident(known["id"])) for known in live.incidents()
    ]
    store.all_failures = deepcopy(live.failures())
    store.degraded = deepcopy(live.cluster()["degraded"])  # type: ignore[assignment]
    columns: Any = live.history()
    store.pauses = columns.pop("pauses")
    del columns["n_pauses"]
    points = len(columns["time"])
    nothing: Any = no_breakdown()
    store.points = [
        {**nothing, **{name: columns[name][i] for name in columns if name != "time"}}
        for i in range(points)
    ]
    if store.all_workers:
        store.all_ran = deepcopy(live.task_history(store.all_workers[0]["address"]))
    if store.all_prefixes:
        name = store.all_prefixes[0]["prefix"]
        store.output_bins = deepcopy(live.prefix(name)["output_bins"])
    return store


def busy(workers: int = 4) -> FakeStore:
    """Return the store of a cluster that computes."""
    return told(stories.busy(workers))


def after_incident() -> FakeStore:
    """Return the store of a cluster that lost workers and gave a task up."""
    store = busy()
    after = told(stories.after_incident())
    store.all_incidents, store.all_failures = after.all_incidents, after.all_failures
    return store


def failing(number: int) -> FakeStore:
    """Make the store of a cluster on which so many computations have failed."""
    store = busy()
    death = told(stories.after_incident()).all_incidents[-1]
    store.all_incidents = [
        {**deepcopy(death), "id": str(n)} for n in range(2 * number, 0, -1)
    ]
    store.all_failures = [
        failure(
            n,
            [str(2 * n - 1), str(2 * n)],
            opened=NOW - 300 + 10 * n,
            closed=NOW - 290 + 10 * n if n < number else None,
        )
        for n in range(number, 0, -1)
    ]
    for made in store.all_failures:
        for known in store.all_incidents:
            if known["id"] in made["incidents"]:
                known["failure"] = made["id"]
    return store


def wrong_limits() -> FakeStore:
    """Make the store of a cluster whose limits are wrong in several ways."""
    store = busy()
    too_high, tmpfs = limit_finding(), limit_finding("scratch", "warning")
    tmpfs["text"] = "/dev/shm is a tmpfs: what is spilled there stays in memory."
    tmpfs["advice"] = "Start the workers with --local-directory on a disk."
    unknown: dict[str, Any] = {
        "machine": None,
        "environment": None,
        "set_by": None,
        "dask": None,
        "effective": None,
        "source": None,
        "sources": dict.fromkeys(
            ("host", "cgroup", "batch", "rlimit", "available"), None
        ),
        "chain": [],
        "verdict": "unknown",
        "severity": "unknown",
        "recommended": None,
        "live": dict.fromkeys(
            ("available", "cgroup_used", "swapped", "pressure", "scratch_free"), None
        ),
        "headroom": {"bytes": 384 * MiB, "slope": None, "seconds": None},
        "swap_total": None,
        "trim_threshold": None,
        "allocator": None,
        "scratch": None,
    }
    store.all_limits = [
        audit(
            1,
            verdict="too-high",
            severity="bad",
            findings=[too_high, tmpfs],
            advice=[too_high["advice"], tmpfs["advice"]],
            skipped=["/sys/fs/cgroup/memory.high holds 'banana', which is no size"],
        ),
        audit(
            2,
            verdict="allocator",
            severity="hint",
            findings=[limit_finding("allocator", "hint")],
            advice=["Set MALLOC_TRIM_THRESHOLD_=65536 for the workers."],
            trim_threshold=None,
        ),
        audit(3),
        audit(4, **unknown),
    ]
    return store


def with_graphs() -> FakeStore:
    """Make the store of a cluster that ran graphs of every verdict."""
    store = after_incident()
    nothing: dict[str, Any] = {
        "minimum": None,
        "minimum_threads": None,
        "minimum_position": None,
        "actual_peak": None,
        "run_ahead": None,
        "run_ahead_position": None,
        "run_ahead_by": [],
        "uncertainty": None,
        "curve": {"position": [], "ideal": [], "ideal_threads": [], "actual": []},
        "incidents": [],
        "rootish": [],
        "what_if": [],
    }
    store.all_graphs = [
        graph(4),
        graph(
            3,
            name="sum-aggregate",
            verdict={
                "kind": "cannot-fit",
                "text": "This order needs 2.10 GiB at task 812 of 1,210 even one task "
                "at a time; the workers have 1.40 GiB.",
            },
            capacity=1434 * MiB,
        ),
        graph(
            2,
            name="inc",
            done=1210,
            finished=True,
            verdict={
                "kind": "fits",
                "text": "Fits: its order needs 0.5 GiB of the workers' 4 GiB.",
            },
            run_ahead=0,
            run_ahead_by=[],
            incidents=[],
        ),
        graph(
            1,
            name="store-map",
            tasks=3_000_000,
            covered="It has 3,000,000 tasks; more than 2,000,000 are not followed.",
            verdict={"kind": "unknown", "text": "Not followed."},
            **nothing,
        ),
    ]
    return store


def shared_process() -> FakeStore:
    """Return the store of a cluster of threads: three workers, one process."""
    return told(stories.shared_process())


def degraded() -> FakeStore:
    """Return the store of a cluster that MemDash sees only in part."""
    return told(stories.degraded())


def hostile() -> FakeStore:
    """Make a store in which every name is an attack."""
    store = after_incident()
    for known in store.all_workers:
        known["name"] = known["status"] = HOSTILE
        known["address"] = HOSTILE + known["address"]
        known["executing_tasks"] = [task(HOSTILE, HOSTILE)]
    store.all_prefixes = [prefix(HOSTILE, 500 * MiB, 300 * MiB)]
    store.all_prefixes[0]["storage"]["awaited_by"] = [{"prefix": HOSTILE, "bytes": 9}]
    store.degraded = [{"where": HOSTILE, "text": HOSTILE, "since": NOW}]
    for known in store.all_incidents:
        if known["worker"]:
            known["worker"] = dict.fromkeys(known["worker"], HOSTILE)
        known["diagnosis"] = {
            **known["diagnosis"],
            "text": HOSTILE,
            "advice": [HOSTILE],
        }
        known["innocent"] = {"count": 1, "keys": [HOSTILE]}
        for suspect in known["suspects"]:
            suspect.update(key=HOSTILE, prefix=HOSTILE)
        for stored in known["storage"]:
            stored.update(prefix=HOSTILE, because=HOSTILE)
        if "task" in known:
            known["task"].update(key=HOSTILE, prefix=HOSTILE)
    for failed in store.all_failures:
        failed.update(text=HOSTILE, graph=HOSTILE, worker_names=[HOSTILE])
        failed["responsible"] = {"prefix": HOSTILE, "key": HOSTILE}
        failed["diagnosis"] = {
            **failed["diagnosis"],
            "text": HOSTILE,
            "advice": [HOSTILE],
        }
    store.all_graphs = [graph(1, name=HOSTILE, covered=HOSTILE)]
    store.all_graphs[0]["verdict"]["text"] = HOSTILE
    for named in (
        *store.all_graphs[0]["run_ahead_by"],
        *store.all_graphs[0]["rootish"],
    ):
        named["prefix"] = HOSTILE
    for root in store.all_graphs[0]["rootish"]:
        root["why"] = HOSTILE
    for change in store.all_graphs[0]["what_if"]:
        change["change"] = HOSTILE
    store.all_points = [point(480)]
    for held in store.all_points[0]["held"]:
        held.update(prefix=HOSTILE, awaited_by=[{"prefix": HOSTILE, "bytes": 9}])
    store.all_limits = wrong_limits().all_limits
    for known_audit in store.all_limits:
        known_audit.update(name=HOSTILE, address=HOSTILE, skipped=[HOSTILE])
        known_audit["advice"] = [HOSTILE for _ in known_audit["advice"]]
        for link in known_audit["chain"]:
            link.update(name=HOSTILE, where=HOSTILE)
        for finding in known_audit["findings"]:
            finding.update(text=HOSTILE, advice=HOSTILE)
    return store
