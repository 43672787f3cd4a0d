"""A store whose answers tests may edit."""

from __future__ import annotations

from typing import Any, get_type_hints

import stories
from fake_parts import no_breakdown, point
from stories import NOW

from dask_memdash.errors import (
    UnknownFailureError,
    UnknownGraphError,
    UnknownIncidentError,
    UnknownPrefixError,
    UnknownWorkerError,
)
from dask_memdash.model.breakdown import PARTS
from dask_memdash.store.beside_tasks import OtherMemory
from dask_memdash.store.cluster_shapes import Cluster, History
from dask_memdash.store.incident_shapes import Incident
from dask_memdash.store.limit_shapes import LimitAudit
from dask_memdash.store.order_shapes import Graph, OrderPoint
from dask_memdash.store.prefix_shapes import (
    Prefix,
    PrefixDetails,
    PrefixMinute,
    PrefixTotals,
    SizeBin,
)
from dask_memdash.store.strip_shapes import Strips
from dask_memdash.store.strips import StripBook, Track
from dask_memdash.store.worker_shapes import Breakdown, PastTask, Worker


class FakeStore:
    """A store whose contents tests set; :meth:`change` moves its version on."""

    def __init__(self) -> None:
        self.version = 1
        self.asked: list[str] = []
        self.all_workers: list[Worker] = []
        self.all_prefixes: list[Prefix] = []
        self.all_others: list[OtherMemory] = []
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
        self.guard: Any = None

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
            "others": list(self.all_others),
            "scheduler": None,
            "stored": 0,
            "stored_pending": 0,
            "intermediates": None,
            "guard": self.guard,
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

    def prefix_minute(self, name: str) -> PrefixMinute:
        """Return a minute; all prefixes have the same."""
        self.asked.append("prefix_minute")
        return {
            "time": [NOW - 3.0 * n for n in range(21, -1, -1)],
            "bytes": [n << 20 for n in range(22)],
        }

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
        brief = get_type_hints(Incident)
        return [
            {name: value for name, value in known.items() if name in brief}
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

    def strips(self, start: float, end: float) -> Strips:
        """Return strips of workers that were always as full as they are."""
        self.asked.append("strips")
        processes = {(w["host"], w["pid"]): w for w in self.all_workers}
        tracks = [
            Track(
                key=key,
                name=worker["name"],
                address=worker["address"],
                limit=worker["limit"],
                cursor=0,
                read=lambda since, worker=worker: (
                    [NOW - max(0, len(self.points) - 1)],
                    [worker["breakdown"]["process"] or 0],
                    [worker["breakdown"]["spilled"] or 0],
                ),
            )
            for key, worker in processes.items()
        ]
        return StripBook().answer(tracks, start, end, NOW)

    def then(self, start: float, end: float) -> FakeStore:
        """Have been as it is."""
        self.asked.append("then")
        return self
