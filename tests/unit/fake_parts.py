"""What views and web show in tests, piece by piece: a worker, a prefix, an incident …

What the real store says of made-up clusters (:mod:`stories`), with values of a test's
own in it.  Graphs, failures and audits of limits are written out.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import stories
from stories import NOW, MiB

from dask_memdash.store.beside_tasks import OtherMemory
from dask_memdash.store.limit_shapes import LimitAudit
from dask_memdash.store.order_shapes import Graph, OrderPoint
from dask_memdash.store.prefix_shapes import (
    Prefix,
)
from dask_memdash.store.worker_shapes import Breakdown, ExecutingTask, PastTask, Worker

HOSTILE = "<img src=x onerror=\"document.title='owned'\">$$x^2$$@{address}"


def breakdown(*parts: int, spilled: int = 0, error: int = 5 * MiB) -> Breakdown:
    """Make a breakdown from its parts in the order of the page, in bytes."""
    managed, transfer, actors, executing, retained, graph, baseline = parts
    process = sum(parts)
    return {
        "process": process,
        "managed": managed,
        "transfer": transfer,
        "actors": actors,
        "executing": executing,
        "retained": retained,
        "graph": graph,
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
        "reclaimable": None,
    }


def no_breakdown() -> Breakdown:
    """Make the breakdown of before the first reading."""
    return dict.fromkeys(breakdown(*[0] * 7), None)  # type: ignore[return-value]


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


def other(group: str, name: str, size: int | None, **values: Any) -> OtherMemory:
    """Return something of the baseline that belongs to no task."""
    known: OtherMemory = {
        "name": f"{group} {name}" if name else group,
        "group": group,
        "kind": "other",
        "part": "baseline",
        "bytes": size,
        "method": "looked into",
        "inside": [],
        "text": "",
        "advice": f"Clear `{name}`." if name else None,
    }
    return {**known, **values}  # type: ignore[typeddict-item]


def incident(number: int, kind: str = "terminated", **values: Any) -> dict[str, Any]:
    """Return an incident in full, with one suspect."""
    time = NOW - 60 + 10 * number
    known = deepcopy(stories.after_incident().incident("4"))
    for column in (known["timeline"], known["last_seconds"]):
        column["time"] = [time - 30 + i for i in range(31)]
    known["worker"] = {"name": f"worker-{number}", "host": f"10.0.0.{number}"}
    known["worker"].update(stories.identity(number))
    return {**known, "id": str(number), "time": time, "kind": kind, **values}


def last_seconds(end: float = 1000.0) -> dict[str, Any]:
    """Let a process grow over ten seconds, and its task ``a-1`` with it."""
    sizes = [0, 200 * MiB, 300 * MiB]
    known: dict[str, Any] = {
        "why_not": "",
        "time": [end - 10, end - 0.1, end],
        "process": [500 * MiB, 700 * MiB, 800 * MiB],
        "tasks": [
            {"key": "a-1", "prefix": "a", "count": 1, "begin": end - 10, "bytes": sizes}
        ],
        "managed": [400 * MiB] * 3,
        "baseline": [100 * MiB] * 3,
    }
    nothing = ("transfer", "actors", "retained", "graph", "others", "n_others")
    return {
        **known,
        **{name: [0, 0, 0] for name in (*nothing, "uncounted", "unknown")},
    }


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
        "cost": {
            "keys_lost": 90,
            "bytes_lost": 764 * MiB,
            "seconds_recomputed": 4.5,
            "keys_stored": 0,
            "bytes_stored": 0,
        },
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
        "need": {
            "prefix": "rechunk-merge",
            "bytes": 420 * MiB,
            "has": 900 * MiB,
            "at_least": False,
        },
        "at_once": {
            "tasks": 4,
            "has": 900 * MiB,
            "surely": 600 * MiB,
            "at_most": 1680 * MiB,
            "prefix": "random_sample",
            "each": 150 * MiB,
            "at_least": False,
            "fit": 4,
        },
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
        "sizes": [
            {"prefix": "rechunk-split", "inputs": 40 * MiB, "output": 4 * MiB},
            {"prefix": "random_sample", "inputs": 0, "output": 40 * MiB},
        ],
        "foreseen": {
            "kind": "does-not-fit",
            "text": "Does not fit: this order needs 2.90 GiB (2.41 GiB to 3.20 GiB) at "
            "its worst point, after 480 of 1,210 tasks, of which 2.20 GiB execution; "
            "this cluster has 2.40 GiB. With 4 threads the fullest worker will have at "
            "least 960 MiB, and has room for 720 MiB. With 2 threads a worker it fits.",
            "low": 2468 * MiB,
            "usual": 2970 * MiB,
            "high": 3277 * MiB,
            "execution": 2253 * MiB,
            "position": 480,
            "has": 2458 * MiB,
            "fitting": 2,
            "workers": [
                {
                    "threads": 4,
                    "kind": "does-not-fit",
                    "low": 960 * MiB,
                    "high": 1240 * MiB,
                    "execution": 880 * MiB,
                    "has": 720 * MiB,
                },
                {
                    "threads": 2,
                    "kind": "fits",
                    "low": 480 * MiB,
                    "high": 660 * MiB,
                    "execution": 440 * MiB,
                    "has": 720 * MiB,
                },
            ],
            "unknown": [],
            "assumed": [],
        },
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
