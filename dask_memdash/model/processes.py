"""Workers and the processes they live in, and the cluster's running totals.

A process is the unit of memory: its breakdown is worked out from the readings of
all workers that live in it (one, but with ``processes=False``), and its storage by
prefix is scaled so that prefixes sum to ``managed``.  Totals are kept by taking the
old figures of a process away and adding the new ones, so that they cost the same
however large the cluster is.

Imports the standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dask_memdash.model.breakdown import (
    EMPTY,
    Breakdown,
    Reading,
    add,
    break_down,
    join_readings,
    scale,
)
from dask_memdash.model.events import (
    Executing,
    Held,
    StorageRow,
    Thresholds,
    WorkerAdded,
)
from dask_memdash.model.series import Series

#: Columns of every history; the first decides which points survive thinning.
HISTORY = (
    "process",
    "managed",
    "transfer",
    "executing",
    "retained",
    "baseline",
    "spilled",
)

ProcessKey = tuple[str, int]


@dataclass(slots=True)
class WorkerState:
    """A worker as it is known now."""

    info: WorkerAdded
    status: str
    last_seen: float
    reading: Reading | None = None
    rows: dict[str, StorageRow] = field(default_factory=dict)
    executing: tuple[Executing, ...] = ()
    held: dict[str, Held] = field(default_factory=dict)
    thresholds: Thresholds = field(default_factory=Thresholds)
    method: str = "none"
    #: Where its own figures come from: 'heartbeat' or 'scheduler' (none yet).
    notices: tuple[str, ...] = ()
    nanny_notices: tuple[str, ...] = ()
    #: Why it said that it closes; empty while it does not.
    closing: str = ""
    #: Whether it is being restarted on purpose.
    restarting: bool = False
    #: The incident of its being paused now, and of its last pause.
    pause: str | None = None
    last_pause: str | None = None

    @property
    def key(self) -> ProcessKey:
        """The process that it lives in."""
        return self.info.host, self.info.pid


@dataclass(slots=True)
class ProcessState:
    """A worker process: one worker, or several that share it."""

    members: dict[str, WorkerState]
    history: Series
    breakdown: Breakdown | None = None
    #: Managed bytes by prefix, scaled so that they sum to ``breakdown.managed``.
    managed: dict[str, int] = field(default_factory=dict)

    @property
    def limit(self) -> int | None:
        """Least limit of its workers, in bytes: each applies its own to the process."""
        limits = [m.info.limit for m in self.members.values()]
        known = [limit for limit in limits if limit is not None]
        return min(known, default=None)

    def work_out(self) -> tuple[Breakdown | None, dict[str, int]]:
        """Work the breakdown and the managed bytes by prefix out from the readings."""
        readings = [m.reading for m in self.members.values() if m.reading is not None]
        if not readings:
            return None, {}
        breakdown = break_down(join_readings(readings))
        claimed: dict[str, int] = {}
        for member in self.members.values():
            for prefix, row in member.rows.items():
                claimed[prefix] = claimed.get(prefix, 0) + row.claimed
        return breakdown, scale(claimed, breakdown.managed)


class Processes:
    """All workers and processes, with the cluster's totals."""

    def __init__(self, points: int, spacing: float) -> None:
        self.workers: dict[str, WorkerState] = {}
        self.by_key: dict[ProcessKey, ProcessState] = {}
        self.total: Breakdown = EMPTY
        self.history = Series(HISTORY, points, spacing)
        self._points = points
        self._spacing = spacing

    def add(self, info: WorkerAdded) -> WorkerState:
        """Take a worker in; one of the same address has been removed before."""
        worker = WorkerState(info, info.status, info.time)
        self.workers[info.address] = worker
        process = self.by_key.get(worker.key)
        if process is None:
            history = Series(HISTORY, self._points, self._spacing)
            process = self.by_key[worker.key] = ProcessState({}, history)
        process.members[info.address] = worker
        return worker

    def remove(self, address: str) -> dict[str, int]:
        """Let a worker go; the process goes with its last worker.

        Returns
        -------
        dict of str to int
            By how many bytes each prefix's managed bytes have changed.
        """
        worker = self.workers.pop(address)
        process = self.by_key[worker.key]
        del process.members[address]
        changes = self.refresh(worker.key, worker.last_seen)
        if not process.members:
            del self.by_key[worker.key]
        return changes

    def refresh(self, key: ProcessKey, time: float) -> dict[str, int]:
        """Work a process out again after its readings changed.

        Returns
        -------
        dict of str to int
            By how many bytes each prefix's managed bytes have changed.
        """
        process = self.by_key[key]
        breakdown, managed = process.work_out()
        changes = _difference(process.managed, managed)
        if process.breakdown is not None:
            self.total = add(self.total, process.breakdown, -1)
        if breakdown is not None:
            self.total = add(self.total, breakdown)
            process.history.append(time, history_row(breakdown))
        process.breakdown, process.managed = breakdown, managed
        if any(p.breakdown is not None for p in self.by_key.values()):
            self.history.append(time, history_row(self.total))
        return changes

    def breakdown_of(self, address: str) -> Breakdown | None:
        """Give the breakdown of the process that a worker lives in."""
        return self.by_key[self.workers[address].key].breakdown


def history_row(breakdown: Breakdown) -> tuple[int, ...]:
    """Give a breakdown as a point of a history."""
    return tuple(getattr(breakdown, name) or 0 for name in HISTORY)


def _difference(old: Mapping[str, int], new: Mapping[str, int]) -> dict[str, int]:
    return {
        name: change
        for name in {*old, *new}
        if (change := new.get(name, 0) - old.get(name, 0))
    }
