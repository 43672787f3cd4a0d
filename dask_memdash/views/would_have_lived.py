"""With what the run of the failure that is open would have lived, in sentences.

Gathering the evidence costs some 40 ms with 200 workers, so that it is done once for a
failure that is over, and while one goes on every ten seconds at most.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from dask_memdash.boundary import boundary
from dask_memdash.counterfactual.alternatives import Alternatives, alternatives
from dask_memdash.counterfactual.evidence import LIVE_POINTS
from dask_memdash.errors import MemDashError
from dask_memdash.store.base import Store

#: Seconds until it is worked out again for a failure that goes on.
AGAIN = 10.0

NOTHING = Alternatives("")


def _of(store: Store, failure: str) -> Alternatives:
    try:
        return alternatives(store, failure, LIVE_POINTS)
    except MemDashError:  # a report has not all that it takes
        return NOTHING


_guarded: Callable[[Store, str], Alternatives] = boundary.guarded(
    _of, "judging what would have lived", NOTHING
)


class WouldHaveLived:
    """What is said of one failure at a time.

    Parameters
    ----------
    store
        That knows the failure.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._mark: tuple[Any, ...] | None = None
        self._due = 0.0
        self._lines: list[str] = []

    def lines(self, failure: dict[str, Any] | None) -> list[str]:
        """Return sentences about a failure; none where there is no question."""
        if failure is None:
            return []
        over = failure["closed"] is not None
        mark = (failure["id"], *failure["incidents"], failure["settled"], over)
        now = time.monotonic()
        if mark != self._mark or (now >= self._due and not over):
            self._mark, self._due = mark, now + AGAIN
            self._lines = _guarded(self._store, failure["id"]).lines
        return self._lines
