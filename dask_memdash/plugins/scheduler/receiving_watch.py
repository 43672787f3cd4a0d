"""Notices tasks that wait for ever for an input that did not fit: `ReceivingWatch`.

A worker that cannot receive an input for want of memory does not ask for it again, and
the scheduler takes its task for one that is about to run.  Such tasks are remembered
from their `MemoryError`; a cluster in which one of them still waits while nothing else
moves is stuck.

Runs on the scheduler's event loop.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING

from distributed.core import Status

from dask_memdash.model.event_parts import WaitingTasks
from dask_memdash.model.events import (
    ClusterMoving,
    ClusterStuck,
    Event,
    MemoryErrorRaised,
)
from dask_memdash.plugins.scheduler.translate import task_of

if TYPE_CHECKING:
    from distributed.scheduler import Scheduler, TaskState

#: Tasks remembered at most, the newest.
MAX_TASKS = 200

#: Seconds between two reports of a cluster that is still stuck.
REPEAT = 5.0

#: Prefixes that a report names, those with most tasks.
MAX_PREFIXES = 20


class ReceivingWatch:
    """Looks whether tasks wait for inputs that nobody asks for any more.

    Parameters
    ----------
    scheduler
        Whose tasks.
    handle
        Takes the events.
    after
        Seconds after which a cluster in which nothing moves is stuck.
    """

    def __init__(
        self, scheduler: Scheduler, handle: Callable[[Event], None], after: float
    ) -> None:
        self._scheduler = scheduler
        self._handle = handle
        self._after = after
        # (Address of the worker, text of the key) of tasks whose input did not fit.
        self._tasks: OrderedDict[tuple[str, str], None] = OrderedDict()
        # Transitions, and since when there were no more.
        self._still: tuple[int, float] | None = None
        self._told: float | None = None

    def heard(self, event: Event) -> None:
        """Remember a task whose input did not fit, which may wait for ever."""
        if isinstance(event, MemoryErrorRaised) and event.stage == "receiving":
            self.note(event.address, event.task.key)

    def note(self, address: str, key: str) -> None:
        """Remember a task for which a worker could not receive an input."""
        self._tasks[address, key] = None
        while len(self._tasks) > MAX_TASKS:
            self._tasks.popitem(last=False)

    def step(self, now: float) -> None:
        """Look once.

        Parameters
        ----------
        now
            Unix time in seconds.
        """
        waiting = self._waiting() if self._tasks else []
        if not waiting or self._moves():
            self._still = None
            if self._told is not None:
                self._told = None
                self._handle(ClusterMoving(now))
            return
        moved = self._scheduler.transition_counter
        if self._still is None or self._still[0] != moved:
            self._still = (moved, now)
        since = self._still[1]
        if now < since + self._after:
            return
        if self._told is None or now >= self._told + REPEAT:
            self._told = now
            self._handle(self._stuck(waiting, since, now))

    def _waiting(self) -> list[TaskState]:
        """Return the tasks that still wait on their worker; forget the others."""
        found = []
        for address, key in list(self._tasks):
            task = task_of(self._scheduler, key)
            worker = None if task is None else task.processing_on
            if (
                task is None
                or worker is None
                or worker.address != address
                or task in worker.executing
            ):
                del self._tasks[address, key]
            else:
                found.append(task)
        return found

    def _moves(self) -> bool:
        """Say whether any task runs, or any input is on its way."""
        for worker in self._scheduler.workers.values():
            if worker.status != Status.running or worker.executing:
                return True
            if worker.long_running or _receives(worker.metrics):
                return True
        return False

    def _stuck(
        self, waiting: list[TaskState], since: float, now: float
    ) -> ClusterStuck:
        prefixes = Counter(str(task.prefix.name)[:200] for task in waiting)
        addresses = {task.processing_on.address for task in waiting}  # type: ignore[union-attr]
        return ClusterStuck(
            time=now,
            since=since,
            waiting=tuple(
                WaitingTasks(name, 0, number)
                for name, number in prefixes.most_common(MAX_PREFIXES)
            ),
            n_waiting=len(waiting),
            paused=tuple(sorted(addresses)),
            n_paused=len(addresses),
            n_workers=len(self._scheduler.workers),
            unreceived=len(waiting),
        )


def _receives(metrics: object) -> bool:
    transfer = metrics.get("transfer") if isinstance(metrics, dict) else None
    return isinstance(transfer, dict) and bool(transfer.get("incoming_count"))
