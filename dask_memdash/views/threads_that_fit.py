"""How many tasks of a prefix a worker can run at once, as far as that is known.

A worker ends where its nanny terminates it, or at its limit where that is off.  What
its process has for itself (the baseline, graphs, actors) is gone from that; what is
left is room for tasks.  A task takes its peak or its output, whichever is larger: the
largest that was seen of its prefix, at deaths too.  Its inputs come on top and are not
known of a prefix, so the figure is an upper bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from dask_memdash.store.base import Store
from dask_memdash.store.prefix_shapes import Prefix
from dask_memdash.store.worker_shapes import Worker


@dataclass(frozen=True, slots=True)
class WorkerRoom:
    """What the least roomy worker has for tasks, and the most threads of one."""

    #: In bytes; 0 where it has none, None where no worker tells.
    bytes: int | None
    threads: int


def room(store: Store) -> WorkerRoom:
    """Return the room of a cluster's workers; those without a limit have no end."""
    workers = store.workers()
    known = [left for left in map(_room, workers) if left is not None]
    threads = max((worker["nthreads"] for worker in workers), default=0)
    return WorkerRoom(min(known, default=None), threads)


def _room(worker: Worker) -> int | None:
    breakdown = worker["breakdown"]
    end = worker["thresholds"]["terminate"] or worker["limit"]
    if end is None or breakdown["process"] is None:
        return None
    own = (breakdown["baseline"], breakdown["graph"], breakdown["actors"])
    return max(0, end - sum(size or 0 for size in own))


def largest_peak(prefix: Prefix) -> int | None:
    """Return the most that one task of a prefix had, in bytes; at a death too."""
    peak = prefix["execution"]["peak"]
    sizes = [size for size in (peak["max"], peak["at_least"]) if size is not None]
    return max(sizes, default=None)


def fitting(prefix: Prefix, room: WorkerRoom) -> int | None:
    """Return how many tasks fit at once, at most as many as there are threads.

    None where nothing bounds it: no peak, or no worker that tells its room.
    """
    peak = largest_peak(prefix)
    if peak is None or room.bytes is None or not room.threads:
        return None
    need = max(peak, prefix["storage"]["output_bytes"]["max"] or 0)
    return room.threads if need <= 0 else min(room.threads, room.bytes // need)


def with_room(store: Store, rows: Sequence[Prefix]) -> list[Prefix]:
    """Return rows that know what the workers have room for: (fitting, threads)."""
    known = room(store)
    return [
        cast(Prefix, {**row, "fit": fitting(row, known), "threads": known.threads})
        for row in rows
    ]
