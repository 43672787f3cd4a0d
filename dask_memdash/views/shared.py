"""One reading of a store for all open pages.

A store works its answers out anew at each call, and a busy cluster's changes many times
a second.  Ten open pages ask the same questions, each at its own moment, so
:class:`SharedStore` asks once, and takes note of a new version only so often.  Not
thread-safe: all pages live on one event loop.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

from dask_memdash.store.base import (
    Cluster,
    Graph,
    History,
    LimitAudit,
    OrderPoint,
    PastTask,
    Prefix,
    PrefixDetails,
    PrefixTotals,
    Store,
    Worker,
)

T = TypeVar("T")


class SharedStore:
    """A store in front of a store, which answers each question once per version.

    Parameters
    ----------
    store
        What is asked.
    interval
        Least time between two versions that pages see, in seconds.
    """

    def __init__(self, store: Store, interval: float = 0.0) -> None:
        self._store = store
        self._interval = interval
        self._version: int | None = None
        self._next = 0.0
        self._answers: dict[tuple[Any, ...], Any] = {}

    @property
    def version(self) -> int:
        """Version of the store behind, as all pages see it."""
        now = time.monotonic()
        if self._version is None or now >= self._next:
            version = self._store.version
            if version != self._version:
                self._answers.clear()
                self._version = version
                self._next = now + self._interval
        return self._version

    def cluster(self) -> Cluster:
        """Return the cluster at a glance."""
        return self._once(("cluster",), self._store.cluster)

    def workers(self, limit: int | None = None, offset: int = 0) -> list[Worker]:
        """Return the connected workers, by name."""
        return self._once(
            ("workers", limit, offset), lambda: self._store.workers(limit, offset)
        )

    def departed(self, limit: int | None = None, offset: int = 0) -> list[Worker]:
        """Return the workers that have left, newest first."""
        return self._once(
            ("departed", limit, offset), lambda: self._store.departed(limit, offset)
        )

    def task_history(self, worker: str) -> list[PastTask]:
        """Return the recent tasks that a worker was seen to run."""
        return self._once(("ran", worker), lambda: self._store.task_history(worker))

    def prefix_totals(self) -> PrefixTotals:
        """Return the sums over all task prefixes."""
        return self._once(("prefix_totals",), self._store.prefix_totals)

    def prefix(self, name: str) -> PrefixDetails:
        """Return one task prefix with the distribution of its outputs' sizes."""
        return self._once(("prefix", name), lambda: self._store.prefix(name))

    def limits(self, limit: int | None = None, offset: int = 0) -> list[LimitAudit]:
        """Return the audit of every worker's memory limit, worst first."""
        return self._once(
            ("limits", limit, offset), lambda: self._store.limits(limit, offset)
        )

    def order(self, limit: int | None = None, offset: int = 0) -> list[Graph]:
        """Return the graphs, newest first."""
        return self._once(
            ("order", limit, offset), lambda: self._store.order(limit, offset)
        )

    def graph(self, graph_id: str) -> Graph:
        """Return one graph."""
        return self._once(("graph", graph_id), lambda: self._store.graph(graph_id))

    def order_point(self, graph_id: str, position: int) -> OrderPoint:
        """Say what a graph held at a number of finished tasks."""
        return self._once(
            ("order_point", graph_id, position),
            lambda: self._store.order_point(graph_id, position),
        )

    def prefixes(self, limit: int | None = None, offset: int = 0) -> list[Prefix]:
        """Return the task prefixes, largest first."""
        return self._once(
            ("prefixes", limit, offset), lambda: self._store.prefixes(limit, offset)
        )

    def incidents(
        self, limit: int | None = None, offset: int = 0
    ) -> list[dict[str, Any]]:
        """Return the incidents, newest first."""
        return self._once(
            ("incidents", limit, offset), lambda: self._store.incidents(limit, offset)
        )

    def incident(self, incident_id: str) -> dict[str, Any]:
        """Return one incident in full."""
        return self._once(
            ("incident", incident_id), lambda: self._store.incident(incident_id)
        )

    def history(
        self, worker: str | None = None, since: float | None = None, points: int = 300
    ) -> History:
        """Return the breakdown over time of the cluster or of one worker."""
        return self._once(
            ("history", worker, since, points),
            lambda: self._store.history(worker, since, points),
        )

    def remember(self, question: str, answer: Callable[[], T]) -> T:
        """Work something out once per version; for what views derive from a store."""
        return self._once(("derived", question), answer)

    def _once(self, question: tuple[Any, ...], ask: Callable[[], T]) -> T:
        _ = self.version  # forgets the answers when it moves on
        if question not in self._answers:
            self._answers[question] = ask()
        answer: T = self._answers[question]
        return answer
