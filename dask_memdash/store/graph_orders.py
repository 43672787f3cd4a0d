"""Graphs against their own order, as the store shows them.

Nothing is worked out unless somebody asks.  Small graphs are judged at once, large ones
in a thread, one at a time, while the last judgement is shown; a graph that runs is
judged again only when that costs little beside the time since.

Not thread-safe: belongs to the thread that feeds the model.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any, cast

from dask_memdash.analysis.incidents.rules.stuck import headline
from dask_memdash.analysis.order.comparison import (
    Judgement,
    Usual,
    take_snapshot,
)
from dask_memdash.analysis.order.points import facts, largest_of_each, look
from dask_memdash.analysis.order.preflight import Preflight
from dask_memdash.analysis.order.roots import why_rootish
from dask_memdash.analysis.order.verdict import Verdict, verdict
from dask_memdash.errors import UnknownGraphError
from dask_memdash.model.cluster import ClusterModel
from dask_memdash.model.evidence import OrderFacts
from dask_memdash.model.order_log import GraphRecord
from dask_memdash.store.order_shapes import (
    Foreseen,
    Graph,
    GraphAtOnce,
    GraphNeed,
    OrderIncident,
    OrderPoint,
    OrderVerdict,
)
from dask_memdash.store.preflights import foresee, shown, space_of, taken_of

#: Tasks that are judged at once in one call, all graphs together; more go to a thread.
AT_ONCE = 4_000

#: Least time between two judgements of a graph that runs: in seconds, and in times
#: what the last one took.
PAUSE = 2.0
PAUSE_FACTOR = 50

#: Tasks of judgements kept whole, to look at points; the newest stays in any case.
MAX_KEPT = 1_000_000

#: Incidents looked at for each graph, and incidents whose facts are kept.
MAX_INCIDENTS = 200
MAX_FACTS = 2_000

#: Kinds of deaths that are surely about memory.
FOR_MEMORY = frozenset({"terminated", "oom-killed"})

#: How long a graph may take to be copied from the scheduler, in seconds.
LATE = 60.0

#: How long after its last progress an incident still is a graph's, in seconds.
AFTER = 2.0

#: What a thread works out: of which graph, on what basis, and since when.
_Job = tuple[
    GraphRecord, tuple[Any, ...], float, Future[tuple[Judgement, Preflight | None]]
]

WORKING = Verdict("unknown", "This is being worked out.")


@dataclass(slots=True)
class _Made:
    """What is shown of a graph, and what it was made from."""

    basis: tuple[Any, ...]
    #: Monotonic time when it was made, and how long that took, in seconds.
    at: float
    cost: float
    graph: Graph


@dataclass(slots=True)
class _Facts:
    """What is known of an incident."""

    facts: OrderFacts | None
    #: Whether it will never be known better.
    final: bool
    of: Judgement | None = None


class Orders:
    """The store's part for graphs."""

    def __init__(self, model: ClusterModel, at_once: int = AT_ONCE) -> None:
        self._model = model
        self._at_once = at_once
        self._made: dict[str, _Made] = {}
        self._kept: OrderedDict[str, Judgement] = OrderedDict()
        self._facts: OrderedDict[str, _Facts] = OrderedDict()
        self._job: _Job | None = None

    def list(self, limit: int | None, offset: int) -> list[Graph]:
        """Return the graphs, newest first."""
        self._collect()
        graphs = self._model.orders.graphs
        for gone in self._made.keys() - graphs.keys():
            del self._made[gone]
        newest = list(reversed(graphs.values()))
        end = None if limit is None else offset + limit
        left = self._at_once
        shown = []
        for record in newest[offset:end]:
            size = _size(record)
            if self._refresh(record, at_once=size <= left):
                left -= size
            shown.append(self._shown(record))
        return shown

    def graph(self, graph_id: str) -> Graph:
        """Return one graph.

        Raises
        ------
        UnknownGraphError
        """
        self._collect()
        record = self._record(graph_id)
        self._refresh(record, at_once=_size(record) <= self._at_once)
        return self._shown(record)

    def point(self, graph_id: str, position: int) -> OrderPoint:
        """Say what a graph held when `position` tasks had finished, and for whom.

        Raises
        ------
        UnknownGraphError
        """
        self._collect()
        record = self._record(graph_id)
        judgement = self._judgement(record, position)
        if judgement is None:
            return {"position": position, "of": "unknown", "held": []}
        of, held = look(judgement, position)
        return {
            "position": min(position, record.total),
            "of": of,
            "held": [
                {
                    "prefix": there.prefix,
                    "bytes": there.bytes,
                    "keys": there.keys,
                    "run_ahead": there.run_ahead,
                    "awaited_by": [
                        {"prefix": name, "bytes": size}
                        for name, size in there.awaited_by
                    ],
                }
                for there in held
            ],
        }

    def facts(self, incident_id: str, moment: float) -> OrderFacts | None:
        """Return storage against the order at an incident.

        Of several graphs that ran then, it is the one that held most at its peak.
        While the graph runs the answer gets better: sizes become known.

        Returns
        -------
        OrderFacts or None
            None where no graph that is covered ran then, or where a large one is
            still being worked out.
        """
        known = self._facts.get(incident_id)
        if known is not None and known.final:
            return known.facts
        self._collect()
        running = [
            record
            for record in self._model.orders.graphs.values()
            if record.tasks is not None and _position(record, moment) is not None
        ]
        if not running:
            self._keep(incident_id, _Facts(None, self._model.time > moment + LATE))
            return None
        record = max(running, key=lambda graph: graph.peak)
        position = _position(record, moment) or 0
        judgement = self._judgement(record, position)
        if judgement is None:
            return None if known is None else known.facts
        if known is None or known.of is not judgement:
            final = record.finished and judgement.snapshot.done == record.done
            known = _Facts(facts(judgement, position), final, judgement)
            self._keep(incident_id, known)
        return known.facts

    def _keep(self, incident_id: str, known: _Facts) -> None:
        self._facts[incident_id] = known
        while len(self._facts) > MAX_FACTS:
            self._facts.popitem(last=False)

    # -- judging ---------------------------------------------------------------

    def _record(self, graph_id: str) -> GraphRecord:
        record = self._model.orders.graphs.get(graph_id)
        if record is None:
            raise UnknownGraphError(graph_id)
        return record

    def _judgement(self, record: GraphRecord, position: int) -> Judgement | None:
        """Return a judgement that knows of `position`; None while there is none."""
        kept = self._kept.get(record.id)
        if kept is None or min(position, record.done) > kept.snapshot.done:
            self._made.pop(record.id, None)
        if record.tasks is not None:
            self._refresh(record, at_once=_size(record) <= self._at_once)
        return self._kept.get(record.id)

    def _refresh(self, record: GraphRecord, *, at_once: bool) -> bool:
        """Judge a graph if it is due; True where that was done here and now."""
        deaths = self._deaths(record)
        basis = (record.version, record.finished, record.threads, record.room, deaths)
        made = self._made.get(record.id)
        if record.tasks is None or (made is not None and made.basis == basis):
            return False
        now = time.monotonic()
        ended = record.finished and made is not None and not made.graph["finished"]
        news = made is None or ended or made.basis[-1] != deaths
        wait = max(PAUSE, PAUSE_FACTOR * made.cost) if made and not news else 0.0
        if made is not None and now - made.at < wait:
            return False
        if not at_once and self._job is not None:
            return False
        usual = _usual(self._model, record)
        snapshot = take_snapshot(record, usual, deaths)
        if snapshot is None:
            return False
        known = taken_of(self._model, snapshot.prefixes), space_of(self._model)
        if at_once:
            self._take(record, basis, now, *foresee(snapshot, *known))
            return True
        executor = ThreadPoolExecutor(1, "MemDash judges a graph")
        self._job = (record, basis, now, executor.submit(foresee, snapshot, *known))
        executor.shutdown(wait=False)
        return False

    def _collect(self) -> None:
        """Take in what a thread has worked out.

        Whatever went wrong there is raised here, once.
        """
        if self._job is not None and self._job[3].done():
            record, basis, begun, future = self._job
            self._job = None
            self._take(record, basis, begun, *future.result())

    def _take(
        self,
        record: GraphRecord,
        basis: tuple[Any, ...],
        begun: float,
        judgement: Judgement,
        found: Preflight | None,
    ) -> None:
        now = time.monotonic()
        graph = _graph(record, judgement, shown(found))
        self._made[record.id] = _Made(basis, now, now - begun, graph)
        self._kept[record.id] = judgement
        self._kept.move_to_end(record.id)
        while len(self._kept) > 1 and sum(map(_tasks, self._kept.values())) > MAX_KEPT:
            self._kept.popitem(last=False)

    def _shown(self, record: GraphRecord) -> Graph:
        made = self._made.get(record.id)
        graph = _empty(record) if made is None else made.graph
        return {
            **graph,
            "done": None if record.tasks is None and made is None else record.done,
            "covered": record.uncovered or None,
            "verdict": self._stuck(record) or graph["verdict"],
            "incidents": list(self._incidents(record)),
            "rootish": [
                {
                    "prefix": root.prefix,
                    "rootish": root.rootish,
                    "queued": root.queued,
                    "why": why_rootish(root),
                }
                for root in record.roots
            ],
            "finished": record.finished,
        }

    def _stuck(self, record: GraphRecord) -> OrderVerdict | None:
        """Return the verdict on a graph whose tasks wait and nothing moves.

        Whatever its order needs: it does not fit while it does not move.
        """
        if record.finished:
            return None
        for incident in islice(self._model.incidents, MAX_INCIDENTS):
            stall = incident.stall
            if stall is None or incident.until is not None:
                continue
            waits = any(tasks.prefix in record.prefixes for tasks in stall.waiting)
            if waits or not record.prefixes:
                text = headline(stall, self._model.time)
                more = f"Incident {incident.id} says what would release it."
                return {"kind": "stuck", "text": f"{text} {more}"}
        return None

    def _deaths(self, record: GraphRecord) -> tuple[str, ...]:
        """Return the incidents in which a worker died for memory under this graph."""
        return tuple(
            incident.id
            for incident in islice(self._model.incidents, MAX_INCIDENTS)
            if incident.kind in FOR_MEMORY
            and _position(record, incident.time) is not None
            and any(task.prefix in record.prefixes for task in incident.suspects)
        )

    def _incidents(self, record: GraphRecord) -> Iterator[OrderIncident]:
        for incident in islice(self._model.incidents, MAX_INCIDENTS):
            position = _position(record, incident.time)
            if position is not None:
                yield {"id": incident.id, "position": position}


