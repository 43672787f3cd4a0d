"""Which failures are told of, and how often.

Runs on the scheduler's event loop.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from dask_memdash.notify.message import message
from dask_memdash.store.answers import tell
from dask_memdash.store.base import Store

#: Seconds over which failures are limited.
HOUR = 3600.0

#: Failures that are remembered as told.
MOST_REMEMBERED = 1_000


class Takes(Protocol):
    """Where alerts are handed to."""

    def send(self, alert: Mapping[str, Any]) -> None:
        """Take one, without waiting."""


class Alerts:
    """Makes an alert of each failure that opens, and of its end.

    Parameters
    ----------
    store
        What is known.
    sender
        Takes the alerts.
    most
        Failures that are told of in an hour.
    scheduler
        Its ``id`` and ``address``, for whoever has several clusters.
    """

    def __init__(
        self,
        store: Store,
        sender: Takes,
        most: int,
        scheduler: Mapping[str, str],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._sender = sender
        self._most = most
        self._scheduler = scheduler
        self._clock = clock
        self._sent: deque[float] = deque()
        # Failure → what was told of it, oldest first.
        self._told: dict[str, set[str]] = {}
        #: Alerts left out since the last one.
        self.left_out = 0

    def told(self, event: str, failure: Mapping[str, Any], page: str | None) -> None:
        """Tell of a failure, once of each event.

        Parameters
        ----------
        event
            ``failure-opened`` or ``failure-closed``.
        failure
            As the JSON API has it.
        page
            Address of the page, open at it; None without one.
        """
        number, now = failure["id"], self._clock()
        before = self._told.get(number, set())
        if event in before:
            return
        if event == "failure-closed" and not before:
            return  # its opening was left out, so nobody waits for its end
        if event == "failure-opened" and not self._may(now):
            self.left_out += 1
            return
        self._told[number] = before | {event}
        while len(self._told) > MOST_REMEMBERED:
            del self._told[next(iter(self._told))]
        left_out, self.left_out = self.left_out, 0
        self._sender.send(
            message(
                event,
                failure,
                tell(self._store, failure),
                page=page,
                scheduler=self._scheduler,
                now=now,
                left_out=left_out,
            )
        )

    def _may(self, now: float) -> bool:
        """Say whether one more failure may be told of, and take note of it."""
        while self._sent and self._sent[0] <= now - HOUR:
            self._sent.popleft()
        if len(self._sent) >= self._most:
            return False
        self._sent.append(now)
        return True
