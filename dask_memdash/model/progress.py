"""Whether a cluster moves: from one look at it to the next.

A cluster is *still* while tasks are ready, no worker may start them (all that have any
are paused, or no worker is left), and nothing that could change this goes on: no task
ends, no task that runs uses the processor, and no byte is stored, spilled, sent,
received or freed.  :func:`follow` says since when that is so, :func:`is_stuck` whether
it has lasted too long to be a pause that passes.

What a look contains is taken by
:mod:`dask_memdash.plugins.scheduler.progress_watch`.

Imports the standard library only.  Sizes are in bytes, times in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

from dask_memdash.model.event_parts import WaitingTasks

#: Share of a core from which on a running task counts as working.  A worker process
#: that does nothing was seen at 0.02 to 0.06.
CPU_USED = 0.15

#: A process that has shrunk by so much, in bytes, is letting go of memory.
SHRUNK = 8 * 2**20

#: How many times as long is waited while a task runs that uses no processor, or a
#: transfer is under way: it may be waiting for a disk, a network or a service.
PATIENCE_RUNNING = 6.0

#: The same while no worker is left: nannies start workers again, and LocalCluster
#: gives up on a worker after 15 s.
PATIENCE_EMPTY = 2.0


@dataclass(frozen=True, slots=True)
class WorkerLook:
    """What one worker does that holds tasks or is paused."""

    address: str
    #: Whether its status is paused, and whether its memory is why.
    paused: bool
    by_memory: bool
    #: Tasks that run and hold a thread; those that gave it back (seceded).
    running: int = 0
    seceded: int = 0
    #: Transfers of outputs under way.
    transfers: int = 0
    #: Processor that its process uses, as a share of one core; None where not known.
    cpu: float | None = None
    #: Whether it has been heard of lately.
    heard: bool = True
    #: RSS of its process.
    rss: int = 0
    #: Counts of what is stored, spilled, sent, received and shuffled: any change of
    #: one of them is progress.
    counts: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Look:
    """A cluster at one instant."""

    time: float
    #: Tasks that have ended so far, by success or failure.
    ended: int
    #: Tasks that could run now, and do not.
    waiting: tuple[WaitingTasks, ...] = ()
    #: Workers that are paused.
    workers: tuple[WorkerLook, ...] = ()
    n_workers: int = 0
    #: Whether a worker that may start tasks has any, or one is joining or closing.
    busy_elsewhere: bool = False
    #: Whether the last worker that left had died, and was not asked to leave.
    last_died: bool = False


@dataclass(frozen=True, slots=True)
class Still:
    """A cluster in which nothing moves: since when, and what has not changed."""

    since: float
    ended: int
    addresses: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    #: RSS of each worker then.
    rss: tuple[int, ...]


def follow(before: Still | None, look: Look) -> Still | None:
    """Return since when nothing has moved; None where something moves or may move.

    Parameters
    ----------
    before
        What this returned for the look before.
    """
    if not look.waiting or look.busy_elsewhere or not _blocked(look):
        return None
    if any(works(worker) for worker in look.workers):
        return None
    now = Still(
        since=look.time,
        ended=look.ended,
        addresses=tuple(worker.address for worker in look.workers),
        counts=tuple(worker.counts for worker in look.workers),
        rss=tuple(worker.rss for worker in look.workers),
    )
    if before is None or _moved(before, now):
        return now
    return before


def is_stuck(still: Still | None, look: Look, after: float) -> bool:
    """Say whether nothing has moved for too long.

    Parameters
    ----------
    after
        How long, in seconds, where nothing at all goes on.
    """
    if still is None:
        return False
    factor = 1.0
    if not look.n_workers:
        factor = PATIENCE_EMPTY
    elif any(worker.running or worker.transfers for worker in look.workers):
        factor = PATIENCE_RUNNING
    return look.time - still.since >= factor * after


def works(worker: WorkerLook) -> bool:
    """Say whether a worker does something, or is too silent to tell."""
    if not worker.heard:
        return True  # it is busy, or gone: neither is known
    runs = worker.running or worker.seceded
    return bool(runs) and (worker.cpu is None or worker.cpu >= CPU_USED)


def _blocked(look: Look) -> bool:
    """Say whether memory, or the loss of the workers, is what stops the tasks."""
    if not look.n_workers:
        return look.last_died
    return any(worker.paused and worker.by_memory for worker in look.workers)


def _moved(before: Still, now: Still) -> bool:
    if (before.ended, before.addresses) != (now.ended, now.addresses):
        return True
    if before.counts != now.counts:
        return True
    return any(new < old - SHRUNK for old, new in zip(before.rss, now.rss, strict=True))
