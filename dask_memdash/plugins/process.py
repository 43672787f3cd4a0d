"""What the workers of one process share: its RSS, its baseline, its sampler.

One worker has a process to itself, but with ``processes=False`` several live in
one.  Its RSS, the allocator's free bytes and the baseline belong to all of them.
"""

from __future__ import annotations

import os
import threading
import time
from typing import Protocol

from dask_memdash.border import border
from dask_memdash.plugins.tasks import RunningTasks
from dask_memdash.recorder.baseline import Baseline
from dask_memdash.recorder.flight import FlightRecorder, RecorderReader
from dask_memdash.recorder.meter import Mark
from dask_memdash.recorder.proc import RssReader
from dask_memdash.recorder.sampler import sampler
from dask_memdash.recorder.watch import WorkerWatch

#: How long a reading of the RSS serves for tasks that are counted, in seconds.
RECENT = 0.001


class Member(Protocol):
    """A worker of this process, as the others need to see it."""

    tasks: RunningTasks

    def stored_and_moving(self) -> int:
        """Bytes of storage in RAM and of transfers."""

    def quiet(self) -> bool:
        """Whether nothing is under way."""


class SharedProcess:
    """The process that this code runs in, with the workers that MemDash watches."""

    def __init__(self) -> None:
        self.baseline = Baseline()
        self._members: list[Member] = []
        self._readers: dict[int, RecorderReader] = {}
        self._watch: WorkerWatch | None = None
        self._rss: RssReader | None = None
        self._recent: int | None = None
        self._recent_at = 0.0
        self._lock = threading.Lock()

    def join(self, member: Member) -> None:
        """Take in a worker of this process."""
        with self._lock:
            if not self._members:
                self.baseline = Baseline()
                self._recent_at = 0.0
                self._rss = RssReader(os.getpid())
            self._members = [*self._members, member]

    def leave(self, member: Member) -> None:
        """Let a worker go, and with the last one all that was held for them."""
        with self._lock:
            self._members = [m for m in self._members if m is not member]
            rss = self._rss
            if not self._members and rss is not None:
                self._rss = None
                rss.close()

    def read_rss(self) -> int | None:
        """Read this process's RSS in bytes; may be called from any thread."""
        rss = self._rss
        return None if rss is None else rss.read()

    def recent_rss(self) -> int | None:
        """Give the RSS in bytes as it was at most `RECENT` ago.

        A reading costs more than a tiny task does; for a task that is over before
        the next one, its growth is nothing to speak of.
        """
        now = time.monotonic()
        if now - self._recent_at > RECENT:
            self._recent = self.read_rss()
            self._recent_at = now
        return self._recent

    def running(self) -> list[Mark]:
        """Give the tasks that run and are measured in this process."""
        return [
            mark
            for member in self._members
            for mark in list(member.tasks.by_thread.values())
            if mark.measured
        ]

    def observe(self, time: float, rss: int) -> None:
        """Let the baseline see this instant."""
        rest = max(0, rss - sum(m.stored_and_moving() for m in self._members))
        self.baseline.see(time, rest, quiet=all(m.quiet() for m in self._members))

    def sample(self, recorder: FlightRecorder, interval: float) -> None:
        """Sample from within, for a worker that has no nanny to do it."""
        with self._lock:
            if self._watch is None:
                self._watch = WorkerWatch(os.getpid())
                sampler.add(self._tick, interval)
            reader = RecorderReader(recorder.buffer)
            self._readers[id(recorder)] = reader
            self._watch.recorders.append(reader)

    def stop_sampling(self, recorder: FlightRecorder) -> None:
        """Undo :meth:`sample`."""
        with self._lock:
            reader = self._readers.pop(id(recorder), None)
            watch = self._watch
            if reader is None or watch is None:
                return
            watch.recorders.remove(reader)
            if self._readers:
                return
            self._watch = None
        sampler.remove(self._tick)
        watch.close()

    def _tick(self, now: float) -> None:
        watch = self._watch
        if watch is not None:
            border.guarded(watch.tick, "the worker's sampler")(now)


#: This process.
process = SharedProcess()
