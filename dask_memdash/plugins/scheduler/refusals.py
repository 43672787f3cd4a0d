"""Tasks that the scheduler refuses, as their inputs exceed their worker's limit.

Such a task ends with a ``MemoryError`` that the scheduler itself makes.  No worker
takes part, so nobody else tells of it.  Covers making an incident of it and putting a
note on the error; errors that tasks raise are
:mod:`dask_memdash.plugins.worker.worker_errors`'s.

The host has no hook that may change the error: its table of transitions is looked up
on the instance, so a copy of it with one entry wrapped is put there.  That entry is
called for tasks that fail and for no others.  Where it cannot be wrapped, the incident
is made all the same, from the plugin's own hook, and the error has no note.

Runs on the scheduler's event loop.
"""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dask_memdash.analysis.incidents.request_judgement import judge
from dask_memdash.analysis.incidents.requests import parse
from dask_memdash.boundary import boundary
from dask_memdash.model.cluster import ClusterModel
from dask_memdash.model.events import Event, MemoryErrorRaised
from dask_memdash.model.incidents import Incident
from dask_memdash.plugins.keys import key_text
from dask_memdash.plugins.scheduler import translate
from dask_memdash.plugins.scheduler.notifications import MARK
from dask_memdash.text import plain_lines, short

if TYPE_CHECKING:
    from distributed.scheduler import Scheduler

#: The entry of the table: from, to.
FAILS: Any = ("processing", "erred")

#: Longest pickled error that is looked at, in bytes; one of ours takes some hundreds.
MAX_PICKLED = 100_000

#: Characters kept of the error's text.
MAX_TEXT = 500


class Refusals:
    """Makes incidents of the tasks that one scheduler refuses.

    Parameters
    ----------
    scheduler
        Whose refusals are looked for.
    model
        What is known.
    handle
        Takes in an event.
    page
        Gives the address of an incident on the page, None without one.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        model: ClusterModel,
        handle: Callable[[Event], None],
        page: Callable[[str], str | None],
    ) -> None:
        self._scheduler = scheduler
        self._model = model
        self._handle = handle
        self._page = page
        self._table: Mapping[Any, Any] | None = None
        self._seen: bytes | None = None

    def attach(self) -> None:
        """Begin to put notes on the errors."""
        table = self._scheduler._TRANSITIONS_TABLE
        fails = table.get(FAILS)
        if fails is None or self._table is not None:
            return
        noted = boundary.guarded(self._noted, "putting a note on a MemoryError")

        def failing(state: Any, key: Any, *args: Any, **kwargs: Any) -> Any:
            exception = kwargs.get("exception")
            if type(exception) is bytes and self._table is not None:
                kwargs["exception"] = noted(key, kwargs) or exception
            return fails(state, key, *args, **kwargs)

        self._table = {**table, FAILS: failing}
        self._scheduler._TRANSITIONS_TABLE = self._table  # type: ignore[misc]

    def detach(self) -> None:
        """Put no more notes on errors."""
        table, self._table = self._table, None
        if table and vars(self._scheduler).get("_TRANSITIONS_TABLE") is table:
            del self._scheduler._TRANSITIONS_TABLE  # so that the class's shows again

    def look(self, key: Any, kwargs: Mapping[str, Any]) -> Incident | None:
        """Make an incident of a task that has failed, if it was refused.

        Parameters
        ----------
        kwargs
            As the transition to 'erred' has them.

        Returns
        -------
        Incident
            None where the task was not refused, or this one has been looked at.
        """
        exception = kwargs.get("exception")
        if exception is self._seen or type(exception) is not bytes:
            return None
        if len(exception) > MAX_PICKLED or b"MemoryError" not in exception:
            return None
        # What a worker sends is serialized otherwise and never unpickled here.
        error = pickle.loads(exception)
        task = self._scheduler.tasks.get(key)
        if type(error) is not MemoryError or task is None:
            return None
        text, worker = str(error), str(kwargs.get("worker"))
        name = key_text(key)
        text = text.replace(repr(key), repr(short(name)), 1)[:MAX_TEXT]
        request = parse(text)
        if request is None or request.source != "scheduler":
            return None
        self._seen = exception
        event = MemoryErrorRaised(
            time=time.time(),
            address=worker,
            task=replace(
                translate.task_info(task), inputs=translate.inputs_of(task, worker)
            ),
            text=f"MemoryError: {text}",
            stage="refused",
        )
        self._handle(event)
        return self._incident(event)

    def _noted(self, key: Any, kwargs: Mapping[str, Any]) -> bytes | None:
        incident = self.look(key, kwargs)
        if incident is None:
            return None
        error = pickle.loads(kwargs["exception"])
        error.add_note(plain_lines(self._text(incident)))
        setattr(error, MARK, (str(self._scheduler.id), incident.id))
        return pickle.dumps(error)

    def _incident(self, event: MemoryErrorRaised) -> Incident | None:
        for incident in self._model.incidents:
            if (
                incident.kind == "memory-error"
                and incident.stage == event.stage
                and incident.worker.address == event.address
            ):
                return incident
        return None

    def _text(self, incident: Incident) -> str:
        page = self._page(incident.id)
        request = parse(incident.detail)
        lines = [f"MemDash incident {incident.id}{f': {page}' if page else ''}"]
        if request is not None:
            lines.append(f"  {judge(request, incident.limit).text}")
        lines.append("  dask_memdash.explain(error) says what to change.")
        return "\n".join(lines)
