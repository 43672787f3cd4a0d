"""Tasks that a worker was seen to run: a bounded record of the recent ones.

A task is seen when it runs at the instant of a heartbeat, so short tasks between two
heartbeats are not here.  It is meant for drawing what ran beneath what memory did, not
for counting: sums over all tasks are those of :mod:`dask_memdash.model.prefixes`.

Imports the standard library only.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

from dask_memdash.model.event_parts import Executing

#: Tasks kept of each worker.
KEPT = 60

#: Characters of a key that are kept.
LONGEST = 200


@dataclass(slots=True)
class PastTask:
    """A task that was seen to run."""

    key: str
    prefix: str
    #: Identifier of its thread; None for async tasks and other executors.
    thread: int | None
    #: Unix times: when it began, and when it was last seen to run.
    start: float
    seen: float
    #: Largest in-execution memory seen, in bytes; None where it is not measured.
    peak: int | None
    method: str
    #: Whether it ran at the last report.
    running: bool = True


class TaskHistory:
    """The newest tasks of one worker that were seen to run.  Not thread-safe."""

    __slots__ = ("_running", "_tasks")

    def __init__(self) -> None:
        self._tasks: OrderedDict[tuple[str, int | None], PastTask] = OrderedDict()
        # Those that ran at the last report.
        self._running: list[PastTask] = []

    def see(self, executing: Iterable[Executing], time: float) -> None:
        """Take in the tasks that run at an instant; all others run no more."""
        for task in self._running:
            task.running = False
        self._running.clear()
        for now in executing:
            name = (now.key[:LONGEST], now.thread)
            known = self._tasks.get(name)
            start = time - now.seconds
            if known is None or start > known.seen:
                known = PastTask(
                    name[0], now.prefix, now.thread, start, time, None, now.method
                )
                self._tasks[name] = known
                self._tasks.move_to_end(name)
            known.seen, known.running = time, True
            self._running.append(known)
            for size in (now.peak, now.bytes):
                if size is not None and (known.peak is None or size > known.peak):
                    known.peak = size
        while len(self._tasks) > KEPT:
            self._tasks.popitem(last=False)

    def tasks(self) -> list[PastTask]:
        """Return the tasks, oldest first."""
        return list(self._tasks.values())
