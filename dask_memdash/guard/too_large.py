"""Tasks that no worker has room for: they fail with their figures, and kill no more.

Counted on the scheduler, from deaths of workers on which such a task ran alone.  It is
*too large* once the block that it was filling is larger than any worker's limit, or
when it has ended two workers alone, each time with more than half of that limit.
Where the brake stops it before it ends one (:mod:`~dask_memdash.guard.braking`), it is
once it would not have fitted into an empty worker either, or at the third time, if it
needs more than half of the limit; a smaller one is spared from then on: what fills the
worker is not its own.  What a worker is to start of those that are too large raises
:class:`~dask_memdash.errors.TaskTooLarge` instead.

Imports the standard library and the model only; sizes are integers in bytes.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from dataclasses import replace

from dask_memdash.errors import TaskTooLarge
from dask_memdash.model.event_parts import Braked, Executing
from dask_memdash.model.events import DeathReported
from dask_memdash.text import format_bytes, format_line, plain

#: Deaths of workers on which a task ran alone, after which it is refused.
DEATHS = 2

#: Times that a task is stopped until it is refused, or spared.
STOPS = 3

#: Share of the largest limit up to which a task may come before it is stopped.
ROOM = 0.94

#: Tasks that are remembered.
MAX_KEYS = 200

#: Share of the limit that such a task held at least: with less, something else did it.
HELD = 0.5


class TooLarge:
    """The tasks that are refused, and why."""

    def __init__(self) -> None:
        # Key → how many workers it has ended alone.
        self._deaths: OrderedDict[str, int] = OrderedDict()
        # Key → how often it was stopped.
        self._stops: OrderedDict[str, int] = OrderedDict()
        # The least that any worker had with nothing running, in bytes: one that spills
        # all the time has no such moment, and an empty one has no more.
        self._idle = sys.maxsize
        #: Keys of tasks that are stopped no more.
        self.spared: OrderedDict[str, None] = OrderedDict()
        #: Key → the sentence that its error says.
        self.refused: OrderedDict[str, str] = OrderedDict()

    def died(self, event: DeathReported, limit: int | None) -> str | None:
        """Take in a death; return the key of a task that is refused from now on.

        Parameters
        ----------
        limit
            The largest limit of any worker, in bytes; None where one has none.
        """
        by_memory = event.by == "nanny" or event.signal == 9
        if limit is None or not by_memory or len(event.executing) != 1:
            return None
        task = event.executing[0]
        held = max(task.peak or 0, task.bytes or 0)
        if held < HELD * limit or task.key in self.refused:
            return None
        deaths = self._deaths.pop(task.key, 0) + 1
        self._deaths[task.key] = deaths
        asked = (task.bytes or 0) + task.filling
        if task.block is not None:
            asked = max(asked, task.block.size)
        if asked <= limit and deaths < DEATHS:
            return None
        self.refused[task.key] = sentence(task, max(held, asked), limit, deaths)
        for known in (self._deaths, self.refused):
            while len(known) > MAX_KEYS:
                known.popitem(last=False)
        return task.key

    def stopped(self, task: Braked, limit: int | None) -> str | None:
        """Take in that a task was stopped; return its key if it is refused from now on.

        Parameters
        ----------
        limit
            As for `died`.
        """
        if limit is None or task.key in self.refused:
            return None
        stops = self._stops.pop(task.key, 0) + 1
        self._stops[task.key] = stops
        self._idle = min(task.idle, self._idle)
        task = replace(task, idle=self._idle)
        most = int(ROOM * limit) - task.idle
        # by its own bytes: what its inputs are said to be may be more than is resident
        own = task.needs
        large = own > most or (stops >= STOPS and own >= HELD * limit)
        if large:
            self.refused[task.key] = sentence_of_stopped(task, limit, stops)
        elif stops >= STOPS:
            self.spared[task.key] = None
        for known in (self._stops, self.spared, self.refused):
            while len(known) > MAX_KEYS:
                known.popitem(last=False)
        return task.key if large else None


def sentence_of_stopped(task: Braked, limit: int, stops: int) -> str:
    """Say what a task asked for, where, what there is, and what to change."""
    line = f" at {plain(task.where, 200)}" if task.where else ""
    inputs = f", beside {format_bytes(task.inputs)} of inputs" if task.inputs else ""
    times = "once" if stops == 1 else f"{stops} times"
    return (
        f"task {plain(task.key, 200)!r} of {plain(task.prefix, 100)!r} needs at least "
        f"{format_bytes(task.needs)}{line}{inputs}. An empty worker has "
        f"{format_bytes(task.idle)} in use already, of {format_bytes(limit)} at most. "
        f"It was stopped {times} before it could end a worker, and is not run again. "
        "Make its chunks smaller, or give workers a larger memory_limit"
    )


def sentence(task: Executing, needs: int, limit: int, deaths: int) -> str:
    """Say what a task needs, where, what there is, and what to change."""
    block, line = task.block, ""
    if block is not None:
        where = format_line(block.file, block.line, block.function, block.called)
        line = f" at {plain(where, 200)}" if where else ""
    ended = "a worker" if deaths == 1 else f"{deaths} workers"
    return (
        f"task {plain(task.key, 200)!r} of {plain(task.prefix, 100)!r} needs at least "
        f"{format_bytes(needs)}{line}. No worker has more than {format_bytes(limit)}, "
        f"and it has ended {ended} while it ran alone there, so it is not run again. "
        "Make its chunks smaller, or give workers a larger memory_limit"
    )


def refuse(text: str) -> None:
    """Stand in for a task that is refused.

    Raises
    ------
    TaskTooLarge
        Always.
    """
    raise TaskTooLarge(text)
