"""What MemDash puts on a scheduler, its workers and nannies, and takes away again.

The order matters (DESIGN.md, traps 2 to 5): the scheduler's side of the heartbeat goes
first and leaves last, or workers that speak to it would be closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tornado.ioloop import PeriodicCallback

import dask_memdash
from dask_memdash.boundary import boundary
from dask_memdash.config import Settings
from dask_memdash.metrics.registry import serve
from dask_memdash.metrics.scheduler import SchedulerFigures
from dask_memdash.model.cluster import ClusterModel
from dask_memdash.plugins import shims
from dask_memdash.plugins.protocol import PROTOCOL, REPORT_OPERATION
from dask_memdash.plugins.scheduler import alerting
from dask_memdash.web.api import ask
from dask_memdash.web.mount import Mounted, mount, prepare

if TYPE_CHECKING:
    from distributed.scheduler import Scheduler, WorkerState

    from dask_memdash.plugins.scheduler.plugin import MemDash

logger = logging.getLogger("dask_memdash")

#: Longest that a registration waits for workers to answer, in seconds.  Those that
#: are busier than that are set up when they get round to it.
REMOVAL_TIMEOUT = 10.0

#: Seconds between two ticks.
TICK = 0.5

#: Name of the scheduler's handler for clients.
QUERY = "memdash_query"


#: What a client asks for when it wants the whole page as one file.
REPORT = "report.html"

#: What a client gets when answering it fails.
NO_ANSWER = {
    "protocol": PROTOCOL,
    "status": 500,
    "body": "MemDash failed to answer this; its page and the scheduler's log say why",
    "path": None,
    "scheduler": None,
}


class SchedulerExtension:
    """The scheduler's side of the heartbeat.

    The host calls it for every worker that speaks to it and closes workers that it
    cannot answer, so it stays behind, inert, when MemDash is removed.
    """

    def __init__(self) -> None:
        self._take: Callable[[Any, Any], None] | None = None

    def connect(self, take: Callable[[Any, Any], None]) -> None:
        """Hand heartbeats on; `take` must not raise."""
        self._take = take

    def disconnect(self) -> None:
        """Become inert."""
        self._take = None

    def heartbeat(self, worker: WorkerState, data: Any) -> None:
        """Take in what came with a worker's heartbeat."""
        if self._take is not None:
            self._take(worker, data)


