"""A store made up for tests of views and web: no cluster, every state at hand."""

from __future__ import annotations

from typing import Any

from dask_memdash.errors import UnknownIncidentError, UnknownWorkerError
from dask_memdash.store.base import (
    Breakdown,
    Cluster,
    ExecutingTask,
    History,
    Prefix,
    Worker,
)

MiB = 2**20
NOW = 1_760_000_000.0
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


def task(key: str = "('sum', 0)", prefix: str = "sum", **values: Any) -> ExecutingTask:
    """Make a task that is running."""
    known: dict[str, Any] = {
        "key": key,
        "prefix": prefix,
        "thread": 1,
        "seconds": 3.5,
        "bytes": 90 * MiB,
        "peak": 120 * MiB,
        "method": "estimated",
        "error": 4 * MiB,
    }
    return {**known, **values}  # type: ignore[typeddict-item]


def worker(number: int, **values: Any) -> Worker:
    """Make a worker of 1 GiB with all parts in it."""
    limit = 1024 * MiB
    wobble = (number * 37) % 11 * 14 * MiB
    known: dict[str, Any] = {
        "address": f"tcp://10.0.0.{number}:4000",
        "name": f"worker-{number}",
        "host": f"10.0.0.{number}",
        "pid": 1000 + number,
        "nthreads": 2,
        "status": "running",
        "last_seen": NOW,
        "limit": limit,
        "thresholds": {
            "target": int(limit * 0.6),
            "spill": int(limit * 0.7),
            "pause": int(limit * 0.8),
            "terminate": int(limit * 0.95),
        },
        "breakdown": breakdown(
            250 * MiB + wobble,
            40 * MiB,
            180 * MiB + wobble // 2,
            60 * MiB,
            110 * MiB,
            spilled=200 * MiB if number % 2 else 0,
        ),
        "shares_process_with": 0,
        "transfer": {"incoming": 20 * MiB, "outgoing": 20 * MiB, "shuffle": None},
        "executing_tasks": [task(f"('sum', {number})")],
        "method": "estimated",
        "degraded": [],
    }
    return {**known, **values}  # type: ignore[typeddict-item]


