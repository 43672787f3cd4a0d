"""The scheduler's side of the guard: learns what tasks take, and tells workers.

It hears the same events as the model, at the same door.  Changes are told once in
`TOLD_EVERY` seconds at most, to workers that have said that they have a guard; a death
is told at once.  A worker that comes gets all that is known with the plugin that the
scheduler sends it, so that it knows it before its first task.

Runs on the scheduler's event loop.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import dask_memdash
from dask_memdash.config import Settings
from dask_memdash.guard.expectation import MAX_PREFIXES, Learning
from dask_memdash.guard.protocol import EXPECT
from dask_memdash.model.events import DeathReported, Event, WorkerReported
from dask_memdash.model.quantiles import QuantileSketch
from dask_memdash.plugins import shims
from dask_memdash.plugins.protocol import PROTOCOL

if TYPE_CHECKING:
    from distributed.scheduler import Scheduler

    from dask_memdash.model.cluster import ClusterModel

#: Seconds between two messages to workers.
TOLD_EVERY = 1.0

NOTHING = QuantileSketch()


class GuardTeacher:
    """Learns from a model's events, and tells the workers of a scheduler."""

    def __init__(
        self, scheduler: Scheduler, model: ClusterModel, settings: Settings
    ) -> None:
        self._scheduler = scheduler
        self._model = model
        self._settings = settings
        self._learning = Learning()
        self._touched: set[str] = set()
        self._told_at = -math.inf
        self._at_once = False

    def see(self, event: Event) -> None:
        """Take in what the model has just taken in."""
        if isinstance(event, WorkerReported):
            if len(self._touched) < MAX_PREFIXES:
                self._touched.update(event.finished)
        elif isinstance(event, DeathReported) and not (event.asked or event.closing):
            for task in event.executing:
                held = max(task.peak or 0, task.bytes or 0)
                if held:
                    self._learning.died(task.prefix, task.key, held)
                    self._touched.add(task.prefix)
                    self._at_once = True

    def step(self, now: float) -> None:
        """Tell workers what has changed; `now` in seconds of any clock."""
        if not self._touched or not (self._at_once or now >= self._told_at):
            return
        self._told_at, self._at_once = now + TOLD_EVERY, False
        known = self._model.prefixes.by_name
        touched, self._touched = self._touched, set()
        peaks = (
            (name, known[name].peaks if name in known else NOTHING) for name in touched
        )
        prefixes, keys = self._learning.changes(peaks)
        if prefixes or keys:
            self._tell(prefixes, keys)

    def _tell(self, prefixes: Mapping[str, int], keys: Mapping[str, int]) -> None:
        scheduler = self._scheduler
        message = {"op": EXPECT, "prefixes": dict(prefixes), "keys": dict(keys)}
        for worker in self._model.processes.workers.values():
            stream: Any = scheduler.stream_comms.get(worker.info.address)
            if worker.guard is not None and stream is not None:
                stream.send(message)
        if shims.TOPIC in scheduler.worker_plugins:
            scheduler.worker_plugins[shims.TOPIC] = self.plugin()

    def plugin(self) -> bytes:
        """Return what a worker that comes is sent, with all that is known."""
        prefixes, keys = self._learning.all()
        settings = self._settings.to_dict()
        settings["learnt"] = {"prefixes": prefixes, "keys": keys}
        return shims.worker_plugin(settings, dask_memdash.__version__, PROTOCOL)
