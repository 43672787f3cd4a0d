"""Will it fit?  Execution and storage of a graph together, before or while it runs.

The storage is that of the graph's own order, as many tasks at a time as the cluster has
threads.  On top comes what those tasks take while they run, as tasks of their prefixes
took before (:mod:`~dask_memdash.analysis.order.taken`).  Every figure is an interval:

- *at most*, a worker runs the largest tasks of the whole graph together, at their
  largest, beside what it may store in memory;
- *at least*, of tasks that the order runs together a worker gets its share, and what
  those take by the median comes together to a part.

It fits if the most does, and does not if the least does not.  In between, or where
nothing bounds it, that is not known, and it is said why.

Pure.  All sizes in bytes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from dask_memdash.analysis.order.need import inputs_of_each
from dask_memdash.analysis.order.simulate import HERE, Shape
from dask_memdash.analysis.order.storage_curve import curve
from dask_memdash.analysis.order.taken import (
    Floats,
    Marks,
    Sizes,
    Taken,
    Takes,
    takes,
)

#: What of their medians tasks that run together have at one instant at least.
COINCIDE = 0.75

#: By how much the fullest worker may have more than its share of what is stored, and
#: by how much two runs of the same differ.
UNEVEN = 1.5
SPREAD = 0.1

#: Own memory that a worker gains while it works: modules, pools, caches.
WARM = 12_000_000

#: Share of a worker's limit by which a figure must keep off the line that ends it.
MARGIN = 0.03

FITS, NOT, UNKNOWN = "fits", "does-not-fit", "unknown"


@dataclass(frozen=True, slots=True)
class Space:
    """What the workers of a cluster have."""

    workers: int = 0
    #: Threads of one worker, and of all.
    threads: int = 1
    total_threads: int = 1
    #: Of the worker with the least: its limit, where it ends (terminate threshold, else
    #: the limit), where it pauses, and down to where outputs are spilled; None: never.
    limit: int | None = None
    end: int | None = None
    pause: int | None = None
    target: int | None = None
    #: What a process takes before it does anything; None where not known.
    idle: int | None = None
    #: Where the worker with the most ends.
    most: int | None = None

    @property
    def room(self) -> int | None:
        """What the least roomy worker has for storage and execution."""
        if self.end is None or self.idle is None:
            return None
        return max(0, self.end - self.idle)


@dataclass(frozen=True, slots=True)
class Planned:
    """A graph: its tasks by rank, and their outputs."""

    shape: Shape
    names: Sequence[str]
    prefix: npt.NDArray[np.intp]
    outputs: Sizes
    #: Prefix → the largest chunk that its tasks work on, where that is known otherwise.
    blocks: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Load:
    """What a worker has at its worst point with so many threads."""

    threads: int
    #: Storage and execution together, and the execution of it.
    low: int
    usual: int
    #: None where nothing bounds it.
    high: int | None
    execution: int
    kind: str = UNKNOWN


@dataclass(frozen=True, slots=True)
class Preflight:
    """Whether a graph fits a cluster, execution and all."""

    kind: str
    space: Space
    #: All workers together at the graph's worst point, and after how many tasks it is.
    low: int
    usual: int
    high: int | None
    execution: int
    position: int
    tasks: int
    #: The fullest worker, with as many threads as it has, and with fewer.
    load: Load
    fewer: tuple[Load, ...]
    #: The largest of all tasks: its prefix, and what it takes with its inputs.
    largest: str
    largest_need: int
    #: Prefix → why nothing bounds what its tasks take, largest first.
    why: dict[str, str]
    #: Prefixes whose chunks are taken to be as large as those that ran, likewise.
    assumed: tuple[str, ...]
    #: What of the storage is needed whatever the threads, and where it ends.
    minimum: int
    capacity: int | None
    #: Of `UNKNOWN`: 'no-limit', 'young', 'prefixes' or 'close'; of `NOT`: 'storage' or
    #: empty.
    reason: str = ""

    @property
    def fitting(self) -> int | None:
        """With how many threads a worker it fits; None where it does with none."""
        known = [load.threads for load in (self.load, *self.fewer) if load.kind == FITS]
        return max(known, default=None)


def preflight(
    graph: Planned, taken: Mapping[str, Taken], space: Space
) -> Preflight | None:
    """Say whether a graph fits; None where nothing of it is to run."""
    shape = graph.shape
    runs = ~shape.given
    if not runs.any():
        return None
    inputs = _inputs(shape, graph.outputs)
    each = takes(graph.names, graph.prefix, graph.outputs, inputs, taken, graph.blocks)
    each = _only(each, runs)
    whole = _whole(graph, each, max(1, space.total_threads))
    minimum = _minimum(graph)
    loads = [
        _load(graph, each, inputs, space, threads, whole)
        for threads in _to_try(space.threads)
    ]
    largest = int(np.argmax(np.where(runs, each.usual + inputs.size, -1.0)))
    capacity = _capacity(space)
    kind, reason = _judge(space, loads[0], minimum, capacity)
    names = _by_size(graph, each)
    return Preflight(
        kind=kind,
        space=space,
        low=whole.low,
        usual=whole.usual,
        high=whole.high,
        execution=whole.execution,
        position=whole.position,
        tasks=shape.total,
        load=loads[0],
        fewer=tuple(loads[1:]),
        largest=graph.names[graph.prefix[largest]],
        largest_need=int(each.usual[largest] + inputs.size[largest]),
        why={name: each.why[name] for name in names if name in each.why},
        assumed=tuple(name for name in names if name in each.assumed),
        minimum=minimum[0],
        capacity=capacity,
        reason=reason,
    )


@dataclass(frozen=True, slots=True)
class _Whole:
    """All workers together at the worst point."""

    low: int
    usual: int
    high: int | None
    execution: int
    position: int
    #: What is stored at most, and at most with what sizes may be off by.
    stored: float
    stored_high: float
    #: Ranks of the tasks of each round.
    rounds: list[npt.NDArray[np.intp]]


def _whole(graph: Planned, each: Takes, at_a_time: int) -> _Whole:
    shape = graph.shape
    finish = shape.finish(at_a_time)
    gone = shape.last_use(finish)
    outputs = graph.outputs
    stored, off, sure = (
        curve(finish, gone, sizes, shape.total)
        for sizes in (outputs.size, outputs.most, outputs.least)
    )
    rounds = _rounds(shape, finish, at_a_time)
    best, worst, at, execution = -1.0, 0.0, 0, 0.0
    low, bounded = 0.0, True
    done = 0
    for round_ in rounds:
        ran = float(each.usual[round_].sum())
        if stored[done] + ran > best:
            best, at, execution = float(stored[done]) + ran, done, ran
        worst = max(worst, float(off[done]) + float(each.high[round_].sum()))
        bounded = bounded and math.isfinite(worst)
        least = COINCIDE * float(each.low[round_].sum())
        low = max(low, float(sure[done]) + least)
        done += len(round_)
    # what is stored at the end of all stands beside no task
    best = max(best, float(stored[-1]))
    return _Whole(
        low=int(low),
        usual=int(best),
        high=int(worst) if bounded else None,
        execution=int(execution),
        position=at,
        stored=float(stored.max()),
        stored_high=float(off.max()),
        rounds=rounds,
    )


def _rounds(
    shape: Shape, finish: npt.NDArray[np.int32], at_a_time: int
) -> list[npt.NDArray[np.intp]]:
    """Return the tasks that run together, round by round, as the order has it.

    A round ends when it has as many tasks as there are threads, or where the next task
    needs one of it.  Of large graphs the latter is left out.
    """
    order = np.argsort(finish, kind="stable")[shape.n - shape.total :]
    if shape.n > HERE:
        return np.array_split(order, max(1, -(-len(order) // at_a_time)))
    rounds: list[npt.NDArray[np.intp]] = []
    begin = 0
    member = np.zeros(shape.n, bool)
    for place, rank in enumerate(order):
        needs = shape.dependencies[shape.offsets[rank] : shape.offsets[rank + 1]]
        if place - begin >= at_a_time or member[needs].any():
            rounds.append(order[begin:place])
            member[order[begin:place]] = False
            begin = place
        member[rank] = True
    rounds.append(order[begin:])
    return rounds


def _load(
    graph: Planned,
    each: Takes,
    inputs: Sizes,
    space: Space,
    threads: int,
    whole: _Whole,
) -> Load:
    """Return what the fullest worker has with so many threads."""
    workers = max(1, space.workers)
    share = 1.0 if workers == 1 else min(1.0, UNEVEN / workers)
    stored = whole.stored * share
    stored_high = whole.stored_high * share * (1 + SPREAD)
    # what is fetched lies here too
    fetched = _largest(inputs.size, threads)
    fetched_high = _largest(inputs.most, threads)
    if space.target is not None:
        stored = min(stored, float(space.target))
        # the newest comes before others are spilled
        newest = float(graph.outputs.most.max())
        stored_high = min(stored_high, space.target + newest)
    resident = max(stored, fetched)
    most = max(stored_high, fetched_high)
    if workers > 1:
        most += fetched_high
    ran = _largest(each.usual, threads)
    ran_high = _largest(each.high, threads)
    low = _at_least(each, inputs, whole, workers, threads)
    high = most + ran_high + WARM
    load = Load(
        threads=threads,
        low=int(low),
        usual=int(max(low, resident + ran)),
        high=int(high) if math.isfinite(high) else None,
        execution=int(ran),
    )
    return Load(
        load.threads, load.low, load.usual, load.high, load.execution,
        _kind(space, load),
    )  # fmt: skip


def _kind(space: Space, load: Load) -> str:
    if space.end is None or space.idle is None or space.limit is None:
        return UNKNOWN
    margin = MARGIN * space.limit
    line = space.end
    if space.target is None and space.pause is not None:
        line = space.pause  # it starts nothing above, and frees nothing by itself
    if load.high is not None and space.idle + load.high <= line - margin:
        return FITS
    if space.idle + load.low > (space.most or space.end) + margin:
        return NOT
    return UNKNOWN


def _at_least(
    each: Takes,
    inputs: Sizes,
    whole: _Whole,
    workers: int,
    threads: int,
) -> float:
    """Return what the fullest worker has at least: of a round, its fair share."""
    best = float((each.low + inputs.least).max())
    for round_ in whole.rounds:
        sizes = np.sort(each.low[round_])[::-1]
        numbers = np.minimum(np.ceil(np.arange(1, len(sizes) + 1) / workers), threads)
        held = COINCIDE * numbers * sizes
        best = max(best, float(held.max()))
    return best


def _judge(
    space: Space,
    load: Load,
    minimum: tuple[int, int],
    capacity: int | None,
) -> tuple[str, str]:
    if space.end is None or not space.workers:
        return UNKNOWN, "no-limit"
    if space.idle is None:
        return UNKNOWN, "young"
    surely = minimum[0] - minimum[1]
    if load.kind == NOT:
        return NOT, ""
    if capacity is not None and space.target is None and surely > capacity:
        return NOT, "storage"
    if load.kind == FITS:
        return FITS, ""
    unbounded = load.high is None
    return UNKNOWN, "prefixes" if unbounded else "close"


def _capacity(space: Space) -> int | None:
    """Return what all workers can store in memory, where they cannot spill."""
    line = space.end if space.pause is None else space.pause
    if line is None or space.idle is None:
        return None
    return space.workers * max(0, line - space.idle)


def _minimum(graph: Planned) -> tuple[int, int]:
    """Return what is stored at most one task at a time, and by how much that is off."""
    shape = graph.shape
    finish = shape.finish(1)
    gone = shape.last_use(finish)
    stored = curve(finish, gone, graph.outputs.size, shape.total)
    off = curve(finish, gone, graph.outputs.doubt, shape.total)
    peak = int(np.argmax(stored))
    return int(stored[peak]), int(off[peak])


def _to_try(threads: int) -> list[int]:
    """Return numbers of threads: all, and fewer by halves."""
    found = [max(1, threads)]
    while found[-1] > 1:
        found.append(found[-1] // 2)
    return found


def _largest(sizes: Floats, number: int) -> float:
    """Sum the largest of some sizes."""
    if len(sizes) <= number:
        return float(sizes.sum())
    return float(np.partition(sizes, -number)[-number:].sum())


def _only(each: Takes, runs: Marks) -> Takes:
    """Leave out what does not run."""
    low, usual, high = (
        np.where(runs, sizes, 0.0) for sizes in (each.low, each.usual, each.high)
    )
    return Takes(low, usual, high, each.why, each.assumed)


def _inputs(shape: Shape, outputs: Sizes) -> Sizes:
    """Return what each task gets."""
    unknown = inputs_of_each(shape, (~outputs.told).astype(np.float64))
    return Sizes(
        inputs_of_each(shape, outputs.size),
        inputs_of_each(shape, outputs.doubt),
        (unknown == 0) & (np.diff(shape.offsets) > 0),
    )


def _by_size(graph: Planned, each: Takes) -> list[str]:
    """Name prefixes, those first whose tasks take most, as far as that is known."""
    sizes = np.zeros(len(graph.names))
    np.maximum.at(sizes, graph.prefix, each.usual)
    return [graph.names[index] for index in np.argsort(-sizes, kind="stable")]
