"""One reading of a store for all open pages.

A store works each answer out when it is asked, and on a busy cluster the version moves
many times a second.  Ten open pages ask the same questions, each at its own moment.
:class:`SharedStore` stands between them and the store: it lets the version that pages
see move on only so often, and asks each question once for each version.  The more all
pages together take of the loop to show one, the longer they keep it: fifty pages cost
the scheduler what one does, and are brought up to date more seldom.

Not thread-safe: all pages live on one event loop.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any, Concatenate, ParamSpec, TypeVar

from dask_memdash.store.base import Store

P = ParamSpec("P")
T = TypeVar("T")


def _shared(
    question: Callable[Concatenate[Store, P], T],
) -> Callable[Concatenate[SharedStore, P], T]:
    """Make a method of the store's that is asked once for each version."""
    name = question.__name__

    def ask(self: SharedStore, /, *args: P.args, **kwargs: P.kwargs) -> T:
        asked = (name, args, tuple(kwargs.items()))
        method: Callable[P, T] = getattr(self.store, name)
        return self.remember(asked, lambda: method(*args, **kwargs))

    ask.__name__, ask.__doc__ = name, question.__doc__
    return ask


#: Seconds after which pages see a new version, whatever it takes to draw one: merely to
#: look may take all of their share where there are many.
LONGEST = 15.0


class SharedStore:
    """A :class:`~dask_memdash.store.base.Store` whose answers all open pages share.

    Parameters
    ----------
    store
        Where the answers come from.
    interval
        Least time between two versions that pages see, in seconds.
    share
        Most of the loop's time that all open pages together may take: where it would be
        more, a version stays longer, up to `LONGEST` seconds.
    """

    cluster = _shared(Store.cluster)
    workers = _shared(Store.workers)
    departed = _shared(Store.departed)
    task_history = _shared(Store.task_history)
    prefixes = _shared(Store.prefixes)
    prefix = _shared(Store.prefix)
    prefix_totals = _shared(Store.prefix_totals)
    prefix_minute = _shared(Store.prefix_minute)
    incidents = _shared(Store.incidents)
    incident = _shared(Store.incident)
    failures = _shared(Store.failures)
    failure = _shared(Store.failure)
    order = _shared(Store.order)
    graph = _shared(Store.graph)
    order_point = _shared(Store.order_point)
    limits = _shared(Store.limits)
    history = _shared(Store.history)
    strips = _shared(Store.strips)
    then = _shared(Store.then)

    def __init__(self, store: Store, interval: float = 0.0, share: float = 1.0) -> None:
        self.store = store
        self._interval, self._share = interval, share
        self._version: int | None = None
        self._moved = 0.0
        # What pages have taken of the loop since, in seconds.
        self._drawn = 0.0
        self._answers: dict[Hashable, Any] = {}

    @property
    def version(self) -> int:
        """Version of the store behind, as all pages see it."""
        now = time.monotonic()
        rest = max(self._interval, min(LONGEST, self._drawn / self._share))
        if self._version is None or now >= self._moved + rest:
            version = self.store.version
            if version != self._version:
                self._answers.clear()
                self._version = version
                self._moved, self._drawn = now, 0.0
        return self._version

    @contextmanager
    def drawing(self) -> Iterator[None]:
        """Take in that a page brings itself up to date, and how long that takes."""
        begin = time.thread_time()
        try:
            yield
        finally:
            self._drawn += time.thread_time() - begin

    def remember(self, question: Hashable, answer: Callable[[], T]) -> T:
        """Work something out once for each version; views keep what they derive here.

        Parameters
        ----------
        question
            Says what it is; a store's own questions are tuples.
        answer
            Works it out from the store alone; nobody may change what it returns.
        """
        _ = self.version  # forgets the answers when it moves on
        if question not in self._answers:
            self._answers[question] = answer()
        known: T = self._answers[question]
        return known
