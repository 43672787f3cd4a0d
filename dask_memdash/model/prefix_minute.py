"""The last minute of the largest prefixes: what each had in the workers' processes.

Bounded whatever runs: so many looks, and of each the largest prefixes alone.

Imports the standard library only.  All sizes are integers in bytes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from heapq import nlargest

from dask_memdash.model.prefixes import PrefixState

#: Seconds between two looks, and looks that are kept: a little more than a minute.
EVERY = 3.0
LOOKS = 23

#: Prefixes of one look at most, the largest.
MOST = 100


class PrefixMinute:
    """What the largest prefixes had, look by look."""

    def __init__(self) -> None:
        #: (Unix time, prefix → bytes, whether smaller ones are left out), oldest first.
        self._looks: deque[tuple[float, dict[str, int], bool]] = deque(maxlen=LOOKS)

    def look(self, prefixes: Mapping[str, PrefixState], time: float) -> None:
        """Note what prefixes have, if it is time to."""
        if self._looks and 0 <= time - self._looks[-1][0] < EVERY:
            return
        found = {
            name: state.managed + state.executing
            for name, state in prefixes.items()
            if state.managed or state.executing
        }
        cut = len(found) > MOST
        if cut:
            found = dict(nlargest(MOST, found.items(), key=lambda item: item[1]))
        self._looks.append((time, found, cut))

    def of(self, name: str) -> tuple[list[float], list[int]]:
        """Return instants, and what a prefix had then; where that is not known, none.

        0 where it had nothing, while every prefix that had any was looked at.
        """
        times, sizes = [], []
        for time, found, cut in self._looks:
            size = found.get(name)
            if size is not None or not cut:
                times.append(time)
                sizes.append(size or 0)
        return times, sizes
