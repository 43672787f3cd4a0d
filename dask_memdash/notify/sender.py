"""Sends alerts in a thread of its own: nobody waits for a target, dead or slow.

One thread, which is there only while something is to be sent, and a queue of limited
length for each target.  A target that fails is tried again, ever more rarely, and keeps
only its own alerts waiting.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from dask_memdash.boundary import boundary
from dask_memdash.notify.targets import Target
from dask_memdash.notify.transport import Delivery, DeliveryError
from dask_memdash.text import count

#: Alerts that wait for one target at most; the oldest goes first.
MOST_WAITING = 50

#: Tries of one alert, and seconds to the second one; each rest is twice the former, up
#: to the longest.
MOST_TRIES = 8
FIRST_REST = 1.0
LONGEST_REST = 120.0

#: So many times a target's patience is the end of a try, whatever it says meanwhile.
LONGEST_TRY = 2.0

#: Seconds that an alert which has not failed yet may take when all closes.
GRACE = 1.0


class Brings(Protocol):
    """What brings one alert to one target."""

    def bring(self, target: Target, alert: Mapping[str, Any]) -> None:
        """Bring it, or raise DeliveryError."""

    def cut_short(self) -> None:
        """End what is under way."""


@dataclass(slots=True)
class Mailbox:
    """What waits for one target."""

    target: Target
    waiting: deque[Mapping[str, Any]] = field(default_factory=deque)
    #: Tries that the first of them has failed, and when the next is due.
    failed: int = 0
    due: float = 0.0
    #: Alerts that arrived, and that never will.
    sent: int = 0
    lost: int = 0
    #: What is wrong with it; empty where it took the last one.
    wrong: str = ""


class Sender:
    """Sends alerts to targets.

    Parameters
    ----------
    targets
        All get every alert.
    patience
        Seconds that a target may be silent.
    """

    def __init__(
        self,
        targets: Sequence[Target],
        patience: float,
        *,
        delivery: Callable[[float], Brings] = Delivery,
        clock: Callable[[], float] = time.monotonic,
        first_rest: float = FIRST_REST,
    ) -> None:
        self._boxes = [Mailbox(target) for target in targets]
        self._delivery = delivery(patience)
        self._patience = patience
        self._clock = clock
        self._first_rest = first_rest
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False
        # What is under way: whose, and since when.
        self._busy: tuple[Mailbox, float] | None = None

    # -- from the loop ---------------------------------------------------------

    def send(self, alert: Mapping[str, Any]) -> None:
        """Take an alert for all targets; does not wait."""
        with self._changed:
            if self._closed:
                return
            for box in self._boxes:
                box.waiting.append(alert)
                if len(box.waiting) > MOST_WAITING:
                    # The first may be under way, and is asked for by the thread.
                    del box.waiting[1]
                    box.lost += 1
            if self._thread is None:
                run = boundary.guarded(self._run, "sending alerts")
                self._thread = threading.Thread(
                    target=run, name="MemDash alerts", daemon=True
                )
                self._thread.start()
            self._changed.notify()

    def look(self) -> None:
        """Cut a try short that goes on for too long: some talk for ever."""
        busy = self._busy
        if busy is not None and self._clock() > busy[1] + LONGEST_TRY * self._patience:
            self._delivery.cut_short()

    def texts(self) -> tuple[str, ...]:
        """Return what is wrong with the targets, a sentence each."""
        return tuple(_told(box) for box in self._boxes if box.wrong or box.lost)

    async def close(self, grace: float = GRACE) -> None:
        """End; alerts that have not failed yet get a moment to arrive.

        Parameters
        ----------
        grace
            That moment in seconds.
        """
        end = self._clock() + grace
        while self._fresh() and self._clock() < end:
            await asyncio.sleep(0.02)
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._busy is not None:
            self._delivery.cut_short()

    def _fresh(self) -> bool:
        return any(box.waiting and not box.failed for box in self._boxes)

    # -- in the thread ---------------------------------------------------------

    def _run(self) -> None:
        bring = boundary.guarded(self._bring, "sending an alert", _unforeseen)
        while (box := self._next()) is not None:
            error = bring(box.target, box.waiting[0])
            with self._changed:
                self._busy = None
                self._done(box, error)

    def _bring(self, target: Target, alert: Mapping[str, Any]) -> DeliveryError | None:
        try:
            self._delivery.bring(target, alert)
        except DeliveryError as error:
            return error
        return None

    def _next(self) -> Mailbox | None:
        """Wait for a target whose next try is due; None when there is no more to do."""
        with self._changed:
            while not self._closed:
                now = self._clock()
                boxes = [box for box in self._boxes if box.waiting]
                if not boxes:
                    break
                box = min(boxes, key=lambda box: box.due)
                if box.due <= now:
                    self._busy = (box, now)
                    return box
                self._changed.wait(min(60.0, box.due - now))
            self._thread = None
            return None

    def _done(self, box: Mailbox, error: DeliveryError | None) -> None:
        """Take note of how a try ended."""
        now = self._clock()
        if error is None:
            box.sent += 1
            box.wrong = ""
        else:
            box.wrong = str(error)
            box.failed += 1
            if error.again and box.failed < MOST_TRIES:
                rest = min(LONGEST_REST, self._first_rest * 2 ** (box.failed - 1))
                box.due = now + max(rest, error.after)
                return
            box.lost += 1
        box.waiting.popleft()
        box.failed = 0
        # Turn about: one that is always due would keep the others waiting.
        box.due = now


def _unforeseen() -> DeliveryError:
    return DeliveryError("MemDash failed to send it", again=False)


def _told(box: Mailbox) -> str:
    if not box.wrong:
        lost = count(box.lost, "alert")
        return f"{lost} did not reach the {box.target.name}; the last one did."
    lost = f"; {count(box.lost, 'alert')} did not arrive" if box.lost else ""
    return f"Alerts do not reach the {box.target.name}: {box.wrong}{lost}."
