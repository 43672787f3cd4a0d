"""The scheduler plugin, :class:`MemDash`: what users register.

Covers the hooks that the scheduler calls, each of which turns what it is told into an
event for the model and nothing else.  What is installed on the scheduler, workers and
nannies, and how it is removed, is :mod:`dask_memdash.plugins.scheduler.install`'s; how
the scheduler's state becomes events is
:mod:`dask_memdash.plugins.scheduler.translate`'s.

Runs on the scheduler's event loop.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from distributed.diagnostics.plugin import SchedulerPlugin

from dask_memdash import config
from dask_memdash.boundary import boundary, guard_entry_points
from dask_memdash.model.cluster import ClusterModel
from dask_memdash.model.event_parts import SelfCost
from dask_memdash.model.events import (
    Event,
    StorageHeld,
    Ticked,
    WorkerClosing,
    WorkersRestarting,
    WorkerStatusChanged,
)
from dask_memdash.plugins import shims
from dask_memdash.plugins.scheduler import translate
from dask_memdash.plugins.scheduler.copies import CopyWatch
from dask_memdash.plugins.scheduler.graph_watch import GraphWatch
from dask_memdash.plugins.scheduler.inbound import Inbound
from dask_memdash.plugins.scheduler.install import Installation, SchedulerExtension
from dask_memdash.plugins.scheduler.notices import Notices
from dask_memdash.plugins.scheduler.notifications import Notifications
from dask_memdash.plugins.scheduler.own_memory import OwnMemory
from dask_memdash.plugins.scheduler.progress_watch import ProgressWatch
from dask_memdash.plugins.scheduler.receiving_watch import ReceivingWatch
from dask_memdash.plugins.scheduler.recording import Recording, begin
from dask_memdash.plugins.scheduler.refusals import Refusals
from dask_memdash.plugins.scheduler.removal import RemovalWatch
from dask_memdash.plugins.scheduler.reports import Reports
from dask_memdash.plugins.scheduler.shared_storage import IntermediatesWatch, kept_by
from dask_memdash.plugins.scheduler.storage_scan import StorageScan, look_at
from dask_memdash.plugins.scheduler.teaching import teacher
from dask_memdash.plugins.worker.worker_errors import MEMORY_ERROR, SPILL_FAILED
from dask_memdash.redact import shown
from dask_memdash.self_cost import Backoff, CostMeter, Scale, metered_methods
from dask_memdash.store.live import LiveStore
from dask_memdash.text import KEY_KEPT

if TYPE_CHECKING:
    from distributed.scheduler import Scheduler, WorkerState

    from dask_memdash.guard.on_scheduler import GuardTeacher

logger = logging.getLogger("dask_memdash")

NAME = "memdash"

#: Hooks and handlers whose processor time is counted; not the one that is called for
#: every transition, which takes less than a look at the clock.
METERED = (
    "add_worker",
    "remove_worker",
    "update_graph",
    "log_event",
    "heartbeat",
    "report",
    "tick",
)

#: Seconds between two ticks from which on the loop must have been held up.
LATE = 1.0

#: Seconds that a look at the outputs of a worker may take that has told of a trouble,
#: and seconds to the next such look.
LOOK_SECONDS = 0.005
LOOK_AGAIN = 0.5

#: Seconds between two looks at what our own data weighs.
WEIGHED_EVERY = 30.0


@metered_methods(*METERED)
@guard_entry_points
class MemDash(SchedulerPlugin):
    """Memory diagnostics for a Dask cluster, at ``/memdash`` on its dashboard.

    ``client.register_plugin(MemDash())`` on a running cluster, or ``dask scheduler
    --preload dask_memdash``.  Registering again changes nothing;
    ``client.unregister_scheduler_plugin("memdash")`` takes everything away.

    Parameters
    ----------
    record, run, tags
        Directory or URL that the run is recorded into (``memdash.record.to``; a path
        is one on the scheduler's machine), its name, and tags of it.
    notify
        Where alerts go: ``memdash.notify.targets``.
    **overrides
        Settings that go before the scheduler's configuration, such as
        ``sample_interval="100ms"`` (key ``memdash.sample-interval``; two
        underscores stand for a dot: ``page__refresh="2s"``).

    Raises
    ------
    ConfigError
        An override that does not exist or cannot be used.
    """

    name: ClassVar[str] = NAME
    idempotent = True
    BARE = ("transition",)

    def __init__(self, **overrides: Any) -> None:
        self._arguments = overrides
        self._overrides = {
            config.SHORT.get(name, name.replace("__", ".").replace("_", "-")): value
            for name, value in overrides.items()
        }
        if overrides:
            config.load(self._overrides)
        self._installation: Installation | None = None
        # Workers that are known → what the scheduler logged of their removal just now.
        self._looked = -math.inf
        self._removals: dict[str, Mapping[str, Any]] = {}
        self._heard_until: float | None = None
        self.cost = CostMeter()
        self._scale = Scale(WEIGHED_EVERY)
        self._watch: GraphWatch | None = None
        # What looks around at each tick, at an instant in seconds; none raises.
        self._looks: list[Callable[[float], Any]] = []
        self._own_memory: OwnMemory | None = None
        self._recording: Recording | None = None
        self._teacher: GuardTeacher | None = None
        self._erred = self.cost.metered(
            boundary.guarded(self._look_at_error, "looking at an error")
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return shims.by_text(shims.SCHEDULER_SOURCE, {"overrides": self._arguments})

    def __repr__(self) -> str:
        # A client's own copy cannot know: what runs is the scheduler's.
        told = [f"{name}={shown(name, v)}" for name, v in self._arguments.items()]
        running = " on this scheduler" if self._installation is not None else ""
        return f"<MemDash({', '.join(told)}){running}>"

    def _repr_html_(self) -> str | None:
        """Show a small summary of the running cluster in a notebook."""
        from dask_memdash.plugins.scheduler.notebook import summary

        store = None if self._installation is None else self.store
        html: str | None = boundary.guarded(summary, "showing it in a notebook")(store)
        return html

    # -- called by the scheduler -----------------------------------------------

    async def start(self, scheduler: Scheduler) -> None:
        """Attach to the scheduler and to all workers; again changes nothing."""
        if self._installation is not None:
            return
        settings = self._settings()
        self._scheduler = scheduler
        self._model = ClusterModel(settings.history_points, settings.incidents_keep)
        self.inbound = Inbound(scheduler)
        self._reports = Reports(
            self.inbound,
            self._model,
            self._handle,
            lambda: bool(self._recording or self._teacher),
        )
        self.store = LiveStore(self._model, self._reports.looked)
        self.copies = CopyWatch(scheduler)
        self._walk = StorageScan(
            scheduler,
            self.copies.has_fetched,
            find_kept=partial(kept_by, scheduler),
        )
        self._look_at_intermediates = boundary.guarded(
            IntermediatesWatch(scheduler).step, "looking at the storage"
        )
        self._backoff = Backoff(settings.budget, most=4)
        self._ticks = 0
        self._ticked = 0.0
        self._watch = GraphWatch(scheduler, self._handle)
        progress = ProgressWatch(
            scheduler, self._model, self._handle, settings.stuck_after
        )
        self._receiving = ReceivingWatch(scheduler, self._handle, settings.stuck_after)
        self._looks = [
            boundary.guarded(progress.step, "looking whether tasks move"),
            boundary.guarded(self._receiving.step, "looking whether inputs come"),
        ]
        self._own_memory = boundary.guarded(OwnMemory, "the scheduler's own memory")(
            scheduler, self._handle
        )
        if self._own_memory is not None:
            look = self._own_memory.step
            where = "looking at the scheduler's own memory"
            self._looks.append(boundary.guarded(look, where))
        self.notifications = Notifications(
            scheduler, self._model, self.store, self._handle
        )
        self.refusals = Refusals(
            scheduler, self._model, self._handle, self.notifications.page
        )
        self._notices = Notices(scheduler, self._model, self._handle)
        for worker in scheduler.workers.values():
            self._model.handle(translate.worker_added(worker, time.time()))
            self.inbound.joined(worker)
        self.removals = RemovalWatch(
            scheduler, self._handle, self._may_have_failed, self.copies.has_fetched
        )
        self._heard_until = time.time()
        self._recording = boundary.guarded(begin, "beginning a record")(
            scheduler, self._model, self.store, settings, self._handle
        )
        self._teacher = boundary.guarded(teacher, "starting the guard")(
            scheduler, self._model, settings
        )
        self._installation = Installation(scheduler, settings, self, self._model)
        await self._installation.install()

    async def close(self) -> None:
        """Detach when the scheduler closes."""
        installation, self._installation = self._installation, None
        recording, self._recording = self._recording, None
        if recording is not None:
            await recording.close()
        if installation is not None:
            self._close_watch()
            await installation.stop()

    def add_worker(self, scheduler: Scheduler, worker: str) -> None:
        """Take note of a worker that has joined."""
        self._joined(scheduler.workers[worker], time.time())

    def remove_worker(
        self, scheduler: Scheduler, worker: str, *, stimulus_id: str, **kwargs: Any
    ) -> None:
        """Take note of a worker that has left."""
        self._left(worker, stimulus_id, time.time())

    def transition(
        self, key: Any, start: str, finish: str, *args: Any, **kwargs: Any
    ) -> None:
        """Look out for tasks that are given up; on the hot path of every task."""
        watch = self._watch
        if watch is not None and watch.active:
            if finish == "memory":
                watch.moves += (key, kwargs.get("nbytes"))
            elif start == "memory":
                watch.moves += (key, None)
        if finish == "erred":
            self._erred(key, kwargs)

    def _look_at_error(self, key: Any, kwargs: Mapping[str, Any]) -> None:
        """Take note of a task that has been given up."""
        if self._installation is None:
            return
        self.refusals.look(key, kwargs)
        exception = kwargs.get("exception")
        if self.notifications.has_noted(exception):
            return
        killed = translate.task_killed(
            self._scheduler, key, exception, str(kwargs.get("worker")), time.time()
        )
        if killed is not None:
            self._handle(killed)

    def update_graph(self, scheduler: Scheduler, **kwargs: Any) -> None:
        """Take note of a graph's order."""
        if self._installation is not None and self._watch is not None:
            priorities, keys = kwargs.get("priority") or {}, kwargs.get("keys") or ()
            self._watch.arrived(priorities, keys, time.time())

    def restart(self, scheduler: Scheduler) -> None:
        """Take note that all workers are restarted on purpose."""
        self._handle(WorkersRestarting(time.time()))

    def log_event(self, topic: str, msg: Any) -> None:
        """Listen to what the scheduler and its workers log."""
        if not isinstance(msg, Mapping) or self._installation is None:
            return
        action = msg.get("action")
        if topic == shims.TOPIC:
            self._told(action, msg)
        elif not self.inbound.may_log(topic):
            return
        elif topic == "all":
            worker = msg.get("worker")
            if action == "remove-worker" and worker in self._model.processes.workers:
                self._removals[str(worker)] = msg
        elif action == "worker-ttl-timed-out" and topic == "scheduler":
            for event in translate.timed_out(self._scheduler, msg, time.time()):
                self._handle(event)
        elif action == "closing-worker":
            reason = str(msg.get("reason"))[:KEY_KEPT]
            self._handle(WorkerClosing(time.time(), topic, reason))
        elif action == "worker-status-change":
            status = str(msg.get("status"))[:KEY_KEPT]
            self._handle(WorkerStatusChanged(time.time(), topic, status))

    def _told(self, action: Any, message: Mapping[str, Any]) -> None:
        """Take in what a worker or nanny says under our topic."""
        if action in (MEMORY_ERROR, SPILL_FAILED):
            trouble = self.inbound.trouble(message)
            if trouble is not None:
                self._look_at_storage(trouble.address)
                self._handle(trouble)
                self._receiving.heard(trouble)
        elif action in ("lacks", "missing"):
            degraded = self.inbound.degraded(message)
            if degraded is None:
                return
            where, text = degraded
            if action == "missing":
                self.notice(where, text)
            else:
                self._notices.warn(text)

    def _look_at_storage(self, address: str) -> None:
        """Look at why a worker's outputs are held, for what is about to be told.

        Where very many tasks fail that is done for some of them.
        """
        worker, now = self._scheduler.workers.get(address), time.monotonic()
        if worker is not None and now >= self._looked + LOOK_AGAIN:
            self._looked = now
            kept = kept_by(self._scheduler)
            held, _ = look_at(worker, LOOK_SECONDS, self.copies.has_fetched, kept)
            self._handle(StorageHeld(time.time(), address, held))

    # -- called by the installation --------------------------------------------

    def detach(self) -> None:
        """Take everything away, in the background, as the plugin is being removed."""
        installation, self._installation = self._installation, None
        extension = self._scheduler.extensions.get(NAME)
        if isinstance(extension, SchedulerExtension):
            extension.disconnect()
        self.notifications.detach()
        self.removals.detach()
        self.copies.detach()
        self.refusals.detach()
        recording, self._recording = self._recording, None
        if recording is not None:
            recording.detach()
        if installation is not None:
            self._close_watch()
            installation.unwrap_events()
            task = asyncio.ensure_future(installation.remove())
            self._removing = task

    # -- messages, by way of the border ----------------------------------------

    def heartbeat(self, worker: WorkerState, data: Any) -> None:
        """Take in what came with a worker's heartbeat."""
        self._reports.heartbeat(worker, data)

    def report(self, comm: Any, message: Any) -> dict[str, Any]:
        """Take in a nanny's message; what it gets back acknowledges it.

        What is refused is acknowledged too: sending it again would not mend it.
        """
        from distributed.scheduler import heartbeat_interval

        event = self.inbound.report(message, comm)
        if event is not None:
            self._handle(event)
        return {
            "ok": True,
            "interval": heartbeat_interval(len(self._scheduler.workers)),
        }

    def tick(self) -> None:
        """Let the model know the time, and what the hooks have missed.

        While a plugin starts, the scheduler does not call its hooks yet.
        """
        now = time.time()
        if self._heard_until is not None:
            for heard, message in self._scheduler.get_events(shims.TOPIC):
                if heard >= self._heard_until and isinstance(message, Mapping):
                    with self.inbound.speaking(str(message.get("worker", ""))):
                        self.log_event(shims.TOPIC, message)
            registered = self._scheduler.plugins.get(NAME) is self
            self._heard_until = None if registered else self._heard_until
        known, real = self._model.processes.workers, self._scheduler.workers
        if len(known) != len(real) or not all(map(real.__contains__, known)):
            for address in real.keys() - known.keys():
                self._joined(real[address], now)
            for address in known.keys() - real.keys():
                self._left(address, "", now)
        self._reports.step()
        self.inbound.look()
        self._notices.update(now, self.inbound.texts())
        if self._watch is not None:
            self._watch.step(now)
        for look in self._looks:
            look(now)
        told = self._look_at_intermediates(now)
        if told is not None:
            self._handle(told)
        cost = self._own_cost(now)
        self._ticks += 1
        if self._ticks % (1 << cost.held_back) == 0:
            for event in self._walk.step(now):
                self._handle(event)
        # After a stall of the loop, heartbeats still wait to be taken in.
        late = now - self._ticked > LATE
        self._ticked = now
        silent = None if late else translate.silent_workers(self._scheduler, now)
        self.notifications.look_after(now)
        self._handle(Ticked(now, cost, silent))
        if self._teacher is not None:
            self._teacher.step(now)
        self.notifications.tell(now)
        if self._recording is not None:
            self._recording.step(now)

    def notice(self, where: str, text: str) -> None:
        """Show on the page, and tell connected clients, how MemDash is degraded."""
        if self._installation is not None:
            self._notices.say(where, text, time.time())

    # -- helpers ---------------------------------------------------------------

    def _may_have_failed(self, address: str) -> bool:
        """Whether a worker that is being removed was not asked to go, as it seems."""
        worker = self._model.processes.workers.get(address)
        return worker is not None and not worker.restarting

    def _close_watch(self) -> None:
        self._looks = []
        self._reports.forget()
        guard, self._teacher = self._teacher, None
        if guard is not None:
            guard.close()
        own, self._own_memory = self._own_memory, None
        if own is not None:
            own.close()
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.close()

    def _own_cost(self, now: float) -> SelfCost:
        """Say what MemDash costs here; if too much, look at storage more rarely."""
        rate = self.cost.rate()
        weight = self._scale.weight(self._model, now)
        return SelfCost(rate, weight, self._backoff.judge(rate))

    def _joined(self, worker: WorkerState, now: float) -> None:
        self._handle(translate.worker_added(worker, now))
        self.inbound.joined(worker)

    def _left(self, address: str, stimulus: str, now: float) -> None:
        removal = self._removals.pop(address, None)
        kept = kept_by(self._scheduler)
        self._handle(
            translate.worker_removed(
                self._scheduler, address, stimulus, removal, now, kept
            )
        )
        self.inbound.left(address)

    def _handle(self, event: Event) -> None:
        if self._installation is not None:
            if self._reports.waiting:
                self._reports.before(event)
            self._model.handle(event)
            if self._teacher is not None:
                self._teacher.see(event)

    def _settings(self) -> config.Settings:
        settings, wrong = config.load_usable(self._overrides)
        for error in wrong:
            boundary.note(f"reading memdash.{error.key} (its default is used)", error)
        return settings


def preload(server: Any) -> None:
    """Register MemDash on a scheduler that is starting; elsewhere do nothing."""
    from distributed.scheduler import Scheduler

    if not isinstance(server, Scheduler):
        logger.info("dask_memdash needs no preload on %s", type(server).__name__)
        return
    server.add_plugin(MemDash(), idempotent=True, name=NAME)
