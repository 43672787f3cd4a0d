"""Histories at several resolutions: what rows of a breakdown go to which segment.

Every row goes to ``s1``; of each span of 10 s and 60 s the row with the most memory
goes to ``s10`` and ``s60``; rows around failures go to ``main`` as well, which is
kept.  Pure: no clock, no file.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

#: Seconds of detail before and after a failure that are kept with it.
BEFORE = 60.0
AFTER = 30.0

#: Rows that are remembered for a failure that is about to be known.
REMEMBERED = 60_000

Row = tuple[Any, ...]


class Thinner:
    """Of each span of some seconds, the row of each process with the most memory.

    Rows are ``(time, process, process_bytes, …)``.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._held: dict[int, tuple[int, Row]] = {}

    def add(self, row: Row) -> Row | None:
        """Take a row in; return that of the span before, if it is over."""
        span = int(row[0] // self._seconds)
        held = self._held.get(row[1])
        if held is None or held[0] != span:
            self._held[row[1]] = (span, row)
            return None if held is None else held[1]
        if (row[2] or 0) >= (held[1][2] or 0):
            self._held[row[1]] = (span, row)
        return None

    def over(self, now: float | None = None) -> list[Row]:
        """Give out the rows of spans that are over; all where `now` is None."""
        span = None if now is None else int(now // self._seconds)
        done = [p for p, held in self._held.items() if span is None or held[0] != span]
        return [self._held.pop(process)[1] for process in done]


class Histories:
    """Sorts rows of a breakdown into segments."""

    def __init__(self) -> None:
        self._thinners = {"s10": Thinner(10.0), "s60": Thinner(60.0)}
        self._recent: deque[Row] = deque(maxlen=REMEMBERED)
        self._until = float("-inf")
        # Up to which instant the remembered rows have been given to `main`.
        self._given = float("-inf")

    def around(self, time: float) -> list[Row]:
        """Keep the detail around an instant; return the rows before it, for `main`."""
        since = max(time - BEFORE, self._given)
        rows = [row for row in self._recent if row[0] > since]
        if rows:
            self._given = max(self._given, rows[-1][0])
        self._until = max(self._until, time + AFTER)
        return rows

    def add(self, rows: Iterable[Row], now: float) -> dict[str, list[Row]]:
        """Take rows in, oldest first; return kind of segment → rows for it."""
        found: dict[str, list[Row]] = {"s1": list(rows), "main": []}
        for row in found["s1"]:
            self._recent.append(row)
            if row[0] <= self._until:
                found["main"].append(row)
                self._given = max(self._given, row[0])
        while self._recent and self._recent[0][0] < now - BEFORE:
            self._recent.popleft()
        for kind, thinner in self._thinners.items():
            over = [done for row in found["s1"] if (done := thinner.add(row))]
            found[kind] = over + thinner.over(now)
        return found

    def rest(self) -> dict[str, list[Row]]:
        """Return what is held back, as all ends."""
        return {kind: thinner.over() for kind, thinner in self._thinners.items()}
