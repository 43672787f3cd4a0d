"""The probe on a nanny: samples its worker from outside, and reports its death.

Runs in the nanny's process (in a LocalCluster: the client's), set up by the shim
that the scheduler sends.  Sampling and the look for deaths happen on the sampler's
thread, never on the nanny's event loop, which may be stalled under memory pressure;
only sending needs the loop.  Must stay light to import.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any

from dask_memdash.boundary import boundary, guard_entry_points
from dask_memdash.config import Settings
from dask_memdash.flight.files import sweep
from dask_memdash.measure.sampler import sampler
from dask_memdash.measure.watch import Glance
from dask_memdash.plugins.nanny import identity
from dask_memdash.plugins.nanny.reporting import Reports
from dask_memdash.plugins.nanny.watching import Watched
from dask_memdash.plugins.protocol import PROTOCOL
from dask_memdash.self_cost import Backoff, CostMeter

if TYPE_CHECKING:
    from distributed.nanny import Nanny
    from distributed.process import AsyncProcess

__all__ = ["PROTOCOL", "NannyProbe", "Settings"]

#: A worker that has not written a reading for so long, in seconds, is spoken for.
SILENCE = 1.5

#: What tasks hold more or less, in bytes, that is not left to the next heartbeat, and
#: the least time between two such samples, in seconds.
MUCH = 2**25
HURRY = 0.2

#: How long a nanny that closes may wait for its last reports to be sent, in seconds.
FLUSH_TIME = 2.0

#: All probes of this process: in a LocalCluster there are many.
_probes: weakref.WeakSet[NannyProbe] = weakref.WeakSet()


@guard_entry_points
class NannyProbe:
    """All of MemDash on one nanny."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._up = False
        self._cost = CostMeter()
        self._backoff = Backoff(settings.budget, most=5)
        self._ticks = 0

    def setup(self, nanny: Nanny) -> None:
        """Attach to a nanny; one that is attached already hands over."""
        self._nanny = nanny
        self._watched: Watched | None = None
        self._reported: AsyncProcess | None = None
        self._reports = Reports(nanny)
        self._sending = False
        self._interval = SILENCE
        self._tick = boundary.guarded(
            self._cost.metered(self._look), "the nanny's sampler"
        )
        earlier = getattr(nanny, "_memdash_probe", None)
        if isinstance(earlier, NannyProbe):
            self._take_over(earlier)
        nanny._memdash_probe = self  # type: ignore[attr-defined]
        self._up = True
        _probes.add(self)
        sweep(self._settings.recorder_directory, _watched_pids())
        sampler.add(self._tick, self._settings.sample_interval)

    def teardown(self, nanny: Nanny) -> Awaitable[None] | None:
        """Detach from the nanny, leaving nothing behind.

        Returns
        -------
        awaitable or None
            To be awaited before the nanny is gone: sends the reports that are left.
        """
        if not self._up:
            return None
        self._detach()
        watched, self._watched = self._watched, None
        if watched is not None:
            self._say_last(watched, time.time())
            watched.close()
        if not self._reports:
            return None
        flush = boundary.guarded(self._reports.flush, "sending the last reports")
        last: Awaitable[None] = flush(FLUSH_TIME)
        return last

    def _detach(self) -> None:
        self._up = False
        _probes.discard(self)
        sampler.remove(self._tick)
        if getattr(self._nanny, "_memdash_probe", None) is self:
            del self._nanny._memdash_probe

    def _take_over(self, earlier: NannyProbe) -> None:
        if earlier._up:
            earlier._detach()
            self._watched, earlier._watched = earlier._watched, None
            self._reported = earlier._reported
            self._reports.take(earlier._reports)
            if self._reports:
                self._send_reports()

    def _say_last(self, watched: Watched, now: float) -> None:
        """Report a death that no tick has seen yet, or that nobody will come back."""
        if watched.died:
            watched.follow(self._nanny)
            self._report_death(watched, now)
        elif identity.is_closing(self._nanny) and identity.is_starting(self._nanny):
            # Its nanny closes before the worker is there: LocalCluster does so where a
            # worker stays away after a death, and nobody is in its place then.
            watched.asked = True
            self._reports.add(watched.death(self._nanny, now))

    # -- on the sampler's thread -----------------------------------------------

    def _look(self, now: float) -> None:
        watched = self._watched
        if watched is None:
            process = identity.process_of(self._nanny)
            if process is None or process is self._reported:
                return
            watched = Watched(process, self._settings.recorder_directory)
            self._watched = watched
        watched.follow(self._nanny)
        if watched.died:
            self._watched, self._reported = None, watched.process
            try:
                self._report_death(watched, now)
            finally:
                watched.close()
            return
        # Each level of holding back samples half as often.
        self._ticks += 1
        if self._ticks % (1 << self._hold_back(watched)):
            return
        glance = watched.watch.tick(now)
        if glance is None:
            return
        if glance.rss:  # else it has died, and a busy loop has not noticed yet
            watched.oom.look(time.monotonic())
        self._speak_for(watched, glance)

    def _hold_back(self, watched: Watched) -> int:
        """Return how far to hold back; leave what sampling costs in the recorder."""
        rate = self._cost.rate()
        level = self._backoff.judge(rate)
        if rate is not None:
            interval = self._settings.sample_interval * (1 << level)
            for recorder in watched.recorders:
                recorder.write_sampler(rate, interval)
        return level

    def _speak_for(self, watched: Watched, glance: Glance) -> None:
        """Send a sample when the worker is silent, or its tasks hold much more or less.

        It speaks for itself with every heartbeat: what its tasks held then is known.
        """
        if not watched.recorders or self._sending:
            return
        now = time.monotonic()
        reading = watched.recorders[0].reading()
        last = (reading or {}).get("time")
        held = sum(task.now for task in glance.tasks)
        if last != watched.heard:
            watched.heard, watched.told = last, held
        silent = last is None or glance.time - last > max(SILENCE, 1.5 * self._interval)
        if silent:
            due = now - watched.sent >= self._interval
        else:
            due = now - watched.sent >= max(HURRY, self._interval / 2)
            due = due and abs(held - watched.told) >= MUCH
        if not due:
            return
        watched.sent, watched.told = now, held
        self._sending = True
        message = {
            "kind": "sample",
            **watched.describe(self._nanny),
            "rss": glance.rss,
            "reading": watched.reading(glance.rss, glance.time, glance.tasks),
            "executing": watched.executing(glance.tasks, glance.time),
            "children": watched.children(),
            "notices": [*boundary.recent(), *filter(None, [watched.trouble])],
        }
        self._nanny.loop.add_callback(
            boundary.guarded(self._send_sample, "sending a sample"), message
        )

    def _report_death(self, watched: Watched, now: float) -> None:
        self._reports.add(watched.death(self._nanny, now))
        for recorder in watched.recorders:
            recorder.remove()
        self._send_reports()

    def _send_reports(self) -> None:
        self._nanny.loop.add_callback(
            boundary.guarded(self._reports.send, "reporting a death")
        )

    # -- on the nanny's event loop ---------------------------------------------

    async def _send_sample(self, message: dict[str, Any]) -> None:
        try:
            answer = await self._reports.tell(message)
            if answer is not None:
                self._interval = float(answer.get("interval", self._interval))
        finally:
            self._sending = False


def _watched_pids() -> set[int]:
    """Return the workers that are watched from this process."""
    watched = (probe._watched for probe in list(_probes))
    return {one.pid for one in watched if one is not None}
