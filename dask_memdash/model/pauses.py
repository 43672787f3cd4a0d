"""Pauses of workers: when each began and ended, and how many there were.

A worker above its pause threshold starts no task until its memory is below it again.
A pause that ends is no incident.

Imports the standard library only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

#: Pauses kept of one worker, and of all workers together: the newest.
KEPT_OF_WORKER = 100
KEPT_OF_CLUSTER = 500


@dataclass(slots=True, eq=False)
class Pause:
    """One pause of a worker, in Unix time."""

    start: float
    #: None while it lasts.
    end: float | None = None


class PauseLog:
    """The newest pauses of one worker or of all, in the order they began.

    Parameters
    ----------
    keep
        How many are kept; all are counted.
    """

    def __init__(self, keep: int = KEPT_OF_WORKER) -> None:
        self._pauses: deque[Pause] = deque(maxlen=keep)
        #: How many there have been.
        self.count = 0

    def __iter__(self) -> Iterator[Pause]:
        return iter(self._pauses)

    def add(self, pause: Pause) -> None:
        """Take note of a pause that begins."""
        self._pauses.append(pause)
        self.count += 1

    def end(self, time: float) -> None:
        """Take note that the newest one is over, unless it was already."""
        if self._pauses and self._pauses[-1].end is None:
            self._pauses[-1].end = max(time, self._pauses[-1].start)

    def bands(self, since: float | None = None) -> list[list[float | None]]:
        """Return beginning and end of each, of those that lasted after an instant."""
        return [
            [pause.start, pause.end]
            for pause in self._pauses
            if since is None or pause.end is None or pause.end > since
        ]
