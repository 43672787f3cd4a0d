"""The baseline of a process: what is left when nothing runs.

Pure bookkeeping over instants; the formulas stand in DESIGN.md (B0).
"""

from __future__ import annotations

from collections import deque

#: Quiet instants that count, and the least time between two, in seconds.
WINDOW = 8
SPACING = 0.5


class Baseline:
    """Remembers the least that was left beside storage, transfer, actors and graph.

    "Rest" is the RSS less managed, transfer and what actors and graph weigh.  At a
    quiet instant (no task, output, transfer, shuffle or spill under way) it is the
    baseline with whatever the allocator keeps.  Before the first quiet instant, the
    least rest seen at any instant stands in: it holds what tasks were using then, so
    `executing` comes out too small, never too large.
    """

    def __init__(self) -> None:
        self._quiet: deque[tuple[float, int]] = deque(maxlen=WINDOW)
        self._least: int | None = None
        #: What was left at the last quiet instant, and what of it the allocator had
        #: free, in bytes: with all that earlier tasks have left behind.
        self.last: int | None = None
        self.last_free = 0

    @property
    def certain(self) -> bool:
        """Whether a quiet instant has been seen."""
        return bool(self._quiet)

    @property
    def bytes(self) -> int | None:
        """The baseline in bytes; None before anything was seen."""
        return min((rest for _, rest in self._quiet), default=self._least)

    def see(self, time: float, rest: int, *, quiet: bool, free: int = 0) -> None:
        """Take in an instant.

        Parameters
        ----------
        time
            In seconds, on any clock that only goes forward.
        rest, free
            In bytes.
        """
        if quiet:
            self.last, self.last_free = rest, free
        if not quiet:
            self._least = rest if self._least is None else min(self._least, rest)
        elif not self._quiet or time - self._quiet[-1][0] >= SPACING:
            self._quiet.append((time, rest))
        elif rest < self._quiet[-1][1]:
            self._quiet[-1] = (self._quiet[-1][0], rest)
