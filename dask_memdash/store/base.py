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


class SelfCost(TypedDict):
    """What MemDash itself costs at one kind of place; ``None`` where not known yet."""

    cpu: float | None
    """Share of a core; of workers and nannies the mean."""
    cpu_max: float | None
    """Of the costliest of them."""
    bytes: int | None
    """Estimated memory, in bytes, of all of them."""
    held_back: int
    """How many of them sample or measure more coarsely to keep within the budget."""


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
    self_cost: SelfCosts
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
    """'exact', 'hwm', 'estimated' or 'unmeasured'."""
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
    n_pauses: int
    """How often it was paused for its memory."""
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
    self_cost: dict[str, SelfCost]
    """``{"worker", "nanny"}``: what MemDash costs there."""


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


class SizeofAudit(TypedDict):
    """What Dask believes a prefix's outputs weigh against what the tally says."""

    count: int
    """Outputs that were weighed."""
    believed: int
    """Mean size as Dask's sizeof says, in bytes."""
    measured: int
    """Mean size that the tasks left behind, in bytes."""
    ratio: float | None
    """``believed / measured``; ``None`` where nothing was left to be measured."""
    flag: str
    """'too-light' (believed at less than half), 'too-heavy' (more than twice) or ''."""
    because: str
    """What the outputs are where that explains it, such as 'memory maps', or ''."""


class Leak(TypedDict):
    """What the tasks of a prefix have put aside for good, in bytes."""

    bytes: int
    per_task: int


class Unseen(TypedDict):
    """The most that one task, alone in its process, had beside its count, in bytes."""

    native: int
    """Resident and not counted: native libraries, Arrow."""
    arrow: int
    """What of it was Arrow's memory pool."""
    untouched: int
    """Counted and never resident: reserved and not touched."""
    small: int
    """Small objects in the place of others that had gone."""


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
    sizeof: SizeofAudit | None
    """``None`` before enough tasks were counted."""


class Peaks(TypedDict):
    """Quantiles of the in-execution peak per finished task, in bytes."""

    p50: int | None
    p95: int | None
    max: int | None


class TaskPeaks(Peaks):
    """The same, and what deaths have taught."""

    #: The most that a task held when its worker died: it needs at least that.
    at_least: int | None


class PrefixExecution(TypedDict):
    """Execution of one task prefix over the whole cluster."""

    executing: int | None
    running: int
    finished: int
    peak: TaskPeaks
    method: str
    error: int | None
    unseen: Unseen
    leak: Leak | None
    """``None`` before enough tasks were counted."""


class Prefix(TypedDict):
    """One task prefix; largest (storage and execution together) first."""

    prefix: str
    storage: PrefixStorage
    execution: PrefixExecution


class History(TypedDict):
    """The breakdown over time as columns of equal length, oldest first; and pauses."""

    time: list[float]
    process: list[int]
    managed: list[int]
    transfer: list[int]
    executing: list[int]
    retained: list[int]
    baseline: list[int]
    spilled: list[int]
    pauses: list[list[float | None]]
    """Beside the columns: ``[from, until]`` of each pause, oldest first, the newest
    100 of a worker or 500 of the cluster; ``until`` is ``None`` while it lasts."""
    n_pauses: int
    """How many pauses there have been, those that are not listed too."""


class PastTask(TypedDict):
    """A task that a worker was seen to run, at a heartbeat or by its nanny."""

    key: str
    """Its first 200 characters."""
    prefix: str
    thread: int | None
    start: float
    seen: float
    """When it was last seen to run: it ended then or later."""
    running: bool
    """Whether it ran at the last report."""
    peak: int | None
    """Largest in-execution memory seen, in bytes."""
    method: str


class SizeBin(TypedDict):
    """How many outputs are from ``low`` to ``high`` bytes large."""

    low: int
    high: int
    count: int


class PrefixTotals(TypedDict):
    """Sums over all task prefixes; sizes in bytes, ``None`` for what is not known."""

    prefixes: int
    """How many there are."""
    managed: int | None
    spilled: int | None
    executing: int | None
    count: int
    """Outputs stored."""
    running: int


class PrefixDetails(Prefix):
    """A task prefix with the distribution of its outputs' sizes."""

    output_bins: list[SizeBin]
    """Smallest first; outputs of at most 1 byte have a bin of their own."""


class LimitLink(TypedDict):
    """One link of the chain from the machine to a worker's limit."""

    level: str
    """'host', 'available', 'cgroup', 'batch', 'rlimit', 'siblings' or 'worker'."""
    name: str
    """'MemTotal', 'memory.max', 'RLIMIT_AS', 'SLURM_MEM_PER_NODE'…"""
    where: str
    """The file or variable that says so."""
    bytes: int
    effect: str
    """What happens there: 'kills', 'throttles', 'fails', 'declared'; 'none' for what
    stands beside the caps (available, siblings) and 'dask' for the worker's own."""
    binding: bool
    """Whether it is the least cap."""


