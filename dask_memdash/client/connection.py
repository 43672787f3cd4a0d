"""What MemDash knows, in the user's hands: DataFrames and explanations.

``connect(client)`` asks the scheduler over the client's own connection, so it works
without an HTTP port, behind proxies and with TLS.  The words are those of the JSON
API.  With an asynchronous client every method gives an awaitable.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distributed import default_client

from dask_memdash.client.dataframes import frame
from dask_memdash.client.explanation import Explanation
from dask_memdash.client.failure_explanation import FailureExplanation
from dask_memdash.errors import (
    MemDashError,
    NotRegisteredError,
    SchedulerGoneError,
    UnknownFailureError,
    UnknownIncidentError,
)
from dask_memdash.links import page_link
from dask_memdash.plugins.protocol import PROTOCOL

if TYPE_CHECKING:
    from distributed import Client

    from dask_memdash.client.cards import Shown
    from dask_memdash.counterfactual.answer import Answer
    from dask_memdash.counterfactual.change import Change

__all__ = ["Connection", "connect", "explain"]

#: Longest that one question may take, in seconds, and longest for the report, which is
#: drawn for the asking.
ANSWER_TIMEOUT = 30.0
PATIENT = 120.0

#: Longest that an explanation waits for what it can do without, in seconds.
SOON = 5.0

#: Longest that one question of a notebook's cards may take, in seconds.
CARDS_TIMEOUT = 5.0

#: Seconds between two times that a client tells what its process uses, and longest that
#: telling may take.
TELLS_EVERY = 2.0
TELLING = 5.0

#: How long an explanation waits for the evidence unless told otherwise, in seconds.
#: A worker's last report is some milliseconds later than the KilledWorker; one whose
#: nanny died too never comes.
WAIT = 8.0

#: Seconds between two looks whether it has come.
LOOK = 0.1

#: What the name of a failure begins with; incidents are named by their id alone.
FAILURE = "failure-"


def as_query(arguments: Mapping[str, Any] | None) -> dict[str, str]:
    """Return arguments as a query has them: texts."""
    return {name: str(value) for name, value in (arguments or {}).items()}


def connect(client: Client | None = None) -> Connection:
    """Return what MemDash knows of the cluster that a client talks to.

    Parameters
    ----------
    client
        By default the client that was made last.

    Raises
    ------
    ValueError
        There is no client.
    """
    return Connection(default_client(client))


def explain(
    error: BaseException | str | int, timeout: float = WAIT
) -> Explanation | Any:
    """Explain a future's exception, or an incident, of the default client's cluster.

    See :meth:`.Connection.explain`.
    """
    return connect().explain(error, timeout)


class Connection:
    """MemDash on a scheduler, asked through a client.

    Every method that gives a DataFrame gives sizes as integers in bytes, instants as
    timestamps in UTC and durations in seconds; what is not known is missing, and with
    nothing to tell the frame is empty but has its columns.

    Every method may raise

    NotRegisteredError
        MemDash is not registered on the scheduler.
    SchedulerGoneError
        The scheduler does not answer.
    """

    def __init__(self, client: Client, *, tells: bool = True) -> None:
        self._client = client
        # When to say next what this process uses; never, where that is not wanted.
        self._tells_at = 0.0 if tells else math.inf
        rpc = client.scheduler
        self._address = str(rpc.address) if rpc is not None else "an unknown address"

    def __repr__(self) -> str:
        return f"<MemDash on {self._address}>"

    def _repr_html_(self) -> str:
        """Show cards of the cluster as it is now; what cannot be asked is told."""
        from dask_memdash.client.cards import Shown, cards

        if self._client.asynchronous:
            say = "This client is asynchronous: await its methods, such as cluster()."
            return cards(Shown(self._address, trouble=say))
        try:
            return cards(self._sync(self._gather))
        except (MemDashError, OSError, RuntimeError) as error:
            return cards(Shown(self._address, trouble=str(error)))

    async def _gather(self) -> Shown:
        from dask_memdash.client.cards import gather

        async def asking(path: str, arguments: Mapping[str, Any]) -> Any:
            return await self._ask(path, CARDS_TIMEOUT, arguments)

        dashboard = self._client.dashboard_link
        return await gather(
            asking, self._address, lambda path: page_link(dashboard, path)
        )

    def cluster(self) -> Any:
        """Return the cluster at a glance, in one row."""
        return self._frame("cluster")

    def workers(self) -> Any:
        """Return the connected workers, by address."""
        return self._frame("workers")

    def prefixes(self) -> Any:
        """Return the task prefixes with their storage and execution, largest first.

        And what belongs to no task, as rows whose ``kind`` is 'other': ``bytes`` sums
        over both without counting anything twice.
        """
        return self._frame("prefixes")

    def storage(self) -> Any:
        """Return the memory that the cluster was given, in one row, or in none.

        What of it each worker and prefix has stands in their own frames, as ``stored``
        and ``stored_pending``.
        """
        return self._sync(self._storage)

    def failures(self) -> Any:
        """Return the failures by id, newest first: each all of one computation."""
        return self._frame("failures")

    def incidents(self) -> Any:
        """Return the incidents by id, newest first."""
        return self._frame("incidents")

    def order(self) -> Any:
        """Return the graphs, each with what it needs and what was held."""
        return self._frame("order")

    def limits(self) -> Any:
        """Return the audit of each worker's memory limit, worst first."""
        return self._frame("limits")

    def ask(self, path: str, **arguments: int | str) -> Any:
        """Return what the JSON API has at a path, as it stands there.

        Parameters
        ----------
        path
            Such as ``workers`` or ``failures/1``.
        **arguments
            What the query would hold, such as ``limit=20``.

        Raises
        ------
        LookupError
            There is nothing at this path.
        """
        return self._sync(self._ask_plainly, path, arguments)

    def report(self, path: str | os.PathLike[str]) -> Any:
        """Write the whole page as one HTML file that opens without a network.

        Parameters
        ----------
        path
            Where to; a file that is there is written over.

        Returns
        -------
        pathlib.Path
            The file.

        Raises
        ------
        MemDashError
            The scheduler cannot draw it: its page and log say why.
        """
        return self._sync(self._report, Path(path))

    def explain(
        self, what: BaseException | str | int, timeout: float = WAIT
    ) -> Explanation | Any:
        """Say what happened, why, and what to change.

        Parameters
        ----------
        what
            Id of an incident, or any exception of a future: a ``KilledWorker``, a
            ``MemoryError`` of a task, of a library or of the scheduler, or one that
            was raised from such an error, while it was handled, or has it in a group.
        timeout
            Longest that evidence on its way is waited for, in seconds.

        Returns
        -------
        Explanation
            Prints as text, and shows as HTML in a notebook.

        Raises
        ------
        UnknownIncidentError
            There is no such incident (any more).
        UnexplainedError
            No incident belongs to this exception; it says what was looked at.
        """
        return self._sync(self._explain, what, timeout)

    def what_if(
        self,
        failure: str | int | None = None,
        *,
        limit: float = 1.0,
        threads: int | None = None,
        chunks: float = 1.0,
        spilling: bool | None = None,
        workers: int = 0,
    ) -> Answer | Any:
        """Say whether what ran would have lived if something had been different.

        Parameters
        ----------
        failure
            Id of a failure; by default all that ran so far.
        limit
            Each worker's memory limit, as a multiple of what it was.
        threads
            Threads of each worker; by default as many as there were.
        chunks
            Size of chunks, as a multiple of what it was.
        spilling
            Whether outputs are spilled; by default as it was.
        workers
            Workers more, or, below 0, fewer.

        Returns
        -------
        Answer
            Prints as a sentence. ``verdict`` is 'lived', 'died' (or stopped for good)
            or 'unknown'; ``low`` and ``high`` are what the fullest worker would have
            had at its peak, in bytes.

        Raises
        ------
        ChangeError
            The change makes no sense.
        UnknownFailureError
            There is no such failure (any more).
        """
        from dask_memdash.counterfactual.change import Change

        change = Change(limit, threads, chunks, spilling, workers)
        name = None if failure is None else str(failure).removeprefix(FAILURE)
        return self._sync(self._what_if, name, change)

    # -- asking ----------------------------------------------------------------

    def _sync(self, function: Any, *args: Any) -> Any:
        if self._client.status in ("closed", "closing"):
            raise SchedulerGoneError(self._address, "the client is closed")
        return self._client.sync(function, *args)

    def _frame(self, name: str) -> Any:
        return self._sync(self._make_frame, name)

    async def _make_frame(self, name: str) -> Any:
        value, _ = await self._ask(name)
        return frame(name, value if isinstance(value, list) else [value])

    async def _ask_plainly(self, path: str, arguments: dict[str, Any]) -> Any:
        return (await self._ask(path, arguments=arguments))[0]

    async def _storage(self) -> Any:
        cluster, _ = await self._ask("cluster")
        told = cluster.get("intermediates")
        return frame("storage", [] if told is None else [told])

    async def _what_if(self, failure: str | None, change: Change) -> Answer:
        arguments = {
            "limit": repr(float(change.limit)),
            "chunks": repr(float(change.chunks)),
            "workers": str(change.workers),
        }
        if change.threads is not None:
            arguments["threads"] = str(change.threads)
        if change.spilling is not None:
            arguments["spilling"] = "true" if change.spilling else "false"
        if failure is not None:
            arguments["failure"] = failure
        try:
            told, _ = await self._ask("what-if", arguments=arguments)
        except LookupError as error:
            if failure is None:
                raise MemDashError(str(error)) from None
            raise UnknownFailureError(failure) from None
        from dask_memdash.counterfactual.answer import Answer

        return Answer.of_dict(told)

    async def _would_have_lived(self, failure: str | None) -> list[str]:
        """Return with what a failure's run would have lived, in words, if known."""
        if failure is None:
            return []
        with contextlib.suppress(LookupError, MemDashError):
            told, _ = await self._ask(f"what-if/{failure}", SOON)
            return [str(line) for line in told["lines"]]
        return []

    async def _report(self, path: Path) -> Path:
        text, _ = await self._ask("report.html", PATIENT)
        path.write_text(text, encoding="utf-8")
        return path

    async def _tell_of_itself(self) -> None:
        """Say what this process uses, if that was not said just now.

        For the page alone: what fails, as with a scheduler without it, changes nothing.
        """
        now = time.monotonic()
        if now < self._tells_at:
            return
        self._tells_at = math.inf  # not again where it fails
        with contextlib.suppress(Exception):
            from dask_memdash.client.own_memory import own_memory

            scheduler: Any = self._client.scheduler
            call = scheduler.memdash_client(client=self._client.id, **own_memory())
            await asyncio.wait_for(call, TELLING)
            self._tells_at = now + TELLS_EVERY

    async def _ask(
        self,
        path: str,
        patience: float | None = None,
        arguments: Mapping[str, Any] | None = None,
    ) -> tuple[Any, dict[str, Any]]:
        """Ask for what the JSON API has at a path; give it, and what came with it."""
        address = self._address
        await self._tell_of_itself()
        patience = ANSWER_TIMEOUT if patience is None else patience
        try:
            scheduler: Any = self._client.scheduler
            call = scheduler.memdash_query(path=path, arguments=as_query(arguments))
            answer = await asyncio.wait_for(call, patience)
        except TimeoutError:
            why = f"it has not answered within {patience:.0f} s"
            raise SchedulerGoneError(address, why) from None
        except (OSError, AttributeError) as error:
            raise SchedulerGoneError(address, str(error)) from error
        if answer is None:
            raise NotRegisteredError(address)
        if not isinstance(answer, dict) or answer.get("protocol") != PROTOCOL:
            raise NotRegisteredError(address, "MemDash is of another version")
        if answer["status"] == 404:
            raise LookupError(answer["body"])
        if answer["status"] != 200:
            raise MemDashError(answer["body"])
        return json.loads(answer["body"]), answer

    # -- explaining ------------------------------------------------------------

    async def _explain(self, what: Any, timeout: float) -> Any:
        deadline = time.monotonic() + timeout
        if isinstance(what, str) and what.startswith(FAILURE):
            return await self._explain_failure(what.removeprefix(FAILURE), deadline)
        number = await self._incident_of(what, deadline)
        details, answer = await self._incident(number)
        while not details["settled"] and time.monotonic() < deadline:
            await asyncio.sleep(LOOK)
            details, answer = await self._incident(number)
        deaths = []
        for attempt in details.get("attempts", ()):
            try:
                deaths.append((await self._incident(attempt))[0])
            except UnknownIncidentError:  # older than the oldest one kept
                continue
        link = self._client.dashboard_link
        page = page_link(link, answer["path"], number)
        lived = await self._would_have_lived(details["failure"])
        return Explanation(details, deaths, page, lived)

    async def _explain_failure(self, number: str, deadline: float) -> Any:
        while True:
            if not number.isascii() or not number.isdigit():
                raise UnknownFailureError(number)
            try:
                failure, answer = await self._ask(f"failures/{number}")
            except LookupError:
                raise UnknownFailureError(number) from None
            if failure["settled"] or time.monotonic() > deadline:
                break
            await asyncio.sleep(LOOK)
        link = self._client.dashboard_link
        page = page_link(link, answer["path"], failure_id=str(failure["id"]))
        lived = await self._would_have_lived(str(failure["id"]))
        return FailureExplanation(failure, page, lived)

    async def _incident(self, number: str) -> tuple[dict[str, Any], dict[str, Any]]:
        if not number.isascii() or not number.isdigit():
            raise UnknownIncidentError(number)
        try:
            return await self._ask(f"incidents/{number}")
        except LookupError:
            raise UnknownIncidentError(number) from None

    async def _incident_of(self, what: Any, deadline: float) -> str:
        if isinstance(what, str | int):
            return str(what)
        if not isinstance(what, BaseException):
            raise TypeError(
                "explain() takes the id of an incident or an exception, "
                f"not {type(what).__name__}"
            )
        from dask_memdash.client.which_incident import Lookup

        return await Lookup(self._ask, self._address).incident_of(what, deadline)