def _size(record: GraphRecord) -> int:
    return 0 if record.tasks is None else len(record.tasks.flags)


def _tasks(judgement: Judgement) -> int:
    return len(judgement.sizes)


def _position(record: GraphRecord, moment: float) -> int | None:
    """Return how many of a graph's tasks had finished; None where it did not run."""
    last = record.progress[-1][0] if record.progress else record.time
    over = record.ended if record.ended is not None else last + AFTER
    if record.finished and moment > over:
        return None
    return record.done_at(moment)


def _usual(model: ClusterModel, record: GraphRecord) -> dict[str, Usual]:
    found = {}
    for name in record.prefixes:
        known = model.prefixes.by_name.get(name)
        size = known.outputs.quantile(0.5) if known is not None else None
        if known is None or (size is None and known.at_least is None):
            continue
        spread = 0
        if size is not None:
            high = known.outputs.quantile(0.95) or size
            low = known.outputs.quantile(0.05) or 0
            spread = max(high - size, size - low)
        peak = known.peaks.quantile(0.95)
        found[name] = Usual(size, spread, peak, known.at_least)
    return found


def _empty(record: GraphRecord) -> Graph:
    """Make what is shown of a graph that has not been judged."""
    text = record.uncovered
    made = Verdict("unknown", text) if record.tasks is None else WORKING
    return {
        "id": record.id,
        "name": record.name,
        "tasks": record.total,
        "done": None,
        "minimum": None,
        "minimum_threads": None,
        "minimum_position": None,
        "threads": 0,
        "actual_peak": record.peak if record.tasks is not None else None,
        "run_ahead": None,
        "run_ahead_position": None,
        "capacity": None,
        "need": None,
        "at_once": None,
        "verdict": {"kind": made.kind, "text": made.text},
        "run_ahead_by": [],
        "uncertainty": None,
        "covered": None,
        "curve": {"position": [], "ideal": [], "ideal_threads": [], "actual": []},
        "incidents": [],
        "rootish": [],
        "sizes": [],
        "what_if": [],
        "finished": False,
        "foreseen": None,
        "time": record.time,
    }


