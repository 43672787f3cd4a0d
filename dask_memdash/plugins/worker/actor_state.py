"""What the actors on a worker hold, by prefix, from a bounded look into each.

An actor's state is in no books of Dask: its ``sizeof`` is never asked for.  Belongs to
the worker's event loop; an actor's method may change its state meanwhile, in a thread.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dask_memdash.measure.deep_size import deep_size
from dask_memdash.model.event_parts import ActorRow
from dask_memdash.plugins.keys import prefix_of

if TYPE_CHECKING:
    from distributed.worker_state_machine import WorkerState

#: Objects and seconds that a look into one actor may take, and into all of them.
MAX_OBJECTS = 20_000
SECONDS = 0.005
ALL_SECONDS = 0.02

#: How many times longer than a look took none is made after it.
REST = 100

#: Actors looked into at once, and prefixes that are told, at most.
MAX_ACTORS = 100
MAX_TOLD = 20


class ActorState:
    """The state of one worker's actors."""

    def __init__(self, state: WorkerState) -> None:
        self._state = state
        # Key → what was found in it first, and last, in bytes.
        self._first: dict[Any, int] = {}
        self._last: dict[Any, int] = {}
        self._told: dict[str, ActorRow] = {}
        self._next = 0.0
        #: Sum over all actors, in bytes; None before one was looked into.
        self.total: int | None = None

    def look(self, clock: Callable[[], float]) -> dict[str, ActorRow] | None:
        """Look into the actors, if it is time; return what has changed since.

        Parameters
        ----------
        clock
            Returns the time in seconds.

        Returns
        -------
        dict or None
            Prefix → state of its actors; None when nothing has changed.
        """
        begun = clock()
        actors = self._state.actors
        if begun < self._next or not (actors or self._last):
            return None
        for known in (self._first, self._last):
            for key in [key for key in known if key not in actors]:
                del known[key]
        for key, actor in list(actors.items())[:MAX_ACTORS]:
            size = deep_size([actor], most=MAX_OBJECTS, seconds=SECONDS).bytes
            self._first.setdefault(key, size)
            self._last[key] = size
            if clock() > begun + ALL_SECONDS:
                break
        self._next = clock() + REST * (clock() - begun)
        self.total = sum(self._last.values())
        rows = self._rows()
        changed, self._told = rows != self._told, rows
        return rows if changed else None

    def prefix_of(self, prefix: str) -> str:
        """Return the actor's own prefix for that of a call of its method.

        A worker names a call ``<prefix of the actor>.<method>``.
        """
        owner = prefix.rpartition(".")[0]
        known = owner and any(prefix_of(key) == owner for key in self._state.actors)
        return owner if known else prefix

    def _rows(self) -> dict[str, ActorRow]:
        sums: dict[str, list[int]] = {}
        for key, size in self._last.items():
            row = sums.setdefault(prefix_of(key), [0, 0, 0])
            row[0] += 1
            row[1] += size
            row[2] += max(0, size - self._first[key])
        largest = sorted(sums.items(), key=lambda item: -item[1][1])[:MAX_TOLD]
        return {name: ActorRow(*row) for name, row in largest}
