"""Shapes of incidents and failures, as the store gives them.

Sizes are in bytes, instants in seconds since the Unix epoch; ``None`` is not known.
"""

from __future__ import annotations

from typing import TypedDict

from dask_memdash.store import evidence_shapes as evidence
from dask_memdash.store.worker_shapes import Breakdown, TaskChildren, Thresholds


class WorkerName(TypedDict):
    """The worker that an incident is about."""

    address: str
    name: str
    host: str
    pid: int


class HowItEnded(TypedDict):
    """How a process ended: by a status or by a signal, and through whom."""

    code: int | None
    signal: int | None
    by: str
    """'nanny', 'kernel' or 'unknown'."""


class Responsible(TypedDict):
    """Whose memory it was; the key where one task is to blame."""

    prefix: str | None
    key: str | None


class FailureDiagnosis(TypedDict):
    """What filled the memory, and why nothing relieved it."""

    cause: str
    relief: str | None
    confidence: float
    text: str
    advice: list[str]


class IncidentDiagnosis(FailureDiagnosis):
    """The diagnosis of one incident."""

    responsible: Responsible
    instant: float | None
    """Of which instant it speaks."""


class Incident(TypedDict):
    """One incident."""

    id: str
    time: float
    until: float | None
    kind: str
    worker: WorkerName
    exit: HowItEnded | None
    limit: int | None
    breakdown: Breakdown
    diagnosis: IncidentDiagnosis
    evidence: str
    failure: str | None
    settled: bool


class LostKeys(TypedDict):
    """What it cost."""

    keys_lost: int | None
    bytes_lost: int | None
    seconds_recomputed: float | None
    """Work to repeat; what is loaded from the cluster's memory is not in it."""
    keys_stored: int | None
    bytes_stored: int | None
    """Of what was lost, what lies in the cluster's memory of intermediates too."""


class IncidentFinding(TypedDict):
    """One finding that a diagnosis rests on."""

    cause: str
    weight: float
    text: str
    responsible: Responsible


class IncidentCost(LostKeys):
    """What one incident cost."""

    seconds_away: float | None
    """Until a worker was back in its place."""
    nanny_closed_after: float | None
    """Until its nanny closed without a worker."""


class OfSomeKinds(TypedDict, total=False):
    """What incidents of some kinds say, and others do not."""

    tasks: list[evidence.IncidentTask]
    """The first of the tasks that were given up, or refused memory."""
    n_tasks: int
    task: evidence.IncidentTask
    """The first of them."""
    attempts: list[str]
    """Incidents behind a 'killed-worker', oldest first."""
    stuck: evidence.Stuck
    stage: str
    """Of a 'memory-error': 'running', 'refused', 'receiving' or 'child'."""
    detail: str
    request: evidence.Request | None
    cluster_limit: int | None


class IncidentDetails(Incident, OfSomeKinds):
    """One incident whole."""

    suspects: list[evidence.Suspect]
    innocent: evidence.Innocent
    storage: list[evidence.StoredThen]
    spill: evidence.Spilling
    thresholds: Thresholds
    """The worker's, then."""
    children: list[TaskChildren]
    """Processes that its tasks had started, beside the worker's own process."""
    findings: list[IncidentFinding]
    cost: IncidentCost
    timeline: evidence.Timeline
    last_seconds: evidence.LastSeconds


class Failure(TypedDict):
    """All incidents of one computation."""

    id: str
    opened: float
    closed: float | None
    kind: str
    count: int
    deaths: int
    kinds: dict[str, int]
    workers: int
    worker_names: list[str]
    graph: str | None
    text: str
    responsible: Responsible
    diagnosis: FailureDiagnosis
    cost: LostKeys
    killed_workers: list[str]
    tasks_given_up: int
    incidents: list[str]
    settled: bool
