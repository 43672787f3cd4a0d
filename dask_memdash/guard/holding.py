"""What a guard holds, and what it has done so far.

Belongs to the worker's event loop.  Sizes are integers in bytes, times are seconds on a
clock that only goes forward.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dask_memdash.guard.decision import DRAINS, PROGRESS, Decision

#: Prefixes that are told of, those with most tasks waiting.
TOLD = 10


@dataclass(slots=True)
class Held:
    """A task that is ready and waits for memory."""

    prefix: str
    since: float
    need: int
    reason: str
    #: How often it was passed, and what those needed together, in bytes.
    passes: int = 0
    passed_by: int = 0


class Holding:
    """The tasks that a guard holds, and counts of all that it did."""

    def __init__(self) -> None:
        self._held: dict[Any, Held] = {}
        #: Tasks that were held, and how long they waited together.
        self.count = 0
        self.seconds = 0.0
        #: Tasks that were started since nothing got on, that ran on while the worker
        #: was paused, and that passed a held one.
        self.opened = self.drained = self.passes_made = 0
        #: Decisions that failed, so that Dask's own was taken.
        self.failed = 0

    @property
    def oldest(self) -> Any | None:
        """The key that has been held longest; None where none is."""
        return next(iter(self._held), None)

    def hold(self, key: Any, prefix: str, decision: Decision, now: float) -> bool:
        """Take note that a task waits, since when and for what; say if that is news."""
        held = self._held.get(key)
        if held is None:
            self._held[key] = Held(prefix, now, decision.need, decision.reason)
            self.count += 1
            return True
        held.need, held.reason = decision.need, decision.reason
        return False

    def start(self, key: Any, reason: str, now: float) -> float | None:
        """Take note that a task starts; return for how long it was held, if it was."""
        held = self._held.pop(key, None)
        self.opened += reason == PROGRESS
        self.drained += reason == DRAINS
        if held is None:
            return None
        self.seconds += now - held.since
        return now - held.since

    def passed(self, key: Any, need: int) -> None:
        """Take note that another task, which needs so much, went before this one."""
        self.passes_made += 1
        if key in self._held:
            self._held[key].passes += 1
            self._held[key].passed_by += need

    def may_be_passed(self, *, times: int, size: int) -> bool:
        """Whether what is held longest was passed less often, and by less, than that.

        What went before it may leave its output behind.
        """
        held = next(iter(self._held.values()), None)
        return held is None or (held.passes < times and held.passed_by < size)

    def keep(self, is_ready: Callable[[Any], bool], now: float, *, dry: bool) -> None:
        """Let go of what waits no more: it was stolen, cancelled or released.

        Where nothing is really held (`dry`), that says nothing of how long it waited.
        """
        for key in [key for key in self._held if not is_ready(key)]:
            held = self._held.pop(key)
            if not dry:
                self.seconds += now - held.since

    def figures(self, now: float, mode: str, *, fetch_limited: bool) -> dict[str, Any]:
        """Return all of it, to be sent."""
        waiting: dict[str, list[float]] = {}
        for held in self._held.values():
            row = waiting.setdefault(held.prefix, [0, 0.0, 0])
            row[0] += 1
            row[1] = max(row[1], now - held.since)
            row[2] = max(row[2], held.need)
        most = sorted(waiting.items(), key=lambda item: -item[1][1])[:TOLD]
        since = sum(now - held.since for held in self._held.values())
        return {
            "mode": mode,
            "held": self.count,
            "seconds": self.seconds + (0.0 if mode == "dry-run" else since),
            "opened": self.opened,
            "drained": self.drained,
            "passed": self.passes_made,
            "failed": self.failed,
            "fetch_limited": fetch_limited,
            "waiting": {
                prefix: {"tasks": int(row[0]), "seconds": row[1], "need": int(row[2])}
                for prefix, row in most
            },
        }
