"""How much more a worker can spill: ``max-spill``, and what is free on its disk."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from dask_memdash.model.event_parts import SpillRoom
from dask_memdash.plugins.worker.worker_storage import shuffles_on_disk

if TYPE_CHECKING:
    from distributed.worker import Worker

#: Seconds between two looks at the disk.
EVERY = 5.0


class SpillRoomWatch:
    """Looks now and then how much one worker can spill."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._next = 0.0
        self._room = SpillRoom()
        self._on_disk: bool | None = None

    def look(self, now: float) -> SpillRoom:
        """Return how much can be spilled; all None where nothing is spilled to disk.

        Whether shuffles are on disk is known from the first one on, and stays so.

        Parameters
        ----------
        now
            Any clock's time in seconds.
        """
        room, on_disk = self._look(now), shuffles_on_disk(self._worker)
        if on_disk is not None:
            self._on_disk = on_disk
        return replace(room, shuffles_on_disk=self._on_disk)

    def _look(self, now: float) -> SpillRoom:
        if now < self._next:
            return self._room
        self._next = now + EVERY
        if not hasattr(self._worker.data, "slow"):
            self._room = SpillRoom()
            return self._room
        limit = self._worker.memory_manager.max_spill
        self._room = SpillRoom(
            max_spill=int(limit) if limit and not isinstance(limit, bool) else None,
            disk_free=_free(self._worker.local_directory),
        )
        return self._room


def _free(directory: str) -> int | None:
    try:
        found = os.statvfs(directory)
    except OSError:
        return None
    return found.f_bavail * found.f_frsize
