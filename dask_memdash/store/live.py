"""The store of a running cluster: reads a :class:`ClusterModel`, changes nothing.

The shapes are those of :mod:`dask_memdash.store.base`.  What is costly is made once
for each version of the model, however many pages look at it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any, TypeVar, cast

from dask_memdash.analysis.describe import describe
from dask_memdash.errors import UnknownIncidentError, UnknownWorkerError
from dask_memdash.model.breakdown import UNKNOWN
from dask_memdash.model.breakdown import Breakdown as ModelBreakdown
from dask_memdash.model.cluster import ClusterModel
from dask_memdash.model.events import Executing, TaskInfo
from dask_memdash.model.incidents import Incident, Suspect
from dask_memdash.model.prefixes import PrefixState
from dask_memdash.model.processes import WorkerState
from dask_memdash.model.quantiles import QuantileSketch
from dask_memdash.store.base import (
    Breakdown,
    Cluster,
    ExecutingTask,
    History,
    Notice,
    Peaks,
    Prefix,
    Thresholds,
    Worker,
)

SCHEMA_VERSION = 1

T = TypeVar("T")


class LiveStore:
    """A :class:`~dask_memdash.store.base.Store` over a live model.

    Not thread-safe: belongs to the thread that feeds the model.
    """

    def __init__(self, model: ClusterModel) -> None:
        self._model = model
        self._made: dict[str, tuple[int, Any]] = {}

    @property
    def version(self) -> int:
        """The model's version."""
        return self._model.version

    def cluster(self) -> Cluster:
        """Give the cluster at a glance."""
        model = self._model
        workers = model.processes.workers.values()
        limits = [process.limit for process in model.processes.by_key.values()]
        total = None if None in limits else sum(limit or 0 for limit in limits)
        read = any(w.reading is not None for w in workers)
        return {
            "schema_version": SCHEMA_VERSION,
            "time": model.time,
            "n_workers": len(model.processes.workers),
            "n_processes": len(model.processes.by_key),
            "n_incidents": len(model.incidents),
            "limit": total if limits else None,
            "breakdown": _breakdown(model.processes.total if read else None),
            "self_cost": None,
            "degraded": self._notices(),
        }

    def workers(self, limit: int | None = None, offset: int = 0) -> list[Worker]:
        """Give the connected workers, by name."""
        return _page(self._once("workers", self._workers), limit, offset)

    def prefixes(self, limit: int | None = None, offset: int = 0) -> list[Prefix]:
        """Give the task prefixes, largest first."""
        return _page(self._once("prefixes", self._prefixes), limit, offset)

    def incidents(
        self, limit: int | None = None, offset: int = 0
    ) -> list[dict[str, Any]]:
        """Give the incidents, newest first."""
        return [_incident(i) for i in _page(list(self._model.incidents), limit, offset)]

    def incident(self, incident_id: str) -> dict[str, Any]:
        """Give one incident whole."""
        incident = self._model.incidents.get(incident_id)
        if incident is None:
            raise UnknownIncidentError(incident_id)
        return _incident_details(incident, self._model)

    def history(
        self, worker: str | None = None, since: float | None = None, points: int = 300
    ) -> History:
        """Give the breakdown over time of the cluster or of one worker."""
        processes = self._model.processes
        series = processes.history
        if worker is not None:
            state = processes.workers.get(worker)
            if state is None:
                raise UnknownWorkerError(worker)
            series = processes.by_key[state.key].history
        return cast(History, series.columns(since, points))

    # -- making ----------------------------------------------------------------

    def _once(self, name: str, make: Callable[[], T]) -> T:
        version, value = self._made.get(name, (-1, None))
        if version != self.version:
            value = make()
            self._made[name] = (self.version, value)
        return cast(T, value)

    def _workers(self) -> list[Worker]:
        workers = self._model.processes.workers.values()
        ordered = sorted(workers, key=lambda w: _natural(w.info.name))
        return [self._worker(worker) for worker in ordered]

    def _worker(self, worker: WorkerState) -> Worker:
        process = self._model.processes.by_key[worker.key]
        reading = worker.reading
        return {
            "address": worker.info.address,
            "name": worker.info.name,
            "host": worker.info.host,
            "pid": worker.info.pid,
            "nthreads": worker.info.nthreads,
            "status": worker.status,
            "last_seen": worker.last_seen,
            "limit": worker.info.limit,
            "thresholds": cast(Thresholds, asdict(worker.thresholds)),
            "breakdown": _breakdown(process.breakdown),
            "shares_process_with": len(process.members) - 1,
            "transfer": {
                "incoming": reading.incoming if reading else None,
                "outgoing": reading.outgoing if reading else None,
                "shuffle": reading.shuffle if reading else None,
            },
            "executing_tasks": [_executing(task) for task in worker.executing],
            "method": worker.method,
            "degraded": [*worker.notices, *worker.nanny_notices],
        }

    def _prefixes(self) -> list[Prefix]:
        known = any(
            w.reading is not None and w.reading.spilled is not None
            for w in self._model.processes.workers.values()
        )
        named = sorted(
            self._model.prefixes.by_name.items(),
            key=lambda item: (-item[1].weight, item[0]),
        )
        return [_prefix(name, state, spills=known) for name, state in named]

    def _notices(self) -> list[Notice]:
        notices: list[Notice] = [
            {"where": where, "text": text, "since": since}
            for where, (since, texts) in self._model.notices.items()
            for text in texts
        ]
        for worker in self._model.processes.workers.values():
            for kind, texts in (
                ("worker", worker.notices),
                ("nanny of", worker.nanny_notices),
            ):
                notices += [
                    {
                        "where": f"{kind} {worker.info.address}",
                        "text": text,
                        "since": worker.info.time,
                    }
                    for text in texts
                ]
        return notices