class Installation:
    """MemDash on one scheduler, from :meth:`install` to :meth:`remove`."""

    def __init__(
        self,
        scheduler: Scheduler,
        settings: Settings,
        plugin: MemDash,
        model: ClusterModel,
    ) -> None:
        self._scheduler = scheduler
        self._settings = settings
        self._plugin = plugin
        self._model = model
        self._mounted: Mounted | None = None
        self._ticker: PeriodicCallback | None = None
        self._nannies: asyncio.Task[None] | None = None
        self._answer: Callable[..., Any] | None = None
        self._withdraw: Callable[[], None] | None = None
        self._alerting: alerting.Alerting | None = None
        # Table of handlers, name → the host's handler and ours in its place.
        self._events: list[tuple[dict[str, Any], str, Any, Any]] = []

    async def install(self) -> None:
        """Install everything; what fails is shown as degraded, the rest goes on."""
        scheduler = self._scheduler
        extension = scheduler.extensions.get("memdash")
        if not isinstance(extension, SchedulerExtension):
            extension = scheduler.extensions["memdash"] = SchedulerExtension()
        extension.connect(self._plugin.heartbeat)
        scheduler.handlers[REPORT_OPERATION] = self._plugin.report
        scheduler.handlers[QUERY] = self._answer = boundary.guarded(
            self._answer_client, "answering a client", NO_ANSWER.copy
        )
        self._wrap_removal()
        self._wrap_events()
        self._plugin.removals.attach()
        self._plugin.copies.attach()
        self._plugin.notifications.attach()
        self._plugin.refusals.attach()
        self._ticker = PeriodicCallback(self._plugin.tick, TICK * 1000)
        self._ticker.start()
        self._withdraw = boundary.guarded(self._serve_metrics, "serving metrics")()
        self._alerting = boundary.guarded(alerting.begin, "beginning alerts")(
            scheduler,
            self._settings,
            self._plugin.store,
            self._plugin.notifications,
            self._model.handle,
        )
        await boundary.guarded(self._open_page, "opening the page")()
        self._nannies = asyncio.create_task(
            boundary.guarded(self._install_nannies, "setting nannies up")()
        )
        await boundary.guarded(self._install_workers, "setting workers up")()

    async def stop(self) -> None:
        """Stop what runs by itself, which is all there is to do when all closes."""
        if self._ticker is not None:
            self._ticker.stop()
            self._ticker = None
        if self._nannies is not None:
            self._nannies.cancel()
        alerts, self._alerting = self._alerting, None
        if alerts is not None:
            await boundary.guarded(alerts.close, "ending alerts")()
        withdraw, self._withdraw = self._withdraw, None
        if withdraw is not None:
            boundary.guarded(withdraw, "withdrawing metrics")()
        mounted, self._mounted = self._mounted, None
        if mounted is not None:
            await boundary.guarded(mounted.unmount, "closing the page")()

    async def remove(self) -> None:
        """Take everything away but the inert extension."""
        scheduler = self._scheduler
        self.unwrap_events()
        await self.stop()
        for unregister, registered in (
            (scheduler.unregister_worker_plugin, scheduler.worker_plugins),
            (scheduler.unregister_nanny_plugin, scheduler.nanny_plugins),
        ):
            if shims.TOPIC in registered:
                await boundary.guarded(unregister, "removing plugins")(
                    None, shims.TOPIC
                )
        if scheduler.handlers.get(REPORT_OPERATION) == self._plugin.report:
            del scheduler.handlers[REPORT_OPERATION]
        if self._answer is not None and scheduler.handlers.get(QUERY) is self._answer:
            del scheduler.handlers[QUERY]
        boundary.clear()

    # -- parts -----------------------------------------------------------------

    async def _answer_client(
        self, comm: Any, path: str, arguments: dict[str, str]
    ) -> dict[str, Any]:
        """Answer what a client asks, with the words of the JSON API; or the report."""
        wrong = self._plugin.inbound.question(path, arguments, comm)
        if wrong is not None:
            status, body = 400, json.dumps({"error": wrong})
        elif path == REPORT:
            from dask_memdash.web.export import report

            status, body = 200, json.dumps(await report(self._plugin.store))
        else:
            status, body = ask(self._plugin.store, path, arguments)
        return {
            "protocol": PROTOCOL,
            "status": int(status),
            "body": body,
            "path": self._plugin.notifications.path,
            "scheduler": str(self._scheduler.id),
        }

    async def _open_page(self) -> None:
        with contextlib.suppress(ImportError):  # mounting says what is missing
            await prepare()
        self._mounted = mount(
            self._scheduler, self._plugin.store, self._settings, boundary
        )
        self._plugin.notifications.path = (
            None if self._mounted.notice else self._mounted.path
        )
        if self._mounted.notice:
            self._plugin.notice("scheduler", self._mounted.notice)
        if self._mounted.path:
            logger.info("MemDash is at %s on the dashboard", self._mounted.path)

    def _serve_metrics(self) -> Callable[[], None] | None:
        """Show the cluster's figures on Dask's page of Prometheus metrics."""
        if not self._settings.metrics:
            return None
        figures = SchedulerFigures(self._model)
        count = boundary.guarded(figures.counters.told, "counting failures")
        self._plugin.notifications.listeners.append(count)
        return serve("scheduler", self._scheduler, figures.families)

    async def _install_workers(self) -> None:
        plugin = shims.worker_plugin(
            self._settings.to_dict(), dask_memdash.__version__, PROTOCOL
        )
        task = asyncio.ensure_future(
            self._scheduler.register_worker_plugin(
                None, plugin, shims.TOPIC, idempotent=False
            )
        )
        await asyncio.wait([task], timeout=REMOVAL_TIMEOUT)
        if task.done():
            task.result()

    async def _install_nannies(self) -> None:
        plugin = shims.nanny_plugin(
            self._settings.to_dict(), dask_memdash.__version__, PROTOCOL
        )
        await self._scheduler.register_nanny_plugin(
            None, plugin, shims.TOPIC, idempotent=False
        )

    def _wrap_removal(self) -> None:
        """Hear of it when the plugin is removed: the host calls nothing then."""
        scheduler = self._scheduler
        remove_plugin = scheduler.remove_plugin

        def remove(name: str | None = None) -> None:
            if name == self._plugin.name and name in scheduler.plugins:
                if vars(scheduler).get("remove_plugin") is remove:
                    del scheduler.remove_plugin  # so that the class's shows again
                    if getattr(remove_plugin, "__self__", None) is not scheduler:
                        # another plugin's wrapper, which was there before
                        scheduler.remove_plugin = remove_plugin  # type: ignore[method-assign]
                self._plugin.detach()
            remove_plugin(name)

        scheduler.remove_plugin = remove  # type: ignore[method-assign]

    def _wrap_events(self) -> None:
        """Know of each logged event whether a worker, or somebody outside, logs it.

        The host tells plugins what is logged, not by whom.
        """
        scheduler, inbound = self._scheduler, self._plugin.inbound
        by_worker: Any = scheduler.stream_handlers.get("log-event")
        by_others: Any = scheduler.handlers.get("log_event")

        def log_worker_event(worker: str, topic: Any, msg: Any) -> Any:
            with inbound.speaking(worker):
                return by_worker(worker=worker, topic=topic, msg=msg)

        def log_event(topic: Any, msg: Any) -> Any:
            with inbound.speaking(""):
                return by_others(topic=topic, msg=msg)

        for table, name, theirs, ours in (
            (scheduler.stream_handlers, "log-event", by_worker, log_worker_event),
            (scheduler.handlers, "log_event", by_others, log_event),
        ):
            if theirs is not None:
                table[name] = ours
                self._events.append((table, name, theirs, ours))

    def unwrap_events(self) -> None:
        """Let the host log events by itself again; harmless when repeated."""
        for table, name, theirs, ours in self._events:
            if table.get(name) is ours:
                table[name] = theirs
        self._events = []
