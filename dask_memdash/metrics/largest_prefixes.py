"""The prefixes that have series of their own: the largest, and those that lately were.

A computation's prefixes grow and go within seconds, and Prometheus keeps every series
that it has ever seen.  So a place is lost only to a prefix that is clearly larger than
the smallest of those shown was of late.

Imports the standard library only.
"""

from __future__ import annotations

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

    def update(
        self,
        now: float,
        largest: Iterable[tuple[int, str]],
        weight: Callable[[str], int | None],
    ) -> list[str]:
        """Return the prefixes to show, in the order that they came.

        Parameters
        ----------
        now
            Unix time in seconds.
        largest
            Weight in bytes and name of the largest prefixes now, largest first: as many
            as are shown.
        weight
            Says what a prefix weighs, in bytes; None of one that is forgotten.
        """
        past = 0.0 if self._then is None else max(0.0, now - self._then)
        self._then = now
        fading = 0.5 ** (past / HALF_LIFE)
        scores = {}
        for name, score in self._scores.items():
            size = weight(name)
            if size is not None:
                scores[name] = max(size, score * fading)
        for size, name in largest:
            if size <= 0 or name in scores:
                continue
            if len(scores) >= self._shown:
                weakest = min(scores, key=scores.__getitem__)
                if size <= MARGIN * scores[weakest]:
                    break
                del scores[weakest]
            scores[name] = float(size)
        self._scores = scores
        return list(scores)
