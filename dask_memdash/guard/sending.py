"""Outputs are read back from disk to be sent: how many at a time.

Stands in for the worker's operation ``get_data``.  Where what another worker asks for
does not fit, it is told ``busy``, as the host itself answers to too many at a time: it
asks again after 0.15 s.  The rule is :mod:`~dask_memdash.guard.transfers`'s.

Runs on the worker's event loop.
"""

from __future__ import annotations

import functools
import time
from collections import Counter
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

from dask_memdash.boundary import boundary

if TYPE_CHECKING:
    from distributed.worker import Worker

OPERATION = "get_data"

#: Seconds after which one that asked in vain is taken to ask no more.
ASKS_AGAIN = 5.0

#: Seconds after which no task starts before what others ask for in vain is sent, and
#: for which that holds once they have asked.
OWED_AFTER = 1.0
OWED_FOR = 1.0


class Sending:
    """What one worker sends, and was asked for in vain.

    Parameters
    ----------
    may_send
        Called with the keys that are asked for; whether they may be sent now, and what
        of them would have to be read back, in bytes.
    """

    def __init__(
        self,
        worker: Worker,
        may_send: Callable[[Collection[Any]], tuple[bool, int]],
    ) -> None:
        self._worker = worker
        self._may_send = boundary.guarded(
            may_send, "the guard's look at what is to be sent", (True, 0)
        )
        self._wrapped: tuple[Any, Any] | None = None
        # Keys that are being sent, and how often.
        self._keys: Counter[Any] = Counter()
        # Since when others have asked in vain, when they did last, and for how much.
        self._since: float | None = None
        self._last = 0.0
        self._wanted = 0
        #: How often others were told to ask again.
        self.refused = 0

    @property
    def keys(self) -> Collection[Any]:
        """Keys that are being sent."""
        return self._keys.keys()

    def waited(self, now: float) -> float:
        """Return for how long others have asked in vain."""
        return 0.0 if self._since is None else now - self._since

    def owed(self, now: float) -> int:
        """Return what has been asked for in vain for a while, in bytes."""
        if self._since is None or now - self._last > OWED_FOR:
            return 0
        return self._wanted if now - self._since >= OWED_AFTER else 0

    def install(self) -> None:
        """Stand in for the host's operation."""
        theirs = self._worker.handlers.get(OPERATION)
        if theirs is None:
            return

        @functools.wraps(theirs)
        async def get_data(comm: Any, keys: Any, **more: Any) -> Any:
            if self._refuses(keys):
                return {"status": "busy"}
            self._keys.update(keys)
            try:
                return await theirs(comm, keys=keys, **more)
            finally:
                self._keys.subtract(keys)
                for key in keys:
                    if self._keys[key] <= 0:
                        del self._keys[key]

        self._wrapped = get_data, theirs
        self._worker.handlers[OPERATION] = get_data

    def remove(self) -> None:
        """Leave it to the host; what is being sent is sent."""
        self._may_send = lambda keys: (True, 0)
        if self._wrapped is None:
            return
        ours, theirs = self._wrapped
        if self._worker.handlers.get(OPERATION) is ours:
            self._worker.handlers[OPERATION] = theirs
        self._wrapped = None

    def _refuses(self, keys: Collection[Any]) -> bool:
        may, read_back = self._may_send(keys)
        now = time.monotonic()
        if may:
            if read_back:
                self._since, self._wanted = None, 0
            return False
        if self._since is None or now - self._last > ASKS_AGAIN:
            self._since = now
        self._last, self._wanted = now, read_back
        self.refused += 1
        return True
