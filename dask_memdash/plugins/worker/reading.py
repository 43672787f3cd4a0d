"""A reading of a worker: all that the breakdown is made of, at one instant."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from dask_memdash.config import terminate_fraction
from dask_memdash.measure.shared_process import SharedProcess
from dask_memdash.model.breakdown import Reading
from dask_memdash.model.event_parts import Thresholds
from dask_memdash.plugins.worker.known_unmanaged import KnownUnmanaged
from dask_memdash.plugins.worker.tasks import RunningTasks
from dask_memdash.plugins.worker.worker_storage import WorkerStorage

if TYPE_CHECKING:
    from distributed.worker import Worker


def read_worker(
    storage: WorkerStorage,
    tasks: RunningTasks,
    process: SharedProcess,
    unmanaged: KnownUnmanaged,
    now: float,
    *,
    spills: bool = True,
) -> Reading:
    """Read a worker; the process's baseline sees this instant too.

    Parameters
    ----------
    now
        Unix time in seconds.
    spills
        Whether what is spilled is known: where not, its figures are None, never 0.
    """
    parts = process.read_parts()
    rss = sum(parts) if parts is not None else process.read_rss() or 0
    process.observe(time.monotonic(), rss, parts)
    moving = storage.moving()
    actors, graph = unmanaged.read()
    spilled, spilled_disk = storage.ledger.spilled
    return Reading(
        time=now,
        rss=rss,
        managed_claimed=storage.stored(),
        incoming=moving.incoming,
        outgoing=moving.outgoing,
        shuffle=moving.shuffle,
        free=_free(process),
        arrow_kept=process.arrow_kept,
        base=process.baseline.bytes,
        live=tasks.live(),
        busy=tasks.busy,
        spilled=spilled if spills else None,
        spilled_disk=spilled_disk if spills else None,
        inputs=storage.inputs() if spills else None,
        shuffle_disk=storage.shuffle_disk(),
        anon=None if parts is None else parts.anon,
        file=None if parts is None else parts.file,
        shmem=None if parts is None else parts.shmem,
        base_file=process.baseline.file,
        loaded=process.loaded,
        actors=actors,
        graph=graph,
    )


def _free(process: SharedProcess) -> int | None:
    """Return what allocators keep of what was freed, in bytes; None where not known."""
    if process.free is None and process.arrow_kept is None:
        return None
    return (process.free or 0) + (process.arrow_kept or 0)


def read_thresholds(worker: Worker, *, has_nanny: bool) -> Thresholds:
    """Read a worker's memory thresholds; it is its nanny that terminates it."""
    manager = worker.memory_manager
    limit = manager.memory_limit

    def of_limit(fraction: Any) -> int | None:
        return int(limit * fraction) if limit and fraction else None

    return Thresholds(
        target=of_limit(manager.memory_target_fraction),
        spill=of_limit(manager.memory_spill_fraction),
        pause=of_limit(manager.memory_pause_fraction),
        terminate=of_limit(terminate_fraction()) if has_nanny else None,
    )
