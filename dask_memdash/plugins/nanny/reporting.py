"""What a nanny has to tell the scheduler: sent until it is acknowledged, and once.

Reports of deaths are kept until the scheduler has them; samples are sent and forgotten.
Sending happens on the nanny's event loop, adding from any thread.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import TYPE_CHECKING, Any

from dask_memdash.plugins.nanny import identity
from dask_memdash.plugins.protocol import REPORT_OPERATION

if TYPE_CHECKING:
    from distributed.nanny import Nanny

Message = dict[str, Any]

#: Reports kept while the scheduler cannot be reached, and for how long, in seconds.
MAX_REPORTS = 20
REPORT_LIFETIME = 300.0

#: Longest wait for an answer, in seconds.
ANSWER_TIME = 10.0

#: First and longest wait between two attempts, in seconds.
FIRST_WAIT, LONGEST_WAIT = 0.1, 5.0


class Reports:
    """Reports of deaths that the scheduler has not acknowledged yet."""

    def __init__(self, nanny: Nanny) -> None:
        self._nanny = nanny
        # Number → (monotonic time of its making, report), oldest first.
        self._waiting: dict[int, tuple[float, Message]] = {}
        self._numbers = itertools.count()
        self._sending = False

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def waiting(self) -> list[Message]:
        """The reports, oldest first."""
        return [message for _, message in list(self._waiting.values())]

    def add(self, message: Message) -> None:
        """Keep a report to be sent; the oldest goes where there are too many."""
        self._waiting[next(self._numbers)] = (time.monotonic(), message)
        while len(self._waiting) > MAX_REPORTS:
            self._waiting.pop(min(self._waiting), None)

    def take(self, earlier: Reports) -> None:
        """Take over what another has not sent yet."""
        for message in earlier.waiting:
            self.add(message)
        earlier._waiting.clear()

    async def send(self) -> None:
        """Send until each has been acknowledged, or is too old."""
        if self._sending:
            return  # whoever is at it sends the new one too
        self._sending = True
        wait = FIRST_WAIT
        try:
            while self._waiting:
                if await self._send_oldest():
                    continue
                if identity.is_closing(self._nanny):
                    return  # what is left is the teardown's
                await asyncio.sleep(wait)
                wait = min(2 * wait, LONGEST_WAIT)
        finally:
            self._sending = False

    async def flush(self, most: float) -> None:
        """Send what is left before the nanny is gone, in so many seconds at most."""
        try:
            async with asyncio.timeout(most):
                while self._waiting:
                    if not await self._send_oldest():
                        await asyncio.sleep(FIRST_WAIT)
        except TimeoutError:
            pass  # then it stays unknown

    async def _send_oldest(self) -> bool:
        """Send one; say whether it is off the list.  May run twice at once."""
        try:
            number = min(self._waiting)
            made, message = self._waiting[number]
        except (ValueError, KeyError):  # just acknowledged to another
            return True
        # By 'sent' the scheduler sees how its clock differs from this one.
        answer = await self.tell({**message, "sent": time.time()})
        if answer is None and time.monotonic() - made <= REPORT_LIFETIME:
            return False
        self._waiting.pop(number, None)
        return True

    async def tell(self, message: Message) -> Message | None:
        """Send a message; None if it has not been acknowledged."""
        try:
            answer = await asyncio.wait_for(
                getattr(self._nanny.scheduler, REPORT_OPERATION)(message=message),
                timeout=ANSWER_TIME,
            )
        except (TimeoutError, OSError, RuntimeError):
            return None
        return answer if isinstance(answer, dict) and answer.get("ok") else None
