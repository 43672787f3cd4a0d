"""Which incident an exception of a future belongs to.

An exception says so itself where MemDash could put a mark on it: those that the
scheduler makes name their incident, those of tasks name the task and its worker.  Else
the task's key is looked for, and at last the error's own words.  An exception without
an incident is answered by what was looked at and what to do next.
"""

from __future__ import annotations

import ast
import asyncio
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

from distributed import KilledWorker

from dask_memdash.analysis.incidents.requests import parse
from dask_memdash.errors import TaskTooLarge, UnexplainedError
from dask_memdash.plugins.error_chain import (
    TASK_MARK,
    chain,
    is_of_gpu,
    memory_error_in,
    told,
)
from dask_memdash.plugins.keys import prefix_of
from dask_memdash.terms import DEATHS
from dask_memdash.text import KEY_KEPT, count, join, plain, short

#: Seconds between two looks whether an incident has come.
LOOK = 0.1

#: Longest that one is waited for whose error does not name it, in seconds.
LATE = 1.0

#: Incidents looked through for one exception without the id of its own.
MAX_SEARCHED = 50

#: Classes named of a chain.
NAMED = 6

#: Words that say nothing that another error does not say too.
BARE = frozenset({"MemoryError"})

#: Dask's errors where a worker died that held an actor, and how they begin: of a call
#: that was under way (the connection broke), and of any later one.
LOST_ACTOR: tuple[tuple[type[Exception], str], ...] = (
    (OSError, "Unable to contact Actor's worker"),
    (RuntimeError, "Worker holding Actor was lost"),
)

#: Asks for what the JSON API has at a path: the value, and what came with it.
Ask = Callable[[str], Awaitable[tuple[Any, dict[str, Any]]]]

NEXT = (
    "dask_memdash.connect().incidents() lists what MemDash has seen, and "
    "dask_memdash.explain(id) explains one of them."
)


class Lookup:
    """Finds incidents by exceptions, on one scheduler.

    Parameters
    ----------
    ask
        Asks the scheduler.
    address
        Its address, for messages.
    """

    def __init__(self, ask: Ask, address: str) -> None:
        self._ask = ask
        self._address = address

    async def incident_of(self, error: BaseException, deadline: float) -> str:
        """Return the id of the incident that an exception belongs to.

        Parameters
        ----------
        deadline
            Monotonic time in seconds until which an incident that is on its way is
            waited for.

        Raises
        ------
        UnexplainedError
            There is none; it says what was looked at.
        """
        errors = list(chain(error))
        mark = _mark(errors, "memdash_incident")
        if mark is not None:
            return await self._marked(*mark)
        killed = next((e for e in errors if isinstance(e, KilledWorker)), None)
        if killed is not None:
            key = str(killed.task)[:KEY_KEPT]
            number = await self._by_key(key, min(deadline, time.monotonic() + LATE))
            return number or await self._unexplained(errors, KILLED)
        large = next((e for e in errors if isinstance(e, TaskTooLarge)), None)
        if large is not None and STOPPED not in str(large):
            number = await self._by_running(str(large), deadline)
            return number or await self._unexplained(errors, TOO_LARGE)
        if any(map(_lost_actor, errors)):
            return await self._by_actor(errors, deadline)
        memory = memory_error_in(error)
        if memory is None:
            gpu = any(is_of_gpu(one) for one in errors)
            return await self._unexplained(errors, GPU if gpu else NOT_MEMORY)
        mark = _mark(errors, TASK_MARK)
        while True:
            number = await self._by_memory_error(memory, mark)
            if number is not None:
                return number
            if mark is None or time.monotonic() >= deadline:
                request = parse(told(memory))
                asked = f" It asked for {request}." if request else ""
                return await self._unexplained(errors, MEMORY + asked)
            await asyncio.sleep(LOOK)

    async def _marked(self, scheduler: str, number: str) -> str:
        _, answer = await self._ask("cluster")
        if answer["scheduler"] != scheduler:
            raise UnexplainedError(
                "this error was raised by another scheduler than the one at "
                f"{self._address}; connect(client).explain(error) takes its client"
            )
        return number

    async def _by_key(self, key: str, deadline: float) -> str | None:
        """Find the newest incident in which a task was given up, or wait for it."""
        while True:
            async for number, details in self._details("killed-worker"):
                if any(task["key"] == key for task in details["tasks"]):
                    return number
            if time.monotonic() >= deadline:
                return None
            await asyncio.sleep(LOOK)

    async def _by_running(self, said: str, deadline: float) -> str | None:
        """Find the newest death of a worker on which a task ran that is too large.

        Its error says which one: it has ended such workers.
        """
        named = _TOO_LARGE.match(said)
        key = str(_key(named[1])) if named else ""
        while key:
            incidents, _ = await self._ask("incidents")
            found = [i["id"] for i in incidents if i["kind"] in DEATHS]
            for number in found[:MAX_SEARCHED]:
                try:
                    details, _ = await self._ask(f"incidents/{number}")
                except LookupError:  # older than the oldest one kept
                    continue
                if any(plain(s["key"], 200) == key for s in details["suspects"]):
                    return str(number)
            if time.monotonic() >= deadline:
                break
            await asyncio.sleep(LOOK)
        return None

    async def _by_actor(self, errors: Sequence[BaseException], deadline: float) -> str:
        """Find the death of the worker that held an actor.

        The error names neither, so it is the only worker that died with an actor, or
        the only one that died at all.
        """
        while True:
            incidents, _ = await self._ask("incidents")
            deaths = [i for i in incidents if i["kind"] in DEATHS]
            holders = [i for i in deaths if i["breakdown"]["actors"]]
            late = not deaths or not all(i["settled"] for i in deaths)
            if not late or time.monotonic() >= deadline:
                break
            await asyncio.sleep(LOOK)
        found = holders or deaths
        if len(found) == 1:
            return str(found[0]["id"])
        which = join([f"#{i['id']}" for i in found[:NAMED]])
        of = f" It may be one of these deaths: {which}." if found else ""
        return await self._unexplained(errors, ACTOR + of)

    async def _by_memory_error(
        self, memory: BaseException, mark: tuple[str, str] | None
    ) -> str | None:
        """Find the newest incident of a task that ran out of memory so."""
        said = told(memory)
        refused = _refused_key(said)
        async for number, details in self._details("memory-error"):
            if mark is not None:
                if _is_of_task(details, *mark):
                    return number
            elif refused is not None:
                if any(task["key"] == refused for task in details["tasks"]):
                    return number
            elif said not in BARE and details["detail"] == said:
                return number
        return None

    async def _details(self, kind: str) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        """Yield the newest incidents of a kind, with their ids."""
        incidents, _ = await self._ask("incidents")
        found = [i["id"] for i in incidents if i["kind"] == kind]
        for number in found[:MAX_SEARCHED]:
            try:
                details, _ = await self._ask(f"incidents/{number}")
            except LookupError:  # older than the oldest one kept
                continue
            yield str(number), details

    async def _unexplained(self, errors: Sequence[BaseException], why: str) -> str:
        incidents, _ = await self._ask("incidents")
        kinds = Counter(str(incident["kind"]) for incident in incidents)
        listed = join([f"{number} {kind}" for kind, number in kinds.most_common()])
        seen = f" ({listed})" if listed else ""
        raise UnexplainedError(
            f"no incident belongs to this error. {why} Looked at {_classes(errors)}, "
            f"and at {count(len(incidents), 'incident')}{seen}. {NEXT}"
        )


