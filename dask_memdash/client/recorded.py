"""A recorded run in the user's hands: what ``connect`` gives, without a cluster.

Covers runs in a directory or behind a URL, from which one is fetched.  Every method
answers at once, whether or not an event loop is running.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Coroutine, Mapping
from types import TracebackType
from typing import Any

from dask_memdash.client.connection import Connection, as_query
from dask_memdash.client.explanation import Explanation
from dask_memdash.counterfactual.answer import Answer, answer
from dask_memdash.counterfactual.change import Change
from dask_memdash.counterfactual.evidence import gather
from dask_memdash.errors import MemDashError
from dask_memdash.plugins.protocol import PROTOCOL
from dask_memdash.runs.reading import RunReader
from dask_memdash.runs.remote import fetched
from dask_memdash.store.recorded import RecordedStore

__all__ = ["RecordedRun", "open_run"]

#: An instant: Unix time, or a time with its zone (local time without one).
Instant = float | datetime.datetime


def open_run(
    path: str | os.PathLike[str], run: str | None = None, at: Instant | None = None
) -> RecordedRun:
    """Open a recorded run; the cluster need not exist any more.

    Parameters
    ----------
    path
        Directory or URL of the run, or of several. A run behind a URL is fetched into a
        temporary directory, which goes with it.
    run
        Id or name of the run, where the directory holds several.
    at
        Instant to look at: Unix time in seconds, or a ``datetime``. By default the end
        of the record.

    Returns
    -------
    RecordedRun
        Has the methods of what :func:`dask_memdash.connect` returns.

    Raises
    ------
    RunError
        There is no such run, or none of its files can be read.
    """
    found, kept = fetched(os.fspath(path), run)
    return RecordedRun(RecordedStore(RunReader(found), _unix(at)), kept)


class RecordedRun(Connection):
    """A recorded run at one instant, asked as a living cluster is.

    Every method that gives a DataFrame gives sizes as integers in bytes, instants as
    timestamps in UTC and durations in seconds; what is not known is missing.
    """

    def __init__(self, store: RecordedStore, kept: Any = None) -> None:
        self._store = store
        self._kept = kept  # what was fetched goes with it
        self._client: Any = _NoClient()
        self._address = str(store.reader.directory)

    def __repr__(self) -> str:
        return f"<recorded run {self.id} in {self._address}>"

    def __enter__(self) -> RecordedRun:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def id(self) -> str:
        """Id of the run."""
        return self._store.reader.manifest.id

    @property
    def name(self) -> str:
        """Name that was given to the run; empty without one."""
        return self._store.reader.manifest.name

    @property
    def tags(self) -> dict[str, str]:
        """Tags that were given to the run."""
        return dict(self._store.reader.manifest.tags)

    @property
    def span(self) -> tuple[float, float]:
        """From when until when there are figures, in Unix time."""
        return self._store.span()

    @property
    def problems(self) -> dict[str, str]:
        """Files of the run that cannot be read, and why; the others answer."""
        return dict(self._store.reader.problems)

    def at(self, instant: Instant | None) -> RecordedRun:
        """Return the same run at another instant; None for the end of the record."""
        return RecordedRun(self._store.at(_unix(instant)), self._kept)

    def diff(self, other: RecordedRun | str | os.PathLike[str]) -> Any:
        """Compare another run with this one; see :func:`dask_memdash.diff`."""
        from dask_memdash.client.run_diff import diff

        return diff(self, other)

    def explain(
        self, what: BaseException | str | int, timeout: float = 0.0
    ) -> Explanation | Any:
        """Say what happened, why, and what to change; see :meth:`.Connection.explain`.

        Nothing is waited for: what is not in the record does not come.
        """
        return self._sync(self._explain, what, 0.0)

    def close(self) -> None:
        """Let go of the run's files; for all instants that it was looked at."""
        self._store.reader.close()

    # -- asking ----------------------------------------------------------------

    async def _what_if(self, failure: str | None, change: Change) -> Answer:
        return answer(gather(self._store, failure), change)

    def _sync(self, function: Any, *args: Any) -> Any:
        return _finished(function(*args))

    async def _ask(
        self,
        path: str,
        patience: float | None = None,
        arguments: Mapping[str, Any] | None = None,
    ) -> tuple[Any, dict[str, Any]]:
        if path == "report.html":
            from dask_memdash.views.report import render_report

            return render_report(self._store), self._beside()
        import json

        from dask_memdash.web.api import ask

        status, body = ask(self._store, path, as_query(arguments))
        if status == 404:
            raise LookupError(body)
        if status != 200:
            raise MemDashError(body)
        return json.loads(body), self._beside()

    def _beside(self) -> dict[str, Any]:
        told = self._store.reader.manifest.scheduler
        return {"protocol": PROTOCOL, "path": None, "scheduler": told.get("id")}


class _NoClient:
    """Stands where a living cluster's client is."""

    dashboard_link = None
    status = "running"


def _finished(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Return what a coroutine gives that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    coroutine.close()
    raise RuntimeError("a question to a record waits for something")


def _unix(instant: Instant | None) -> float | None:
    if isinstance(instant, datetime.datetime):
        return instant.timestamp()
    return None if instant is None else float(instant)
