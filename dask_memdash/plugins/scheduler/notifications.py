"""Brings failures to users: notes on ``KilledWorker``, two log lines and two events.

Hooks see a ``KilledWorker`` only when it is on its way to the clients, so the
scheduler's ``transition`` is wrapped, on the instance: the host itself calls it for
nothing but such deaths.  What is on the hot path of every task (``_transition``) is
left alone.

Runs on the scheduler's event loop.
"""

from __future__ import annotations

import logging
import pickle
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from distributed.comm.addressing import get_address_host
from distributed.utils import format_dashboard_link

from dask_memdash.analysis.incidents.failure_words import closing, opening
from dask_memdash.analysis.incidents.killed_worker_note import note
from dask_memdash.boundary import boundary
from dask_memdash.links import page_link
from dask_memdash.model.cluster import ClusterModel
from dask_memdash.model.events import Event, FailureChecked
from dask_memdash.model.failure_parts import Failure
from dask_memdash.model.incidents import Incident
from dask_memdash.plugins.scheduler import translate
from dask_memdash.plugins.shims import TOPIC
from dask_memdash.store.base import Store
from dask_memdash.text import plain, plain_lines

if TYPE_CHECKING:
    from distributed.scheduler import Scheduler

logger = logging.getLogger("dask_memdash")

#: Name of the attribute by which an exception says what it belongs to: a tuple of
#: the scheduler's id and the incident's.
MARK = "memdash_incident"

#: States of tasks that are still to run, or run.
TO_RUN = frozenset({"waiting", "queued", "no-worker", "processing"})

#: Seconds between two looks whether failures' tasks are.
LOOK_EVERY = 2.0

#: Failures told in one go, so that hundreds at once do not hold up the scheduler.
MOST_AT_ONCE = 20

#: Characters of a text in an event.
MAX_TEXT = 2_000

#: What an event tells of a failure as the JSON API does.
TOLD = (
    *("id", "opened", "closed", "kind", "graph", "responsible", "cost"),
    *("count", "deaths", "workers", "tasks_given_up"),
)


