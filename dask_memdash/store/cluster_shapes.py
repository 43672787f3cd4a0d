"""Shapes of what the store says of the cluster: totals, cost, notices, history.

See :mod:`dask_memdash.store.base` for units and for what ``None`` means.
"""

from __future__ import annotations

from typing import TypedDict

from dask_memdash.store.beside_tasks import OtherMemory
from dask_memdash.store.worker_shapes import Breakdown, SelfCost


class Notice(TypedDict):
    """One way in which MemDash itself is degraded, in words for a person."""

    where: str
    """'scheduler', 'worker tcp://…', 'nanny tcp://…' or 'nanny of tcp://…'."""
    text: str
    """One sentence."""
    since: float


class SelfCosts(TypedDict):
    """What MemDash itself costs."""

    scheduler: SelfCost
    workers: SelfCost
    nannies: SelfCost


class Cluster(TypedDict):
    """The cluster at a glance."""

    schema_version: int
    time: float
    n_workers: int
    n_processes: int
    """Fewer than ``n_workers`` where workers share a process."""
    n_incidents: int
    n_failures: int
    limit: int | None
    """Sum of the processes' limits, ``None`` when any has none."""
    breakdown: Breakdown
    others: list[OtherMemory]
    """What of it belongs to no task, by name; largest first."""
    self_cost: SelfCosts
    degraded: list[Notice]


class History(TypedDict):
    """The breakdown over time as columns of equal length, oldest first; and pauses."""

    time: list[float]
    process: list[int]
    managed: list[int]
    transfer: list[int]
    actors: list[int]
    executing: list[int]
    retained: list[int]
    graph: list[int]
    baseline: list[int]
    spilled: list[int]
    pauses: list[list[float | None]]
    """Beside the columns: ``[from, until]`` of each pause, oldest first, the newest
    100 of a worker or 500 of the cluster; ``until`` is ``None`` while it lasts."""
    n_pauses: int
    """How many pauses there have been, those that are not listed too."""