class LimitFinding(TypedDict):
    """One verdict on a worker's limit."""

    verdict: str
    """'too-high', 'not-seen', 'kernel-first', 'thresholds', 'spill-off', 'scratch',
    'swap', 'pressure', 'unbalanced', 'too-low', 'allocator' or 'no-limit'."""
    severity: str
    """'bad', 'warning' or 'hint'."""
    text: str
    """What was read, with numbers."""
    advice: str
    """The exact change to make."""
    numbers: dict[str, int]
    """The numbers in the text, in bytes unless the name says otherwise."""


class LimitLive(TypedDict):
    """Live figures around one worker's limit, in bytes."""

    available: int | None
    cgroup_used: int | None
    swapped: int | None
    pressure: float | None
    """Share of time in which a task waited for memory, in percent."""
    scratch_free: int | None


class LimitHeadroom(TypedDict):
    """How long a worker's limit lasts at its present rate."""

    bytes: int | None
    """Limit less the process's memory; negative above the limit."""
    slope: int | None
    """Bytes a second over the last seconds; ``None`` with too few points."""
    seconds: float | None
    """Until the limit at that slope; ``None`` where that is over an hour away."""


class LimitScratch(TypedDict):
    """The directory that a worker spills to; sizes in bytes."""

    path: str
    filesystem: str | None
    """'tmpfs' means that spilling goes to memory."""
    total: int | None
    free: int | None


class LimitAudit(TypedDict):
    """Whether one worker's memory limit is right; worst first."""

    address: str
    name: str
    host: str
    pid: int
    nthreads: int
    machine: str | None
    """Names the machine, also where containers on it have hosts of their own."""
    environment: str | None
    """'host', 'container', 'kubernetes', 'slurm', 'pbs', 'sge', 'htcondor', 'lsf' or
    'wsl'."""
    limit: int | None
    set_by: str | None
    """'auto', 'fraction', 'given', 'clamped', 'off'; ``None`` where not known."""
    dask: int | None
    """What Dask takes for the memory of the machine."""
    effective: int | None
    """The least cap: what host, cgroup, batch system and rlimits really allow."""
    source: str | None
    """The kind of that cap: 'host', 'cgroup', 'batch' or 'rlimit'."""
    sources: dict[str, int | None]
    """``{"host", "cgroup", "batch", "rlimit", "available"}``: least of each kind, and
    what was available when the worker was first looked at."""
    siblings: int | None
    """Sum of the limits of the machine's worker processes, its own included;
    ``None`` when any has none."""
    n_siblings: int
    """How many worker processes that is."""
    chain: list[LimitLink]
    verdict: str
    """Of the worst finding; 'ok' without one, 'unknown' where no cap was read."""
    severity: str
    """Of the worst finding; 'ok' or 'unknown' likewise."""
    advice: list[str]
    """The advice of all findings, worst first."""
    findings: list[LimitFinding]
    recommended: int | None
    """A limit that fits this worker beside the others, in bytes."""
    live: LimitLive
    headroom: LimitHeadroom
    swap_total: int | None
    swap_limit: int | None
    trim_threshold: int | None
    """``MALLOC_TRIM_THRESHOLD_`` of the worker, in bytes."""
    allocator: str | None
    """'glibc', 'musl', 'jemalloc', 'tcmalloc', 'mimalloc'."""
    scratch: LimitScratch | None
    skipped: list[str]
    """Values that were found and not used, and why."""


class OrderVerdict(TypedDict):
    """Whether a graph's order fits the cluster, in one sentence."""

    kind: str
    """'fits', 'runs-ahead', 'cannot-fit', 'stuck' or 'unknown'."""
    text: str
    """One sentence with numbers, and what to change."""


class OrderCurve(TypedDict):
    """Storage of a graph over the number of finished tasks, as columns, in bytes.

    Thinned out to some 500 points that keep the peaks.
    """

    position: list[int]
    """Number of finished tasks, from 1 up."""
    ideal: list[int]
    """What the order needs, one task at a time."""
    ideal_threads: list[int]
    """The same, as many tasks at a time as the cluster has threads."""
    actual: list[int | None]
    """What was held; ``None`` beyond what is done."""


class PrefixBytes(TypedDict):
    """Bytes of one prefix; ``None`` in the place of a prefix means a client."""

    prefix: str | None
    bytes: int


class OrderIncident(TypedDict):
    """Where on the curve an incident happened."""

    id: str
    position: int
    """Number of tasks of this graph that had finished."""


class Rootish(TypedDict):
    """How the scheduler took a prefix of root tasks, by its own rule."""

    prefix: str
    rootish: bool
    queued: bool
    """Whether its tasks wait on the scheduler until a worker has a free thread."""
    why: str


class WhatIf(TypedDict):
    """The graph's minimum if something were different."""

    change: str
    """In words, such as 'random_sample in chunks half as large'."""
    minimum: int


class GraphNeed(TypedDict):
    """What one task needs at once, in bytes: inputs, and its peak or its output."""

    prefix: str
    bytes: int
    has: int | None
    """What the roomiest worker has for one task when it is empty: its terminate
    threshold (its limit without one) less what it takes when idle."""


