"""What a store says at one instant, taken at once and bounded, for a report.

Taking it costs little and belongs to the thread of the store; what is made of it may
then be made in any thread.
"""

from __future__ import annotations

from typing import Any

from dask_memdash.errors import (
    MemDashError,
    UnknownFailureError,
    UnknownGraphError,
    UnknownIncidentError,
    UnknownPrefixError,
    UnknownWorkerError,
)
from dask_memdash.store.base import Store
from dask_memdash.store.cluster_shapes import Cluster, History
from dask_memdash.store.limit_shapes import LimitAudit
from dask_memdash.store.order_shapes import Graph, OrderPoint
from dask_memdash.store.prefix_shapes import (
    Prefix,
    PrefixDetails,
    PrefixMinute,
    PrefixTotals,
)
from dask_memdash.store.strip_shapes import Strips
from dask_memdash.store.worker_shapes import PastTask, Worker

#: Rows of each table that are taken at most.
ROWS = 2000

#: Incidents that are listed at most, the newest.
INCIDENTS = 500

#: Incidents that are taken in full at most, the newest.
STORIES = 50

#: Graphs that are taken at most, the newest.
GRAPHS = 20

#: Points of the history.
POINTS = 600


class Snapshot:
    """A :class:`~dask_memdash.store.base.Store` that stands still.

    Parameters
    ----------
    store
        What it is taken of.
    """

    version = 0

    def __init__(self, store: Store) -> None:
        self._cluster = store.cluster()
        self._workers = store.workers(ROWS)
        self._departed = store.departed(ROWS)
        self._prefixes = store.prefixes(ROWS)
        self._prefix_totals = store.prefix_totals()
        self._incidents = store.incidents(INCIDENTS)
        self._failures = store.failures(INCIDENTS)
        self._details = {
            known["id"]: store.incident(known["id"])
            for known in self._incidents[:STORIES]
        }
        self._graphs: list[Graph] = _or_none(lambda: store.order(GRAPHS))
        self._limits: list[LimitAudit] = _or_none(lambda: store.limits(ROWS))
        self._history = store.history(None, None, POINTS)
        times = self._history["time"] or [self._cluster["time"]]
        self._strips = store.strips(times[0], max(times[-1], self._cluster["time"]))

    def cluster(self) -> Cluster:
        """Return the cluster at a glance."""
        return self._cluster

    def workers(self, limit: int | None = None, offset: int = 0) -> list[Worker]:
        """Return the workers that were connected, by name."""
        return self._workers[offset:][:limit]

    def departed(self, limit: int | None = None, offset: int = 0) -> list[Worker]:
        """Return the workers that had left, newest first."""
        return self._departed[offset:][:limit]

    def task_history(self, worker: str) -> list[PastTask]:
        """Know of no tasks: none are taken."""
        raise UnknownWorkerError(worker)

    def prefixes(self, limit: int | None = None, offset: int = 0) -> list[Prefix]:
        """Return the task prefixes, largest first."""
        return self._prefixes[offset:][:limit]

    def prefix_totals(self) -> PrefixTotals:
        """Return the sums over all task prefixes."""
        return self._prefix_totals

    def prefix(self, name: str) -> PrefixDetails:
        """Know of no distributions: none are taken."""
        raise UnknownPrefixError(name)

    def prefix_minute(self, name: str) -> PrefixMinute:
        """Know of no minute: none is taken."""
        return {"time": [], "bytes": []}

    def incidents(
        self, limit: int | None = None, offset: int = 0
    ) -> list[dict[str, Any]]:
        """Return the incidents, newest first."""
        return self._incidents[offset:][:limit]

    def failures(
        self, limit: int | None = None, offset: int = 0
    ) -> list[dict[str, Any]]:
        """Return the failures, newest first."""
        return self._failures[offset:][:limit]

    def failure(self, failure_id: str) -> dict[str, Any]:
        """Return one failure, if it was among the newest."""
        for failure in self._failures:
            if failure["id"] == failure_id:
                return failure
        raise UnknownFailureError(failure_id)

    def incident(self, incident_id: str) -> dict[str, Any]:
        """Return one incident in full, if it was among the newest."""
        try:
            return self._details[incident_id]
        except KeyError:
            raise UnknownIncidentError(incident_id) from None

    def order(self, limit: int | None = None, offset: int = 0) -> list[Graph]:
        """Return the graphs, newest first."""
        return self._graphs[offset:][:limit]

    def graph(self, graph_id: str) -> Graph:
        """Return one graph."""
        for known in self._graphs:
            if known["id"] == graph_id:
                return known
        raise UnknownGraphError(graph_id)

    def order_point(self, graph_id: str, position: int) -> OrderPoint:
        """Know of no points: none are taken."""
        raise UnknownGraphError(graph_id)

    def limits(self, limit: int | None = None, offset: int = 0) -> list[LimitAudit]:
        """Return the audits of the workers' limits, worst first."""
        return self._limits[offset:][:limit]

    def history(
        self, worker: str | None = None, since: float | None = None, points: int = 300
    ) -> History:
        """Return the cluster's breakdown over time."""
        if worker is not None:
            raise UnknownWorkerError(worker)
        return self._history

    def strips(self, start: float, end: float) -> Strips:
        """Return how full all workers were over all of the history."""
        return self._strips

    def then(self, start: float, end: float) -> Store:
        """Stand still."""
        return self


def _or_none(ask: Any) -> list[Any]:
    """Ask for what some stores do not have; give an empty list then."""
    try:
        return list(ask())
    except MemDashError:
        return []