def _page(items: list[T], limit: int | None, offset: int) -> list[T]:
    return items[offset : None if limit is None else offset + limit]


def _natural(name: str) -> tuple[int, int, str]:
    return (0, int(name), name) if name.isdigit() else (1, 0, name)


def _breakdown(breakdown: ModelBreakdown | None) -> Breakdown:
    return cast(Breakdown, dict(UNKNOWN) if breakdown is None else breakdown.to_dict())


def _executing(task: Executing) -> ExecutingTask:
    return {
        "key": task.key,
        "prefix": task.prefix,
        "thread": task.thread,
        "seconds": task.seconds,
        "bytes": task.bytes,
        "peak": task.peak,
        "method": task.method,
        "error": task.error,
    }


def _prefix(name: str, state: PrefixState, *, spills: bool) -> Prefix:
    unmeasured = state.running > 0 and state.measured == 0
    return {
        "prefix": name,
        "storage": {
            "managed": state.managed,
            "managed_claimed": state.claimed,
            "replicas": state.replicas,
            "spilled": state.spilled if spills else None,
            "spilled_disk": state.spilled_disk if spills else None,
            "pinned": state.pinned,
            "awaited": state.awaited,
            "count": max(0, state.count - state.n_replicas),
            "output_bytes": {"min": state.outputs.min, **_quantiles(state.outputs)},
            "awaited_by": [
                {"prefix": waiter, "bytes": size}
                for waiter, size in sorted(
                    state.awaited_by.items(), key=lambda item: (-item[1], item[0])
                )
            ],
        },
        "execution": {
            "executing": None if unmeasured else state.executing,
            "running": state.running,
            "finished": state.finished,
            "peak": _quantiles(state.peaks),
            "method": state.method,
            "error": state.errors.quantile(0.9),
        },
    }


def _quantiles(sketch: QuantileSketch) -> Peaks:
    return {
        "p50": sketch.quantile(0.5),
        "p95": sketch.quantile(0.95),
        "max": sketch.max,
    }


def _incident(incident: Incident) -> dict[str, Any]:
    return {
        "id": incident.id,
        "time": incident.time,
        "until": incident.until,
        "kind": incident.kind,
        "worker": asdict(incident.worker),
        "exit": None if incident.exit is None else asdict(incident.exit),
        "limit": incident.limit,
        "breakdown": _breakdown(incident.breakdown),
        "diagnosis": {
            "cause": "unknown",
            "confidence": 0.0,
            "responsible": {"prefix": None, "key": None},
            "text": describe(incident),
            "advice": [],
        },
        "evidence": incident.evidence,
    }


def _incident_details(incident: Incident, model: ClusterModel) -> dict[str, Any]:
    details = _incident(incident)
    details |= {
        "suspects": [_suspect(suspect) for suspect in incident.suspects],
        "innocent": {
            "count": incident.n_innocent,
            "keys": [task.key for task in incident.innocent],
        },
        "storage": [{**asdict(row), "because": None} for row in incident.storage],
        "findings": [],
        "cost": {
            "keys_lost": incident.keys_lost,
            "bytes_lost": incident.bytes_lost,
            "seconds_recomputed": None,
        },
        "timeline": {
            "time": [time for time, _ in incident.timeline],
            "process": [size for _, size in incident.timeline],
        },
    }
    if incident.kind == "killed-worker":
        details["tasks"] = [_task(task, model) for task in incident.tasks]
        details["n_tasks"] = incident.n_tasks
        details["task"] = details["tasks"][0] if incident.tasks else None
        details["attempts"] = list(incident.attempts)
    return details


def _suspect(suspect: Suspect) -> dict[str, Any]:
    data = asdict(suspect)
    data["priority"] = None if suspect.priority is None else list(suspect.priority)
    data["attempts"] = list(suspect.attempts)
    return data


def _task(task: TaskInfo, model: ClusterModel) -> dict[str, Any]:
    place = model.graphs.position(task.group, task.priority)
    return {
        "key": task.key,
        "prefix": task.prefix,
        "priority": None if task.priority is None else list(task.priority),
        "order_position": place[0] if place else None,
        "order_total": place[1] if place else None,
    }
