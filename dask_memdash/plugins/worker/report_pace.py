"""How often a worker reports: with each heartbeat, but where there are very many.

The scheduler asks for rarer heartbeats the more workers there are, yet not for fewer in
all: from about 800 workers on, it gets nearly 200 a second.  There a report may wait
for the next heartbeat while the last one still holds, and much of what it may say is
said in some of them only: finished tasks, which are most of what a report costs, and
what changes slowly (limits not where the machine or the cgroup is about to run out).

What a nanny reads after a death is in the flight recorder, which hears of all at once.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distributed.worker import Worker

#: Seconds between two heartbeats from which on there are very many workers.
MANY_WORKERS = 5.0

#: Seconds after which a report is made in any case.
REPORT_EVERY = 9.0

#: Seconds, and intervals of heartbeats (the more of both), after which a report says
#: all: what has finished, limits, graph and actors too.
ALL_EVERY = 31.0
ALL_INTERVALS = 2.5

#: News is by how much the RSS has changed since the last report: this share of the
#: memory limit, or so many bytes without one.
NEWS_SHARE = 0.05
NEWS_BYTES = 2**26


class ReportPace:
    """Decides for one worker whether a report may wait.

    Parameters
    ----------
    worker
        Whose heartbeats are looked at.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._reported = self._told_all = -math.inf
        self._rss: int | None = None

    def many(self) -> bool:
        """Whether there are so many workers that anything may wait."""
        return self._interval() >= MANY_WORKERS

    def _interval(self) -> float:
        """Return the time between two heartbeats, in seconds; 0 if it is not known."""
        callbacks = getattr(self._worker, "periodic_callbacks", {})
        return float(getattr(callbacks.get("heartbeat"), "callback_time", 0)) / 1000

    def may_wait(self, rss: int | None) -> bool:
        """Whether the last report was a moment ago and still holds.

        Parameters
        ----------
        rss
            RSS now, in bytes; None where it cannot be read.
        """
        if time.monotonic() >= self._reported + REPORT_EVERY or not self.many():
            return False
        limit = self._worker.memory_manager.memory_limit
        news = NEWS_SHARE * limit if limit else NEWS_BYTES
        return rss is not None and self._rss is not None and abs(rss - self._rss) < news

    def reports(self, rss: int) -> None:
        """Take note that a report is made, with an RSS in bytes."""
        self._reported, self._rss = time.monotonic(), rss

    def rest_may_wait(self) -> bool:
        """Whether a moment ago all was told that is not in every report."""
        wait = max(ALL_EVERY, ALL_INTERVALS * self._interval())
        return time.monotonic() < self._told_all + wait and self.many()

    def tells_all(self) -> None:
        """Take note that a report says all that there is to say."""
        self._told_all = time.monotonic()
