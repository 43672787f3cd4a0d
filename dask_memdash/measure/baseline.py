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
        # Time, what was left, and how much of files was resident.
        self._quiet: deque[tuple[float, int, int | None]] = deque(maxlen=WINDOW)
        self._least: tuple[int, int | None] | None = None
        #: What was left at the last quiet instant, and what of it the allocator had
        #: free, in bytes: with all that earlier tasks have left behind.
        self.last: int | None = None
        self.last_free = 0
        #: Pages of files that were resident then, in bytes; None where not known.
        self.last_file: int | None = None

    @property
    def certain(self) -> bool:
        """Whether a quiet instant has been seen."""
        return bool(self._quiet)

    @property
    def bytes(self) -> int | None:
        """The baseline in bytes; None before anything was seen."""
        least = self._found()
        return None if least is None else least[0]

    @property
    def file(self) -> int | None:
        """Pages of files that were resident at the baseline's instant, in bytes."""
        least = self._found()
        return None if least is None else least[1]

    def _found(self) -> tuple[int, int | None] | None:
        seen = [(rest, file) for _, rest, file in self._quiet]
        return min(seen, key=lambda one: one[0], default=self._least)

    def load(self, size: int, file: int) -> None:
        """Take in what came with a task that is about to begin, as modules do.

        An idle instant before would have had it too: the least is of such a process.

        Parameters
        ----------
        size, file
            By how much the rest grew since the last quiet instant, and pages of files
            among that, in bytes.
        """
        grown = [
            (time, rest + size, None if pages is None else pages + file)
            for time, rest, pages in self._quiet
        ]
        self._quiet = deque(grown, maxlen=WINDOW)
        if self.last is not None:
            self.last += size
        if self.last_file is not None:
            self.last_file += file

    def see(
        self,
        time: float,
        rest: int,
        *,
        quiet: bool,
        free: int = 0,
        file: int | None = None,
    ) -> None:
        """Take in an instant.

        Parameters
        ----------
        time
            In seconds, on any clock that only goes forward.
        rest, free
            In bytes.
        file
            Pages of files that are resident, in bytes; None where not known.
        """
        if quiet:
            self.last, self.last_free, self.last_file = rest, free, file
        if not quiet:
            if self._least is None or rest < self._least[0]:
                self._least = rest, file
        elif not self._quiet or time - self._quiet[-1][0] >= SPACING:
            self._quiet.append((time, rest, file))
        elif rest < self._quiet[-1][1]:
            self._quiet[-1] = (self._quiet[-1][0], rest, file)
