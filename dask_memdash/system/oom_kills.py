"""Whether the kernel has just killed for memory, by its cgroup's own count.

The count goes up with every process of the cgroup that the kernel kills for memory, be
it for the cgroup's limit or the host's.  A worker that has died cannot be asked any
more, but its nanny lives in the same cgroup.
"""

from __future__ import annotations

from collections.abc import Callable

from dask_memdash.system.proc import oom_kills

#: Seconds between two looks at the count.  What was counted more than two looks ago
#: belongs to another process's death.
INTERVAL = 1.0


class OomWatch:
    """Follows the count of one process's cgroup.  Not thread-safe.

    Parameters
    ----------
    pid
        A process of the cgroup that lives on.
    read
        Gives the count for a pid; None where it cannot be read.
    """

    def __init__(self, pid: int, read: Callable[[int], int | None] = oom_kills) -> None:
        self._pid = pid
        self._read = read
        self._before = self._last = read(pid)
        self._next = 0.0

    def look(self, now: float) -> None:
        """Look at the count if it is time to.

        Parameters
        ----------
        now
            In seconds, by a clock of the caller's choice.
        """
        if now >= self._next:
            self._next = now + INTERVAL
            self._before, self._last = self._last, self._read(self._pid)

    def killed(self) -> bool:
        """Whether the kernel has killed in this cgroup within the last two looks."""
        count = self._read(self._pid)
        return self._before is not None and count is not None and count > self._before
