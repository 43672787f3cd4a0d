"""The scheduler's side of the guard: learns what tasks take, and tells workers.

It hears the same events as the model, at the same door.  Changes are told once in
`TOLD_EVERY` seconds at most, to workers that have said that they have a guard; a death
is told at once.  A worker that comes gets all that is known with the plugin that the
scheduler sends it, so that it knows it before its first task.

Runs on the scheduler's event loop.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import dask_memdash
from dask_memdash.boundary import boundary, guard_entry_points
from dask_memdash.config import Settings
from dask_memdash.guard.expectation import MAX_PREFIXES, Learning
from dask_memdash.guard.protocol import BRAKED, EXPECT
from dask_memdash.guard.standstill import Standstill
from dask_memdash.guard.too_large import TooLarge
from dask_memdash.model.event_parts import Braked, GuardAction
from dask_memdash.model.event_readers import from_dict
from dask_memdash.model.events import DeathReported, Event, WorkerAdded, WorkerReported
from dask_memdash.model.quantiles import QuantileSketch
from dask_memdash.plugins import shims
from dask_memdash.plugins.protocol import PROTOCOL

if TYPE_CHECKING:
    from distributed.scheduler import Scheduler

    from dask_memdash.model.cluster import ClusterModel

#: Seconds between two messages to workers.
TOLD_EVERY = 1.0

NOTHING = QuantileSketch()


@guard_entry_points
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
        self._too_large = TooLarge()
        self._standstill = Standstill(scheduler)
        self._refused: dict[str, str] = {}
        #: What is called for each thing that a guard has done, with its worker's
        #: address, in the order in which workers tell of it.
        self.heard: Callable[[str, GuardAction], None] | None = None
        # It stays behind, inert: an unknown operation would end a worker's stream.
        scheduler.stream_handlers[BRAKED] = boundary.guarded(
            self._stopped, "taking in that a task was stopped"
        )
        limits = [w.info.limit for w in model.processes.workers.values()]
        # The largest limit of any worker so far; None where one has none.
        self._limit = None if None in limits else max(filter(None, limits), default=0)

    def see(self, event: Event) -> None:
        """Take in what the model has just taken in."""
        if isinstance(event, WorkerReported):
            if len(self._touched) < MAX_PREFIXES:
                self._touched.update(event.finished)
            if self.heard is not None:
                for action in event.guard_actions:
                    self.heard(event.address, action)
        elif isinstance(event, DeathReported) and not (event.asked or event.closing):
            for task in event.executing:
                held = max(task.peak or 0, task.bytes or 0)
                if held:
                    self._learning.died(task.prefix, task.key, held)
                    self._touched.add(task.prefix)
                    self._at_once = True
            key = self._too_large.died(event, self._limit or None)
            if key is not None:
                self._refused[key] = self._too_large.refused[key]
            self.step(event.time)  # before the next worker is there
        elif isinstance(event, WorkerAdded) and self._limit is not None:
            self._limit = event.limit and max(self._limit, event.limit)

    def close(self) -> None:
        """Hear of no stopped tasks any more."""
        self._scheduler.stream_handlers[BRAKED] = _ignore

    def _stopped(self, task: Any = None, **_: Any) -> None:
        """Take in that a task was stopped, before it is sent to a worker again."""
        braked = from_dict(Braked, task)
        if braked.needs > 0:
            self._learning.died(braked.prefix, braked.key, braked.needs)
            self._touched.add(braked.prefix)
            self._at_once = True
        key = self._too_large.stopped(braked, self._limit or None)
        if key is not None:
            self._refused[key] = self._too_large.refused[key]
        if braked.key in self._too_large.spared:
            self._tell({"spared": [braked.key]})
        self.step(time.time())

    def step(self, now: float) -> None:
        """Tell workers what has changed; `now` in seconds of any clock."""
        if self._settings.guard == "on":
            workers = self._model.processes.workers.values()
            on = [w.info.address for w in workers if w.guard and w.guard.mode == "on"]
            self._standstill.step(now, on)
        if not self._touched or not (self._at_once or now >= self._told_at):
            return
        self._told_at, self._at_once = now + TOLD_EVERY, False
        known = self._model.prefixes.by_name
        touched, self._touched = self._touched, set()
        peaks = (
            (name, known[name].peaks if name in known else NOTHING) for name in touched
        )
        prefixes, keys = self._learning.changes(peaks)
        if prefixes or keys or self._refused:
            self._tell({"prefixes": prefixes, "keys": keys, "refused": self._refused})
            self._refused = {}

    def _tell(self, learnt: dict[str, Any]) -> None:
        scheduler = self._scheduler
        message = {"op": EXPECT, **learnt}
        for worker in self._model.processes.workers.values():
            stream: Any = scheduler.stream_comms.get(worker.info.address)
            if worker.guard is not None and stream is not None:
                stream.send(message)
        if shims.TOPIC in scheduler.worker_plugins:
            scheduler.worker_plugins[shims.TOPIC] = self._plugin()

    def _plugin(self) -> bytes:
        """Return what a worker that comes is sent, with all that is known."""
        prefixes, keys = self._learning.all()
        settings = self._settings.to_dict()
        refused = dict(self._too_large.refused)
        settings["learnt"] = {
            "prefixes": prefixes,
            "keys": keys,
            "refused": refused,
            "spared": list(self._too_large.spared),
        }
        return shims.worker_plugin(settings, dask_memdash.__version__, PROTOCOL)


def _ignore(**_: Any) -> None:
    """Stay behind where the teacher was."""
