"""What the workers of one process share: its RSS, its baseline, its sampler.

Tasks run in it: what each of them may have is worked out among all
that run in the process.

One worker has a process to itself, but with ``processes=False`` several live in
one.  Its RSS, the allocator's free bytes and the baseline belong to all of them.
"""

from __future__ import annotations

import os
import threading
import time
from typing import Protocol

from dask_memdash.boundary import boundary
from dask_memdash.flight.recorder import FlightRecorder, RecorderReader
from dask_memdash.measure.attribution import UNMEASURED
from dask_memdash.measure.baseline import Baseline
from dask_memdash.measure.isolated import CloseLook, arrow_pool
from dask_memdash.measure.meter import Mark
from dask_memdash.measure.rss import RssReader
from dask_memdash.measure.sampler import sampler
from dask_memdash.measure.tally import load
from dask_memdash.measure.watch import WorkerWatch
from dask_memdash.plugins.keys import prefix_of
from dask_memdash.plugins.worker.tasks import RunningTasks
from dask_memdash.self_cost import CostMeter
from dask_memdash.system.proc import HighWater, allocator_free


class Member(Protocol):
    """A worker of this process, as the others need to see it."""

    tasks: RunningTasks

    def stored(self) -> int:
        """Bytes of storage in RAM; may be called from any thread."""

    def moving(self) -> int:
        """Bytes of transfers."""

    def quiet(self) -> bool:
        """Whether nothing is under way."""


class SharedProcess:
    """The process that this code runs in, with the workers that MemDash watches."""

    def __init__(self) -> None:
        self.baseline = Baseline()
        #: What the allocator had free when last asked, in bytes; None if not known.
        self.free: int | None = None
        #: What sampling from within costs.
        self.cost = CostMeter()
        self._sample = boundary.guarded(
            self.cost.metered(self._sample_once), "the worker's sampler"
        )
        self._members: list[Member] = []
        self._readers: dict[int, RecorderReader] = {}
        self._watch: WorkerWatch | None = None
        self._rss: RssReader | None = None
        self._high_water: HighWater | None = None
        self._look: CloseLook | None = None
        self._moving = 0
        self._behind_before = 0
        # What Arrow's pool held, and storage, at the last quiet instant, in bytes.
        self._arrow = (0, 0)
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
                self._high_water = HighWater()
                self._look = CloseLook(self._high_water, self.stored, self.reusable)
            self._members = [*self._members, member]

    def leave(self, member: Member) -> None:
        """Let a worker go, and with the last one all that was held for them."""
        with self._lock:
            self._members = [m for m in self._members if m is not member]
            if self._members:
                return
            for held in (self._rss, self._high_water):
                if held is not None:
                    held.close()
            self._rss = None

    def read_rss(self) -> int | None:
        """Read this process's RSS in bytes; may be called from any thread."""
        rss = self._rss
        return None if rss is None else rss.read()

    def recent_rss(self, age: float) -> int | None:
        """Return the RSS in bytes as it was at most `age` seconds ago."""
        now = time.monotonic()
        if now - self._recent_at > age:
            self._recent = self.read_rss()
            self._recent_at = now
        return self._recent

    def running(self) -> list[Mark]:
        """Return the tasks that run and are measured in this process."""
        return [
            mark
            for member in self._members
            for mark in list(member.tasks.by_thread.values())
            if mark.method != UNMEASURED
        ]

    @property
    def look(self) -> CloseLook:
        """How tasks that run alone are looked at; there is one once anybody joined."""
        assert self._look is not None
        return self._look

    @property
    def high_water(self) -> bool:
        """Whether the kernel gives a high-water mark that can be set back."""
        return self._high_water is not None and self._high_water.available

    def stored(self) -> int:
        """Sum the bytes of storage in RAM."""
        return sum(member.stored() for member in self._members)

    def reusable(self) -> int:
        """Return what may be used again without growing: free heap, and room in arenas.

        In bytes; may be called from any thread.
        """
        tally = load()
        arenas = tally.arena_free() if tally is not None and tally.installed else 0
        return (allocator_free() or 0) + arenas

    def live(self) -> int:
        """Sum what running and pending tasks are thought to hold, in bytes."""
        return sum(member.tasks.live() for member in self._members)

    def beyond(self, rss: int) -> int | None:
        """Return what the process has beyond storage, transfer and what was left last.

        May be called from any thread: what needs the event loop is as last
        observed.

        Returns
        -------
        int or None
            In bytes, of either sign; None before a quiet instant has been seen.
        """
        left = self.left()
        return None if left is None else rss - self.stored() - self._moving - left

    def left(self) -> int | None:
        """Return what is no running task's: left when idle last, and come free since.

        In bytes; None before a quiet instant has been seen.
        """
        last = self.baseline.last
        return None if last is None else last + self._kept()

    def behind(self) -> int:
        """Return what tasks have left beside their outputs since it was idle last.

        In bytes, at least 0.  It may be gone again, with outputs that are larger than
        Dask believes.
        """
        return max(0, self._left_behind() - self._behind_before)

    def _left_behind(self) -> int:
        return sum(member.tasks.left_behind for member in self._members)

    def _kept(self) -> int:
        return max(0, (allocator_free() or 0) - self.baseline.last_free)

    def arrow(self) -> int:
        """Return what Arrow's pool holds beyond what it did at the last quiet instant.

        Less what has been stored since, in bytes; 0 without pyarrow.  The pool keeps
        what is freed, so that the RSS does not show when it is used again.
        """
        pool = arrow_pool()
        held, stored = self._arrow
        if pool is None:
            return 0
        return pool.held - held - max(0, self.stored() - stored)

    def observe(self, time: float, rss: int) -> None:
        """Let the baseline see this instant."""
        self.free = allocator_free()
        self._moving = sum(member.moving() for member in self._members)
        rest = max(0, rss - self.stored() - self._moving)
        quiet = all(member.quiet() for member in self._members)
        if quiet:
            pool = arrow_pool()
            self._arrow = (0 if pool is None else pool.held, self.stored())
            self._behind_before = self._left_behind()
        self.baseline.see(time, rest, quiet=quiet, free=self.free or 0)

    def sample(self, recorder: FlightRecorder, interval: float) -> None:
        """Sample from within, for a worker that has no nanny to do it."""
        with self._lock:
            if self._watch is None:
                self._watch = WorkerWatch(os.getpid(), prefix_of=prefix_of)
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
        self._sample(now)

    def _sample_once(self, now: float) -> None:
        watch = self._watch
        if watch is not None:
            watch.tick(now)


#: This process.
process = SharedProcess()
