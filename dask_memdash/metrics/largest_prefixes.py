"""The prefixes that have series of their own: the largest, and those that lately were.

A computation's prefixes grow and go within seconds, and Prometheus keeps every series
that it has ever seen.  So a place is lost only to a prefix that is clearly larger than
the smallest of those shown was of late.

Imports the standard library only.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable

#: Prefixes that are shown at most.
SHOWN = 20

#: So many times what another was of late takes its place.
MARGIN = 1.25

#: Seconds after which what a prefix was counts for half.
HALF_LIFE = 120.0


class LargestPrefixes:
    """Remembers which prefixes are shown.

    Parameters
    ----------
    shown
        How many at most.
    """

    def __init__(self, shown: int = SHOWN) -> None:
        self._shown = shown
        # Name → what it weighs now or, as it fades, weighed lately: in bytes.
        self._scores: dict[str, float] = {}
        self._then: float | None = None

    def fade(self, now: float, weight: Callable[[str], int | None]) -> None:
        """Bring what is shown up to date.

        Parameters
        ----------
        now
            Unix time in seconds.
        weight
            Says what a prefix weighs now, in bytes; None of one that is forgotten.
        """
        past = 0.0 if self._then is None else max(0.0, now - self._then)
        self._then = now
        fading = 0.5 ** (past / HALF_LIFE)
        scores = {}
        for name, score in self._scores.items():
            size = weight(name)
            if size is not None:
                scores[name] = max(size, score * fading)
        self._scores = scores

    @property
    def least(self) -> float:
        """What another prefix has to weigh more than to be shown, in bytes."""
        if len(self._scores) < self._shown:
            return 0.0
        return MARGIN * min(self._scores.values())

    def admit(self, larger: Iterable[tuple[int, str]]) -> list[str]:
        """Let prefixes in that weigh more than the least; return all that are shown.

        Parameters
        ----------
        larger
            Weight in bytes and name; those that are shown may be among them.

        Returns
        -------
        list of str
            In the order that they came.
        """
        scores = self._scores
        for size, name in heapq.nlargest(self._shown, larger):
            if name in scores:
                continue
            if size <= self.least:
                break
            if len(scores) >= self._shown:
                del scores[min(scores, key=scores.__getitem__)]
            scores[name] = float(size)
        return list(scores)