class Graph(TypedDict):
    """Storage of one graph against its own order; sizes in bytes."""

    id: str
    name: str
    tasks: int
    done: int | None
    minimum: int | None
    """Largest storage that the order needs, one task at a time."""
    minimum_threads: int | None
    """The same, `threads` tasks at a time."""
    minimum_position: int | None
    """Number of finished tasks at which `minimum` is reached."""
    threads: int
    actual_peak: int | None
    run_ahead: int | None
    """Most that was held above what the order needs, `threads` tasks at a time, at
    the same number of finished tasks."""
    run_ahead_position: int | None
    capacity: int | None
    """What the workers can store together: the limit of each, or its pause threshold
    where it cannot spill, less what it takes when idle; ``None`` where not known."""
    need: GraphNeed | None
    """Of the task that needs most at once; ``None`` where that is not known."""
    verdict: OrderVerdict
    run_ahead_by: list[PrefixBytes]
    """What `run_ahead` consists of, largest first."""
    uncertainty: int | None
    """By how much `minimum` may be off, since not every size has been measured."""
    covered: str | None
    """``None`` when it is; else a sentence that says why not, or what is left out."""
    curve: OrderCurve
    incidents: list[OrderIncident]
    rootish: list[Rootish]
    what_if: list[WhatIf]
    finished: bool
    time: float
    """When the graph arrived."""


class HeldFor(TypedDict):
    """What one prefix holds at a point of the curve, and for whom, in bytes."""

    prefix: str
    bytes: int
    keys: int
    run_ahead: int
    """How much of it is more than the order needs there."""
    awaited_by: list[PrefixBytes]
    """Prefixes that wait for it; ``None`` is a client.  What several wait for counts
    for each of them."""


class OrderPoint(TypedDict):
    """What was held at one number of finished tasks."""

    position: int
    of: str
    """'actual'; 'ideal' where the graph has not got there; 'unknown' where it is not
    covered, or still being worked out."""
    held: list[HeldFor]
    """Largest first."""


class Store(Protocol):
    """Read-only view of a cluster's memory, live or recorded."""

    @property
    def version(self) -> int:
        """Grows with every change; views skip their update while it stands."""

    def cluster(self) -> Cluster:
        """Return the cluster at a glance."""

    def workers(self, limit: int | None = None, offset: int = 0) -> list[Worker]:
        """Return the connected workers, by name."""

    def departed(self, limit: int | None = None, offset: int = 0) -> list[Worker]:
        """Return the workers that have left, newest first, as they were last seen.

        Their ``status`` is 'left' and ``last_seen`` is when.  Of those that left
        long ago nothing is kept.
        """

    def task_history(self, worker: str) -> list[PastTask]:
        """Return the recent tasks that a worker was seen to run, oldest first.

        Raises
        ------
        UnknownWorkerError
        """

    def prefixes(self, limit: int | None = None, offset: int = 0) -> list[Prefix]:
        """Return the task prefixes, largest first."""

    def prefix_totals(self) -> PrefixTotals:
        """Return the sums over all task prefixes, without making them one by one."""

    def prefix(self, name: str) -> PrefixDetails:
        """Return one task prefix with the distribution of its outputs' sizes.

        Raises
        ------
        UnknownPrefixError
        """

    def incidents(
        self, limit: int | None = None, offset: int = 0
    ) -> list[dict[str, Any]]:
        """Return the incidents, newest first (shape: :class:`Incident`)."""

    def incident(self, incident_id: str) -> dict[str, Any]:
        """Return one incident with its suspects, storage, findings, cost and timeline.

        Raises
        ------
        UnknownIncidentError
        """

    def failures(
        self, limit: int | None = None, offset: int = 0
    ) -> list[dict[str, Any]]:
        """Return the failures, newest first (shape: DESIGN, JSON API)."""

    def failure(self, failure_id: str) -> dict[str, Any]:
        """Return one failure: all incidents of one computation.

        Raises
        ------
        UnknownFailureError
        """

    def limits(self, limit: int | None = None, offset: int = 0) -> list[LimitAudit]:
        """Return audit of every worker's memory limit, worst first, then by name."""

    def order(self, limit: int | None = None, offset: int = 0) -> list[Graph]:
        """Return the graphs, newest first, each with its curve."""

    def graph(self, graph_id: str) -> Graph:
        """Return one graph.

        Raises
        ------
        UnknownGraphError
        """

    def order_point(self, graph_id: str, position: int) -> OrderPoint:
        """Say what a graph held when `position` of its tasks had finished, for whom.

        Raises
        ------
        UnknownGraphError
        """

    def history(
        self, worker: str | None = None, since: float | None = None, points: int = 300
    ) -> History:
        """Return the breakdown over time of the cluster or of one worker.

        Workers that have left (:meth:`departed`) keep theirs.

        Raises
        ------
        UnknownWorkerError
        """
