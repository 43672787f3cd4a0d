"""Rows of a record that wait to be written: bounded, and what is lost is counted.

Rows come from the scheduler's event loop, which never waits, and go to the thread that
writes.  No file is touched here.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from itertools import accumulate
from typing import Any

#: How many rows one with an answer counts for, until it is packed: it takes 4 to 10 kB,
#: another row some hundred bytes.
ANSWER = 8

#: Bytes of a packed answer that count for a row.
PACKED = 1024

Row = tuple[str, tuple[Any, ...]]


class Waiting:
    """What waits, whether the writer has taken it yet or not.

    Parameters
    ----------
    room
        Rows that may wait; one with an answer counts for `ANSWER`.
    """

    def __init__(self, room: int) -> None:
        #: Rows that there was no room for.
        self.lost = 0
        self._room = room
        self._lock = threading.Lock()
        self._rows: list[Row] = []
        self._weight = 0
        self._taken = 0
        self._around: list[float] = []

    def __len__(self) -> int:
        """Return how many rows nobody has taken yet."""
        return len(self._rows)

    @property
    def weight(self) -> int:
        """Of the room, how much is used."""
        return self._weight + self._taken

    def put(self, rows: list[Row]) -> None:
        """Take rows in, oldest first; what there is no room for is lost."""
        weights = list(accumulate(weight_of(values) for _, values in rows))
        with self._lock:
            number = bisect_right(weights, self._room - self.weight)
            self._rows += rows[:number]
            self._weight += weights[number - 1] if number else 0
            self.lost += len(rows) - number

    def keep_detail(self, moment: float) -> None:
        """Remember an instant around which the history by the second is kept."""
        with self._lock:
            self._around = [*self._around[-99:], moment]

    def take(self) -> tuple[list[Row], list[float]]:
        """Give all rows and instants; they take room until `hold` says otherwise."""
        with self._lock:
            rows, self._rows = self._rows, []
            around, self._around = self._around, []
            self._taken, self._weight = self.weight, 0
        return rows, around

    def hold(self, weight: int) -> None:
        """Say what of the rows that were taken still waits."""
        with self._lock:
            self._taken = weight


def weight_of(values: tuple[Any, ...]) -> int:
    """Return how many rows a row counts for: an answer, if any, is its last value."""
    last = values[-1]
    if isinstance(last, dict | list):
        return ANSWER
    return 1 + len(last) // PACKED if isinstance(last, bytes | str) else 1
