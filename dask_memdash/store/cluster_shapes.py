"""Shapes of what the store says of the cluster: totals, cost, notices, history.

See :mod:`dask_memdash.store.base` for units and for what ``None`` means.
"""

from __future__ import annotations

from typing import TypedDict

from dask_memdash.store.beside_tasks import OtherMemory
from dask_memdash.store.guard_shapes import ClusterGuard
from dask_memdash.store.intermediate_shapes import Intermediates
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


class CarriedByTasks(TypedDict):
    """What the scheduler's tasks of one prefix carry, about."""

    prefix: str
    tasks: int
    bytes: int
    """Arguments and closures."""


class LargestTask(TypedDict):
    """The task that carries most of those that were looked into."""

    key: str
    prefix: str
    bytes: int


class ClientMemory(TypedDict):
    """What a client has sent to the scheduler, and what its process uses; in bytes."""

    client: str
    graphs: int
    """Graphs that it has sent since MemDash was registered."""
    bytes: int
    """What they weighed as they came, all together."""
    largest: int
    """The largest of them."""
    largest_prefix: str | None
    """A prefix that the largest was for."""
    rss: int | None
    """As it said when it asked MemDash something last (``connect``); ``None`` where it
    never has."""
    limit: int | None
    in_scheduler: bool
    """Whether it lives in the scheduler's process, whose RSS that is then."""
    advice: str | None
    """What to change, where Dask itself warns of its largest graph."""


class SchedulerMemory(TypedDict):
    """The scheduler's own process, which no worker's figures are of; in bytes."""

    pid: int
    rss: int
    limit: int | None
    """The least of what its container, its machine and ``ulimit -v`` allow."""
    available: int | None
    """The least that is left of any of them; of ``ulimit -v`` all that is reserved is
    taken, used or not."""
    tasks: int
    """How many tasks it knows."""
    graph_bytes: int
    """What they carry, about: arguments and closures."""
    graph: list[CarriedByTasks]
    """The same by prefix: the largest, largest first."""
    largest: LargestTask | None
    clients: list[ClientMemory]
    """Connected clients of which anything is known, largest graphs first."""
    warns_above: int | None
    """From which size of a graph on Dask itself warns (a client goes by its own
    configuration)."""


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
    scheduler: SchedulerMemory | None
    """``None`` before it was looked at."""
    stored: int
    stored_pending: int
    """Of the outputs on workers, bytes in RAM or spilled that lie in the cluster's
    memory of intermediates too, and that are to lie there; each output counted once."""
    intermediates: Intermediates | None
    """That memory; ``None`` where the cluster has none."""
    guard: ClusterGuard | None
    """What the guards of the workers do; ``None`` where ``memdash.guard`` is off."""
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
