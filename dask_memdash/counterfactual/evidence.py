"""What a store knows that bears on how else a run might have ended.

Covers gathering, from any :class:`~dask_memdash.store.base.Store`; nothing is worked
out here.  All sizes are integers in bytes.  What is not known is None.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from dask_memdash.store.base import Store
from dask_memdash.terms import DEATHS, NOT_MEMORY

#: Workers, prefixes and incidents that are looked at, and points of each history.
MOST_WORKERS = 200
MOST_PREFIXES = 1_000
MOST_INCIDENTS = 50
POINTS = 2_000

#: Methods of measuring that say what a task takes, each with an error of its own.
MEASURED = frozenset(("exact", "counted", "hwm"))


@dataclass(frozen=True, slots=True)
class TaskSizes:
    """What the tasks of one prefix take while they run."""

    prefix: str
    #: Tasks that finished, and that there are in all as far as known.
    finished: int
    #: Quantiles of their peaks.
    p50: int | None
    p95: int | None
    most: int | None
    #: The most that one held when its worker died; it needs at least that.
    at_least: int | None
    #: By how much a peak may be off: what counts missed included.
    error: int | None
    method: str
    #: Whether they have no inputs, so that what they take goes with the chunks' size.
    root: bool = False

    @property
    def censored(self) -> bool:
        """Whether a task was cut short that needed more than any that finished."""
        return self.at_least is not None and self.at_least > (self.most or 0) * 1.02


@dataclass(frozen=True, slots=True)
class Seen:
    """One worker at its fullest, from what was seen of it."""

    name: str
    process: int
    #: Of that: by running tasks, and by each of them on average while any ran.
    executing: int
    each: int
    #: Stored outputs: in RAM, and with those on disk.
    managed: int
    stored: int
    #: The process itself: when it had least and most, with what was left behind in it.
    own_least: int
    own_most: int
    retained: int
    transfer: int


@dataclass(frozen=True, slots=True)
class Order:
    """What graphs need to store, from their order."""

    tasks: int
    done: int
    minimum: int | None
    minimum_threads: int | None
    actual_peak: int | None
    run_ahead: int | None
    #: What one task needs with its inputs.
    need: int | None


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is known of a run."""

    workers: int
    threads: int
    limit: int | None
    #: Thresholds as shares of the limit; None where they are off.
    pause: float | None
    terminate: float | None
    target: float | None
    spilling: bool
    seen: tuple[Seen, ...]
    tasks: tuple[TaskSizes, ...]
    #: None where no order was recorded.
    order: Order | None
    #: Causes of the deaths of workers; and whether tasks were stuck.
    deaths: tuple[str, ...] = ()
    stuck: bool = False
    #: Running tasks at the fullest death, largest first: what each held.
    suspects: tuple[int, ...] = ()
    #: Why nothing can be said at all, in words; empty where something can.
    unknown: str = ""
    #: The most that was stored by all workers together.
    stored: int = 0

    @property
    def complete(self) -> bool:
        """Whether it ran as far as it was to, so that everything has been seen."""
        order = self.order
        more = order is not None and order.done < order.tasks
        return not self.deaths and not self.stuck and not more

    @property
    def left_behind(self) -> int:
        """By how much a worker's own memory grew: modules, caches, or a leak."""
        return max((s.own_most - s.own_least for s in self.seen), default=0)

    @property
    def need(self) -> int | None:
        """What one task needs with its inputs; None where not all are known."""
        finished = sum(task.finished for task in self.tasks)
        if all(task.root for task in self.tasks):
            return 0
        if self.order is None or self.order.tasks < finished:
            return None
        return self.order.need

    @property
    def not_memory(self) -> str | None:
        """The cause of a death that was not about memory, where no other was."""
        if self.deaths and all(cause in NOT_MEMORY for cause in self.deaths):
            return self.deaths[0]
        return None


@dataclass(slots=True)
class _Worker:
    """One worker's place, whoever was in it."""

    name: str
    process: list[int] = field(default_factory=list)
    executing: list[int] = field(default_factory=list)
    managed: list[int] = field(default_factory=list)
    stored: list[int] = field(default_factory=list)
    own: list[int] = field(default_factory=list)
    retained: list[int] = field(default_factory=list)
    transfer: list[int] = field(default_factory=list)

    def add(self, row: Any) -> None:
        """Take in a breakdown."""
        process = row["process"]
        if not process:
            return
        self.process.append(process)
        self.executing.append(row["executing"] or 0)
        self.managed.append(row["managed"] or 0)
        self.stored.append((row["managed"] or 0) + (row["spilled"] or 0))
        self.own.append(sum(row[p] or 0 for p in ("baseline", "graph", "actors")))
        self.retained.append(row["retained"] or 0)
        self.transfer.append(row["transfer"] or 0)

    def seen(self, threads: int) -> Seen:
        """Return it at its fullest."""
        busy = [size for size in self.executing if size > 0]
        return Seen(
            self.name,
            process=max(self.process),
            executing=max(self.executing),
            each=sum(busy) // len(busy) // max(1, threads) if busy else 0,
            managed=max(self.managed),
            stored=max(self.stored),
            own_least=min(self.own),
            own_most=max(self.own),
            retained=max(self.retained),
            transfer=max(self.transfer),
        )


