"""Task prefixes over time: a bounded history of those that hold most.

Looked at once a second, more rarely where there are very many, and noted where a figure
has changed.  Memory is bounded by :data:`KEPT` prefixes of :data:`POINTS` points of 48
bytes: 3.5 MB.  What was forgotten, and since when anything is known, is told.

Imports the standard library only.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import Mapping

from dask_memdash.model.prefixes import PrefixState
from dask_memdash.model.series import Series

#: Columns of each; the first decides which points survive thinning.
COLUMNS = ("weight", "spilled", "executing", "running", "finished")

#: Prefixes kept, and points of each.
KEPT = 300
POINTS = 240

#: Seconds between two looks, and prefixes that are looked at in a second at most.
EVERY = 1.0
RATE = 2000

#: Prefixes that may take another's place in one look.
EXCHANGED = 10


class PrefixHistory:
    """What prefixes held over time.  Not thread-safe."""

    def __init__(self) -> None:
        self.by_name: dict[str, Series] = {}
        #: When it was first looked; None before.
        self.since: float | None = None
        #: When one was last forgotten or had no place; None where none was.
        self.forgotten: float | None = None
        self._last: dict[str, tuple[int, ...]] = {}
        # The most that each had.
        self._most: dict[str, int] = {}
        self._looked: float | None = None
        self._next = float("-inf")

    def look(self, time: float, prefixes: Mapping[str, PrefixState]) -> None:
        """Note what has changed, unless the last look was just now.

        Parameters
        ----------
        time
            In Unix time; one far before the last look is a clock that was set back.
        """
        interval = max(EVERY, len(prefixes) / RATE)
        if self._next - interval <= time < self._next:
            return
        before, self._looked = self._looked, time
        self._next = time + interval
        self.since = time if self.since is None else self.since
        new = []
        for name, state in prefixes.items():
            last = self._last.get(name)
            if last is not None:
                self._note(name, state, time, last)
            elif state.weight or state.running:
                new.append((state.weight, name))
        if new:
            self._take(new, prefixes, time, before)
        if len(prefixes) < len(self._last):
            self._end(prefixes, time)

    def in_processes(
        self, name: str, until: float = float("inf")
    ) -> tuple[list[float], list[int]]:
        """Return what a prefix had in the workers' processes up to an instant.

        Outputs in memory and what its tasks held, without what was spilled.

        Returns
        -------
        instants, sizes
            Oldest first, in Unix time and in bytes; each stands until the next.
        """
        series = self.by_name.get(name)
        if series is None:
            return [], []
        times, (weight, spilled) = series.since(float("-inf"), "weight", "spilled")
        seen = bisect_right(times, until)
        held = [whole - disk for whole, disk in zip(weight, spilled, strict=True)]
        return list(times[:seen]), held[:seen]

    def _note(
        self, name: str, state: PrefixState, time: float, last: tuple[int, ...]
    ) -> None:
        now = (
            *(state.weight, state.spilled, state.executing),
            *(state.running, state.finished),
        )
        if now != last:
            self._last[name] = now
            self._most[name] = max(now[0], self._most.get(name, 0))
            self.by_name[name].append(time, now)

    def _take(
        self,
        new: list[tuple[int, str]],
        prefixes: Mapping[str, PrefixState],
        time: float,
        before: float | None,
    ) -> None:
        """Take up those of the new that hold most, for others that never held as much.

        Few of them take another's place at once; the others have to wait.  While none
        has had to, one that is new had nothing at the look `before`.
        """
        room = KEPT - len(self.by_name)
        if len(new) > room:
            self.forgotten = time
        for weight, name in heapq.nlargest(room + EXCHANGED, new):
            if len(self.by_name) >= KEPT:
                smallest = min(self._most, key=self._most.__getitem__)
                if self._most[smallest] >= weight:
                    return
                for known in (self.by_name, self._last, self._most):
                    known.pop(smallest, None)
            series = self.by_name[name] = Series(COLUMNS, POINTS, 0.0)
            if before is not None and self.forgotten is None:
                series.append(before, (0,) * len(COLUMNS))
            self._note(name, prefixes[name], time, ())

    def _end(self, prefixes: Mapping[str, PrefixState], time: float) -> None:
        """Note that prefixes which were forgotten elsewhere hold nothing any more."""
        for name in self._last.keys() - prefixes.keys():
            if self._last[name][:4] != (0, 0, 0, 0):
                finished = self._last[name][4]
                self._last[name] = (0, 0, 0, 0, finished)
                self.by_name[name].append(time, self._last[name])
