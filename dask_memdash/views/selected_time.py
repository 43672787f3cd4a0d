"""The moment that a page shows: now, an earlier instant, or the most of a span.

Every open page has its own; the browser tells it, by a click or a drag on a chart over
time, the keyboard, the address or a record's slider.  Tables and bars are drawn from
:class:`SelectedStore`, charts over time from the store of now, so that the moment is
marked on what lies around it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from dask_memdash.store.base import Store
from dask_memdash.views.shared import SharedStore

T = TypeVar("T")

#: Begin and end in Unix time, the same for an instant; None for now.
Moment = tuple[float, float] | None


class SelectedStore(SharedStore):
    """A store that tells of the chosen moment.

    While none is chosen, all is as the store of now has it, and shared with its other
    pages.

    Parameters
    ----------
    now
        The store of now, which all pages share.
    """

    def __init__(self, now: SharedStore) -> None:
        super().__init__(now)
        self.now = now
        self.at: Moment = None

    def choose(self, at: Moment) -> None:
        """Tell of another moment from now on."""
        if at != self.at:
            self.at = at
            self.store = self.now if at is None else self.now.store.then(*at)
            self._answers.clear()

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences that say what is not known of the chosen moment."""
        return tuple(getattr(self.store, "notes", ()))

    @property
    def version(self) -> int:
        """Version of the store of now; an earlier moment does not change."""
        return self.now.version if self.at is None else 0

    def remember(self, question: Hashable, answer: Callable[[], T]) -> T:
        """Work something out once: for each version, or for the chosen moment."""
        if self.at is None:
            return self.now.remember(question, answer)
        if question not in self._answers:
            self._answers[question] = answer()
        known: T = self._answers[question]
        return known


def over_time(store: Store) -> Any:
    """Return the store of now behind one that may tell of an earlier moment."""
    return store.now if isinstance(store, SelectedStore) else store
