"""What the scheduler knows of each key that is to be stored; pure book-keeping."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from dask_memdash.intermediates.lineage import Lineage

#: States of a key: not yet asked for, asked of a worker, stored, failed for now,
#: never stored.
WANTED, ASKED, KEPT, FAILED, NEVER = "wanted", "asked", "stored", "failed", "never"

#: What of these is said of a key in memory.
SHOWN_AS = {
    WANTED: "pending",
    ASKED: "pending",
    KEPT: "stored",
    FAILED: "pending",
    NEVER: None,
}

#: Seconds until a failed write is asked for again; doubles, up to the most.
AGAIN_AFTER = 5.0
AGAIN_MOST = 120.0


@dataclass(slots=True)
class Followed:
    """One key."""

    object_id: str
    lineage: Lineage
    state: str = WANTED
    #: Which worker was asked.
    worker: str | None = None
    #: In bytes, as it lies in the store; 0 where another session stored it.
    size: int = 0
    failures: int = 0
    #: Monotonic time from which a failed write may be asked for again.
    again_at: float = 0.0
    error: str | None = None
    #: Shape and type, where the value is an array.
    facts: dict[str, Any] = field(default_factory=dict)


class Ledger:
    """All keys that a shared storage follows."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.keys: dict[Any, Followed] = {}
        #: Address → keys that were asked of it and are not answered.
        self.asked: dict[str, set[Any]] = {}
        #: The newest error of a write, or None.
        self.error: str | None = None

    def follow(self, key: Any, one: Followed) -> None:
        """Follow a key from now on."""
        self.keys[key] = one

    def forget(self, key: Any) -> None:
        """Follow a key no longer."""
        one = self.keys.pop(key, None)
        if one is not None:
            self._answered(key, one)

    def ask(self, key: Any, worker: str) -> None:
        """Note that a worker was asked to store a key."""
        one = self.keys[key]
        one.state, one.worker = ASKED, worker
        self.asked.setdefault(worker, set()).add(key)

    def stored(self, key: Any, size: int, facts: dict[str, Any]) -> None:
        """Note that a key is stored."""
        one = self.keys[key]
        self._answered(key, one)
        one.state, one.facts, one.error = KEPT, facts, None
        one.size = size or one.size

    def failed(self, key: Any, error: str | None, again: bool) -> None:
        """Note that a key was not stored, and whether trying again may help."""
        one = self.keys[key]
        self._answered(key, one)
        if error is None:
            one.state = WANTED
            return
        one.error = error
        if not again:
            one.state = NEVER
            return
        self.error = error
        one.state = FAILED
        wait = min(AGAIN_AFTER * 2.0**one.failures, AGAIN_MOST)
        one.failures += 1
        one.again_at = self._clock() + wait

    def lost(self, key: Any) -> None:
        """Note that a key's value, or its object, is gone: it is wanted again."""
        one = self.keys[key]
        self._answered(key, one)
        if one.state != NEVER:
            one.state = WANTED

    def left(self, worker: str) -> list[Any]:
        """Take note that a worker has gone; return what it was still asked for."""
        keys = list(self.asked.pop(worker, ()))
        for key in keys:
            one = self.keys[key]
            one.state, one.worker = WANTED, None
        return keys

    def wanted(self) -> Iterator[Any]:
        """Yield the keys that are to be asked for, or asked for again, now."""
        now = self._clock()
        for key, one in list(self.keys.items()):
            if one.state == WANTED or (one.state == FAILED and one.again_at <= now):
                yield key

    def counts(self) -> dict[str, int]:
        """Return how many keys are in each state."""
        counts = Counter(one.state for one in self.keys.values())
        return {name: counts[name] for name in (WANTED, ASKED, KEPT, FAILED, NEVER)}

    def _answered(self, key: Any, one: Followed) -> None:
        if one.worker is not None and one.worker in self.asked:
            self.asked[one.worker].discard(key)
        one.worker = None