class Notifications:
    """Tells the users of one scheduler what has happened.

    Parameters
    ----------
    scheduler
        Whose clients are told.
    model, store
        What is known.
    handle
        Takes in an event.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        model: ClusterModel,
        store: Store,
        handle: Callable[[Event], None],
    ) -> None:
        self._scheduler = scheduler
        self._model = model
        self._store = store
        self._handle = handle
        #: Path of the page on the scheduler's server; None without one.
        self.path: str | None = None
        #: Who else hears of failures: what is told, the failure as the JSON API has it,
        #: and the page's address.
        self.listeners: list[Callable[[str, Mapping[str, Any], str | None], None]] = []
        self._wrapped: Callable[..., Any] | None = None
        self._noted: bytes | None = None
        self._note: tuple[str, str] = ("", "")
        self._looked = 0.0
        # Failures that users were told of → whether each was told to be over.
        self._told: dict[str, bool] = {}

    # -- notes -----------------------------------------------------------------

    def attach(self) -> None:
        """Begin to put notes on exceptions."""
        scheduler = self._scheduler
        transition = scheduler.transition
        noted = boundary.guarded(self._put_note, "putting a note on a KilledWorker")

        def noting(key: Any, finish: Any, *args: Any, **kwargs: Any) -> Any:
            exception = kwargs.get("exception")
            if finish == "erred" and type(exception) is bytes and self._wrapped:
                worker = str(kwargs.get("worker"))
                kwargs["exception"] = noted(key, exception, worker) or exception
            return transition(key, finish, *args, **kwargs)

        self._wrapped = noting
        scheduler.transition = noting  # type: ignore[method-assign]

    def detach(self) -> None:
        """Put no more notes on exceptions."""
        wrapped, self._wrapped = self._wrapped, None
        if wrapped and vars(self._scheduler).get("transition") is wrapped:
            del self._scheduler.transition  # so that the class's shows again

    def has_noted(self, exception: Any) -> bool:
        """Whether an exception has been taken in already, on its way."""
        return exception is not None and exception is self._noted

    def _put_note(self, key: Any, exception: bytes, worker: str) -> bytes | None:
        killed = translate.task_killed(
            self._scheduler, key, exception, worker, time.time()
        )
        if killed is None:
            return None
        self._handle(killed)
        self._noted = exception
        incident = self._killed_worker(worker, killed.task.key)
        if incident is None:
            return None
        if self._note[0] != incident.id:
            self._note = (incident.id, self._text(incident))
        error = pickle.loads(exception)
        error.add_note(plain_lines(self._note[1]))
        setattr(error, MARK, (str(self._scheduler.id), incident.id))
        self._noted = pickle.dumps(error)
        return self._noted

    def _killed_worker(self, worker: str, key: str) -> Incident | None:
        for incident in self._model.incidents:
            if incident.kind == "killed-worker" and incident.worker.address == worker:
                named = any(task.key == key for task in incident.tasks)
                more = incident.n_tasks > len(incident.tasks)
                return incident if named or more else None
        return None

    def _text(self, killed: Incident) -> str:
        deaths = [self._model.incidents.get(number) for number in killed.attempts]
        known = [death for death in deaths if death is not None]
        causes = {
            d.id: cause for d in known if d.reported and (cause := self._cause(d.id))
        }
        return note(killed, known, self.page(killed.id), causes)

    def _cause(self, number: str) -> str | None:
        diagnosis = self._store.incident(number)["diagnosis"]
        return None if diagnosis["cause"] == "unknown" else str(diagnosis["cause"])

    # -- events and log lines --------------------------------------------------

    def look_after(self, now: float) -> None:
        """Look whether open failures have tasks that are still to run.

        A failure of single submits has no graph that could say so.
        """
        if now < self._looked + LOOK_EVERY:
            return
        self._looked = now
        failures, tasks = self._model.failures, self._scheduler.tasks
        for number, keys in failures.look_for().items():
            known = (tasks.get(key) for key in keys)
            alive = any(task is not None and task.state in TO_RUN for task in known)
            failure = failures.get(number)
            if failure is not None and failure.alive != alive:
                self._handle(FailureChecked(now, number, alive))

    def page(
        self, incident_id: str | None = None, *, failure_id: str | None = None
    ) -> str | None:
        """Return the address of the page, open at something; None without a page."""
        dashboard = _dashboard(self._scheduler)
        return page_link(dashboard, self.path, incident_id, failure_id=failure_id)

    def tell(self, now: float) -> None:
        """Tell of failures: once when one opens, and once when it is over.

        One opens when the evidence on any of its incidents has arrived.  One that was
        over and goes on all the same is not told again.

        Parameters
        ----------
        now
            Unix time in seconds.
        """
        told = 0
        for failure in reversed(list(self._model.failures)):
            if told >= MOST_AT_ONCE:
                return
            if failure.id not in self._told:
                if not self._is_settled(failure, now):
                    continue
                self._told[failure.id] = False
                self._tell_of(failure, "failure-opened", opening)
                told += 1
            if failure.closed is not None and not self._told[failure.id]:
                self._told[failure.id] = True
                self._tell_of(failure, "failure-closed", closing)
                told += 1
        for gone in [i for i in self._told if self._model.failures.get(i) is None]:
            del self._told[gone]

    def _is_settled(self, failure: Failure, now: float) -> bool:
        log = self._model.incidents
        known = [i for i in map(log.get, failure.members) if i is not None]
        return failure.closed is not None or any(log.settled(i, now) for i in known)

    def _tell_of(
        self,
        failure: Failure,
        action: str,
        line: Callable[[Any, str | None], str],
    ) -> None:
        """Log one line, and one event of our topic."""
        told = self._store.failure(failure.id)
        page = self.page(failure_id=failure.id)
        diagnosis = told["diagnosis"]
        event = {
            "action": action,
            **{name: told[name] for name in TOLD},
            "cause": diagnosis["cause"],
            "relief": diagnosis["relief"],
            "confidence": diagnosis["confidence"],
            "text": plain(f"{told['text']} {diagnosis['text']}", MAX_TEXT),
            "page": page,
        }
        self._scheduler.log_event(TOPIC, event)
        logger.warning("%s", plain(line(told, page)))
        for listener in self.listeners:
            listener(action, told, page)


def _dashboard(scheduler: Scheduler) -> str | None:
    """Return the link to Dask's dashboard as Dask would; None without one."""
    service = scheduler.services.get("dashboard")
    if service is None:
        return None
    address = scheduler.address
    host = "localhost" if "inproc" in address else get_address_host(address)
    try:
        return str(format_dashboard_link(host, service.port))
    except KeyError:  # the configured link refers to a variable that is not set
        return None
