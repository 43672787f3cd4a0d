"""What is kept of the cluster when an incident happens, for the diagnosis.

What is known of prefixes, storage and the baseline goes on changing after a death,
and most of it is forgotten with the worker, so a compact and bounded copy is taken
when the incident is opened.

Imports the standard library only.  All sizes are integers in bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from dask_memdash.model.event_parts import (
    ActorRow,
    ChildRow,
    GraphRow,
    Held,
    SpillRoom,
    Thresholds,
    Weighed,
)
from dask_memdash.model.prefixes import Prefixes, PrefixState
from dask_memdash.model.processes import ProcessState, WorkerState

#: Prefixes kept of an incident at most.
MAX_PREFIXES = 20

#: Prefixes kept for what they leave behind, and for what they take, at most.
MAX_LEAVING = 5

#: Points of the baseline kept at most.
MAX_BASELINE = 30


@dataclass(frozen=True, slots=True)
class OrderFacts:
    """Storage against the order, over the cluster, at the incident."""

    graph: str
    #: Finished tasks, of how many.
    done: int
    total: int
    #: Storage that the order needs at `done` finished tasks, as many at a time as
    #: the cluster has threads.
    ideal: int
    #: Storage that was held of this graph.
    held: int
    #: Peak of the ideal, one task at a time.
    minimum: int
    #: What the workers can store together; None where not known.
    capacity: int | None
    #: Prefix → what was held beyond what the order needs.
    run_ahead: dict[str, int]
    #: What the task needs at once that needs most: inputs, and its peak or its output.
    need: int = 0
    #: The most that the order needs anywhere between the first task that had not run
    #: and the furthest that had, and by how much that may be off as not all sizes have
    #: been measured: what is held beyond both is run-ahead.
    near: int = 0
    doubt: int = 0
    #: Prefix of root tasks that the scheduler holds back, or would → the
    #: ``worker-saturation`` that counts for them; None where it is infinite.
    saturation: dict[str, float | None] = field(default_factory=dict)

    @property
    def needed(self) -> int:
        """What the order may need at most near there."""
        return max(self.ideal, self.near + self.doubt)

    @property
    def beyond(self) -> int:
        """What was surely held beyond what the order needs."""
        return max(0, self.held - self.needed)


@dataclass(frozen=True, slots=True)
class HostFacts:
    """The audit of one worker's limit."""

    limit: int | None
    #: The least that cgroup, rlimit or host really allow to this worker.
    effective: int | None
    #: Which of them that is: 'cgroup', 'host', 'rlimit', 'batch'…
    source: str
    #: What was available on the host when the worker started.
    available: int | None
    #: Sum of the limits of the workers on this host.
    siblings: int | None
    #: 'ok', 'too-high'…
    verdict: str
    #: All memory of the machine.
    machine: int | None = None


@dataclass(frozen=True, slots=True)
class Expected:
    """What a prefix's tasks usually need, from those that have finished."""

    finished: int
    method: str
    #: Quantiles of the peak of in-execution memory; None where none was measured.
    p50: int | None = None
    p95: int | None = None
    max: int | None = None
    #: Error of a peak, its 0.9-quantile.
    error: int | None = None
    #: Quantiles of the size of an output.
    output_p50: int | None = None
    output_p95: int | None = None
    output_max: int | None = None
    #: What those that were counted left, against what Dask believes of their outputs.
    weighed: Weighed = field(default=Weighed())

    @property
    def left(self) -> int:
        """What the counted ones held at their end beside their outputs, summed."""
        return max(0, self.weighed.left - self.weighed.believed)


@dataclass(frozen=True, slots=True)
class Evidence:
    """A copy of what was known when an incident happened."""

    nthreads: int
    thresholds: Thresholds
    #: Prefix → what it usually needs: those that ran, were stored or leave most.
    expected: dict[str, Expected] = field(default_factory=dict)
    #: Prefix → why its outputs on this worker were held: at the instant of its removal,
    #: else as last looked at.
    held: dict[str, Held] = field(default_factory=dict)
    #: Share of its outputs that was looked at when it was removed, and `held` scaled up
    #: from it; None: `held` is of an earlier look.
    held_share: float | None = None
    #: Prefix → what Dask believed to be in RAM of it.
    claimed: dict[str, int] = field(default_factory=dict)
    #: Prefix → what tasks that are still to run wait for, over the whole cluster.
    awaited: dict[str, int] = field(default_factory=dict)
    #: The baseline of the process: (Unix time, bytes), oldest first.
    baseline: tuple[tuple[float, int], ...] = ()
    #: The baseline as its flight recorder had it last; None where that is not known.
    base: int | None = None
    #: What of the baseline came with tasks that were about to begin, while nothing else
    #: was under way: modules that they import.  By its end, and by the first point of
    #: `baseline`.
    loaded: int = 0
    loaded_before: int = 0
    order: OrderFacts | None = None
    host: HostFacts | None = None
    #: Prefix → arguments and records of tasks that the worker was sent.
    graph: dict[str, GraphRow] = field(default_factory=dict)
    #: Prefix → state of the actors on the worker.
    actors: dict[str, ActorRow] = field(default_factory=dict)
    #: How much more the worker could spill, as last reported.
    spill_room: SpillRoom = field(default=SpillRoom())
    #: Processes that its tasks had started, by task; beside the worker's own process.
    children: tuple[ChildRow, ...] = ()
    #: What its guard did: 'on', 'dry-run' or 'off'; empty without one.
    guard: str = ""


