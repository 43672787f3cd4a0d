"""What comes with workers' heartbeats: taken in at once, or when somebody looks.

From about 800 workers on, a scheduler hears of 170 to 200 of them a second, and most of
what they say is never looked at: a moment later the same worker says it anew.  So while
nobody looks at the memory of workers, a report may wait, packed as it came, until the
next one of its worker takes its place.  What may not wait is taken in as ever: what
tells more than how a worker is, what the next one builds on, what brings news of its
RSS, what would grow too old, and all of a worker of which anything else is told.

Whoever looks gets what waits, the largest changes first; what that would take too long
for follows within seconds.

Runs on the scheduler's event loop.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from distributed.scheduler import heartbeat_interval

from dask_memdash.boundary import boundary
from dask_memdash.model.cluster import ClusterModel
from dask_memdash.model.events import (
    ClusterStuck,
    DeathReported,
    Event,
    Noticed,
    StorageHeld,
    WorkerReported,
)
from dask_memdash.model.packed_report import Glimpse, glimpse
from dask_memdash.plugins.scheduler.inbound import Inbound
from dask_memdash.plugins.worker.report_pace import MANY_WORKERS

if TYPE_CHECKING:
    from distributed.scheduler import WorkerState

#: Seconds that reports do not wait after somebody has looked.
LOOKED_FOR = 10.0

#: Seconds, and intervals of heartbeats, after which a worker's report is taken in; the
#: more of both.
OLDEST = 40.0
OLDEST_INTERVALS = 3.0

#: News is an RSS that differs from the last one taken in by this share of the limit,
#: or, without one, by so many bytes; and any that is at so much of the limit.
NEWS_SHARE = 0.1
NEWS_BYTES = 2**27
FULL = 0.8

#: Seconds that it may take at once to take in what waits, as somebody looks, and
#: at a tick; and reports whose age is looked at then.
AT_A_LOOK = 0.05
AT_A_TICK = 0.01
AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A report that waits."""

    worker: WorkerState
    data: Mapping[str, Any]
    #: When it came, as Unix time.
    time: float
    #: By how much its RSS differs from the last one taken in, in bytes.
    change: int
    #: Whether it says what the worker stores, which the next need not say again.
    stores: bool
    #: Where it does not: the one before it that does, if that waits too.
    base: _Waiting | None

    def newest_that_stores(self) -> _Waiting | None:
        """Return the newest one up to this that says what the worker stores."""
        return self if self.stores else self.base


