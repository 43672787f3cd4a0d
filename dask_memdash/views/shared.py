"""One reading of a store for all open pages.

A store works its answers out anew at each call.  Ten open pages ask the same
questions at the same version, so :class:`SharedStore` asks once and keeps the answers
until the version moves on.  Not thread-safe: all pages live on one event loop.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from dask_memdash.store.base import Cluster, History, Prefix, Store, Worker

T = TypeVar("T")


class SharedStore:
    """A store in front of a store, which answers each question once per version.

    Parameters
    ----------
    store
        What is asked.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._version: int | None = None
        self._answers: dict[tuple[Any, ...], Any] = {}

    @property
    def version(self) -> int:
        """Version of the store behind."""
        return self._store.version

    def cluster(self) -> Cluster:
        """Give the cluster at a glance."""
        return self._once(("cluster",), self._store.cluster)

    def workers(self, limit: int | None = None, offset: int = 0) -> list[Worker]:
        """Give the connected workers, by name."""
        return self._once(
            ("workers", limit, offset), lambda: self._store.workers(limit, offset)
        )

    def prefixes(self, limit: int | None = None, offset: int = 0) -> list[Prefix]:
        """Give the task prefixes, largest first."""
        return self._once(
            ("prefixes", limit, offset), lambda: self._store.prefixes(limit, offset)
        )

    def incidents(
        self, limit: int | None = None, offset: int = 0
    ) -> list[dict[str, Any]]:
        """Give the incidents, newest first."""
        return self._once(
            ("incidents", limit, offset), lambda: self._store.incidents(limit, offset)
        )

    def incident(self, incident_id: str) -> dict[str, Any]:
        """Give one incident in full."""
        return self._once(
            ("incident", incident_id), lambda: self._store.incident(incident_id)
        )

    def history(
        self, worker: str | None = None, since: float | None = None, points: int = 300
    ) -> History:
        """Give the breakdown over time of the cluster or of one worker."""
        return self._once(
            ("history", worker, since, points),
            lambda: self._store.history(worker, since, points),
        )

    def remember(self, question: str, answer: Callable[[], T]) -> T:
        """Work something out once per version; for what views derive from a store."""
        return self._once(("derived", question), answer)

    def _once(self, question: tuple[Any, ...], ask: Callable[[], T]) -> T:
        version = self._store.version
        if version != self._version:
            self._answers.clear()
            self._version = version
        if question not in self._answers:
            self._answers[question] = ask()
        answer: T = self._answers[question]
        return answer
