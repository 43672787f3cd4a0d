"""Work that holds the loop is done in turns, and the scheduler has as long after each.

Whoever asks for a page or for figures asks without credentials, as often as they like.
One answer takes some milliseconds of the scheduler's loop, and two hundred that are
asked for at once would take it for a second.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tornado import web

#: For how long the loop is left alone after a piece of work, in times of what it took.
REST = 1.0

#: Most seconds of that.
LONGEST_REST = 5.0


class Turns:
    """Lets one at a time work, and rests after each."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._rests_until = 0.0
        #: Since when the one whose turn it is has held the loop.
        self._held_since = 0.0
        #: How many wait for their turn, or have it.
        self.waiting = 0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait until it is one's turn; what is done then holds the loop."""
        self.waiting += 1
        try:
            async with self._turn:
                await asyncio.sleep(max(0.0, self._rests_until - time.monotonic()))
                self._held_since = time.monotonic()
                try:
                    yield
                finally:
                    now = time.monotonic()
                    self._rests_until = now + self._rest(now)
        finally:
            self.waiting -= 1

    async def rest(self) -> None:
        """Leave the loop alone in the middle of one's turn."""
        await asyncio.sleep(self._rest(time.monotonic()))
        self._held_since = time.monotonic()

    def _rest(self, now: float) -> float:
        return min(REST * (now - self._held_since), LONGEST_REST)


def gone(handler: web.RequestHandler) -> bool:
    """Whether nobody waits for an answer any more."""
    stream = getattr(handler.request.connection, "stream", None)
    return stream is not None and bool(stream.closed())
