"""A slow walk over what workers hold, to say why each output is held.

No hook tells when a client lets go of a key or when the last task waiting for one
has run, so the answer is looked up: worker after worker, a slice at a time, at a
duty of some percent of the event loop whatever the number of tasks.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

from dask_memdash.model.event_parts import Held
from dask_memdash.model.events import StorageHeld

if TYPE_CHECKING:
    from distributed.scheduler import Scheduler, TaskState, WorkerState

#: Time spent in one go, in seconds, and tasks looked at between two looks at the clock.
BUDGET = 0.002
CHUNK = 200

#: Waiting tasks looked at for each output; they are nearly always of one prefix.
MAX_WAITERS = 8

#: Types of outputs and clients named for each prefix, and characters of a name.
MAX_TYPES = 4
MAX_CLIENTS = 4
SHOWN = 100


class HeldWalk:
    """Walks over the workers' outputs, over and over."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._todo: list[str] = []
        self._current: _Look | None = None
        # Workers of which it was last said that they hold something.
        self._holding: set[str] = set()

    def step(self, now: float) -> Iterator[StorageHeld]:
        """Go on for `BUDGET` seconds; yield what is known of each worker looked at.

        Parameters
        ----------
        now
            Unix time in seconds, for the events.
        """
        deadline = time.perf_counter() + BUDGET
        workers = self._scheduler.workers
        if self._current is None and not self._todo:
            if not self._scheduler.tasks and not self._holding:
                return
            self._holding.intersection_update(workers)
            self._todo = [
                address
                for address, worker in workers.items()
                if worker.has_what or address in self._holding
            ]
        while self._current is not None or self._todo:
            if self._current is None:
                worker = workers.get(self._todo.pop())
                if worker is None:
                    continue
                self._current = _Look(worker)
            if self._current.go_on():
                look, self._current = self._current, None
                address, held = look.worker.address, look.result()
                if address in workers:
                    (self._holding.add if held else self._holding.discard)(address)
                    yield StorageHeld(now, address, held)
            if time.perf_counter() >= deadline:
                return


class _Look:
    """A look at one worker's outputs."""

    def __init__(self, worker: WorkerState) -> None:
        self.worker = worker
        self._tasks = list(worker.has_what)
        self._held: dict[str, _Sums] = {}

    def go_on(self) -> bool:
        """Look at the next outputs; True when all have been looked at."""
        for task in self._tasks[-CHUNK:]:
            if task.state == "memory":
                self._add(task)
        del self._tasks[-CHUNK:]
        return not self._tasks

    def result(self) -> dict[str, Held]:
        """Return what was found, by prefix."""
        return {
            prefix: Held(
                s.pinned,
                s.awaited,
                s.awaited_by,
                s.replicas,
                s.n_replicas,
                s.because,
                tuple(sorted(s.types)),
                s.clients,
            )
            for prefix, s in self._held.items()
        }

    def _add(self, task: TaskState) -> None:
        size = max(0, task.nbytes)
        sums = self._held.setdefault(str(task.prefix.name), _Sums())
        if task.type and len(sums.types) < MAX_TYPES:
            sums.types.add(str(task.type)[:SHOWN])
        if task.who_wants:
            sums.pinned += size
        if task.waiters:
            sums.awaited += size
            waiters = islice(task.waiters, MAX_WAITERS)
            for name in {str(waiter.prefix.name) for waiter in waiters}:
                sums.awaited_by[name] = sums.awaited_by.get(name, 0) + size
        holders = task.who_has or ()
        if len(holders) > 1 and self.worker is not min(
            holders, key=lambda holder: holder.address
        ):
            sums.replicas += size
            sums.n_replicas += 1
            why = "replica"
        elif task.waiters:
            why = "awaited"
        elif task.who_wants:
            why = "pinned"
            for client in islice(task.who_wants, MAX_CLIENTS):
                name = str(client.client_key)[:SHOWN]
                if name in sums.clients or len(sums.clients) < MAX_CLIENTS:
                    sums.clients[name] = sums.clients.get(name, 0) + size
        else:
            why = "other"
        sums.because[why] = sums.because.get(why, 0) + size


class _Sums:
    """Running sums of one prefix on one worker, in bytes."""

    __slots__ = (
        "awaited",
        "awaited_by",
        "because",
        "clients",
        "n_replicas",
        "pinned",
        "replicas",
        "types",
    )

    def __init__(self) -> None:
        self.pinned = self.awaited = self.replicas = self.n_replicas = 0
        self.awaited_by: dict[str, int] = {}
        self.because: dict[str, int] = {}
        self.clients: dict[str, int] = {}
        self.types: set[str] = set()
