"""What a process had at most while tasks ran together, and no task's peak explains.

A thread that was there before a task, and takes work from a queue of the user's own,
allocates for nobody as far as counts know; so do allocators of their own.  The RSS is
looked at now and then, and what comes and goes in between is missed.  The kernel's
high-water mark misses nothing: it is read at each end of a task that had company, and
set back.  What was beyond all that is known may have been any task's that ran since: it
is the error of each, so that no such figure is called exact.

Covers tasks that run together.  Of one that runs alone: :mod:`isolated`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from dask_memdash.measure.isolated import COPIES, COUNT_TOLERANCE, Traffic
from dask_memdash.measure.running_task import RunningTask

#: Of what may explain a part, as much is doubted as one part in so many of what nothing
#: explains: otherwise all that an allocator kept would be, for a trifle beside it.
PERHAPS_PART = 4


class MarkedProcess(Protocol):
    """The process, as its marks need to see it; sizes in bytes."""

    def high_mark(self) -> int | None:
        """Read the kernel's mark and set it back; None where that cannot be."""

    def in_execution(self, rss: int) -> int | None:
        """Return what it has beyond storage, transfer and what was there when idle."""

    def held_by_tasks(self) -> int:
        """Sum what running and pending tasks hold as far as measured."""

    def left_since_idle(self) -> int:
        """Return what tasks have left beside their outputs since it was idle."""

    def kept_unseen(self) -> int:
        """Return what allocators keep of what was freed, and was not free when idle."""

    def files_mapped(self) -> int:
        """Return the bytes of files mapped so far."""

    def stored(self) -> int:
        """Return the bytes of storage in RAM."""

    def traffic(self) -> Traffic:
        """Return what was moved so far, and is on its way."""


class HighMarks:
    """Looks at the mark whenever a task ends that had company.

    Parameters
    ----------
    process
        The process that the tasks run in.
    counters
        Gives from a slot what its task holds, and held at most, in bytes.
    """

    def __init__(
        self, process: MarkedProcess, counters: Callable[[int], Sequence[int]]
    ) -> None:
        self._process = process
        self._counters = counters
        # Whether the mark has been set back since the tasks that run now began.
        self._valid = False
        # Traffic, files mapped and storage when that was, in bytes.
        self._before = (Traffic(), 0, 0)
        # What brief tasks had that have ended since, in bytes.
        self._ended = 0
        self._lock = threading.Lock()

    def begin(self, task: RunningTask) -> None:
        """Take note that a task begins, alone or with company."""
        if task.alone:
            self._valid = task.at_begin is not None  # which sets it back
            if self._valid:
                self._remember()
        elif not self._valid:
            self._valid = self._process.high_mark() is not None
            self._remember()

    def end(
        self, task: RunningTask, running: Sequence[RunningTask], *, brief: bool
    ) -> None:
        """Look at the mark as a task ends that had company.

        Parameters
        ----------
        running
            All measured tasks that run in the process, this one among them: what is
            found goes into their `beyond`.
        brief
            Whether it took too little time to be worth a look.
        """
        with self._lock:
            if not self._valid:
                return
            if brief:
                self._ended += 0 if task.slot is None else self._counters(task.slot)[1]
                return
            beyond, perhaps = self._beyond(running)
        least = beyond - perhaps
        if least > COUNT_TOLERANCE:
            # Where little is left, what may explain the rest most likely does.
            doubt = least + min(perhaps, least // PERHAPS_PART)
            for one in running:
                one.beyond = max(one.beyond, doubt)

    def _beyond(self, running: Sequence[RunningTask]) -> tuple[int, int]:
        """Return what the process had at most and no count explains, in bytes.

        And what of it may be neither a task's nor any thread's that works for one.
        """
        process, (traffic, files, stored) = self._process, self._before
        high, ended = process.high_mark(), self._ended
        self._valid = high is not None
        self._remember()
        beyond = None if high is None else process.in_execution(high)
        if beyond is None:
            return 0, 0
        beyond -= process.held_by_tasks() + process.left_since_idle() + ended
        for task in running:
            if task.slot is not None:
                held, most, *_ = self._counters(task.slot)
                beyond -= max(0, most - held)
        now, mapped, still = self._before
        perhaps = COPIES * (max(0, now.moved - traffic.moved) + now.coming)
        perhaps += max(0, mapped - files) + max(0, stored - still)
        return beyond, perhaps + process.kept_unseen()

    def _remember(self) -> None:
        process = self._process
        self._before = process.traffic(), process.files_mapped(), process.stored()
        self._ended = 0
