"""What a guard did, one by one: for the page, the recorded run and the log.

A bounded list: it is taken with every heartbeat, and of more than `MOST` in between the
oldest are left out (the counts of :mod:`~dask_memdash.guard.holding` have all of them).
Belongs to the worker's event loop.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from dask_memdash.guard.reading import text_of
from dask_memdash.model.event_parts import GuardAction
from dask_memdash.plugins.keys import prefix_of

#: Actions that are kept between two heartbeats.
MOST = 200

# Kinds.
#: A task that was held starts, since it fits now or since nothing else runs; in a dry
#: run, one that would have been held.
WAITED, WOULD_WAIT = "waited", "would-wait"
#: It starts since what runs did not get on; although the worker is paused; before one
#: that is held.
OPENED, RAN_ON, PASSED = "opened", "drained", "passed"
#: It raises TaskTooLarge instead of running; it was stopped before it could end its
#: worker, and runs again.
REFUSED, BRAKED = "refused", "braked"


class Actions:
    """What has been done since the last heartbeat."""

    def __init__(self) -> None:
        self._done: deque[GuardAction] = deque(maxlen=MOST)

    def note(
        self,
        kind: str,
        key: Any,
        *,
        now: float,
        need: int = 0,
        room: int = 0,
        seconds: float = 0.0,
    ) -> None:
        """Take note of an action.

        Parameters
        ----------
        now
            Unix time, in seconds.
        need, room
            What the task needs, and what there was for it, in bytes.
        seconds
            For how long it had waited.
        """
        prefix = prefix_of(key)
        action = GuardAction(now, kind, text_of(key), prefix, need, room, seconds)
        self._done.append(action)

    def take(self) -> tuple[GuardAction, ...]:
        """Return what has been done since this was asked last, the oldest first."""
        done = tuple(self._done)
        self._done.clear()
        return done
