"""Whether the store of a cluster answers, and what it holds: looked at in threads.

While nothing is written nobody would notice that a store has gone: a small look, every
few seconds, does.  A look that does not come back is an answer too, and neither it nor
a long listing holds up the other, or anything else.

Runs on the scheduler's event loop, but where it says *thread*.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from dask_memdash.boundary import LOG_INTERVAL, boundary
from dask_memdash.errors import StorageError
from dask_memdash.intermediates.memory import OBJECTS, Memory
from dask_memdash.intermediates.shared.index import StoreIndex
from dask_memdash.intermediates.shared.threads import DaemonThreads
from dask_memdash.text import plain

logger = logging.getLogger("dask_memdash.storage")

#: Seconds between two looks; and until one that has not come back is told.
LOOKED_EVERY = 10.0
PATIENCE = 20.0

#: Looks may take this share of the time, at most.
LOOKING_SHARE = 0.1

#: An object that no store has: asking for it says whether the store is there.
NOWHERE = OBJECTS + "0" * 40

#: Characters of an error that are kept.
MAX_ERROR = 400


class StoreWatch:
    """Looks at one store, and lists it.

    Parameters
    ----------
    on_loop
        Has something called on the event loop; called in a thread.
    """

    def __init__(
        self,
        memory: Memory,
        index: StoreIndex,
        on_loop: Callable[..., object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._memory = memory
        self._index = index
        self._on_loop = on_loop
        self._clock = clock
        self._looker = DaemonThreads(1, "MemDash storage look")
        self._lister = DaemonThreads(1, "MemDash storage list")
        self._looking_since: float | None = None
        self._next_look = clock() + LOOKED_EVERY
        self._listing = False
        self._silent = False
        self._look_error: str | None = None
        self._list_error: str | None = None
        self._logged_at = -LOG_INTERVAL
        # whether a listing that failed was tried again since the store answers
        self._listed_anew = False

    @property
    def unreachable(self) -> str | None:
        """What the store said instead of an answer, if it did not answer last time."""
        if self._silent:
            return f"it has not answered for {PATIENCE:.0f} seconds"
        return self._look_error or self._list_error

    def tick(self) -> None:
        """Look and list where it is time to."""
        now = self._clock()
        if self._looking_since is not None:
            self._silent = now - self._looking_since >= PATIENCE
        elif now >= self._next_look:
            self._looking_since = now
            self._submit(self._looker, self._look, self._looked)
        if self._index.due() and not self._listing:
            self._listing = True
            self._submit(self._lister, self._list, self._listed)

    def stop(self) -> None:
        """Look no more."""
        self._looker.stop()
        self._lister.stop()

    def _submit(
        self,
        threads: DaemonThreads,
        ask: Callable[[], str | None],
        take: Callable[[str | None], None],
    ) -> None:
        take = boundary.guarded(take, "taking in what the store said")
        failed = boundary.guarded(ask, "looking at the store", "MemDash failed to look")
        threads.submit(
            boundary.guarded(lambda: self._on_loop(take, failed()), "a look's thread")
        )

    def _look(self) -> str | None:
        """Return why the store does not answer, or None; in a thread."""
        check: Any = getattr(self._memory, "check", None)
        try:
            if check is not None:
                check()
            else:
                self._memory.exists(NOWHERE)
        except Exception as error:  # noqa: BLE001 - of others' stores, any
            return plain(str(error) or type(error).__name__, MAX_ERROR)
        return None

    def _looked(self, error: str | None) -> None:
        now = self._clock()
        took = 0.0 if self._looking_since is None else now - self._looking_since
        if error is None and (self._look_error is not None or self._silent):
            # it may have changed while it was away
            self._index.hurry()
        elif error is None and self._list_error is not None and not self._listed_anew:
            # it failed while the store was away, and that is over
            self._listed_anew = True
            self._index.hurry()
        self._looking_since, self._silent = None, False
        self._look_error = error
        # one that fails is late by its own patience, and should not be told for longer
        pause = took / LOOKING_SHARE if error is None else 0.0
        self._next_look = now + max(LOOKED_EVERY, pause)
        self._log(error)

    def _log(self, error: str | None) -> None:
        """Tell whoever sees no page; the page has it beside what is stored."""
        now = self._clock()
        if error is not None and now - self._logged_at >= LOG_INTERVAL:
            self._logged_at = now
            logger.warning("The store does not answer: %s", error)

    def _list(self) -> str | None:
        """Return why the store cannot be listed, or None; in a thread."""
        try:
            self._index.refresh()
        except StorageError as error:
            return plain(str(error), MAX_ERROR)
        return None

    def _listed(self, error: str | None) -> None:
        self._listing = False
        self._list_error = error
        if error is None:
            self._listed_anew = False
        self._log(error)
