"""Alerts on a scheduler: begun, looked after, ended.

Nothing of :mod:`dask_memdash.notify` is loaded where no target is configured.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from tornado.ioloop import PeriodicCallback

from dask_memdash.boundary import boundary
from dask_memdash.config import Settings
from dask_memdash.model.events import Noticed
from dask_memdash.plugins.scheduler.notifications import Notifications
from dask_memdash.store.base import Store

if TYPE_CHECKING:
    from distributed.scheduler import Scheduler

#: The place that notices of alerts are shown at.
PLACE = "alerts"

#: Seconds between two looks at how the sending goes.
LOOK = 1.0


class Alerting:
    """Sends alerts of one scheduler.

    Parameters
    ----------
    scheduler
        Whose failures these are.
    settings
        Where to, and how much.
    store
        What is known.
    notifications
        Says of which failures users are told.
    handle
        Takes in an event.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        settings: Settings,
        store: Store,
        notifications: Notifications,
        handle: Callable[[Noticed], None],
    ) -> None:
        from dask_memdash.notify.alerts import Alerts
        from dask_memdash.notify.sender import Sender

        self.sender = Sender(settings.notify_targets, settings.notify_timeout)
        named = {"id": str(scheduler.id), "address": str(scheduler.address)}
        alerts = Alerts(store, self.sender, settings.notify_most_per_hour, named)
        self._handle = handle
        self._said: tuple[str, ...] = ()
        self._listeners = notifications.listeners
        self._listener = boundary.guarded(alerts.told, "making an alert")
        self._listeners.append(self._listener)
        look = boundary.guarded(self._look, "looking after alerts")
        self._looks = PeriodicCallback(look, LOOK * 1000)
        self._looks.start()

    def _look(self) -> None:
        self.sender.look()
        said = self.sender.texts()
        if said != self._said:
            self._said = said
            self._handle(Noticed(time.time(), PLACE, said))

    async def close(self) -> None:
        """Make no more alerts; those on their way have a second to arrive."""
        self._looks.stop()
        if self._listener in self._listeners:
            self._listeners.remove(self._listener)
        await self.sender.close()


def begin(
    scheduler: Scheduler,
    settings: Settings,
    store: Store,
    notifications: Notifications,
    handle: Callable[[Noticed], None],
) -> Alerting | None:
    """Begin to send alerts where a target is configured."""
    if not settings.notify_targets:
        return None
    return Alerting(scheduler, settings, store, notifications, handle)
