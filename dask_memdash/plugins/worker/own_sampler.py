"""Samples this process from within, for workers that have no nanny to do it.

All workers of a process share one watch; it starts with the first of their recorders
and ends with the last.
"""

from __future__ import annotations

import os
import threading
import time

from dask_memdash.boundary import boundary
from dask_memdash.flight.reader import RecorderReader
from dask_memdash.flight.writer import FlightRecorder
from dask_memdash.measure.sampler import sampler
from dask_memdash.measure.watch import WorkerWatch
from dask_memdash.plugins.keys import prefix_of
from dask_memdash.self_cost import CostMeter
from dask_memdash.system.oom_kills import OomWatch


class OwnSampler:
    """Watches the process that this code runs in.  Thread-safe."""

    def __init__(self) -> None:
        #: What sampling costs.
        self.cost = CostMeter()
        self._sample = boundary.guarded(
            self.cost.metered(self._sample_once), "the worker's sampler"
        )
        self._readers: dict[int, RecorderReader] = {}
        self._watch: WorkerWatch | None = None
        self._lock = threading.Lock()

    def add(self, recorder: FlightRecorder, interval: float) -> None:
        """Sample the tasks of a recorder every `interval` seconds from now on.

        Where that fails, nothing is begun.
        """
        with self._lock:
            reader = RecorderReader(recorder.buffer)
            watch = self._watch or self._begin_watch(interval)
            self._readers[id(recorder)] = reader
            watch.recorders.append(reader)

    def _begin_watch(self, interval: float) -> WorkerWatch:
        watch = WorkerWatch(os.getpid(), prefix_of=prefix_of)
        try:
            self._oom = OomWatch(os.getpid())
            watch.children.oom = self._oom.killed
            sampler.add(self._tick, interval)
        except BaseException:
            watch.close()
            raise
        self._watch = watch
        return watch

    def remove(self, recorder: FlightRecorder) -> None:
        """Undo :meth:`add`; nothing happens where that was not called."""
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
            self._oom.look(time.monotonic())


#: The one of this process.
own_sampler = OwnSampler()
