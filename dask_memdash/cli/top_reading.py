"""What ``dask memdash top`` knows of a cluster, and how often it asks.

A list of many workers costs the scheduler some time (65 ms for 1,000, measured), so
the more there are the more rarely they are asked for, and in slices.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dask_memdash.cli.sources import Source

Rows = list[Mapping[str, Any]]

#: Workers asked for at once, and for each second between two times.
SLICE = 200
WORKERS_PER_SECOND = 100

#: Prefixes and failures asked for at most.
MOST_PREFIXES = 200
MOST_FAILURES = 50


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A cluster at an instant, in the words of the JSON API."""

    #: Where it was asked for.
    address: str
    cluster: Mapping[str, Any]
    workers: Rows
    prefixes: Rows
    failures: Rows
    #: When it was read, and when the workers were, in Unix time.
    time: float
    workers_time: float


class Reader:
    """Asks for one snapshot after another, of workers no more often than is cheap.

    Parameters
    ----------
    source
        Who is asked.
    clock
        Gives the time, in seconds since the epoch.
    """

    def __init__(self, source: Source, clock: Callable[[], float] = time.time) -> None:
        self._source = source
        self._clock = clock
        self._workers: Rows = []
        self._workers_time = 0.0

    def read(self) -> Snapshot:
        """Return the cluster now.

        Raises
        ------
        MemDashError
            It cannot be asked.
        """
        ask, now = self._source.ask, self._clock()
        cluster = ask("cluster")
        pause = len(self._workers) / WORKERS_PER_SECOND
        joined = cluster["n_workers"] != len(self._workers)
        if now >= self._workers_time + pause or (joined and pause < 1):
            self._workers, self._workers_time = self._all_workers(), now
        return Snapshot(
            address=self._source.address,
            cluster=cluster,
            workers=self._workers,
            prefixes=ask("prefixes", limit=MOST_PREFIXES),
            failures=ask("failures", limit=MOST_FAILURES),
            time=now,
            workers_time=self._workers_time,
        )

    def _all_workers(self) -> Rows:
        found: dict[str, Mapping[str, Any]] = {}
        offset = 0
        while True:
            some = self._source.ask("workers", limit=SLICE, offset=offset)
            # by address: one that joins meanwhile moves the others on
            found.update((str(worker["address"]), worker) for worker in some)
            offset += SLICE
            if len(some) < SLICE:
                return list(found.values())