class Reports:
    """Takes heartbeats in for one scheduler.

    Parameters
    ----------
    inbound
        The border, which checks them.
    model
        What is known of the workers.
    handle
        Takes in an event.
    eager
        Whether every report has to be taken in as it comes: a record is written, or
        the guard learns from them.
    clock, monotonic
        Unix time, and a clock that is never set back; in seconds.
    """

    def __init__(
        self,
        inbound: Inbound,
        model: ClusterModel,
        handle: Callable[[Event], None],
        eager: Callable[[], bool],
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._inbound = inbound
        self._workers = model.processes.workers
        self._notices = model.notices
        self._handle = handle
        self._eager = eager
        self._clock = clock
        self._monotonic = monotonic
        self._awake_until = self._monotonic() + LOOKED_FOR
        self._take_late = boundary.guarded(self._take, "taking in a report that waited")
        #: Address → its report that waits.
        self.waiting: dict[str, _Waiting] = {}

    def heartbeat(self, worker: WorkerState, data: Any) -> None:
        """Take in what came with a worker's heartbeat, or keep it for later."""
        if not self._inbound.admits(worker, data):
            return
        now, address = self._clock(), worker.address
        some_may_wait = self._may_any_wait()
        if not some_may_wait and not self.waiting:
            self._take(worker, data, now)
            return
        seen = glimpse(data)
        if seen is None:
            self._take(worker, data, now)
            return
        before = self.waiting.pop(address, None)
        base = None if seen.stores or before is None else before.newest_that_stores()
        change = self._change(address, seen, now) if some_may_wait else None
        if change is not None:
            waits = _Waiting(worker, data, now, change, seen.stores, base)
            self.waiting[address] = waits
            return
        if base is not None:
            self._take_late(base.worker, base.data, base.time)
        self._take(worker, data, now)

    def before(self, event: Event) -> None:
        """Take in what waits of the workers that an event tells of, to be called first.

        A death may come without its worker's address.  Why outputs are held, which all
        workers are looked through for every few seconds, is apart from what they say.
        """
        if isinstance(event, StorageHeld):
            return
        if isinstance(event, ClusterStuck):
            addresses = event.paused
        elif isinstance(event, Noticed):
            addresses = (event.where.removeprefix("worker "),)
        else:
            addresses = (getattr(event, "address", ""),)
        if isinstance(event, DeathReported):
            waiting = self.waiting.items()
            same = [a for a, one in waiting if one.data.get("pid") == event.pid]
            addresses = (*addresses, *same)
        for address in addresses:
            self.settle(address)

    def settle(self, address: str) -> None:
        """Take in what waits of a worker."""
        one = self.waiting.pop(address, None)
        if one is None:
            return
        if one.base is not None:
            self._take_late(one.base.worker, one.base.data, one.base.time)
        self._take_late(one.worker, one.data, one.time)

    def looked(self, address: str | None = None) -> None:
        """Take in what waits, as somebody looks; what comes next does not wait.

        Only as a first question does that: those that follow it, as the others of a
        page do, have to agree with it.

        Parameters
        ----------
        address
            The worker that is looked at, which comes first; None for all.
        """
        now = self._monotonic()
        first, self._awake_until = now >= self._awake_until, now + LOOKED_FOR
        if first and self.waiting:
            if address is not None:
                self.settle(address)
            self._take_in(AT_A_LOOK)

    def step(self) -> None:
        """Take in what somebody has asked for, and what grows old; once a tick."""
        if not self.waiting:
            return
        if not self._may_any_wait():
            self._take_in(AT_A_TICK)
            return
        now, wait = self._clock(), self._wait()
        until = self._monotonic() + AT_A_TICK
        for one in list(islice(self.waiting.values(), AT_ONCE)):
            if 0 <= now - one.time < wait or self._monotonic() >= until:
                break
            self.settle(one.worker.address)

    def forget(self) -> None:
        """Drop all that waits."""
        self.waiting.clear()

    def _take_in(self, seconds: float) -> None:
        """Take in what waits, the largest change first, for so many seconds."""
        until = self._monotonic() + seconds
        for one in sorted(self.waiting.values(), key=lambda w: w.change, reverse=True):
            self.settle(one.worker.address)
            if self._monotonic() >= until:
                break

    def _take(self, worker: WorkerState, data: Mapping[str, Any], now: float) -> None:
        event = self._inbound.heartbeat(worker, data, now)
        if event is None:
            return
        self._handle(event)
        where = f"worker {worker.address}"
        if isinstance(event, WorkerReported) and where in self._notices:
            self._handle(Noticed(now, where, ()))

    def _may_any_wait(self) -> bool:
        many = heartbeat_interval(len(self._workers)) >= MANY_WORKERS
        return many and self._monotonic() >= self._awake_until and not self._eager()

    def _wait(self) -> float:
        """Return for how long a report may wait, in seconds."""
        return max(OLDEST, OLDEST_INTERVALS * heartbeat_interval(len(self._workers)))

    def _change(self, address: str, seen: Glimpse, now: float) -> int | None:
        """Return by how much a worker's RSS has changed; None where it may not wait."""
        known = self._workers.get(address)
        if known is None or known.reading is None or known.info.pid != seen.pid:
            return None
        # Below 0 where the clock was set back.
        if seen.tells_more or not 0 <= now - known.last_seen < self._wait():
            return None
        if seen.notices != known.notices:
            return None
        limit, change = known.info.limit, abs(seen.rss - known.reading.rss)
        if not limit:
            return change if change < NEWS_BYTES else None
        news = change >= NEWS_SHARE * limit or seen.rss >= FULL * limit
        return None if news else change
