"""Shapes of what the store says of graphs, each against its own order.

See :mod:`dask_memdash.store.base` for units and for what ``None`` means.
"""

from __future__ import annotations

from typing import TypedDict


class OrderVerdict(TypedDict):
    """Whether a graph's order fits the cluster, in one sentence."""

    kind: str
    """'fits' (storage, one task, and the tasks that run at once), 'storage-fits' (of
    tasks at once nothing is known), 'too-many-at-once', 'runs-ahead', 'cannot-fit',
    'stuck' or 'unknown'."""
    text: str
    """What was judged, with numbers, and what to change."""


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
    at_least: bool
    """Whether it may need more: its peak was not measured, or its worker died."""


class GraphAtOnce(TypedDict):
    """What tasks of a graph that run at once on one worker need together, in bytes.

    Of those that have not run yet, on the worker that has least for each thread.
    """

    tasks: int
    """How many run at once there."""
    has: int
    """What there is for them: as for one task."""
    surely: int
    """What they need at least, all of them at their peaks and without their inputs."""
    at_most: int | None
    """What they need at most; ``None`` where a peak among them is not known."""
    prefix: str
    """Of which prefix most of those are that `surely` rests on."""
    each: int
    """What one of these needs beside its inputs."""
    at_least: bool
    """Whether `each` is only what one had when its worker died, or its output."""
    fit: int
    """How many of these fit together."""


class ThreadLoad(TypedDict):
    """What the fullest worker will have with so many threads, in bytes."""

    threads: int
    kind: str
    """'fits', 'does-not-fit' or 'unknown'."""
    low: int
    high: int | None
    """``None`` where nothing bounds it."""
    execution: int
    """How much of it running tasks take."""
    has: int | None
    """What it has room for; ``None`` where not known."""


class Foreseen(TypedDict):
    """Whether a graph will fit, with what its tasks take while they run, in bytes."""

    kind: str
    """'fits', 'does-not-fit' or 'unknown'."""
    text: str
    """The verdict with its figures, and what to change."""
    low: int
    usual: int
    high: int | None
    """What all workers need together at the worst point: least, as tasks usually took,
    most; ``None`` where nothing bounds it."""
    execution: int
    """How much of ``usual`` running tasks take."""
    position: int
    """Number of finished tasks at which that is."""
    has: int | None
    """What the workers have room for; ``None`` where not known."""
    fitting: int | None
    """With how many threads a worker it fits; ``None`` where that is not known."""
    workers: list[ThreadLoad]
    """The fullest worker: with all its threads, and with fewer."""
    unknown: list[str]
    """Prefixes of which it is not known what their tasks take at most."""
    assumed: list[str]
    """Prefixes whose chunks are taken to be as large as those that ran before."""


class TaskSizes(TypedDict):
    """The largest that one task of a prefix gets and makes in a graph, in bytes."""

    prefix: str
    inputs: int
    output: int


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
    at_once: GraphAtOnce | None
    """Of the tasks that run together on one worker; ``None`` where not known."""
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
    sizes: list[TaskSizes]
    """Of the prefixes with most, as far as measured: what a later graph's tasks are
    compared with."""
    what_if: list[WhatIf]
    finished: bool
    foreseen: Foreseen | None
    """Of a graph that is not done; ``None`` where nothing is known yet."""
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
