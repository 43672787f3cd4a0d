"""Shapes of what the store says of task prefixes: their outputs and their execution.

See :mod:`dask_memdash.store.base` for units and for what ``None`` means.
"""

from __future__ import annotations

from typing import TypedDict


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
    stored: int
    stored_pending: int
    """Bytes that lie in the cluster's memory of intermediates too, and that are to."""
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


class PrefixChildren(TypedDict):
    """Processes that the tasks of a prefix started, over the whole cluster."""

    processes: int
    """How many there are now."""
    rss: int
    """What they have resident now, in bytes."""
    peak: int | None
    """The most that those of one task had; ``None`` where none was seen."""


class Prefix(TypedDict):
    """One task prefix, or memory of the workers that belongs to none.

    Of the latter (kind 'other') storage and execution hold nothing: ``None``, 0.
    """

    prefix: str
    """Its name; of a kind, no two have the same."""
    kind: str
    """'task', or 'other': no prefix of tasks, but see ``part``."""
    bytes: int | None
    """What it has in the workers' processes: outputs in memory and running tasks, or
    all of it where it belongs to no task.  A sum over rows counts nothing twice, but
    'child processes' lie beside the workers' own."""
    part: str | None
    """The part of the breakdown that it lies in; ``None`` for tasks, which have more
    than one, and for what lies beside the processes."""
    method: str
    """How ``bytes`` is known, or how peaks of its tasks were measured."""
    storage: PrefixStorage
    execution: PrefixExecution
    children: PrefixChildren
    """Beside the workers' own processes: in no sum of theirs."""
    graph_bytes: int
    """What its tasks weigh on workers as they were sent: arguments, closures, records;
    in the part ``graph``."""
    advice: str | None
    """What to change where each of its tasks carries much, or where what belongs to no
    task is much."""


class SizeBin(TypedDict):
    """How many outputs are from ``low`` to ``high`` bytes large."""

    low: int
    high: int
    count: int


class PrefixMinute(TypedDict):
    """What a prefix had in the workers' processes in the last minute, as columns.

    A size stands until the next; the first stood as the minute began, or earlier, where
    that is known.
    """

    time: list[float]
    """Oldest first."""
    bytes: list[int]
    """Outputs in memory and running tasks."""


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
