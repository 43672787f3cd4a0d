"""Workers in the shapes of the store: those that are connected, and those that left."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import asdict
from typing import cast

from dask_memdash.analysis.time_to_limit import full_in
from dask_memdash.model.breakdown import UNKNOWN, Reading
from dask_memdash.model.breakdown import Breakdown as ModelBreakdown
from dask_memdash.model.event_parts import Executing
from dask_memdash.model.event_parts import SelfCost as Cost
from dask_memdash.model.event_parts import Thresholds as ModelThresholds
from dask_memdash.model.exactness import method_shown
from dask_memdash.model.processes import Departed, ProcessState, WorkerState
from dask_memdash.store.block_shapes import block_shape
from dask_memdash.store.children import children_of
from dask_memdash.store.intermediates import storing
from dask_memdash.store.worker_shapes import (
    Breakdown,
    ExecutingTask,
    Guard,
    RssParts,
    SelfCost,
    Thresholds,
    TimeToLimit,
    Worker,
)
from dask_memdash.text import format_duration


def worker_row(
    worker: WorkerState, process: ProcessState, said: Iterable[tuple[str, ...]]
) -> Worker:
    """Return a connected worker.

    Parameters
    ----------
    said
        What it and its nanny said but for reports.
    """
    reading = worker.reading
    return {
        "address": worker.info.address,
        "name": worker.info.name,
        "host": worker.info.host,
        "pid": worker.info.pid,
        "nthreads": worker.info.nthreads,
        "status": worker.status,
        "n_pauses": worker.pauses.count,
        "last_seen": worker.last_seen,
        "stale_for": worker.stale_for,
        "limit": worker.info.limit,
        "thresholds": _thresholds(worker.thresholds),
        "time_to_limit": _to_limit(worker, process),
        "breakdown": breakdown_row(process.breakdown),
        "rss": _rss(reading),
        "children": children_of(worker.children),
        "shares_process_with": len(process.members) - 1,
        "transfer": {
            "incoming": reading.incoming if reading else None,
            "outgoing": reading.outgoing if reading else None,
            "shuffle": reading.shuffle if reading else None,
        },
        "stored": worker.stored[0],
        "stored_pending": worker.stored[1],
        "storing": storing(worker.storing),
        "guard": None if worker.guard is None else cast(Guard, asdict(worker.guard)),
        "executing_tasks": [
            _executing(task, share)
            for task, share in zip(worker.executing, worker.shares, strict=True)
        ],
        "method": worker.method_shown,
        "degraded": [
            *itertools.chain(*said),
            *(*worker.notices, *worker.nanny_notices, *stale(worker)),
        ],
        "self_cost": {
            "worker": cost_row([worker.cost]),
            "nanny": cost_row([worker.nanny_cost]),
        },
    }


def _to_limit(worker: WorkerState, process: ProcessState) -> TimeToLimit | None:
    at = worker.thresholds
    lines = (
        ("pause", at.pause),
        ("terminate", at.terminate),
        ("limit", process.limit),
    )
    found = full_in(process, worker.last_seen, lines)
    return None if found is None else cast(TimeToLimit, asdict(found))


def breakdown_row(breakdown: ModelBreakdown | None) -> Breakdown:
    """Return a breakdown; every figure is None where none is known."""
    return cast(Breakdown, dict(UNKNOWN) if breakdown is None else breakdown.to_dict())


def _rss(reading: Reading | None) -> RssParts:
    return {
        "anon": reading.anon if reading else None,
        "file": reading.file if reading else None,
        "shmem": reading.shmem if reading else None,
    }


def stale(worker: WorkerState) -> tuple[str, ...]:
    """Say that a worker's heartbeat is overdue; nothing while it is not."""
    if worker.stale_for is None:
        return ()
    age = format_duration(worker.stale_for)
    return (
        f"no heartbeat for {age}; the figures of this worker may be that old. A task "
        "that holds the GIL, or a machine that swaps, keeps it silent",
    )


def _thresholds(known: ModelThresholds) -> Thresholds:
    return {
        "target": known.target,
        "spill": known.spill,
        "pause": known.pause,
        "terminate": known.terminate,
    }


def departed_row(gone: Departed) -> Worker:
    """Return a worker that has left, as it was last seen."""
    info = gone.worker.info
    return {
        "address": info.address,
        "name": info.name,
        "host": info.host,
        "pid": info.pid,
        "nthreads": info.nthreads,
        "status": "left",
        "n_pauses": gone.worker.pauses.count,
        "last_seen": gone.left,
        "stale_for": None,
        "limit": info.limit,
        "thresholds": _thresholds(gone.worker.thresholds),
        "time_to_limit": None,
        "breakdown": breakdown_row(gone.breakdown),
        "rss": _rss(gone.worker.reading),
        "children": children_of(()),
        "shares_process_with": 0,
        "transfer": dict.fromkeys(("incoming", "outgoing", "shuffle")),
        "stored": 0,
        "stored_pending": 0,
        "storing": None,
        "guard": None,
        "executing_tasks": [],
        "method": gone.worker.method,
        "degraded": [],
        "self_cost": {
            "worker": cost_row([gone.worker.cost]),
            "nanny": cost_row([gone.worker.nanny_cost]),
        },
    }


def _executing(task: Executing, share: int | None) -> ExecutingTask:
    return {
        "key": task.key,
        "prefix": task.prefix,
        "thread": task.thread,
        "seconds": task.seconds,
        "bytes": share,
        "peak": task.peak,
        "method": method_shown(task.method, task.peak, task.error),
        "error": task.error,
        "largest_block": block_shape(task.block),
    }


def cost_row(costs: list[Cost]) -> SelfCost:
    """Return what MemDash costs in several places together."""
    rates = [cost.cpu for cost in costs if cost.cpu is not None]
    sizes = [cost.bytes for cost in costs if cost.bytes is not None]
    return {
        "cpu": sum(rates) / len(rates) if rates else None,
        "cpu_max": max(rates, default=None),
        "bytes": sum(sizes) if sizes else None,
        "held_back": sum(cost.held_back > 0 for cost in costs),
    }
