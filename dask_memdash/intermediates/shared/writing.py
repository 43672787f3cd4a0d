"""The scheduler's side of writing: which worker is asked to store what.

One worker that has a key's value is asked, never all of them, and another one if that
goes.  What a client persisted and leaves behind is held until it is written.

Runs on the scheduler's event loop.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dask_memdash.boundary import LOG_INTERVAL, boundary
from dask_memdash.intermediates.shared.index import StoreIndex
from dask_memdash.intermediates.shared.ledger import ASKED, KEPT, NEVER, Ledger
from dask_memdash.intermediates.shared.protocol import STORE

if TYPE_CHECKING:
    from distributed.scheduler import Scheduler

logger = logging.getLogger("dask_memdash.storage")

#: Who wants what a client that has left persisted, until it is written.
HOLDER = "memdash-storage"


class Writing:
    """Orders to the workers of one scheduler.

    Parameters
    ----------
    when_stored
        Called with each key that has been stored.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        ledger: Ledger,
        index: StoreIndex,
        when_stored: Callable[[Any], object],
    ) -> None:
        self._scheduler: Any = scheduler
        self._ledger = ledger
        self._index = index
        self._when_stored = when_stored
        #: Workers that take orders.
        self.ready: set[str] = set()
        self._logged_at = -LOG_INTERVAL

    def ask(self, key: Any) -> None:
        """Ask a worker that has a key's value to store it, if any has."""
        ts, one = self._scheduler.tasks.get(key), self._ledger.keys[key]
        if ts is None or ts.state != "memory" or one.state in (ASKED, KEPT, NEVER):
            return
        for worker in ts.who_has or ():
            if worker.address in self.ready:
                self._ledger.ask(key, worker.address)
                message = {"op": STORE, "key": key, "object_id": one.object_id}
                self._scheduler.worker_send(worker.address, message)
                return

    def ask_for_all(self) -> None:
        """Ask for whatever is wanted, or wanted again, by now."""
        for key in self._ledger.wanted():
            self.ask(key)

    # -- what workers say ----------------------------------------------------------

    def worker_ready(self, worker: str, **_: Any) -> None:
        """Take note that a worker takes orders."""
        self.ready.add(worker)
        self.ask_for_all()

    def worker_left(self, worker: str) -> None:
        """Ask others for what a worker that has gone was to store."""
        self.ready.discard(worker)
        for key in self._ledger.left(worker):
            self.ask(key)

    def was_stored(
        self,
        worker: str,
        key: Any,
        object_id: str,
        size: int,
        facts: dict[str, Any],
        **_: Any,
    ) -> None:
        """Take note that a worker has stored a value."""
        self._index.add(object_id)
        one = self._ledger.keys.get(key)
        if one is not None and one.object_id == object_id:
            self._ledger.stored(key, size, facts)
            self._when_stored(key)
        self._let_go(key)

    def was_not_stored(
        self, worker: str, key: Any, error: str | None, again: bool, **_: Any
    ) -> None:
        """Take note that a worker could not store a value, or had it no more."""
        one = self._ledger.keys.get(key)
        if one is not None and one.state == ASKED and one.worker == worker:
            self._ledger.failed(key, error, again)
            now = time.monotonic()
            if error is not None and now - self._logged_at >= LOG_INTERVAL:
                # the page has it beside what is stored
                self._logged_at = now
                logger.warning("A value could not be stored: %s", error)
        self._let_go(key)

    # -- clients that leave --------------------------------------------------------

    def remove_client(
        self, theirs: Callable[..., Any], client: str, *args: Any, **kwargs: Any
    ) -> Any:
        """Hold what a leaving client persisted until it is written."""
        if client != HOLDER:
            boundary.guarded(self._hold, "holding what is written")(client)
        return theirs(client, *args, **kwargs)

    def _hold(self, client: str) -> None:
        state = self._scheduler.clients.get(client)
        wanted = state.wants_what if state is not None else ()
        keys = [ts.key for ts in wanted if self._is_pending(ts)]
        if keys:
            self._scheduler.client_desires_keys(keys, HOLDER)

    def _is_pending(self, ts: Any) -> bool:
        one = self._ledger.keys.get(ts.key)
        return one is not None and one.state == ASKED and ts.state == "memory"

    def _let_go(self, key: Any) -> None:
        """Let go of a key that was only held to be written."""
        holder = self._scheduler.clients.get(HOLDER)
        ts = self._scheduler.tasks.get(key)
        if holder is not None and ts is not None and ts in holder.wants_what:
            self._scheduler.client_releases_keys(
                [key], HOLDER, stimulus_id="memdash-written"
            )

    def stop(self) -> None:
        """Let go of all that is held."""
        if HOLDER in self._scheduler.clients:
            self._scheduler.remove_client(HOLDER, stimulus_id="memdash-storage-leaves")
