"""What a store knows that bears on how else a run might have ended.

Covers gathering, from any :class:`~dask_memdash.store.base.Store`; nothing is worked
out here.  All sizes are integers in bytes.  What is not known is None.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import compress
from operator import add
from typing import Any

from dask_memdash.counterfactual.computations import (
    NO_ORDER,
    Order,
    cut_short_elsewhere,
    elsewhere,
    order_of,
    roots_of,
)
from dask_memdash.store.base import Store
from dask_memdash.terms import DEATHS, NOT_MEMORY

#: Workers, prefixes and incidents that are looked at, and points of each history.
MOST_WORKERS = 200
MOST_PREFIXES = 1_000
MOST_INCIDENTS = 50
POINTS = 2_000

#: Points of all workers' histories together that are looked at on a living cluster,
#: whose scheduler waits meanwhile; and the fewest of each.
LIVE_POINTS = 12_000
FEWEST_POINTS = 60

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
    #: Most of its workers that were there at once; None where that is not known.
    at_once: int | None = None
    #: Whether tasks are running still, so that there is more to come.
    running: bool = False
    #: Why there is no order, in words.
    no_order: str = NO_ORDER
    #: Prefixes of tasks that died and that ran in other computations too: what is known
    #: of those that finished may be of other sizes.
    elsewhere: tuple[str, ...] = ()
    #: Prefixes that were cut short in other failures alone: whether what failed here
    #: has tasks of them is not known.
    cut_elsewhere: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether it ran as far as it was to, so that everything has been seen."""
        order = self.order
        more = order is not None and order.done < order.tasks
        return not (self.deaths or self.stuck or self.running or more)

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


#: What is read of a breakdown.
PARTS_READ = (
    *("process", "managed", "spilled", "executing", "retained", "transfer"),
    *("baseline", "graph", "actors"),
)


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
    #: From when until when it told of itself.
    began: float | None = None
    ended: float | None = None

    def add(self, row: Any) -> None:
        """Take in one breakdown."""
        self.extend({name: [row[name] or 0] for name in PARTS_READ})

    def extend(self, columns: Any) -> None:
        """Take in breakdowns as columns."""
        told = [bool(size) for size in columns["process"]]

        def column(name: str) -> list[int]:
            values = columns[name]
            return list(map(round, values if all(told) else compress(values, told)))

        managed = column("managed")
        self.process += column("process")
        self.executing += column("executing")
        self.managed += managed
        self.stored += map(add, managed, column("spilled"))
        own = zip(*map(column, ("baseline", "graph", "actors")), strict=True)
        self.own += map(sum, own)
        self.retained += column("retained")
        self.transfer += column("transfer")

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


def gather(
    store: Store, failure: str | None = None, points: int | None = None
) -> Evidence:
    """Return what a store knows of a run so far, or of what led to one failure.

    Parameters
    ----------
    failure
        Id of the failure; None for all there is.
    points
        Points of all workers' histories together; None for up to 2,000 of each.

    Raises
    ------
    UnknownFailureError
    """
    failed = None if failure is None else store.failure(failure)
    return gather_of(store, failed, points)


def gather_of(
    store: Store, failed: dict[str, Any] | None, points: int | None = None
) -> Evidence:
    """Return the same where the failure is at hand."""
    connected = store.workers(MOST_WORKERS + 1)
    if len(connected) > MOST_WORKERS:
        return _nothing(f"there were more than {MOST_WORKERS} workers")
    if store.prefix_totals()["prefixes"] > MOST_PREFIXES:
        return _nothing(f"there were more than {MOST_PREFIXES:,} kinds of tasks")
    known = [*connected, *store.departed(MOST_WORKERS)]
    told = [w for w in known if w["breakdown"]["process"] is not None]
    if not told:
        return _nothing("no worker has told of its memory")
    kinds = {(w["nthreads"], w["limit"]) for w in known}
    if len(kinds) > 1:
        return _nothing("its workers had different limits or threads")
    threads, limit = kinds.pop()
    shares = told[0]["thresholds"]
    incidents = _incidents(store, failed)
    each = POINTS if points is None else max(FEWEST_POINTS, points // len(known))
    places = _places(store, known, incidents, each)
    seen = tuple(p.seen(threads) for p in places if p.process)
    rooted = roots_of(store)
    spilling = shares["target"] is not None or shares["spill"] is not None
    history = store.history(points=POINTS)
    together = list(map(add, history["managed"], history["spilled"]))
    prefixes = [p for p in store.prefixes(MOST_PREFIXES) if p["kind"] == "task"]
    order, why = order_of(store, failed, history["time"], together)
    tasks = tuple(_task_sizes(prefix, rooted) for prefix in prefixes)
    cut = [task.prefix for task in tasks if task.censored]
    return Evidence(
        workers=len({w["name"] for w in known}),
        threads=threads,
        limit=limit,
        pause=_share(shares["pause"], limit),
        terminate=_share(shares["terminate"], limit),
        target=_share(shares["target"], limit),
        spilling=spilling,
        seen=seen,
        tasks=tasks,
        order=order,
        deaths=tuple(i["diagnosis"]["cause"] for i in incidents if i["kind"] in DEATHS),
        stuck=any(i["kind"] in ("stuck", "memory-error") for i in incidents),
        suspects=_fullest(incidents),
        unknown="" if seen else "no worker has told of its memory",
        stored=max(map(round, together), default=0),
        at_once=_at_once(places),
        running=any(p["execution"]["running"] for p in prefixes),
        no_order=why,
        elsewhere=() if failed is None else elsewhere(store, failed, known, incidents),
        cut_elsewhere=() if failed is None else cut_short_elsewhere(incidents, cut),
    )


def _nothing(why: str) -> Evidence:
    return Evidence(0, 0, None, None, None, None, False, (), (), None, unknown=why)


def _share(size: int | None, limit: int | None) -> float | None:
    return size / limit if size is not None and limit else None


def _incidents(store: Store, failed: dict[str, Any] | None) -> list[dict[str, Any]]:
    if failed is None:
        names = [i["id"] for i in store.incidents(MOST_INCIDENTS)]
    else:
        names = failed["incidents"][-MOST_INCIDENTS:]
    return [store.incident(name) for name in names]


def _places(
    store: Store, known: Sequence[Any], incidents: Iterable[Any], points: int
) -> list[_Worker]:
    places: dict[str, _Worker] = {}
    for worker in known:
        place = places.setdefault(worker["name"], _Worker(worker["name"]))
        place.add(worker["breakdown"])
        columns = store.history(worker["address"], points=points)
        place.extend(columns)
        if columns["time"]:
            first, last = columns["time"][0], columns["time"][-1]
            place.began = first if place.began is None else min(place.began, first)
            place.ended = last if place.ended is None else max(place.ended, last)
    for incident in incidents:
        if incident["kind"] in DEATHS:
            name = incident["worker"]["name"]
            places.setdefault(name, _Worker(name)).add(incident["breakdown"])
    return list(places.values())


def _at_once(places: Iterable[_Worker]) -> int:
    """Return how many workers there were at once at most."""
    changes: list[tuple[float, int]] = []
    for place in places:
        if place.began is not None and place.ended is not None:
            changes += [(place.began, -1), (place.ended, 1)]
    there = most = 0
    for _, change in sorted(changes):  # at one instant they come before others go
        there -= change
        most = max(most, there)
    return most


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
