"""Shapes of what the store says of the workers' memory limits.

See :mod:`dask_memdash.store.base` for units and for what ``None`` means.
"""

from __future__ import annotations

from typing import TypedDict


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
    """Until the limit; ``None`` where nothing grows steadily towards it."""


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
    """The limit that the findings say to set, in bytes: it fits this worker beside the
    others.  ``None`` where they ask for no other."""
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
