"""What tasks that run together have beside what is counted of them.

Of a task that runs alone a close look tells (``isolated``).  Of several, what the
process holds in execution less what is counted is observed time and again, and shared
out over their prefixes by a regression (``regression``).  Where nothing counts, all
that is in execution is shared out in the same way.
"""

from __future__ import annotations

import time

from dask_memdash.measure.finished import FinishedTask
from dask_memdash.measure.isolated import part_of
from dask_memdash.measure.regression import PrefixRegression, Share
from dask_memdash.measure.running_task import RunningTask
from dask_memdash.measure.shared_process import SharedProcess
from dask_memdash.measure.tally import current

#: Least time between two observations, in seconds.
OBSERVED_EVERY = 0.005

#: For how long what was observed need not be asked again, in seconds.
JUST_NOW = 0.001

#: Time spent on observations is at most one part in so many; on solving likewise.
SHARE_OF_TIME = 200


class Uncounted:
    """Observes tasks that run together, and says what each prefix has of it.

    Parameters
    ----------
    process
        The process that they run in.
    shares
        What tasks of each prefix have, as far as known; learns from what is observed.
    counted
        Whether a tally counts what tasks allocate.
    """

    def __init__(
        self, process: SharedProcess, shares: PrefixRegression, *, counted: bool
    ) -> None:
        self._process = process
        self._shares = shares
        self._counted = counted
        self._observe_from = self._solve_from = 0.0
        self._last_reusable = self._last_room = 0
        # What each of the tasks seen together last had beside its count, if all had
        # the same, in bytes.
        self._each = 0
        # What all tasks held when it was last asked what nothing explains, in bytes.
        self._held = -1
        # When it was observed last, what the process had beyond all counts, and what
        # tasks held, in bytes.
        self._seen: tuple[float, int | None, int] = (0.0, None, 0)

    def observe(self, rss: int, running: list[RunningTask]) -> None:
        """Note what several tasks have together; called often, looks now and then.

        Parameters
        ----------
        rss
            RSS of the process now, in bytes.
        running
            All measured tasks that run in it now.
        """
        now = time.monotonic()
        if now < self._observe_from:
            return
        process = self._process
        uncounted = process.in_execution(rss)
        if uncounted is not None:
            if self._counted:
                held = process.held_by_tasks()
                uncounted -= held + process.left_since_idle()
                self._seen = now, uncounted, held
                # Less than was counted: pages that are about to be touched.  More, as
                # far as allocators keep what tasks have freed since: nobody's.
                uncounted -= process.kept_unseen()
                uncounted = max(0, uncounted, process.arrow_growth())
            self._shares.observe(uncounted, [task.prefix for task in running])
            self._each = abs(uncounted) // max(1, len(running))
        took = time.monotonic() - now  # a heap in pieces is slow to ask
        self._observe_from = now + max(OBSERVED_EVERY, SHARE_OF_TIME * took)

    def solve(self) -> None:
        """Work the shares of all prefixes out again, unless that was just now."""
        now = time.monotonic()
        if now >= self._solve_from:
            self._shares.solve()
            self._solve_from = now + SHARE_OF_TIME * (time.monotonic() - now)

    def unexplained(self, rss: int, running: list[RunningTask]) -> int:
        """Return by how much the process differs now from what explains it, in bytes.

        Any of the tasks that run may have it, or lack it: it is the error of each.
        What their prefixes are known to have beside their counts explains what is more.

        Parameters
        ----------
        rss
            RSS of the process now, in bytes.
        running
            All measured tasks that run in it now.
        """
        if not self._counted or not running:
            return 0
        process = self._process
        seen, gap, held = self._seen
        if time.monotonic() > seen + JUST_NOW:
            beyond, held = process.in_execution(rss), process.held_by_tasks()
            gap = None if beyond is None else beyond - held - process.left_since_idle()
        if gap is not None:
            still, self._held = held == self._held, held
            if gap > 0:  # beyond what allocators keep of what was freed since
                gap -= self._expected(running) + process.kept_unseen()
                return max(0, gap)
            # Less than was counted: pages that are about to be touched, but where the
            # counts have stood still since the last look.
            return -gap if still else 0
        return abs(rss - running[0].rss - held) if len(running) == 1 else 0

    def _expected(self, running: list[RunningTask]) -> int:
        """Return what tasks that run together are known to have beside their counts."""
        if len(running) < 2:
            return 0
        shares = [self._shares.of(task.prefix) for task in running]
        return sum(max(0, share.bytes) for share in shares if share is not None)

    def error_of(self, task: RunningTask) -> int:
        """Return by how much the count of a running task may be wrong, in bytes."""
        if task.alone or not self._counted:
            return 0
        share = self._shares.of(task.prefix)
        return 0 if share is None else abs(share.bytes) + share.error

    def added_to(self, done: list[FinishedTask]) -> list[FinishedTask]:
        """Add their shares to tasks that have finished since the last call."""
        # What is free only now was not there for these tasks.
        now = self._process.reusable()
        reusable, self._last_reusable = min(self._last_reusable, now), now
        now = self._process.arena_room()
        room, self._last_room = min(self._last_room, now, reusable), now
        if not self._counted:
            return done
        unknown, part = Share(0, self._each), part_of(current())
        return [
            task
            if task.alone
            else task.with_share(
                self._shares.of(task.prefix) or unknown,
                reusable - room if task.by_objects else reusable,
                part,
            )
            for task in done
        ]
