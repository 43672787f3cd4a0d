"""Takes the place of a worker's ``active_threads``, so that begins and ends are marked.

The worker sets an entry in a task's own thread just before it runs, and deletes it
just after (:mod:`dask_memdash.measure.marked_threads`).  Tasks without such a thread
(async, executors of another kind) are told apart here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dask_memdash.boundary import boundary
from dask_memdash.measure.marked_threads import MarkedThreads

if TYPE_CHECKING:
    from distributed.worker import Worker

#: Seconds between two looks for a chance to take a thread dict out again.
RESTORE_INTERVAL = 0.1


class ActiveThreads:
    """The marked threads of one worker.

    Parameters
    ----------
    begin, end
        Called in the task's thread with the thread's identifier (and the key).  Must
        not raise.
    """

    def __init__(
        self,
        worker: Worker,
        begin: Callable[[int, Any], None],
        end: Callable[[int], None],
    ) -> None:
        self._worker = worker
        self.marked = MarkedThreads(worker.active_threads, begin, end)
        with worker.active_threads_lock:
            #: Tasks that were running already, by thread.
            self.before: dict[int, Any] = dict(worker.active_threads)
            worker.active_threads = self.marked  # type: ignore[assignment]

    def disarm(self) -> None:
        """Mark no further begin."""
        self.marked.disarm()

    def restore(self) -> None:
        """Put a plain dict back as soon as no task would miss its entry."""
        worker = self._worker
        with worker.active_threads_lock:
            current: object = worker.active_threads
            if current is not self.marked:
                return  # somebody else's by now, who shows what is left in ours
            if not self.marked:
                worker.active_threads = {}
                return
        if not worker.status.name.startswith("clos"):
            worker.loop.call_later(
                RESTORE_INTERVAL,
                boundary.guarded(self.restore, "restoring active_threads"),
            )


def runs_elsewhere(worker: Worker, key: Any) -> bool:
    """Whether a task runs on the event loop or in an executor of its own kind."""
    task = worker.state.tasks.get(key)
    if task is None:
        return False
    if getattr(task.run_spec, "is_coro", False):
        return True
    annotations = task.annotations
    name = annotations.get("executor", "default") if annotations else "default"
    return "ThreadPoolExecutor" not in type(worker.executors.get(name)).__name__
