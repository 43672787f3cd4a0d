"""How MemDash is degraded, place by place: on the page, in the log, to the clients.

A place is the scheduler, a worker, a nanny, or a sender of messages that were refused.
Bounded: so many places, so many sentences each, and so many that are logged.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from dask_memdash.boundary import boundary
from dask_memdash.model.cluster import ClusterModel
from dask_memdash.model.events import Event, Noticed
from dask_memdash.text import plain

if TYPE_CHECKING:
    from distributed.scheduler import Scheduler

logger = logging.getLogger("dask_memdash")

#: Places of which something is said at most, and sentences of one.
MAX_PLACES = 200
MAX_TEXTS = 20

#: Sentences that are remembered so as to be logged once; beyond, nothing is logged.
MAX_WARNED = 200

#: Characters of a log line, and of what clients are warned with.
MAX_LINE = 200

SCHEDULER = "scheduler"


class Notices:
    """What is said of each place of one scheduler.

    Parameters
    ----------
    scheduler
        Whose clients are told.
    model
        What it shows now.
    handle
        Takes in an event.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        model: ClusterModel,
        handle: Callable[[Event], None],
    ) -> None:
        self._scheduler = scheduler
        self._model = model
        self._handle = handle
        self._said: OrderedDict[str, list[str]] = OrderedDict()
        # Places that the border has something to say of.
        self._senders: set[str] = set()
        self._warned: set[str] = set()

    def say(self, where: str, text: str, now: float) -> None:
        """Show a sentence, and tell connected clients, once; `now` is Unix time."""
        said = self._said.setdefault(where, [])
        if text in said or len(said) >= MAX_TEXTS:
            return
        said.append(text)
        while len(self._said) > MAX_PLACES:
            place = next(name for name in self._said if name != SCHEDULER)
            del self._said[place]
            self._show(place, (), now)
        self._show(where, self._texts_of(where), now)
        self.warn(text, where)

    def update(self, now: float, refused: Mapping[str, tuple[str, ...]]) -> None:
        """Bring up to date what is shown, and take back what was said of the gone.

        Parameters
        ----------
        now
            Unix time in seconds.
        refused
            Sender → what the border says of its messages.
        """
        self._forget_places(now)
        self._show(SCHEDULER, self._texts_of(SCHEDULER), now)
        for sender in self._senders - refused.keys():
            self._show(_border(sender), (), now)
        for sender, texts in refused.items():
            self._show(_border(sender), texts, now)
        self._senders = set(refused)

    def warn(self, text: str, where: str = "some workers") -> None:
        """Tell connected clients, once however many workers say the same."""
        if text in self._warned or len(self._warned) >= MAX_WARNED:
            return
        self._warned.add(text)
        message = plain(f"MemDash on {where}: {text}", MAX_LINE)
        logger.warning("%s", message)
        self._scheduler.log_event("warn", message)

    def _texts_of(self, where: str) -> tuple[str, ...]:
        faults = boundary.recent() if where == SCHEDULER else ()
        return (*self._said.get(where, ()), *faults)

    def _show(self, where: str, texts: tuple[str, ...], now: float) -> None:
        if texts != self._model.notices.get(where, (0.0, ()))[1]:
            self._handle(Noticed(now, where, texts))

    def _forget_places(self, now: float) -> None:
        if self._said.keys() <= {SCHEDULER}:
            return
        workers = self._scheduler.workers
        addresses = {
            "worker": workers,
            "nanny": {worker.nanny for worker in workers.values()},
            SCHEDULER: ("",),
        }
        for where in list(self._said):
            kind, _, address = where.partition(" ")
            if address not in addresses.get(kind, ()):
                del self._said[where]
                self._show(where, (), now)


def _border(sender: str) -> str:
    """Name the place at which messages of a sender were refused."""
    return f"messages from {sender}"
