"""Was it the order?  Storage of a graph against what its own order needs.

The *ideal* is the storage that the tasks need when they run one at a time by priority
among those that are ready, its peak the *minimum*; the same with as many tasks at a
time as the cluster has threads is what a cluster is compared with.  The *actual* is
what was held at the same number of finished tasks, and *run-ahead* the difference.
:func:`judge` works all of it out from a :class:`Snapshot`, which is taken on the event
loop and may be judged in a thread; :mod:`dask_memdash.analysis.order.verdict` puts it
into words.

All sizes in bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from dask_memdash.analysis.order.at_once import AtOnce, at_once
from dask_memdash.analysis.order.nearby import needed_near
from dask_memdash.analysis.order.need import Need, never_ran, peaks_of, worst_need
from dask_memdash.analysis.order.simulate import HERE, Shape
from dask_memdash.analysis.order.sizes import fill_sizes
from dask_memdash.analysis.order.storage_curve import Floats, curve, held_at, thin
from dask_memdash.model.graph_columns import GIVEN, RootGroup
from dask_memdash.model.order_log import GraphRecord
from dask_memdash.model.room import Room

#: Points of a curve that are shown at most.
POINTS = 500

#: Prefixes whose chunks are made smaller and larger to see what comes of it.
SCALED = 3

#: Least share of the minimum for which that is done.
WORTHWHILE = 0.02

#: Prefixes that a list names at most.
MAX_NAMED = 20


@dataclass(frozen=True, slots=True)
class Usual:
    """What outputs of a prefix are usually like, from earlier graphs."""

    #: None where none was ever stored.
    size: int | None
    #: By how much half of them may differ from it.
    spread: int
    #: What its tasks use at most while they run, their 0.95-quantile; None where that
    #: was not measured.
    peak: int | None = None
    #: The most that one of them had when its worker died: it needs at least that.
    at_least: int | None = None


@dataclass(slots=True)
class Snapshot:
    """A graph at one instant, by rank.  Arrays are its own or never change."""

    id: str
    total: int
    done: int
    finished: bool
    threads: int
    #: What the workers can store together; None where not known.
    capacity: int | None
    prefixes: tuple[str, ...]
    prefix: npt.NDArray[Any]
    offsets: npt.NDArray[Any]
    dependencies: npt.NDArray[Any]
    flags: bytes
    #: Sizes of outputs, negative where not known.
    sizes: npt.NDArray[Any]
    stored_at: npt.NDArray[Any]
    left_at: npt.NDArray[Any]
    usual: Mapping[str, Usual] = field(default_factory=dict)
    roots: tuple[RootGroup, ...] = ()
    #: By how much each of `sizes` may be off; None where those known are measured.
    doubt: npt.NDArray[np.float32] | None = None
    #: What the workers have room for.
    room: Room = field(default_factory=Room)
    #: Incidents in which a worker died for memory while the graph ran, newest first.
    deaths: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WhatIf:
    """The minimum if something were different."""

    change: str
    minimum: int


@dataclass(slots=True)
class Judgement:
    """What a snapshot says of its graph."""

    snapshot: Snapshot
    minimum: int
    minimum_position: int
    minimum_threads: int
    #: By how much `minimum` may be off.
    uncertainty: int
    #: Whether the size of any output is known.
    measured: bool
    actual_peak: int | None
    run_ahead: int | None
    run_ahead_position: int | None
    #: At 0 to `done` finished tasks, the most that the order needs near there, and the
    #: same with the largest sizes that outputs may have.
    near: Floats
    near_at_most: Floats
    #: Where most was held above that, how much was, and what the order may need.
    surely_position: int
    surely_held: int
    surely_needed: int
    run_ahead_by: list[tuple[str, int]]
    #: What the order holds at `minimum_position`, by prefix.
    minimum_by: list[tuple[str, int]]
    position: npt.NDArray[np.int64]
    ideal: npt.NDArray[np.int64]
    ideal_threads: npt.NDArray[np.int64]
    #: As far as the graph has come.
    actual: npt.NDArray[np.int64]
    what_if: list[WhatIf]
    #: Sizes as they were taken, and when each output comes and goes with `threads`
    #: tasks at a time: for :func:`look` and :func:`facts`.
    sizes: npt.NDArray[np.float32]
    come: npt.NDArray[np.int32]
    gone: npt.NDArray[np.int32]
    #: The task that needs most at once; None where none is to run.
    need: Need | None = None
    #: Prefixes of which no task has ever run: what they need is not known.
    never_ran: tuple[str, ...] = ()
    #: Tasks that run together on one worker; None where nothing is known of it.
    at_once: AtOnce | None = None


def take_snapshot(
    record: GraphRecord, usual: Mapping[str, Usual], deaths: tuple[str, ...] = ()
) -> Snapshot | None:
    """Copy what changes of a graph; None where it is not covered."""
    tasks = record.tasks
    if tasks is None:
        return None
    return Snapshot(
        id=record.id,
        total=record.total,
        done=record.done,
        finished=record.finished,
        threads=max(1, record.threads),
        capacity=record.capacity,
        room=record.room,
        prefixes=record.prefixes,
        prefix=np.frombuffer(tasks.prefix, np.uint16),
        offsets=np.frombuffer(tasks.offsets, np.uint32),
        dependencies=_view(tasks.dependencies, np.uint32),
        flags=tasks.flags,
        sizes=np.array(tasks.sizes, np.float32),
        stored_at=np.array(tasks.stored_at, np.uint32),
        left_at=np.array(tasks.left_at, np.uint32),
        usual={name: usual[name] for name in record.prefixes if name in usual},
        roots=record.roots,
        deaths=deaths,
    )


def judge(snapshot: Snapshot) -> Judgement:
    """Work out the curves, their peaks, the run-ahead, and what would change them."""
    total = snapshot.total
    shape = Shape(snapshot.offsets, snapshot.dependencies, snapshot.flags)
    sizes, doubt = fill_sizes(snapshot)
    alone = shape.finish(1)
    alone_gone = shape.last_use(alone)
    together = alone if snapshot.threads == 1 else shape.finish(snapshot.threads)
    together_gone = shape.last_use(together)
    ideal = curve(alone, alone_gone, sizes, total)
    ideal_threads = curve(together, together_gone, sizes, total)
    here, come, gone = actual_span(snapshot)
    actual = curve(come, gone, sizes[here], total)[: snapshot.done + 1]
    peak = _peak(ideal)
    peaks = peaks_of(snapshot, sizes)
    at_peak = held_at(alone, alone_gone, peak)
    near, near_at_most = (
        needed_near(snapshot, shape, together, together_gone, s)
        for s in (sizes, sizes + doubt)
    )
    judgement = Judgement(
        snapshot=snapshot,
        minimum=int(ideal[peak]),
        minimum_position=peak,
        minimum_threads=int(ideal_threads.max()),
        uncertainty=int(doubt[at_peak].sum()),
        measured=bool((snapshot.sizes >= 0).any()),
        actual_peak=int(actual.max()) if here.any() else None,
        run_ahead=None,
        run_ahead_position=None,
        near=near,
        near_at_most=near_at_most,
        surely_position=0,
        surely_held=0,
        surely_needed=0,
        run_ahead_by=[],
        minimum_by=_ranked(_by_prefix(snapshot, sizes, at_peak), snapshot.prefixes),
        position=np.empty(0, np.int64),
        ideal=np.empty(0, np.int64),
        ideal_threads=np.empty(0, np.int64),
        actual=np.empty(0, np.int64),
        what_if=_what_if(snapshot, shape, sizes, (alone, alone_gone), at_peak),
        sizes=sizes,
        come=together,
        gone=together_gone,
        need=worst_need(snapshot, shape, sizes, doubt, peaks),
        never_ran=never_ran(snapshot),
        at_once=at_once(snapshot, shape, together, sizes, doubt, peaks),
    )
    _compare(judgement, actual, ideal_threads)
    _thin_out(judgement, ideal, ideal_threads, actual)
    return judgement


def actual_span(
    snapshot: Snapshot,
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[Any], npt.NDArray[Any]]:
    """Say which outputs were ever held, and from when until when each of them was."""
    given = (np.frombuffer(snapshot.flags, np.uint8) & GIVEN) > 0
    here = (snapshot.stored_at > 0) | (given & (snapshot.sizes >= 0))
    gone = snapshot.left_at[here].astype(np.int64)
    gone[gone == 0] = snapshot.total + 1
    return here, snapshot.stored_at[here], gone


def _compare(
    judgement: Judgement,
    actual: Floats,
    ideal_threads: Floats,
) -> None:
    """Find where most was held above what the order needs."""
    if judgement.actual_peak is None:
        return
    excess = actual - ideal_threads[: len(actual)]
    position = _peak(excess)
    judgement.run_ahead = max(0, int(excess[position]))
    judgement.run_ahead_position = position
    near_at_most = judgement.near_at_most
    surely = _peak(actual - near_at_most)
    judgement.surely_position = surely
    judgement.surely_held = int(actual[surely])
    judgement.surely_needed = int(near_at_most[surely])
    if judgement.run_ahead:
        ahead = excess_by_prefix(judgement, position)
        judgement.run_ahead_by = _ranked(ahead, judgement.snapshot.prefixes)


def excess_by_prefix(judgement: Judgement, position: int) -> npt.NDArray[np.float64]:
    """Return what was held beyond what the order needs there, by number of prefix."""
    snapshot = judgement.snapshot
    here, come, gone = actual_span(snapshot)
    held = here.copy()
    held[here] = held_at(come, gone, position)
    needed = held_at(judgement.come, judgement.gone, position)
    excess: npt.NDArray[np.float64] = _by_prefix(
        snapshot, judgement.sizes, held
    ) - _by_prefix(snapshot, judgement.sizes, needed)
    return excess


def _thin_out(
    judgement: Judgement, ideal: Floats, ideal_threads: Floats, actual: Floats
) -> None:
    """Keep the points that are shown; the point of no finished task is not."""
    whole = np.zeros(len(ideal))
    whole[: len(actual)] = actual
    columns = [ideal[1:], ideal_threads[1:], whole[1:]]
    if not len(columns[0]):
        return
    points = thin(columns, POINTS - 2)
    marks = [judgement.minimum_position - 1, (judgement.run_ahead_position or 1) - 1]
    points = np.unique(np.concatenate((points, np.maximum(marks, 0))))
    judgement.position = points + 1
    judgement.ideal = columns[0][points].astype(np.int64)
    judgement.ideal_threads = columns[1][points].astype(np.int64)
    reached = judgement.position[judgement.position < len(actual)]
    judgement.actual = actual[reached].astype(np.int64)


def _what_if(
    snapshot: Snapshot,
    shape: Shape,
    sizes: npt.NDArray[np.float32],
    alone: tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]],
    at_peak: npt.NDArray[np.bool_],
) -> list[WhatIf]:
    total = snapshot.total

    def minimum(
        come: npt.NDArray[np.int32], gone: npt.NDArray[np.int32], factor: Any = 1.0
    ) -> int:
        return int(curve(come, gone, sizes * factor, total).max())

    found = []
    weights = _by_prefix(snapshot, sizes, at_peak)
    for index in np.argsort(-weights, kind="stable")[:SCALED]:
        if weights[index] < WORTHWHILE * weights.sum():
            break
        of_it = snapshot.prefix == index
        name = snapshot.prefixes[index]
        for words, factor in (("half", 0.5), ("twice", 2.0)):
            scaled = np.where(of_it, factor, 1.0)
            found.append(
                WhatIf(f"{name} in chunks {words} as large", minimum(*alone, scaled))
            )
    if shape.pinned.any():
        gone = shape.last_use(alone[0], pinned=False)
        found.append(WhatIf("no output kept by a client", minimum(alone[0], gone)))
    for number in _steps(snapshot.threads, shape.n):
        come = alone[0] if number == 1 else shape.finish(number)
        words = "1 task" if number == 1 else f"{number} tasks"
        found.append(WhatIf(f"{words} at a time", minimum(come, shape.last_use(come))))
    return found


def _steps(threads: int, tasks: int) -> list[int]:
    """Return the numbers of tasks at a time to try: powers of two where it is cheap."""
    if tasks > HERE:
        return sorted({1, threads})
    powers = [2**n for n in range(threads.bit_length()) if 2**n < threads]
    return [*powers, threads]


def _by_prefix(
    snapshot: Snapshot, sizes: npt.NDArray[Any], held: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float64]:
    number = len(snapshot.prefixes)
    sums = np.bincount(snapshot.prefix[held], sizes[held], minlength=number)
    return sums.astype(np.float64)


def _ranked(
    sizes: npt.NDArray[np.float64], names: tuple[str, ...]
) -> list[tuple[str, int]]:
    """Name what is above 0, largest first."""
    order = np.argsort(-sizes, kind="stable")[:MAX_NAMED]
    return [(names[index], int(sizes[index])) for index in order if sizes[index] >= 1]


def _peak(held: Floats) -> int:
    """Return position of the highest point, leaving out that of no finished task."""
    return int(np.argmax(held[1:])) + 1 if len(held) > 1 else 0


def _view(column: Any, dtype: Any) -> npt.NDArray[Any]:
    return np.frombuffer(column, dtype) if len(column) else np.empty(0, dtype)