def _need(judgement: Judgement) -> GraphNeed | None:
    need = judgement.need
    if need is None:
        return None
    has = judgement.snapshot.room.task
    return {
        "prefix": need.prefix,
        "bytes": need.bytes,
        "has": has,
        "at_least": need.at_least,
    }


def _at_once(judgement: Judgement) -> GraphAtOnce | None:
    together = judgement.at_once
    if together is None:
        return None
    return {
        "tasks": together.tasks,
        "has": together.has,
        "surely": together.surely,
        "at_most": together.at_most,
        "prefix": together.prefix,
        "each": together.each,
        "at_least": together.at_least,
        "fit": together.fit,
    }


def _graph(
    record: GraphRecord, judgement: Judgement, foreseen: Foreseen | None
) -> Graph:
    snapshot = judgement.snapshot
    judged = verdict(judgement)
    beyond = len(judgement.position) - len(judgement.actual)
    made: dict[str, Any] = {
        **_empty(record),
        "done": snapshot.done,
        "minimum": judgement.minimum,
        "minimum_threads": judgement.minimum_threads,
        "minimum_position": judgement.minimum_position,
        "threads": snapshot.threads,
        "actual_peak": judgement.actual_peak,
        "run_ahead": judgement.run_ahead,
        "run_ahead_position": judgement.run_ahead_position,
        "capacity": snapshot.capacity,
        "need": _need(judgement),
        "at_once": _at_once(judgement),
        "verdict": {"kind": judged.kind, "text": judged.text},
        "run_ahead_by": [
            {"prefix": name, "bytes": size} for name, size in judgement.run_ahead_by
        ],
        "uncertainty": judgement.uncertainty,
        "curve": {
            "position": judgement.position.tolist(),
            "ideal": judgement.ideal.tolist(),
            "ideal_threads": judgement.ideal_threads.tolist(),
            "actual": [*judgement.actual.tolist(), *[None] * beyond],
        },
        "sizes": largest_of_each(judgement),
        "what_if": [asdict(change) for change in judgement.what_if],
        "finished": snapshot.finished,
        "foreseen": foreseen,
    }
    return cast(Graph, made)
