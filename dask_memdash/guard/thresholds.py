"""Where a worker is paused and where it ends; or why its guard can do nothing.

It is off, and says so, where there is no limit or no pause threshold, and where several
workers share a process, whose memory none of them can answer for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from dask_memdash.config import terminate_fraction

if TYPE_CHECKING:
    from distributed.worker import Worker

    from dask_memdash.measure.shared_process import SharedProcess

#: What is said where it can do nothing.
NO_LIMIT = (
    "the guard is off here: this worker has no memory limit or no pause threshold. Set "
    "both (memory_limit, distributed.worker.memory.pause)"
)
SHARED = (
    "the guard is off here: several workers share this process. Start each in a "
    "process of its own (processes=True)"
)


class Thresholds(NamedTuple):
    """Of one worker, in bytes."""

    limit: int
    pause: int
    #: Where the nanny terminates it, else the limit.
    end: int


def read_thresholds(worker: Worker, process: SharedProcess) -> Thresholds | str:
    """Return a worker's thresholds, or why there is nothing that a guard can do."""
    manager = worker.memory_manager
    limit, pause = manager.memory_limit, manager.memory_pause_fraction
    if not (limit and pause):
        return NO_LIMIT
    if process.n_members > 1:
        return SHARED
    ends = terminate_fraction() if worker.nanny else None
    return Thresholds(limit, int(limit * pause), int(limit * (ends or 1)))
