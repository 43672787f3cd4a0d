"""The probe on a nanny: samples its worker from outside, and reports its death.

Runs in the nanny's process (in a LocalCluster: the client's), set up by the shim
that the scheduler sends.  Sampling and the look for deaths happen on the sampler's
thread, never on the nanny's event loop, which may be stalled under memory pressure;
only sending needs the loop.  Must stay light to import.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dask_memdash.boundary import boundary, guard_entry_points
from dask_memdash.config import Settings
from dask_memdash.flight import format as layout
from dask_memdash.measure.methods import ESTIMATED, EXACT, UNMEASURED
from dask_memdash.measure.sampler import sampler
from dask_memdash.measure.watch import Glance, RecorderSearch, WorkerWatch
from dask_memdash.model.event_parts import Executing
from dask_memdash.model.event_readers import to_dict
from dask_memdash.plugins.keys import prefix_of
from dask_memdash.plugins.protocol import PROTOCOL, REPORT_OPERATION
from dask_memdash.self_cost import Backoff, CostMeter
from dask_memdash.system.oom_kills import OomWatch

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

#: Reports kept while the scheduler cannot be reached, and for how long, in seconds.
MAX_REPORTS = 20
REPORT_LIFETIME = 300.0

#: RSS samples in a death report at most.
MAX_TIMELINE = 240

#: RSS samples before a death of which the largest is the one that it died of.
LAST_SAMPLES = 5

#: Exit status by which the host says that it does not know the exit status.
UNKNOWN_STATUS = 255


@dataclass(slots=True)
class _Watched:
    """A worker process from its start to its end."""

    process: AsyncProcess
    pid: int
    watch: WorkerWatch
    search: RecorderSearch
    #: Looks at the nanny's cgroup, which is the worker's too; a dead worker's own
    #: cannot be looked up any more.
    oom: OomWatch
    address: str = ""
    #: Whether somebody had asked it to end before it did.
    asked: bool = False
    #: Monotonic time of the last sample sent, in seconds.
    sent: float = field(default_factory=time.monotonic)
    #: When the worker itself last spoke, and what the scheduler has been told since
    #: then that its tasks hold, in bytes.
    heard: float | None = None
    told: int = 0


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
        self._watched: _Watched | None = None
        self._reports: deque[tuple[float, dict[str, Any]]] = deque(maxlen=MAX_REPORTS)
        self._sending = self._reporting = False
        self._interval = SILENCE
        self._tick = boundary.guarded(
            self._cost.metered(self._look), "the nanny's sampler"
        )
        earlier = getattr(nanny, "_memdash_probe", None)
        if isinstance(earlier, NannyProbe):
            earlier.teardown(nanny)
        nanny._memdash_probe = self  # type: ignore[attr-defined]
        self._up = True
        sampler.add(self._tick, self._settings.sample_interval)

    def teardown(self, nanny: Nanny) -> None:
        """Detach from the nanny, leaving nothing behind."""
        if not self._up:
            return
        self._up = False
        sampler.remove(self._tick)
        if getattr(nanny, "_memdash_probe", None) is self:
            del nanny._memdash_probe  # type: ignore[attr-defined]
        watched, self._watched = self._watched, None
        if watched is not None:
            watched.watch.close()

    # -- on the sampler's thread -----------------------------------------------

    def _look(self, now: float) -> None:
        watched = self._watched
        if watched is not None:
            self._follow(watched)
            if watched.process.exitcode is not None:
                self._watched = None
                self._report_death(watched, now)
                watched = None
        worker_process = self._nanny.process
        process = worker_process.process if worker_process is not None else None
        if watched is None:
            alive = process is not None and process.exitcode is None
            if process is not None and alive and process.pid is not None:
                self._watched = self._start(process, process.pid)
            return
        # Each level of holding back samples half as often.
        self._ticks += 1
        if self._ticks % (1 << self._hold_back(watched)):
            return
        if not watched.watch.recorders:
            found = watched.search.look(now)
            if found is not None:
                watched.watch.recorders.append(found)
        glance = watched.watch.tick(now)
        if glance is None:
            return
        if glance.rss:  # else it has died, and a busy loop has not noticed yet
            watched.oom.look(time.monotonic())
        self._speak_for(watched, glance)

    def _hold_back(self, watched: _Watched) -> int:
        """Return how far to hold back; leave what sampling costs in the recorder."""
        rate = self._cost.rate()
        level = self._backoff.judge(rate)
        if rate is not None:
            interval = self._settings.sample_interval * (1 << level)
            for recorder in watched.watch.recorders:
                recorder.write_sampler(rate, interval)
        return level

    def _start(self, process: AsyncProcess, pid: int) -> _Watched:
        return _Watched(
            process=process,
            pid=pid,
            watch=WorkerWatch(pid, prefix_of=prefix_of),
            search=RecorderSearch(pid, self._settings.recorder_directory),
            oom=OomWatch(os.getpid()),
        )

    def _follow(self, watched: _Watched) -> None:
        """Keep what must be known at the death, when it is too late to ask."""
        nanny, worker_process = self._nanny, self._nanny.process
        if worker_process is None or worker_process.process is not watched.process:
            return
        watched.address = str(worker_process.worker_address or watched.address)
        if "closing" in nanny.status.name or nanny.status.name == "closed":
            watched.asked = True
        if worker_process.status.name in ("stopping", "closing_gracefully"):
            watched.asked = True

    def _speak_for(self, watched: _Watched, glance: Glance) -> None:
        """Send a sample when the worker is silent, or its tasks hold much more or less.

        It speaks for itself with every heartbeat: what its tasks held then is known.
        """
        if not watched.watch.recorders or self._sending:
            return
        now = time.monotonic()
        reading = watched.watch.recorders[0].reading()
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
            **self._identity(watched),
            "rss": glance.rss,
            "reading": self._reading(watched, glance.rss, glance.time),
            "executing": self._executing(watched, glance.tasks, glance.time),
            "notices": [*boundary.texts(), *filter(None, [watched.search.trouble])],
        }
        self._nanny.loop.add_callback(
            boundary.guarded(self._send_sample, "sending a sample"), message
        )

    def _report_death(self, watched: _Watched, now: float) -> None:
        recorders = watched.watch.recorders
        tasks = watched.watch.last_tasks()
        samples = list(watched.watch.samples)
        header = recorders[0].header() if recorders else None
        code, signal = _exit_of(watched.process.exitcode)
        # A process that is being torn down has given pages back already.
        rss = max((size for _, size in samples[-LAST_SAMPLES:]), default=0)
        message = {
            "kind": "death",
            **self._identity(watched),
            "died": now,
            "code": code,
            "signal": signal,
            "by": self._killer(watched, signal),
            "asked": watched.asked,
            "closing": bool(header and header.closing),
            "reading": self._reading(watched, rss, now) if rss else None,
            "executing": self._executing(watched, tasks, now),
            "samples": _thin(samples, MAX_TIMELINE),
            "recorded": header is not None,
        }
        if header is not None and not watched.address:
            message["address"] = header.address
        for recorder in recorders:
            recorder.remove()
        watched.watch.close()
        self._reports.append((time.monotonic(), message))
        self._nanny.loop.add_callback(
            boundary.guarded(self._send_reports, "reporting a death")
        )

    def _killer(self, watched: _Watched, signal: int | None) -> str:
        """Say who ended a process, as far as that can be known."""
        if self._nanny.memory_manager._last_terminated_pid == watched.pid:
            return "nanny"
        return "kernel" if signal == 9 and watched.oom.killed() else "unknown"

    def _identity(self, watched: _Watched) -> dict[str, Any]:
        return {
            "protocol": PROTOCOL,
            "address": watched.address,
            "pid": watched.pid,
            "nanny": str(self._nanny.address_safe),
        }

    def _executing(
        self, watched: _Watched, tasks: Iterable[layout.Slot], now: float
    ) -> Any:
        recorders = watched.watch.recorders
        method = EXACT if recorders and recorders[0].tallied else ESTIMATED
        return to_dict(tuple(_as_executing(task, method, now) for task in tasks))

    def _reading(
        self, watched: _Watched, rss: int, now: float
    ) -> dict[str, Any] | None:
        """Return the worker's last reading with the RSS and the tasks of now."""
        recorders = watched.watch.recorders
        values = recorders[0].reading() if recorders else None
        if values is None:
            return None
        tasks = watched.watch.last_tasks()
        whole = {k: None if v is None else int(v) for k, v in values.items()}
        for name in ("managed_claimed", "incoming", "outgoing", "shuffle"):
            whole[name] = whole.get(name) or 0
        return {
            **whole,
            "time": now,
            "rss": rss,
            "live": sum(task.now for task in tasks if task.measured),
            "busy": bool(tasks),
        }

    # -- on the nanny's event loop ---------------------------------------------

    async def _send_sample(self, message: dict[str, Any]) -> None:
        try:
            answer = await self._send(message)
            if answer is not None:
                self._interval = float(answer.get("interval", self._interval))
        finally:
            self._sending = False

    async def _send_reports(self) -> None:
        """Send reports until each has been acknowledged, or is too old."""
        if self._reporting:
            return  # whoever is at it sends the new one too
        self._reporting = True
        wait = 0.1
        try:
            while self._reports:
                made, message = self._reports[0]
                # By this the scheduler sees how its clock differs from this one.
                answer = await self._send({**message, "sent": time.time()})
                if answer is not None or time.monotonic() - made > REPORT_LIFETIME:
                    self._reports.remove((made, message))
                    continue
                if self._nanny.status.name in ("closing", "closed"):
                    return
                await asyncio.sleep(wait)
                wait = min(2 * wait, 5.0)
        finally:
            self._reporting = False

    async def _send(self, message: dict[str, Any]) -> dict[str, Any] | None:
        """Send a message; None if it has not been acknowledged."""
        try:
            answer = await asyncio.wait_for(
                getattr(self._nanny.scheduler, REPORT_OPERATION)(message=message),
                timeout=10,
            )
        except (TimeoutError, OSError, RuntimeError):
            return None
        return answer if isinstance(answer, dict) and answer.get("ok") else None


def _exit_of(status: int | None) -> tuple[int | None, int | None]:
    """Split an exit status as multiprocessing has it into status and signal."""
    if status is None or status == UNKNOWN_STATUS:
        return None, None
    return (status, None) if status >= 0 else (None, -status)


def _as_executing(task: layout.Slot, method: str, now: float) -> Executing:
    return Executing(
        key=task.key,
        digest=task.digest,
        prefix=prefix_of(task.key),
        thread=task.thread or None,
        seconds=max(0.0, now - task.begin),
        bytes=task.now if task.measured else None,
        peak=task.peak if task.measured else None,
        error=task.error if task.measured else None,
        method=method if task.measured else UNMEASURED,
        rss_at_begin=task.rss or None,
    )


def _thin(samples: list[tuple[float, int]], most: int) -> list[tuple[float, int]]:
    """Keep every n-th sample, and the last."""
    step = -(-len(samples) // most) or 1
    return samples[:-1][::step] + samples[-1:]
