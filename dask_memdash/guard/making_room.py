"""Stored outputs go to disk before what needs the room starts, not while it fills it.

Dask spills what was used longest ago once the process is above a threshold, every fifth
of a second: on a busy machine a task takes its memory faster than that.  This asks the
same buffer for the same thing (``SpillBuffer.evict``) earlier: when a task that is to
start, or an input or output that is to be moved, would not fit.

What is in use frees nothing when it is put on disk, so it is made the newest first.
What is on disk and still in memory, though no task uses it and it is not being sent, is
taken for room to come: what has just ended may hold it, or it waits to be collected,
as the inputs of a task that has failed do.

Runs on the worker's event loop.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from dask_memdash.plugins.worker.worker_storage import spilled_sizes

if TYPE_CHECKING:
    from distributed.worker import Worker

    from dask_memdash.measure.shared_process import SharedProcess

#: Seconds that one look may take (one output goes at least); and those after which it
#: tries again where the disk is full or an output cannot be written.
TAKES = 0.1
TRIES_AGAIN = 10.0


class RoomMaker:
    """Puts stored outputs of one worker on disk."""

    def __init__(self, worker: Worker, process: SharedProcess) -> None:
        self._worker = worker
        self._process = process
        self._not_before = 0.0

    def evictable(self, in_use: Collection[Any]) -> int:
        """Return what may go to disk, in bytes; `in_use` are keys that may not."""
        fast = self._fast()
        if fast is None or time.monotonic() < self._not_before:
            return 0
        weights = fast.weights
        used = sum(weights.get(key, 0) for key in in_use)
        return max(0, int(fast.total_weight - used)) + self._lingers(in_use)

    def make(self, lacks: int, in_use: Collection[Any]) -> int:
        """Put outputs on disk until so many bytes are free; return how many outputs.

        Not for longer than a moment: ask again.
        """
        fast, now = self._fast(), time.monotonic()
        if fast is None or lacks <= 0 or now < self._not_before:
            return 0
        kept = [key for key in in_use if key in fast]
        for key in kept:
            fast[key]  # it is now the one that was used last
        before = self._process.recent_rss(0.0) or 0
        gone = freed = 0
        while len(fast) > len(kept):
            if self._data.evict() < 0:
                self._not_before = now + TRIES_AGAIN
                break
            gone += 1
            freed = before - (self._process.recent_rss(0.0) or 0)
            if freed >= lacks or time.monotonic() - now > TAKES:
                break
        if freed < lacks:
            # as the host does where what it spills frees nothing; at a limited rate
            self._worker.memory_manager._throttled_gc.collect()
        return gone

    def _lingers(self, in_use: Collection[Any]) -> int:
        """Return what is on disk and in memory too, and not in use, in bytes."""
        sizes = spilled_sizes(self._data) or {}
        kept = list(getattr(self._data.slow, "cache", ())) if sizes else []
        found = (sizes.get(key) for key in kept if key not in in_use)
        return sum(int(size[0]) for size in found if size is not None)

    @property
    def _data(self) -> Any:
        data = self._worker.data
        return getattr(data, "inner", data)

    def _fast(self) -> Any:
        """Return what is in memory of Dask's own buffer; None where nothing is spilled.

        Of one that cannot say how large its outputs are, neither.
        """
        data, manager = self._data, self._worker.memory_manager
        if not (manager.memory_spill_fraction or manager.memory_target_fraction):
            return None
        fast = getattr(data, "fast", None)
        return fast if hasattr(data, "evict") and hasattr(fast, "weights") else None
