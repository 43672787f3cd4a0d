"""What views, the JSON API and the client read: the :class:`Store` protocol.

A store is read-only and gives plain dicts and lists, ready for JSON, in the shapes
that the modules ``*_shapes`` beside this one write down.  All sizes are integers in
bytes, all instants are seconds since the Unix epoch.  What is not known is ``None``,
never 0.  Nothing here knows of ``distributed``, Bokeh or the live scheduler, so that
the same views serve a live cluster and a recorded one.
"""

from __future__ import annotations

from typing import Any, Protocol

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


class Store(Protocol):
    """Read-only view of a cluster's memory, live or recorded."""

    @property
    def version(self) -> int:
        """Grows with every change; views skip their update while it stands."""

    def cluster(self) -> Cluster:
        """Return the cluster at a glance."""

    def workers(self, limit: int | None = None, offset: int = 0) -> list[Worker]:
        """Return the connected workers, by name."""

    def departed(self, limit: int | None = None, offset: int = 0) -> list[Worker]:
        """Return the workers that have left, newest first, as they were last seen.

        Their ``status`` is 'left' and ``last_seen`` is when.  Of those that left
        long ago nothing is kept.
        """

    def task_history(self, worker: str) -> list[PastTask]:
        """Return the recent tasks that a worker was seen to run, oldest first.

        Raises
        ------
        UnknownWorkerError
        """

    def prefixes(self, limit: int | None = None, offset: int = 0) -> list[Prefix]:
        """Return the task prefixes, largest first.

        What belongs to no task is in :meth:`cluster`, and with them in
        :func:`~dask_memdash.store.all_rows.all_rows`.
        """

    def prefix_totals(self) -> PrefixTotals:
        """Return the sums over all task prefixes, without making them one by one."""

    def prefix(self, name: str) -> PrefixDetails:
        """Return one task prefix with the distribution of its outputs' sizes.

        Raises
        ------
        UnknownPrefixError
        """

    def prefix_minute(self, name: str) -> PrefixMinute:
        """Return what a prefix had in the workers' processes over the last minute.

        Empty where it is not known: of small prefixes among many, and of a record
        where it did not change.
        """

    def incidents(
        self, limit: int | None = None, offset: int = 0
    ) -> list[dict[str, Any]]:
        """Return the incidents, newest first (shape: :class:`Incident`)."""

    def incident(self, incident_id: str) -> dict[str, Any]:
        """Return one incident with its suspects, storage, findings, cost and timeline.

        Raises
        ------
        UnknownIncidentError
        """

    def failures(
        self, limit: int | None = None, offset: int = 0
    ) -> list[dict[str, Any]]:
        """Return the failures, newest first (shape: DESIGN, JSON API)."""

    def failure(self, failure_id: str) -> dict[str, Any]:
        """Return one failure: all incidents of one computation.

        Raises
        ------
        UnknownFailureError
        """

    def limits(self, limit: int | None = None, offset: int = 0) -> list[LimitAudit]:
        """Return audit of every worker's memory limit, worst first, then by name."""

    def order(self, limit: int | None = None, offset: int = 0) -> list[Graph]:
        """Return the graphs, newest first, each with its curve."""

    def graph(self, graph_id: str) -> Graph:
        """Return one graph.

        Raises
        ------
        UnknownGraphError
        """

    def order_point(self, graph_id: str, position: int) -> OrderPoint:
        """Say what a graph held when `position` of its tasks had finished, for whom.

        Raises
        ------
        UnknownGraphError
        """

    def history(
        self, worker: str | None = None, since: float | None = None, points: int = 300
    ) -> History:
        """Return the breakdown over time of the cluster or of one worker.

        Workers that have left (:meth:`departed`) keep theirs.

        Raises
        ------
        UnknownWorkerError
        """

    def strips(self, start: float, end: float) -> Strips:
        """Return how full all workers were over a stretch of time, in few rows."""

    def then(self, start: float, end: float) -> Store:
        """Return the cluster at an earlier instant, or at the most of a span.

        Parameters
        ----------
        start, end
            In Unix time; the same for an instant.
        """
