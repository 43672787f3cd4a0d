"""Watching one worker process: its RSS over time and the tasks in its recorders.

Covers sampling, attribution of the RSS to the running tasks where no native code
counts, and what is left to be read after a death.  Used by the nanny on its worker,
and by workers without a nanny on their own process, in which there may be several,
each with its recorder.  Not thread-safe: it belongs to the sampler's thread.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

from dask_memdash.errors import RecorderError
from dask_memdash.recorder import format as layout
from dask_memdash.recorder.attribution import share_out
from dask_memdash.recorder.flight import RecorderReader
from dask_memdash.recorder.proc import RssReader

#: Seconds of RSS kept.
SPAN = 60.0
#: Samples kept at most, whatever the rate.
MAX_SAMPLES = 2400
#: Seconds between two looks for a recorder that is not there yet.
SEARCH_INTERVAL = 0.5


@dataclass(frozen=True, slots=True)
class Glance:
    """A worker process at an instant, seen from outside."""

    #: Unix time in seconds.
    time: float
    #: In bytes.
    rss: int
    tasks: tuple[layout.Slot, ...]


class WorkerWatch:
    """Samples one process.

    Parameters
    ----------
    pid
        The worker's process.
    recorders
        Its flight recorders; may be added to and taken from by whoever made them.
    """

    def __init__(self, pid: int, recorders: Sequence[RecorderReader] = ()) -> None:
        self.pid = pid
        #: (Unix time in seconds, RSS in bytes) of the last minute, oldest first.
        self.samples: deque[tuple[float, int]] = deque(maxlen=MAX_SAMPLES)
        self.recorders = list(recorders)
        self._rss = RssReader(pid)
        # What a counted task that runs alone held at the last sample: (begin, bytes).
        self._held = (0.0, 0)

    def tick(self, now: float) -> Glance | None:
        """Take a sample; None when the process is gone."""
        rss = self._rss.read()
        if rss is None:
            return None
        self.samples.append((now, rss))
        while self.samples[0][0] < now - SPAN:
            self.samples.popleft()
        return Glance(now, rss, tuple(self._attribute(rss)))

    def last_tasks(self) -> list[layout.Slot]:
        """Read the tasks in the recorders as they are now, or were at the death."""
        return [task for recorder in self.recorders for task in recorder.tasks()]

    def close(self) -> None:
        """Let go of the process and its recorders."""
        self._rss.close()
        while self.recorders:
            self.recorders.pop().close()

    def _attribute(self, rss: int) -> list[layout.Slot]:
        tasks = []
        sampled: list[tuple[RecorderReader, layout.Slot]] = []
        counted: list[tuple[RecorderReader, layout.Slot]] = []
        for recorder in list(self.recorders):
            for task in recorder.tasks():
                running = task.state == layout.RUNNING and task.measured
                if running and not recorder.tallied:
                    sampled.append((recorder, task))
                    continue
                tasks.append(task)
                if running:
                    counted.append((recorder, task))
        if len(counted) == len(tasks) == 1:
            self._look_at_remainder(rss, *counted[0])
        shares = share_out(rss, [task.rss for _, task in sampled])
        for (recorder, task), share in zip(sampled, shares, strict=True):
            peak = max(task.peak, share.now)
            error = max(task.error, share.error)
            recorder.write_counters(task.index, share.now, peak, error)
            tasks.append(replace(task, now=share.now, peak=peak, error=error))
        return tasks

    def _look_at_remainder(
        self, rss: int, recorder: RecorderReader, task: layout.Slot
    ) -> None:
        """Widen the error of a counted task alone by what its count does not explain.

        Only while its count stands still: pages that have been allocated and not been
        touched yet are no error.
        """
        held, self._held = self._held, (task.begin, task.now)
        if held == self._held:
            remainder = abs(rss - task.rss - task.now)
            if remainder > task.error:
                recorder.write_error(task.index, remainder)


class RecorderSearch:
    """Looks now and then for the flight recorder of a process.

    Parameters
    ----------
    pid
        The worker's process.
    directory
        Where flight recorders are made; ``None`` for the usual place.
    """

    def __init__(self, pid: int, directory: str | None) -> None:
        #: Why the recorder cannot be read, in words; empty while it can be.
        self.trouble = ""
        self._pid = pid
        self._directory = directory
        self._next = 0.0

    def look(self, now: float) -> RecorderReader | None:
        """Look again if it is time to; None when there is none (yet)."""
        if now < self._next:
            return None
        self._next = now + SEARCH_INTERVAL
        try:
            found = RecorderReader.find(self._pid, self._directory)
        except RecorderError as error:
            self.trouble = str(error)
            return None
        self.trouble = ""
        return found