def prefix(name: str, managed: int, executing: int = 0, **storage: Any) -> Prefix:
    """Make a prefix that stores and executes this much, in bytes."""
    return {
        "prefix": name,
        "storage": {
            "managed": managed,
            "managed_claimed": managed,
            "replicas": 0,
            "spilled": 0,
            "spilled_disk": 0,
            "pinned": 0,
            "awaited": managed // 2,
            "count": 12,
            "output_bytes": {
                "min": MiB,
                "p50": 8 * MiB,
                "p95": 9 * MiB,
                "max": 9 * MiB,
            },
            "awaited_by": [{"prefix": "sum", "bytes": managed // 2}],
            **storage,
        },
        "execution": {
            "executing": executing,
            "running": 2 if executing else 0,
            "finished": 40,
            "peak": {"p50": 60 * MiB, "p95": 140 * MiB, "max": 150 * MiB},
            "method": "estimated",
            "error": 6 * MiB,
        },
    }


def incident(number: int, kind: str = "terminated", **values: Any) -> dict[str, Any]:
    """Make an incident in full, with one suspect."""
    time = NOW - 60 + 10 * number
    death = {
        "id": str(number),
        "time": time,
        "until": None,
        "kind": kind,
        "worker": {
            "address": f"tcp://10.0.0.{number}:4000",
            "name": f"worker-{number}",
            "host": f"10.0.0.{number}",
            "pid": 1000 + number,
        },
        "exit": {"code": None, "signal": 15, "by": "nanny"},
        "limit": 1024 * MiB,
        "breakdown": breakdown(700 * MiB, 0, 200 * MiB, 0, 90 * MiB, spilled=64 * MiB),
        "diagnosis": {
            "cause": "unknown",
            "confidence": 0.0,
            "responsible": {"prefix": "rechunk-split", "key": None},
            "text": "The nanny terminated the worker at 97 % of its limit.",
            "advice": [],
        },
        "evidence": "flight-recorder",
        "suspects": [
            {
                "key": "('rechunk-split-abc', 37)",
                "prefix": "rechunk-split",
                "bytes": 200 * MiB,
                "peak": 240 * MiB,
                "share": 0.195,
                "seconds": 12.0,
                "thread": 7,
                "priority": [0, 1, 37],
                "order_position": 37,
                "order_total": 1210,
                "attempts": [],
                "method": "estimated",
            }
        ],
        "innocent": {"count": 2, "keys": ["('sum', 1)", "('sum', 2)"]},
        "storage": [
            {
                "prefix": "random_sample",
                "managed": 700 * MiB,
                "spilled": 64 * MiB,
                "count": 90,
                "because": None,
            }
        ],
        "findings": [],
        "cost": {"keys_lost": 90, "bytes_lost": 764 * MiB, "seconds_recomputed": None},
        "timeline": {
            "time": [time - 30 + i for i in range(31)],
            "process": [(300 + 23 * i) * MiB for i in range(31)],
        },
    }
    return {**death, **values}


def given_up(number: int, attempts: list[str], **values: Any) -> dict[str, Any]:
    """Make an incident in which a task was given up after these deaths."""
    return incident(
        number,
        "killed-worker",
        worker=None,
        exit=None,
        limit=None,
        breakdown=None,
        evidence="scheduler",
        suspects=[],
        storage=[],
        timeline={"time": [], "process": []},
        innocent={"count": 0, "keys": []},
        cost={"keys_lost": None, "bytes_lost": None, "seconds_recomputed": None},
        diagnosis={
            "cause": "unknown",
            "confidence": 0.0,
            "responsible": {"prefix": "rechunk-split", "key": "('rechunk-split', 37)"},
            "text": "Dask gave the task up: its worker died 4 times while it ran.",
            "advice": [],
        },
        task={
            "key": "('rechunk-split', 37)",
            "prefix": "rechunk-split",
            "priority": [0, 1, 37],
            "order_position": 37,
            "order_total": 1210,
        },
        attempts=attempts,
        **values,
    )


class FakeStore:
    """A store whose contents tests set; :meth:`change` moves its version on."""

    def __init__(self) -> None:
        self.version = 1
        self.asked: list[str] = []
        self.all_workers: list[Worker] = []
        self.all_prefixes: list[Prefix] = []
        self.all_incidents: list[dict[str, Any]] = []
        self.degraded: list[dict[str, Any]] = []
        self.points: list[Breakdown] = []

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
            "limit": sum(known_limits) if complete else None,
            "breakdown": total,
            "self_cost": None,
            "degraded": list(self.degraded),  # type: ignore[arg-type]
        }

    def workers(self, limit: int | None = None, offset: int = 0) -> list[Worker]:
        """Give the workers."""
        self.asked.append("workers")
        return self.all_workers[offset:][:limit]

    def prefixes(self, limit: int | None = None, offset: int = 0) -> list[Prefix]:
        """Give the prefixes."""
        self.asked.append("prefixes")
        return self.all_prefixes[offset:][:limit]

    def incidents(
        self, limit: int | None = None, offset: int = 0
    ) -> list[dict[str, Any]]:
        """Give the incidents without their details."""
        self.asked.append("incidents")
        details = ("suspects", "innocent", "storage", "findings", "cost", "timeline")
        return [
            {name: value for name, value in known.items() if name not in details}
            for known in self.all_incidents[offset:][:limit]
        ]

    def incident(self, incident_id: str) -> dict[str, Any]:
        """Give one incident in full."""
        self.asked.append("incident")
        for known in self.all_incidents:
            if known["id"] == incident_id:
                return known
        raise UnknownIncidentError(incident_id)

    def history(
        self, worker: str | None = None, since: float | None = None, points: int = 300
    ) -> History:
        """Give one point a second up to now."""
        self.asked.append("history")
        if worker is not None and worker not in {
            w["address"] for w in self.all_workers
        }:
            raise UnknownWorkerError(worker)
        kept = self.points[-points:]
        result: Any = {
            "time": [NOW - len(kept) + 1 + i for i in range(len(kept))],
            "process": [point["process"] for point in kept],
            "spilled": [point["spilled"] for point in kept],
        }
        for name in PARTS:
            result[name] = [point[name] for point in kept]  # type: ignore[literal-required]
        answer: History = result
        return answer


def empty() -> FakeStore:
    """Make the store of a cluster without workers."""
    return FakeStore()


def busy(workers: int = 4) -> FakeStore:
    """Make the store of a cluster that computes."""
    store = FakeStore()
    store.all_workers = [worker(number) for number in range(1, workers + 1)]
    if workers > 2:
        store.all_workers[2]["status"] = "paused"
    store.all_prefixes = [
        prefix("random_sample", 700 * MiB, spilled=300 * MiB),
        prefix("rechunk-split", 400 * MiB, 240 * MiB),
        prefix("getitem", 90 * MiB, 20 * MiB),
        prefix("sum", MiB, 480 * MiB),
    ]
    store.points = [
        breakdown(
            (300 + 8 * i % 900) * MiB,
            (i * i) % 190 * MiB,
            (i * 13) % 500 * MiB,
            (200 + i % 40) * MiB,
            440 * MiB,
            spilled=max(0, i - 70) * 6 * MiB,
        )
        for i in range(1, 120)
    ]
    return store


def after_incident() -> FakeStore:
    """Make the store of a cluster that lost workers and gave a task up."""
    store = busy()
    store.all_incidents = [
        given_up(5, ["1", "2", "4"]),
        incident(4),
        incident(3, "paused", until=NOW - 12, exit=None, suspects=[], timeline={}),
        incident(2, "oom-killed", exit={"code": None, "signal": 9, "by": "kernel"}),
        incident(1),
    ]
    return store


def shared_process() -> FakeStore:
    """Make the store of a cluster of threads: three workers, one process."""
    store = busy(3)
    for known in store.all_workers:
        known.update(host="127.0.0.1", pid=4242, shares_process_with=2)
        known["breakdown"] = store.all_workers[0]["breakdown"]
    return store


def degraded() -> FakeStore:
    """Make the store of a cluster that MemDash sees only in part."""
    store = busy()
    text = "dask_memdash is not installed there, so its tasks are not seen."
    store.degraded = [
        {"where": f"worker tcp://10.0.0.{i}:4000", "text": text, "since": NOW}
        for i in range(1, 8)
    ]
    store.all_workers[0]["breakdown"] = no_breakdown()
    return store


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
    return store