def gather(store: Store, failure: str | None = None) -> Evidence:
    """Return what a store knows of a run, or of what led to one failure.

    Raises
    ------
    UnknownFailureError
    """
    known = [*store.workers(MOST_WORKERS), *store.departed(MOST_WORKERS)]
    told = [w for w in known if w["breakdown"]["process"] is not None]
    incidents = _incidents(store, failure)
    if not told:
        return _nothing("no worker has told of its memory")
    kinds = {(w["nthreads"], w["limit"]) for w in known}
    if len(kinds) > 1:
        return _nothing("its workers had different limits or threads")
    threads, limit = kinds.pop()
    shares = told[0]["thresholds"]
    seen = _seen(store, known, incidents, threads)
    fullest = _fullest(incidents)
    rooted = _roots(store)
    spilling = shares["target"] is not None or shares["spill"] is not None
    history = store.history(points=POINTS)
    together = zip(history["managed"], history["spilled"], strict=True)
    return Evidence(
        workers=len({w["name"] for w in known}),
        threads=threads,
        limit=limit,
        pause=_share(shares["pause"], limit),
        terminate=_share(shares["terminate"], limit),
        target=_share(shares["target"], limit),
        spilling=spilling,
        seen=seen,
        tasks=tuple(
            _task_sizes(prefix, rooted)
            for prefix in store.prefixes(MOST_PREFIXES)
            if prefix["kind"] == "task"
        ),
        order=_order(store),
        deaths=tuple(i["diagnosis"]["cause"] for i in incidents if i["kind"] in DEATHS),
        stuck=any(i["kind"] == "stuck" for i in incidents)
        or any(i["kind"] == "memory-error" for i in incidents),
        suspects=fullest,
        unknown="" if seen else "no worker has told of its memory",
        stored=max((round(a + b) for a, b in together), default=0),
    )


def _nothing(why: str) -> Evidence:
    return Evidence(0, 0, None, None, None, None, False, (), (), None, unknown=why)


def _share(size: int | None, limit: int | None) -> float | None:
    return size / limit if size is not None and limit else None


def _incidents(store: Store, failure: str | None) -> list[dict[str, Any]]:
    if failure is None:
        names = [i["id"] for i in store.incidents(MOST_INCIDENTS)]
    else:
        names = store.failure(failure)["incidents"][-MOST_INCIDENTS:]
    return [store.incident(name) for name in names]


def _seen(
    store: Store, known: Sequence[Any], incidents: Iterable[Any], threads: int
) -> tuple[Seen, ...]:
    places: dict[str, _Worker] = {}
    for worker in known:
        place = places.setdefault(worker["name"], _Worker(worker["name"]))
        place.add(worker["breakdown"])
        history = store.history(worker["address"], points=POINTS)
        names = [name for name in history if name not in ("time", "pauses", "n_pauses")]
        columns: dict[str, Any] = dict(history)
        for values in zip(*(columns[name] for name in names), strict=True):
            place.add(dict(zip(names, map(round, values), strict=True)))
    for incident in incidents:
        if incident["kind"] in DEATHS:
            name = incident["worker"]["name"]
            places.setdefault(name, _Worker(name)).add(incident["breakdown"])
    return tuple(p.seen(threads) for p in places.values() if p.process)


def _fullest(incidents: Iterable[Any]) -> tuple[int, ...]:
    """Return what tasks held at the death at which they held most."""
    best: list[int] = []
    for incident in incidents:
        held = [
            (suspect["bytes"] or 0) + suspect["filling"]
            for suspect in incident.get("suspects", ())
        ]
        best = max(best, sorted(held, reverse=True), key=sum)
    return tuple(best)


def _roots(store: Store) -> frozenset[str]:
    """Return the prefixes that are known to have no inputs."""
    return frozenset(
        told["prefix"] for graph in store.order(20) for told in graph["rootish"]
    )


def _task_sizes(prefix: Any, roots: frozenset[str]) -> TaskSizes:
    execution = prefix["execution"]
    peak, unseen = execution["peak"], execution["unseen"]
    error = execution["error"]
    return TaskSizes(
        prefix["prefix"],
        execution["finished"],
        peak["p50"],
        peak["p95"],
        peak["max"],
        peak["at_least"],
        None if error is None else max(error, unseen["native"]),
        execution["method"],
        prefix["prefix"] in roots,
    )


def _order(store: Store) -> Order | None:
    graphs = [g for g in store.order(50) if g["minimum"] is not None]
    if not graphs or any(g["covered"] is not None for g in graphs):
        return None
    largest = max(graphs, key=lambda g: g["minimum"] or 0)
    return Order(
        tasks=sum(g["tasks"] for g in graphs),
        done=sum(g["done"] or 0 for g in graphs),
        minimum=largest["minimum"],
        minimum_threads=largest["minimum_threads"],
        actual_peak=largest["actual_peak"],
        run_ahead=largest["run_ahead"],
        need=max((g["need"]["bytes"] for g in graphs if g["need"]), default=None),
    )
