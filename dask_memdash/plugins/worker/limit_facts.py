"""What a worker says about its memory limit: everything once, then what changed.

Reads where the worker runs; :mod:`dask_memdash.analysis.limits.rules` judges it on the
scheduler.  Costs some milliseconds when MemDash comes to the worker and some tenths
of one every :data:`INTERVAL` seconds.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import fields, replace
from typing import TYPE_CHECKING

from dask_memdash.boundary import guard_entry_points
from dask_memdash.model.limit_facts import LimitReport, LiveFigures
from dask_memdash.system.memory_limits import LiveReader, option_given, read_facts

if TYPE_CHECKING:
    from distributed.worker import Worker

#: Seconds between two looks at what changes.
INTERVAL = 5.0

#: Change that is worth a report: in bytes, and in percent of waiting.
WORTHWHILE = 2**24
WORTHWHILE_PERCENT = 1.0

#: Workers that one machine's memory may have been divided among.
MOST_WORKERS = 512


@guard_entry_points
class LimitReporter:
    """What one worker knows of its limit, made ready for its heartbeats."""

    def __init__(
        self,
        worker: Worker,
        root: str = "/",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        pid = os.getpid()
        total, cpus = what_dask_takes()
        limit = worker.memory_manager.memory_limit
        facts = read_facts(pid, os.environ, worker.local_directory, root)
        self._facts = replace(
            facts,
            set_by=set_by(
                limit,
                total,
                worker.state.nthreads,
                cpus,
                option_given(
                    os.getppid() if worker.nanny else pid, "--memory-limit", root
                ),
            ),
            dask=total,
            cpus=cpus,
            spills=_spills(worker.data),
        )
        self._reader = LiveReader(pid, facts, root)
        self._clock = clock
        self._next = clock() + INTERVAL
        self._sent: LiveFigures | None = None

    def report(self, *, may_wait: bool = False) -> LimitReport | None:
        """Return what is new for the next heartbeat, None when nothing is.

        Parameters
        ----------
        may_wait
            Whether it may be told later, but where memory is about to run out.
        """
        if self._sent is None:
            self._sent = self._facts.first
            return LimitReport(self._facts.first, self._facts)
        now = self._clock()
        if now < self._next:
            return None
        live = self._reader.read()
        if may_wait and not self._facts.is_close(live):
            return None  # what may not wait comes when it is asked for
        self._next = now + INTERVAL
        if not differs(live, self._sent):
            return None
        self._sent = live
        return LimitReport(live)


def what_dask_takes() -> tuple[int, int]:
    """Return what Dask takes for this machine's bytes and processors."""
    from dask.system import CPU_COUNT
    from distributed import system

    return int(system.MEMORY_LIMIT), int(CPU_COUNT)


def differs(one: LiveFigures, other: LiveFigures) -> bool:
    """Whether two looks differ by more than is worth a report."""
    for field in fields(LiveFigures):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if (a is None) != (b is None):
            return True
        least = WORTHWHILE_PERCENT if field.name == "pressure" else WORTHWHILE
        if a is not None and abs(a - b) >= least:
            return True
    return False


def set_by(
    limit: int | None, total: int, nthreads: int, cpus: int, option: str | None
) -> str | None:
    """Tell how a limit was set, as far as its value gives it away.

    A worker under a nanny is handed its limit in bytes, whatever the user wrote.

    Parameters
    ----------
    limit
        The worker's limit, in bytes.
    total
        What Dask takes for the machine's memory, in bytes.
    nthreads, cpus
        Threads of the worker, and processors of the machine as Dask counts them.
    option
        What the command line says, None where it says nothing.

    Returns
    -------
    str or None
        'off'; 'clamped': more was given than Dask believes the machine to have;
        'auto': the machine's memory by threads or by number of workers;
        'fraction': whole percents of it; else 'given'.
    """
    if not limit:
        return "off"
    if total <= 0:
        return None
    if limit == total and option not in (None, "auto", "1.0"):
        return "clamped"
    shares = [min(1.0, nthreads / max(1, cpus))]
    shares += [1 / n for n in range(1, MOST_WORKERS + 1)]
    if option in (None, "auto") and limit in {int(total * share) for share in shares}:
        return "auto"
    if limit in {int(percent / 100 * total) for percent in range(1, 100)}:
        return "fraction"
    return "given"


def _spills(data: object) -> bool | None:
    """Whether a worker's data spills; None for one of another's making."""
    if isinstance(data, dict):
        return False
    return True if hasattr(data, "slow") else None