#: What the guard's error says of a task that has ended no worker.
STOPPED = "before it could end a worker"

#: How the guard's error names its task.
_TOO_LARGE = re.compile(r"task ('.*?'|\".*?\") of ['\"].* needs at least ", re.DOTALL)

#: Why there is no incident, by what the error is.
TOO_LARGE = (
    "The guard has refused this task, since it had ended workers on which it ran "
    "alone; their deaths are older than the oldest incident kept. The error's own text "
    "says what the task needs."
)
KILLED = (
    "MemDash was not registered when it was raised, or it is older than the oldest "
    "incident kept."
)
NOT_MEMORY = (
    "It is no KilledWorker and does not say that memory ran out: read its own "
    "traceback first."
)
ACTOR = "It says that an actor's worker was lost, and not which."
GPU = (
    "It is about the memory of a graphics card, which MemDash does not see: read its "
    "own traceback first."
)
MEMORY = (
    "It says that memory ran out, but it was raised outside of a task, or MemDash was "
    "not registered when it was raised, or it is older than the oldest incident kept."
)


def _mark(errors: Sequence[BaseException], name: str) -> tuple[str, str] | None:
    """Return what the nearest error of a chain says it belongs to."""
    for error in errors:
        mark = getattr(error, name, None)
        if isinstance(mark, tuple) and len(mark) == 2:
            return str(mark[0]), str(mark[1])
    return None


def _lost_actor(error: BaseException) -> bool:
    """Whether an error is one of those of actors whose worker has died."""
    said = str(error)
    return any(
        isinstance(error, kind) and said.startswith(begin) for kind, begin in LOST_ACTOR
    )


def _is_of_task(details: Mapping[str, Any], key: str, worker: str) -> bool:
    """Whether an incident is that of a task on a worker."""
    if details["worker"]["address"] != worker or details["stage"] != "running":
        return False
    if any(task["key"] == key for task in details["tasks"]):
        return True
    more = details["n_tasks"] > len(details["tasks"])
    return more and str(details["task"]["prefix"]) == prefix_of(_key(key))


def _refused_key(said: str) -> str | None:
    """Return the text of the key that the scheduler's own error names; else None."""
    request = parse(said)
    if request is None or request.source != "scheduler":
        return None
    name = said.partition("Task ")[2].rpartition(" has ")[0].rpartition(" has ")[0]
    return str(_key(name))[:KEY_KEPT] if name else None


def _key(text: str) -> Any:
    """Return a key from its text, as far as it is one of Dask's usual kinds."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text


def _classes(errors: Sequence[BaseException]) -> str:
    """Name the errors of a chain: "ValueError, and KeyError behind it"."""
    names = [short(type(error).__name__) for error in errors]
    if len(names) == 1:
        return f"one error ({names[0]})"
    more = [f"{len(names) - NAMED} more"] if len(names) > NAMED else []
    listed = join([*names[:NAMED], *more])
    return f"{count(len(names), 'error')} ({listed}, nearest first)"
