"""What the guard of a worker reads there: what runs, what is ready, whether it spills.

Reads and changes nothing; what follows from it is
:mod:`~dask_memdash.guard.decision`'s.  Runs on the worker's event loop.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from dask_memdash.guard.decision import Candidate, Running
from dask_memdash.guard.expectation import Expectations
from dask_memdash.guard.stillness import Doing
from dask_memdash.plugins.keys import key_text, prefix_of
from dask_memdash.plugins.worker.worker_storage import spilled_sizes
from dask_memdash.text import KEY_KEPT

if TYPE_CHECKING:
    from distributed.worker import Worker
    from distributed.worker_state_machine import TaskState, WorkerState

    from dask_memdash.flight.writer import FlightRecorder
    from dask_memdash.measure.running_task import RunningTask
    from dask_memdash.plugins.worker.tasks import RunningTasks

#: Seconds for which a task waits for a worker that is spilling.
SPILLING = 2.0

#: Inputs of a task that are looked at.
INPUTS_LOOKED_AT = 1_000


class OnDisk:
    """What of a worker's stored outputs is on disk, and not in memory too."""

    def __init__(self, data: Any) -> None:
        data = getattr(data, "inner", data)
        self._sizes = spilled_sizes(data) or {}
        # in use, and so in memory as well
        self._used: Any = getattr(getattr(data, "slow", None), "cache", ())

    def __bool__(self) -> bool:
        return bool(self._sizes)

    def size(self, key: Any) -> int:
        """Return what is read back with an output, in bytes."""
        found = self._sizes.get(key)
        return 0 if found is None or key in self._used else int(found[0])


class Reading:
    """Reads one worker for its guard; parameters as the guard's."""

    def __init__(
        self,
        worker: Worker,
        tasks: RunningTasks,
        recorder: FlightRecorder,
        expectations: Expectations,
    ) -> None:
        self._worker = worker
        self._tasks = tasks
        self._recorder = recorder
        self._expectations = expectations
        self._since: float | None = None

    def running(self, state: WorkerState) -> Iterator[Running]:
        """Iterate over what runs, and what is expected of it."""
        now = time.time()
        begun = set()
        for task, ended in self.known():
            begun.add(task.key)
            held, peak, filling = self.held(task)
            expected = self._expectations.of(task.prefix, task.text[:KEY_KEPT])
            seconds = max(0.0, now - task.begin)
            yield Running(task.prefix, held, peak, expected, seconds, ended, filling)
        for task_state in (*state.executing, *state.long_running):
            if task_state.key not in begun:  # its thread has not begun it yet
                prefix = prefix_of(task_state.key)
                expected = self._expectations.of(prefix, text_of(task_state.key))
                read = self.read_back(other.key for other in task_state.dependencies)
                yield Running(prefix, 0, 0, expected, 0.0, read_back=read)

    def known(self) -> Iterable[tuple[RunningTask, bool]]:
        """Iterate over the tasks that are measured, and whether each has ended."""
        tasks = self._tasks
        for place, ended in (
            (tasks.pending, True),
            (tasks.by_thread, False),
            (tasks.elsewhere, False),
        ):
            for task in list(place.values()):
                yield task, ended

    def held(self, task: RunningTask) -> tuple[int, int, int]:
        """Return what a task holds, its peak, and what it is filling, in bytes."""
        if task.slot is None or not task.measured:
            return 0, 0, 0
        held, peak, _ = self._recorder.counters(task.slot)
        return held, peak, self._recorder.filling(task.slot)

    def doing(self) -> dict[Any, Doing]:
        """Return what those that run have come to, by key."""
        return {
            task.key: Doing(task.thread, *self.held(task)[:2])
            for task, ended in self.known()
            if not ended
        }

    def read_back(self, keys: Iterable[Any]) -> int:
        """Return what of outputs must be read back before they are used, in bytes."""
        on_disk = OnDisk(self._worker.data)
        return sum(on_disk.size(key) for key in keys) if on_disk else 0

    def in_use(self, state: WorkerState) -> set[Any]:
        """Return keys of what running tasks use: on disk or not, it is in memory."""
        tasks = (*state.executing, *state.long_running)
        return {
            other.key
            for task in tasks
            for other in islice(task.dependencies, INPUTS_LOOKED_AT)
        }

    def candidate(self, task: TaskState, on_disk: OnDisk) -> Candidate:
        """Return what a ready task needs, and would free."""
        prefix = prefix_of(task.key)
        inputs = read_back = frees = 0
        for other in task.dependencies:
            size = other.nbytes or 0
            inputs += size
            if on_disk and on_disk.size(other.key):
                read_back += size
            else:
                frees += size // max(1, len(other.dependents))
        expected = self._expectations.of(prefix, text_of(task.key))
        tried = self._expectations.has_ended(prefix)
        return Candidate(prefix, expected, inputs, read_back, frees, tried)

    def may_spill(self) -> bool:
        """Whether Dask moves stored outputs to disk when memory gets scarce."""
        manager = self._worker.memory_manager
        has_disk = getattr(self._worker.data, "fast", None) is not None
        return has_disk and bool(
            manager.memory_spill_fraction or manager.memory_target_fraction
        )

    def is_spilling(self, rss: int, now: float) -> bool:
        """Whether Dask is spilling, and has been for no more than a moment."""
        manager = self._worker.memory_manager
        fraction, limit = manager.memory_spill_fraction, manager.memory_limit
        over = bool(fraction and limit and rss > fraction * limit)
        if not over or not getattr(self._worker.data, "fast", None):
            self._since = None
            return False
        if self._since is None:
            self._since = now
        return now - self._since < SPILLING


def text_of(key: Any) -> str:
    """Return a key as the guard knows it."""
    return key_text(key)[:KEY_KEPT]
