"""The scheduler's own memory: what it has, what there is, what its graphs weigh.

The scheduler keeps every task's arguments and closures until the task is forgotten,
and nothing spills them.  Looks at the process every few seconds, and more rarely, in
bounded time, into its tasks.  Belongs to the scheduler's event loop.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import dask

from dask_memdash.measure.rss import RssReader
from dask_memdash.model.event_parts import GraphRow
from dask_memdash.model.events import SchedulerLooked
from dask_memdash.plugins.keys import key_text
from dask_memdash.plugins.scheduler.client_watch import ClientWatch
from dask_memdash.plugins.worker.graph_bytes import SentTasks
from dask_memdash.system.cgroups import Skipped
from dask_memdash.system.memory_limits import LiveReader, read_facts, rlimits
from dask_memdash.text import KEY_KEPT

if TYPE_CHECKING:
    from distributed.scheduler import Scheduler

#: Seconds between two looks at the process, and between two into its tasks.
EVERY = 2.0

#: Which share of what was left it may grow by until it is looked at at once.
MUCH = 1 / 8
TASKS_EVERY = 10.0

#: Tasks that are looked into at most, evenly spread, and seconds that it may take.
MAX_TASKS = 2_000
SECONDS = 0.005

#: Tasks beyond which nothing is spread evenly: only the newest are looked into.
MAX_WALK = 200_000


class OwnMemory:
    """Looks at the process that the scheduler lives in.

    Parameters
    ----------
    scheduler
        Whose tasks are weighed.
    handle
        Takes the events.
    root
        Where the machine's file system begins.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        handle: Callable[[SchedulerLooked], None],
        root: str = "/",
    ) -> None:
        self._scheduler = scheduler
        self._handle = handle
        self._pid = os.getpid()
        self._rss = RssReader(self._pid)
        facts = read_facts(self._pid, os.environ, None, root)
        self._live = LiveReader(self._pid, facts, root)
        group, host = facts.least("cgroup"), facts.least("host")
        self._group = None if group is None else group.bytes
        self._host = None if host is None else host.bytes
        self._clients = ClientWatch(scheduler)
        self._clients.attach()
        self._root = root
        self._next = self._next_tasks = 0.0
        # From which RSS on to look at once, in bytes.
        self._soon: float = math.inf
        self._graph: dict[str, GraphRow] = {}
        self._largest: tuple[str, str, int] = ("", "", 0)

    def close(self) -> None:
        """Let go of the process, and of its clients."""
        self._clients.detach()
        self._rss.close()

    def step(self, now: float) -> None:
        """Look, if it is time to.

        Parameters
        ----------
        now
            Unix time in seconds.
        """
        rss = self._rss.read()
        if rss is None or (now < self._next and rss < self._soon):
            return
        self._next = now + EVERY
        if now >= self._next_tasks:
            self._next_tasks = now + TASKS_EVERY
            self._weigh()
        live = self._live.read()
        rlimit, rlimit_used = self._rlimit()
        lefts = [
            of - used
            for of, used in (
                (self._group, live.cgroup_used),
                (live.available, 0),
                (rlimit, rlimit_used),
            )
            if of is not None and used is not None
        ]
        self._soon = rss + MUCH * max(0, min(lefts)) if lefts else math.inf
        key, prefix, size = self._largest
        self._handle(
            SchedulerLooked(
                time=now,
                address=self._scheduler.address or "",
                pid=self._pid,
                rss=rss,
                cgroup=self._group,
                cgroup_used=live.cgroup_used,
                host=self._host,
                available=live.available,
                tasks=len(self._scheduler.tasks),
                graph=self._graph,
                largest_key=key,
                largest_prefix=prefix,
                largest=size,
                warns_above=_warns_above(),
                rlimit=rlimit,
                rlimit_used=rlimit_used,
                clients=self._clients.rows(rss),
            )
        )

    def _rlimit(self) -> tuple[int | None, int | None]:
        """Return the rlimit at which an allocation fails first, and what is used of it.

        Read each time: a process may change its own.
        """
        caps = [
            (cap.bytes, cap.used)
            for cap in rlimits(self._pid, Path(self._root), "", Skipped())
            if cap.effect == "fails" and cap.used is not None
        ]
        of: tuple[int | None, int | None] = (None, None)
        return min(caps, key=lambda cap: cap[0] - (cap[1] or 0), default=of)

    def _weigh(self) -> None:
        """Weigh what tasks were sent with, in bounded time."""
        tasks = self._scheduler.tasks
        total = len(tasks)
        step = max(1, total // MAX_TASKS)
        chosen = islice(tasks.values(), 0, min(total, MAX_WALK), step)
        sent = SentTasks(time.perf_counter, time.perf_counter() + SECONDS)
        largest = ("", "", 0)
        looked = 0
        for task in chosen:
            looked += 1
            prefix = str(task.prefix.name)[:KEY_KEPT]
            size = sent.add(prefix, task.run_spec)
            if size is not None and size > largest[2]:
                largest = (key_text(task.key)[:KEY_KEPT], prefix, size)
        self._graph = sent.rows(total / looked) if looked else {}
        self._largest = largest


def _warns_above() -> int | None:
    """Return from which size of a graph on Dask warns, in bytes; None: it does not.

    As the scheduler's configuration has it; a client goes by its own.
    """
    try:
        size = dask.config.get("distributed.admin.large-graph-warning-threshold")
        return int(dask.utils.parse_bytes(size))
    except (KeyError, ValueError, TypeError):
        return None
