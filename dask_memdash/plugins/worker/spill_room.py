"""How much more a worker can spill: ``max-spill``, and what is free on its disk."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from dask_memdash.model.event_parts import SpillRoom

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

    def look(self, now: float) -> SpillRoom:
        """Return how much can be spilled; all None where nothing is spilled to disk.

        Parameters
        ----------
        now
            Any clock's time in seconds.
        """
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
