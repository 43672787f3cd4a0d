"""What a record lacks and why, in sentences of its manifest.  Pure."""

from __future__ import annotations

from dask_memdash.text import count, format_instant

#: Sentences that are kept, beside those on the limit of the size.
KEPT = 50


class LeftOut:
    """What is missing of one run.

    Parameters
    ----------
    now
        Unix time.
    """

    def __init__(self, now: float) -> None:
        self._said: list[str] = []
        self._by_limit: dict[str, str] = {}
        self._looked = now
        self._lost = self._before = 0
        self._began: float | None = None

    def texts(self) -> list[str]:
        """Return all sentences, those on what lasts as it stands."""
        return [*self._said, *self._by_limit.values(), *self._losing()]

    def say(self, text: str) -> None:
        """Add a sentence."""
        self._said = [*self._said[1 - KEPT :], text]

    def limit_took(self, sentences: dict[str, str]) -> None:
        """Say what the limit of the size has taken, by kind of segment."""
        self._by_limit |= sentences

    def look(self, lost: int, now: float) -> None:
        """Look how many rows were lost by now, each time on end is one sentence."""
        if lost > self._lost:
            if self._began is None:
                self._began, self._before = self._looked, self._lost
        elif self._began is not None:
            for text in self._losing():
                self.say(text)
            self._began = None
        self._lost, self._looked = lost, now

    def _losing(self) -> list[str]:
        if self._began is None:
            return []
        lost = count(self._lost - self._before, "row")
        return [
            f"from {format_instant(self._began)} to {format_instant(self._looked)} "
            f"{lost} got lost: the disk was too slow or full"
        ]
