"""One worker process as its nanny sees it, from its first instant to its end.

Covers finding the flight recorder, which is looked for at every tick and once more at
the death, and what has to be known before a death since it is too late to ask then.
Belongs to the sampler's thread.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from dask_memdash.flight import format as layout
from dask_memdash.flight.format import Header
from dask_memdash.flight.reader import RecorderReader, RecorderSearch
from dask_memdash.measure.largest_block import as_block
from dask_memdash.measure.methods import ESTIMATED, EXACT, UNMEASURED
from dask_memdash.measure.moments import Moments
from dask_memdash.measure.watch import MAX_SAMPLES, SPAN, WorkerWatch
from dask_memdash.model.event_parts import Executing
from dask_memdash.model.event_readers import to_dict
from dask_memdash.plugins.keys import prefix_of
from dask_memdash.plugins.nanny import identity
from dask_memdash.plugins.protocol import PROTOCOL
from dask_memdash.system.oom_kills import OomWatch

if TYPE_CHECKING:
    from distributed.nanny import Nanny
    from distributed.process import AsyncProcess

#: RSS samples in a death report at most.
MAX_TIMELINE = 240

#: RSS samples before a death of which the largest is the one that it died of.
LAST_SAMPLES = 5


class Watched:
    """A worker process that is watched.

    Parameters
    ----------
    process
        The process, which may have died already.
    directory
        Where flight recorders are made; ``None`` for the usual place.
    """

    def __init__(self, process: AsyncProcess, directory: str | None) -> None:
        self.process = process
        self._child = getattr(process, "_process", None)
        self.pid = int(process.pid)
        self._search = RecorderSearch(self.pid, directory)
        self.moments = Moments(prefix_of, SPAN, MAX_SAMPLES)
        self.watch = WorkerWatch(self.pid, (), prefix_of, self.moments)
        #: Looks at the nanny's cgroup, which is the worker's too; a dead worker's own
        #: cannot be looked up any more.
        self.oom = OomWatch(os.getpid())
        self.watch.children.oom = self.oom.killed
        #: Where its worker listens; empty until that is sure.
        self.address = ""
        #: Whether somebody had asked it to end before it did.
        self.asked = False
        #: Monotonic time of the last sample sent, in seconds.
        self.sent = time.monotonic()
        #: When the worker itself last spoke, and what the scheduler has been told since
        #: then that its tasks hold, in bytes.
        self.heard: float | None = None
        self.told = 0

    @property
    def died(self) -> bool:
        """Whether the process has ended."""
        return self.process.exitcode is not None

    @property
    def recorders(self) -> list[RecorderReader]:
        """Its flight recorder, once it has been found."""
        return self.watch.recorders

    @property
    def trouble(self) -> str:
        """Why its recorder cannot be read, in words; empty while it can be."""
        return self._search.trouble

    def follow(self, nanny: Nanny) -> None:
        """Find its recorder, and keep what must be known at the death."""
        if not self.recorders:
            look = self._search.look_again if self.died else self._search.look
            self._attach(look())
        if not self.address:
            self.address = identity.address_of(nanny, self.process)
        if identity.is_asked_to_end(nanny, self.process):
            self.asked = True

    def header(self) -> Header | None:
        """Read its recorder's header; None without one."""
        return identity.header_of(self.recorders)

    def executing(self, tasks: Iterable[layout.Slot], now: float) -> Any:
        """Describe its tasks, as plain data."""
        tallied = bool(self.recorders) and self.recorders[0].tallied
        method = EXACT if tallied else ESTIMATED
        return to_dict(tuple(as_executing(task, method, now) for task in tasks))

    def reading(
        self, rss: int, now: float, tasks: Sequence[layout.Slot]
    ) -> dict[str, Any] | None:
        """Return the worker's last reading with the RSS and the tasks of now."""
        values = self.recorders[0].reading() if self.recorders else None
        if values is None:
            return None
        whole = {k: None if v is None else int(v) for k, v in values.items()}
        for name in ("managed_claimed", "incoming", "outgoing", "shuffle"):
            whole[name] = whole.get(name) or 0
        return {
            **whole,
            "time": now,
            "rss": rss,
            **({} if self.watch.parts is None else self.watch.parts._asdict()),
            "live": sum(task.now for task in tasks if task.measured),
            "busy": bool(tasks),
        }

    def children(self) -> Any:
        """Describe the processes that its tasks started, as plain data."""
        return to_dict(self.watch.children.rows())

    def describe(self, nanny: Nanny) -> dict[str, Any]:
        """Return what every message says of the worker and its nanny."""
        return {
            "protocol": PROTOCOL,
            "address": self.address,
            "pid": self.pid,
            **identity.describe_nanny(nanny),
        }

    def death(self, nanny: Nanny, now: float) -> dict[str, Any]:
        """Describe the end of the process, as a message."""
        samples = list(self.watch.samples)
        header = self.header()
        code, signal = identity.exit_of(identity.status_of(self.process, self._child))
        # A process that is being torn down has given pages back already.
        rss = max((size for _, size in samples[-LAST_SAMPLES:]), default=0)
        rss = self.watch.rss_at_death(rss)
        killer = self._killer(nanny, signal)
        if killer == "nanny":  # it read more than this, and perhaps no sample did
            rss = max(rss, identity.terminates_above(nanny))
        tasks = self.watch.tasks_at_death(rss)
        if rss and self.recorders:
            (recorder,) = self.recorders
            reading = recorder.reading()
            if reading is not None:  # else the last sample says more
                parts, resident = self.watch.parts, recorder.resident
                self.moments.note(now, rss, parts, [reading], tasks, resident=resident)
        return {
            "kind": "death",
            **self.describe(nanny),
            "died": now,
            "code": code,
            "signal": signal,
            "by": killer,
            "asked": self.asked,
            "closing": bool(header and header.closing),
            "reading": self.reading(rss, now, tasks) if rss else None,
            "executing": self.executing(tasks, now),
            "children": self.children(),
            "samples": _thin(samples, MAX_TIMELINE),
            "last_seconds": to_dict(self.moments.told()),
            "recorded": header is not None,
        }

    def close(self) -> None:
        """Let go of the process and its recorder."""
        self.watch.close()

    def _killer(self, nanny: Nanny, signal: int | None) -> str:
        """Say who ended the process, as far as that can be known."""
        if nanny.memory_manager._last_terminated_pid == self.pid:
            return "nanny"
        return "kernel" if signal == 9 and self.oom.killed() else "unknown"

    def _attach(self, recorder: RecorderReader | None) -> None:
        if recorder is None:
            return
        self.recorders.append(recorder)
        header = self.header()
        if header is not None and header.address:
            self.address = header.address


def as_executing(task: layout.Slot, method: str, now: float) -> Executing:
    """Describe a task that was found in a recorder."""
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
        gathering=task.gathering,
        filling=task.filling if task.measured else 0,
        block=as_block(task.block),
    )


def _thin(samples: list[tuple[float, int]], most: int) -> list[tuple[float, int]]:
    """Keep every n-th sample, and the last."""
    step = -(-len(samples) // most) or 1
    return samples[:-1][::step] + samples[-1:]