def expected_of(state: PrefixState) -> Expected:
    """Sum up what a prefix usually needs."""
    return Expected(
        finished=state.finished,
        method=state.method,
        p50=state.peaks.quantile(0.5),
        p95=state.peaks.quantile(0.95),
        max=state.peaks.max,
        error=state.errors.quantile(0.9),
        output_p50=state.outputs.quantile(0.5),
        output_p95=state.outputs.quantile(0.95),
        output_max=state.outputs.max,
        weighed=state.weighed,
    )


def expect(prefixes: Prefixes, names: Iterable[str]) -> dict[str, Expected]:
    """Sum up what each of these prefixes usually needs, the first of them."""
    known = prefixes.by_name
    wanted = list(dict.fromkeys(name for name in names if name in known))
    return {name: expected_of(known[name]) for name in wanted[:MAX_PREFIXES]}


def leaving(prefixes: Prefixes) -> list[str]:
    """Name the prefixes whose tasks leave most behind, where that is counted."""
    left = [
        (size, name)
        for name, state in prefixes.by_name.items()
        if (size := state.weighed.left - state.weighed.believed) > 0
    ]
    return [name for _, name in sorted(left, reverse=True)[:MAX_LEAVING]]


def churning(prefixes: Prefixes) -> list[str]:
    """Name the prefixes whose finished tasks have taken most in all."""
    taken = [
        ((state.peaks.max or 0) * state.peaks.count, name)
        for name, state in prefixes.by_name.items()
        if state.peaks.count
    ]
    return [name for _, name in sorted(taken, reverse=True)[:MAX_LEAVING]]


def with_expected(
    evidence: Evidence, prefixes: Prefixes, names: Iterable[str]
) -> Evidence:
    """Add what more prefixes usually need, as it is known now."""
    missing = [name for name in names if name not in evidence.expected]
    if not missing:
        return evidence
    known = expect(prefixes, missing)
    return replace(evidence, expected={**evidence.expected, **known})


def thin(
    times: Sequence[float], sizes: Sequence[float], most: int = MAX_BASELINE
) -> tuple[tuple[float, int], ...]:
    """Keep at most `most` points: the first, the last, and some between."""
    points = [(t, int(size)) for t, size in zip(times, sizes, strict=True)]
    if len(points) <= most:
        return tuple(points)
    step = (len(points) - 1) / (most - 1)
    return tuple(points[round(n * step)] for n in range(most))


def largest(sizes: Mapping[str, int], most: int = MAX_PREFIXES) -> list[str]:
    """Name the largest, largest first, ties by name."""
    return sorted(sizes, key=lambda name: (-sizes[name], name))[:most]


def with_leaving(evidence: Evidence, worker: WorkerState) -> Evidence:
    """Add what a worker held at the instant of its removal to what was known before."""
    sizes = {name: held.size for name, held in worker.held.items()}
    stored = list(dict.fromkeys([*largest(sizes), *evidence.claimed]))[:MAX_PREFIXES]
    return replace(
        evidence,
        held={name: worker.held[name] for name in stored if name in worker.held},
        held_share=worker.held_share,
        claimed={
            name: max(_claimed(worker, name), evidence.claimed.get(name, 0))
            for name in stored
        },
        graph=worker.graph,
        actors=worker.actors,
    )


def observe(worker: WorkerState, process: ProcessState, prefixes: Prefixes) -> Evidence:
    """Take a copy of what is known of a worker and of the prefixes on it.

    Of what it has stored since its last report, or before its first one, the
    scheduler's own books say the size, if they were looked at.
    """
    sizes = {name: row.claimed + row.spilled for name, row in worker.rows.items()}
    for name, held in worker.held.items():
        sizes[name] = max(held.size, sizes.get(name, 0))
    stored = largest(sizes)
    running = [task.prefix for task in worker.executing]
    history = process.history.columns()
    return Evidence(
        nthreads=worker.info.nthreads,
        thresholds=worker.thresholds,
        expected=expect(
            prefixes, [*running, *leaving(prefixes), *churning(prefixes), *stored]
        ),
        held={name: worker.held[name] for name in stored if name in worker.held},
        held_share=worker.held_share,
        claimed={name: _claimed(worker, name) for name in stored},
        awaited={
            name: prefixes.by_name[name].awaited
            for name in stored
            if name in prefixes.by_name
        },
        baseline=thin(history["time"], history["baseline"]),
        loaded=worker.loaded + worker.first_loaded,
        loaded_before=worker.first_loaded,
        graph=worker.graph,
        actors=worker.actors,
        spill_room=worker.spill_room,
        children=worker.children,
        guard="" if worker.guard is None else worker.guard.mode,
    )


def _claimed(worker: WorkerState, name: str) -> int:
    """Return what Dask believes to be in RAM of a prefix, in bytes.

    An earlier look at why outputs are held says nothing of what is stored by now.
    """
    row = worker.rows.get(name)
    claimed = row.claimed if row is not None else 0
    if worker.held_share is None or name not in worker.held:
        return claimed
    spilled = row.spilled if row is not None else 0
    return max(claimed, worker.held[name].size - spilled)
