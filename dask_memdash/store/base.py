"""What views, the JSON API and the client read: the :class:`Store` protocol.

A store is read-only and gives plain dicts and lists in the shapes below, ready
for JSON.  All sizes are integers in bytes, all instants are seconds since the
Unix epoch.  What is not known is ``None``, never 0.  Nothing here knows of
``distributed``, Bokeh or the live scheduler, so that the same views serve a live
cluster and a recorded one.
"""

from __future__ import annotations

from typing import Any, Protocol, TypedDict


class Breakdown(TypedDict):
    """Memory of one worker process, or of the cluster, at an instant, in bytes.

    ``managed + transfer + executing + retained + baseline == process`` exactly;
    the rest stands beside the sum.  Every value is ``None`` before the first
    reading.
    """

    process: int | None
    managed: int | None
    transfer: int | None
    executing: int | None
    retained: int | None
    baseline: int | None
    error: int | None
    managed_claimed: int | None
    unmanaged: int | None
    unmanaged_old: int | None
    unmanaged_recent: int | None
    inputs: int | None
    spilled: int | None
    spilled_disk: int | None
    shuffle_disk: int | None


class Notice(TypedDict):
    """One way in which MemDash itself is degraded, in words for a person."""

    where: str
    """'scheduler', 'worker tcp://…', 'nanny tcp://…' or 'nanny of tcp://…'."""
    text: str
    """One sentence."""
    since: float


class Cluster(TypedDict):
    """The cluster at a glance."""

    schema_version: int
    time: float
    n_workers: int
    n_processes: int
    """Fewer than ``n_workers`` where workers share a process."""
    n_incidents: int
    limit: int | None
    """Sum of the processes' limits, ``None`` when any has none."""
    breakdown: Breakdown
    self_cost: dict[str, Any] | None
    degraded: list[Notice]


class ExecutingTask(TypedDict):
    """A task that is running, or whose output is not stored yet."""

    key: str
    prefix: str
    thread: int | None
    """Identifier of its thread; ``None`` for async tasks and other executors."""
    seconds: float
    bytes: int | None
    """In-execution memory now; ``None`` where it is not measured."""
    peak: int | None
    method: str
    """'estimated', 'unmeasured'; later 'exact', 'hwm'."""
    error: int | None


class Thresholds(TypedDict):
    """The worker's own memory thresholds, in bytes; ``None`` where off."""

    target: int | None
    spill: int | None
    pause: int | None
    terminate: int | None


class Worker(TypedDict):
    """One worker."""

    address: str
    name: str
    host: str
    pid: int
    nthreads: int
    status: str
    """'running', 'paused', 'closing…' as Dask says it."""
    last_seen: float
    limit: int | None
    thresholds: Thresholds
    breakdown: Breakdown
    """Of its process: the whole process where workers share one."""
    shares_process_with: int
    """How many other workers live in the same process."""
    transfer: dict[str, int | None]
    """``{"incoming", "outgoing", "shuffle"}`` in bytes."""
    executing_tasks: list[ExecutingTask]
    method: str
    """How this worker's peaks are measured; 'none' before its first report."""
    degraded: list[str]


class OutputSizes(TypedDict):
    """Distribution of the sizes of a prefix's outputs, in bytes."""

    min: int | None
    p50: int | None
    p95: int | None
    max: int | None


class AwaitedBy(TypedDict):
    """Bytes of a prefix's stored outputs that tasks of another prefix wait for."""

    prefix: str
    bytes: int


class PrefixStorage(TypedDict):
    """Storage of one task prefix over the whole cluster, in bytes."""

    managed: int | None
    managed_claimed: int | None
    replicas: int | None
    spilled: int | None
    spilled_disk: int | None
    pinned: int | None
    awaited: int | None
    count: int | None
    output_bytes: OutputSizes
    awaited_by: list[AwaitedBy]


class Peaks(TypedDict):
    """Quantiles of the in-execution peak per finished task, in bytes."""

    p50: int | None
    p95: int | None
    max: int | None


class PrefixExecution(TypedDict):
    """Execution of one task prefix over the whole cluster."""

    executing: int | None
    running: int
    finished: int
    peak: Peaks
    method: str
    error: int | None


class Prefix(TypedDict):
    """One task prefix; largest (storage and execution together) first."""

    prefix: str
    storage: PrefixStorage
    execution: PrefixExecution


class History(TypedDict):
    """The breakdown over time as columns of equal length, oldest first."""

    time: list[float]
    process: list[int]
    managed: list[int]
    transfer: list[int]
    executing: list[int]
    retained: list[int]
    baseline: list[int]
    spilled: list[int]


class Store(Protocol):
    """Read-only view of a cluster's memory, live or recorded."""

    @property
    def version(self) -> int:
        """Grows with every change; views skip their update while it stands."""

    def cluster(self) -> Cluster:
        """Give the cluster at a glance."""

    def workers(self, limit: int | None = None, offset: int = 0) -> list[Worker]:
        """Give the connected workers, by name."""

    def prefixes(self, limit: int | None = None, offset: int = 0) -> list[Prefix]:
        """Give the task prefixes, largest first."""

    def incidents(
        self, limit: int | None = None, offset: int = 0
    ) -> list[dict[str, Any]]:
        """Give the incidents, newest first (shape: DESIGN, JSON API)."""

    def incident(self, incident_id: str) -> dict[str, Any]:
        """Give one incident with its suspects, storage, findings, cost and timeline.

        Raises
        ------
        UnknownIncidentError
        """

    def history(
        self, worker: str | None = None, since: float | None = None, points: int = 300
    ) -> History:
        """Give the breakdown over time of the cluster or of one worker.

        Raises
        ------
        UnknownWorkerError
        """
