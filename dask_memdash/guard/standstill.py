"""What uses stored outputs is sent to where they are, although the worker is paused.

The scheduler sends nothing to paused workers.  Where all of them are, what would free
their memory waits for one of them to go on, and none ever does.  So after `AFTER`
seconds of that, tasks that use what a paused worker has stored are assigned as if those
with a guard were running: it lets them run one at a time, if they fit.

Runs on the scheduler's event loop.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from distributed.core import Status

if TYPE_CHECKING:
    from distributed.scheduler import Scheduler, WorkerState

#: Seconds for which no worker runs, and tasks that are assigned at a time.
AFTER = 2.0
MOST = 100


class Standstill:
    """Looks whether all workers are paused, and does something about it."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._since: float | None = None

    def step(self, now: float, guarded: Collection[str]) -> int:
        """Look; return how many tasks were assigned.

        Parameters
        ----------
        now
            In seconds of any clock.
        guarded
            Addresses of the workers whose guard acts.
        """
        scheduler = self._scheduler
        if scheduler.running or not scheduler.unrunnable:
            self._since = None
            return 0
        if self._since is None:
            self._since = now
        if now - self._since < AFTER:
            return 0
        self._since = now
        paused = {
            worker
            for address in guarded
            if (worker := scheduler.workers.get(address)) is not None
            and worker.status == Status.paused
        }
        wanted = [
            task
            for task in scheduler.unrunnable
            if any(not paused.isdisjoint(d.who_has or ()) for d in task.dependencies)
        ]
        wanted = sorted(wanted, key=lambda task: task.priority or ())[:MOST]
        if wanted:
            # the last of what is recommended comes first
            self._assign(paused, {task.key: "processing" for task in reversed(wanted)})
        return len(wanted)

    def _assign(self, paused: set[WorkerState], wanted: dict[Any, Any]) -> None:
        scheduler = self._scheduler
        for worker in paused:
            worker.status = Status.running
            scheduler.running.add(worker)
        try:
            scheduler.transitions(wanted, f"memdash-guard-{time.time()}")
        finally:
            for worker in paused:
                worker.status = Status.paused
                scheduler.running.discard(worker)
                scheduler.idle.pop(worker.address, None)
                scheduler.idle_task_count.discard(worker)
                scheduler.saturated.discard(worker)
