"""The store of a recorded run: what a living cluster's store answered at an instant.

The shapes are those of :mod:`dask_memdash.store.base`.  Of what is recorded at
intervals (cluster, workers, prefixes, limits) the newest at or before the instant is
given; incidents, failures and graphs that had begun by then are told as they were last
known, without what came later.  What a record cannot tell is ``None`` or missing, and
:meth:`RecordedStore.cluster` says so among what is ``degraded``.

Not thread-safe.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar, cast

from dask_memdash.analysis.limits.context import SEVERITIES
from dask_memdash.errors import (
    RunError,
    UnknownFailureError,
    UnknownGraphError,
    UnknownIncidentError,
    UnknownPrefixError,
    UnknownWorkerError,
)
from dask_memdash.runs.reading import RunReader, SegmentFile
from dask_memdash.store.cluster_shapes import Cluster, History, Notice
from dask_memdash.store.limit_shapes import LimitAudit
from dask_memdash.store.natural_order import natural
from dask_memdash.store.order_shapes import Graph, OrderPoint
from dask_memdash.store.prefix_shapes import (
    Prefix,
    PrefixDetails,
    PrefixMinute,
    PrefixTotals,
)
from dask_memdash.store.recorded_catalogue import Catalogue, KnownWorker
from dask_memdash.store.recorded_cuts import (
    BRIEF,
    cut_failure,
    cut_graph,
    cut_incident,
    departed_row,
)
from dask_memdash.store.recorded_history import (
    history,
    prefix_minute,
    task_history,
)
from dask_memdash.store.recorded_strips import strips
from dask_memdash.store.strip_shapes import Strips
from dask_memdash.store.worker_shapes import PastTask, Worker

#: Workers that have left, the newest, as many as are given.
LEFT = 1000

#: Sentences of the manifest and damaged files that are told among what is degraded.
TOLD = 20

#: What records of an earlier version do not say of a worker.
LATER = {"time_to_limit": None}

T = TypeVar("T")


class RecordedStore:
    """A :class:`~dask_memdash.store.base.Store` over a recorded run.

    Parameters
    ----------
    reader
        Of the run.
    as_of
        Instant that it tells of, in Unix time; None for the end of the record, which
        moves on while the run is written.
    catalogue
        To share between stores of one run.
    """

    def __init__(
        self,
        reader: RunReader,
        as_of: float | None = None,
        catalogue: Catalogue | None = None,
    ) -> None:
        self.reader = reader
        self.catalogue = Catalogue(reader) if catalogue is None else catalogue
        self._as_of = as_of
        self._moves = 0
        self._seen: tuple[int, int] | None = None
        self._made: dict[str, Any] = {}
        self._version = 0

    # -- the instant -----------------------------------------------------------

    @property
    def as_of(self) -> float | None:
        """The instant that was chosen; None for the end of the record."""
        return self._as_of

    def move(self, as_of: float | None) -> None:
        """Tell of another instant from now on."""
        if as_of != self._as_of:
            self._as_of = as_of
            self._moves += 1

    def at(self, as_of: float | None) -> RecordedStore:
        """Return the same run at another instant."""
        return RecordedStore(self.reader, as_of, self.catalogue)

    @property
    def instant(self) -> float:
        """The instant that answers are of."""
        return math.inf if self._as_of is None else self._as_of

    def span(self) -> tuple[float, float]:
        """Return from when until when there are figures of the cluster, in Unix time.

        Raises
        ------
        RunError
            There are none.
        """
        rows = self.reader.ask_all(
            self.reader.files("main"),
            "SELECT min(time), max(time) FROM cluster_states",
        )
        known = [row for row in rows if row[0] is not None]
        if not known:
            raise RunError(str(self.reader.directory), "it holds no figures yet")
        return min(row[0] for row in known), max(row[1] for row in known)

    def marks(self) -> list[dict[str, Any]]:
        """Return id, instant, kind and text of each failure, oldest first."""
        self.catalogue.update()
        return [
            {"id": e.id, "time": e.began, "kind": e.more[1], "text": e.more[2]}
            for e in reversed(self.catalogue.newest("failures", math.inf))
        ]

    @property
    def version(self) -> int:
        """Grows when the record does, or another instant is chosen."""
        now = (self.catalogue.update(), self._moves)
        if now != self._seen:
            self._seen = now
            self._version += 1
            self._made.clear()
        return self._version

    # -- answers ---------------------------------------------------------------

    def cluster(self) -> Cluster:
        """Return the cluster at a glance."""
        return self._once("cluster", self._cluster)

    def workers(self, limit: int | None = None, offset: int = 0) -> list[Worker]:
        """Return the workers that were connected, by name."""
        return _page(self._once("workers", self._workers), limit, offset)

    def departed(self, limit: int | None = None, offset: int = 0) -> list[Worker]:
        """Return the workers that had left, newest first, as they were last seen."""
        _ = self.version
        known, gone = self.catalogue.workers.values(), {}
        for worker in sorted(known, key=lambda w: w.id):
            if worker.gone(self.instant):
                gone[worker.address] = worker
        for worker in known:
            if worker.there(self.instant):  # another has its address
                gone.pop(worker.address, None)
        left = sorted(gone.values(), key=lambda w: (w.left, w.id), reverse=True)
        return [self._left(w) for w in _page(left[:LEFT], limit, offset)]

    def task_history(self, worker: str) -> list[PastTask]:
        """Return the recent tasks that a worker was seen to run, oldest first."""
        known = self._worker(worker)
        state = self._last_of("worker_states", {known.id}, known.left).get(known.id)
        reported = (state or {}).get("last_seen") or 0.0
        return task_history(self.reader, known, self.instant, reported)

    def prefixes(self, limit: int | None = None, offset: int = 0) -> list[Prefix]:
        """Return the task prefixes, largest first."""
        ranked = sorted(self._prefix_rows().items(), key=_rank)
        made: dict[str, Any] = self._once("prefixes made", dict[str, Any])
        answers = []
        for name, (segment, row) in _page(ranked, limit, offset):
            if name not in made:
                made[name] = self._prefix(segment, row)
            if made[name] is not None:
                answers.append(
                    {k: v for k, v in made[name].items() if k != "output_bins"}
                )
        return cast(list[Prefix], answers)

    def prefix_totals(self) -> PrefixTotals:
        """Return the sums over all task prefixes."""
        rows = [row for _, row in self._prefix_rows().values()]

        def total(column: int) -> int | None:
            known = [row[column] for row in rows if row[column] is not None]
            return sum(known) if known or not rows else None

        return {
            "prefixes": len(rows),
            "managed": total(2),
            "spilled": total(3) if rows else None,
            "executing": total(4),
            "count": total(5) or 0,
            "running": total(6) or 0,
        }

    def prefix(self, name: str) -> PrefixDetails:
        """Return one task prefix with the distribution of its outputs' sizes."""
        found = self._prefix_rows().get(name)
        answer = None if found is None else self._prefix(*found)
        if answer is None:
            raise UnknownPrefixError(name)
        return cast(PrefixDetails, answer)

    def prefix_minute(self, name: str) -> PrefixMinute:
        """Return what a prefix had in the last minute, where it changed in it."""
        until = min(self.instant, self.cluster()["time"])
        return prefix_minute(self.reader, name, until)

    def incidents(
        self, limit: int | None = None, offset: int = 0
    ) -> list[dict[str, Any]]:
        """Return the incidents, newest first."""
        _ = self.version
        page = _page(self.catalogue.newest("incidents", self.instant), limit, offset)
        return [
            {k: v for k, v in cut_incident(answer, self.instant).items() if k in BRIEF}
            for _, answer in self.catalogue.answers("incidents", page)
        ]

    def incident(self, incident_id: str) -> dict[str, Any]:
        """Return one incident whole."""
        found = self._entry("incidents", incident_id)
        if found is None:
            raise UnknownIncidentError(incident_id)
        return cut_incident(found, self.instant)

    def failures(
        self, limit: int | None = None, offset: int = 0
    ) -> list[dict[str, Any]]:
        """Return the failures, newest first."""
        _ = self.version
        page = _page(self.catalogue.newest("failures", self.instant), limit, offset)
        return [
            cut_failure(answer, self.instant, self._kind_of)
            for _, answer in self.catalogue.answers("failures", page)
        ]

    def failure(self, failure_id: str) -> dict[str, Any]:
        """Return one failure."""
        found = self._entry("failures", failure_id)
        if found is None:
            raise UnknownFailureError(failure_id)
        return cut_failure(found, self.instant, self._kind_of)

    def limits(self, limit: int | None = None, offset: int = 0) -> list[LimitAudit]:
        """Return the audit of every worker's memory limit, worst first."""
        return _page(self._once("limits", self._limits), limit, offset)

    def order(self, limit: int | None = None, offset: int = 0) -> list[Graph]:
        """Return the graphs, newest first, each with its curve."""
        _ = self.version
        page = _page(self.catalogue.newest("graphs", self.instant), limit, offset)
        return [
            cut_graph(answer, self._done(entry.id, answer))
            for entry, answer in self.catalogue.answers("graphs", page)
        ]

    def graph(self, graph_id: str) -> Graph:
        """Return one graph."""
        found = self._entry("graphs", graph_id)
        if found is None:
            raise UnknownGraphError(graph_id)
        return cut_graph(found, self._done(graph_id, found))

    def order_point(self, graph_id: str, position: int) -> OrderPoint:
        """Say what a graph held when `position` of its tasks had finished.

        A record has some positions alone: of another it says 'unknown'.
        """
        graph = self.graph(graph_id)
        for segment in self.reader.files("main"):
            for (stored,) in self.reader.ask(
                segment,
                "SELECT answer FROM order_points WHERE graph = ? AND position = ?",
                (graph_id, position),
            ):
                point = self.reader.answer(segment, stored)
                done = graph["done"]
                later = done is not None and position > done
                if point is not None and not (later and point.get("of") == "actual"):
                    return cast(OrderPoint, point)
        return {"position": position, "of": "unknown", "held": []}

    def history(
        self, worker: str | None = None, since: float | None = None, points: int = 300
    ) -> History:
        """Return the breakdown over time of the cluster or of one worker."""
        _ = self.version
        known = None if worker is None else self._worker(worker)
        return history(self.reader, self.instant, known, since, points)

    def strips(self, start: float, end: float) -> Strips:
        """Return how full all workers were over a stretch of time, in few rows."""
        _ = self.version
        return strips(self.reader, self.catalogue, start, min(end, self.instant))

    def then(self, start: float, end: float) -> RecordedStore:
        """Return the run at an instant, or at the most of a span."""
        # it builds on this one
        from dask_memdash.store.recorded_span import RecordedSpan

        return RecordedSpan(self, start, end) if end > start else self.at(end)

    # -- making ----------------------------------------------------------------

    def _once(self, name: str, make: Callable[[], T]) -> T:
        _ = self.version
        if name not in self._made:
            self._made[name] = make()
        return cast(T, self._made[name])

    def _cluster(self) -> Cluster:
        for segment in self.reader.files("main", until=self.instant):
            for (stored,) in self.reader.ask(
                segment,
                "SELECT answer FROM cluster_states WHERE time <= ? "
                "ORDER BY time DESC LIMIT 1",
                (self.instant,),
            ):
                answer = self.reader.answer(segment, stored)
                if answer is not None:
                    notices = [*answer["degraded"], *self._own_notices()]
                    told = {"guard": None, **answer, "degraded": notices}
                    return cast(Cluster, told)
        oldest = self.reader.files("main")[-1:]
        first = max([self.span()[0], *(segment.first for segment in oldest)])
        if self.instant < first:  # before the record began: as it began
            return self.at(first).cluster()
        raise RunError(str(self.reader.directory), "it holds no figures yet")

    def _own_notices(self) -> list[Notice]:
        """Return what is wrong with the record itself."""
        manifest = self.reader.manifest
        texts = [f"{path} is left out: {w}" for path, w in self.reader.problems.items()]
        texts += manifest.left_out
        if manifest.lost_rows:
            texts.append(
                f"{manifest.lost_rows:,} rows could not be written, for the disk was "
                "slow or full: what they held is missing here."
            )
        return [
            {"where": "the record", "text": text, "since": manifest.started}
            for text in texts[:TOLD]
        ]

    def _workers(self) -> list[Worker]:
        there = {
            w.id: w for w in self.catalogue.workers.values() if w.there(self.instant)
        }
        found = self._last_of("worker_states", set(there))
        known = (found[i] for i in there if i in found)
        rows = [cast(Worker, {**LATER, **row}) for row in known]
        return sorted(rows, key=lambda w: natural(w["name"]))

    def _left(self, worker: KnownWorker) -> Worker:
        found = self._last_of("worker_states", {worker.id}, worker.left)
        return departed_row(worker, found.get(worker.id))

    def _limits(self) -> list[LimitAudit]:
        there = {w.id for w in self.catalogue.workers.values() if w.there(self.instant)}
        made: list[LimitAudit] = list(self._last_of("limits", there).values())
        order = (*SEVERITIES, "unknown", "ok")
        return sorted(
            made, key=lambda a: (order.index(a["severity"]), natural(a["name"]))
        )

    def _last_of(
        self, table: str, wanted: set[int], until: float | None = None
    ) -> dict[int, Any]:
        """Return the newest answer at or before the instant, by worker."""
        until = self.instant if until is None else min(until, self.instant)
        found: dict[int, Any] = {}
        one = "AND worker = ? " if len(wanted) == 1 else ""
        for segment in self.reader.files("main", until=until):
            values = [until, *(wanted if one else ())]
            rows = self.reader.ask(
                segment,
                f"SELECT worker, answer FROM {table} WHERE rowid IN (SELECT "
                f"max(rowid) FROM {table} WHERE time <= ? {one}GROUP BY worker)",
                values,
            )
            for worker, stored in rows:
                if worker in wanted and worker not in found:
                    answer = self.reader.answer(segment, stored)
                    if answer is not None:
                        found[worker] = answer
            if len(found) == len(wanted):
                break
        return found

    def _prefix_rows(self) -> dict[str, tuple[SegmentFile, Any]]:
        """Return of each prefix where its newest row is, and its figures."""
        return self._once("prefix rows", self._read_prefix_rows)

    def _read_prefix_rows(self) -> dict[str, tuple[SegmentFile, Any]]:
        found: dict[str, tuple[SegmentFile, Any]] = {}
        # Each segment begins with all prefixes, so that two hold all there are.
        for segment in self.reader.files("main", until=self.instant)[:2]:
            for row in self.reader.ask(
                segment,
                "SELECT rowid, prefix, managed, spilled, executing, count, running "
                "FROM prefix_states WHERE rowid IN (SELECT max(rowid) FROM "
                "prefix_states WHERE time <= ? GROUP BY prefix)",
                (self.instant,),
            ):
                found.setdefault(row[1], (segment, row))
        return found

    def _prefix(self, segment: SegmentFile, row: Any) -> Any:
        for (stored,) in self.reader.ask(
            segment, "SELECT answer FROM prefix_states WHERE rowid = ?", (row[0],)
        ):
            return self.reader.answer(segment, stored)
        return None

    def _entry(self, table: str, identity: str) -> Any:
        _ = self.version
        entry = self.catalogue.entry(table, identity, self.instant)
        if entry is None:
            return None
        return next((a for _, a in self.catalogue.answers(table, [entry])), None)

    def _kind_of(self, incident: str) -> str | None:
        """Return the kind of an incident that had happened by the instant."""
        entry = self.catalogue.entry("incidents", incident, self.instant)
        return None if entry is None else entry.more[0]

    def _done(self, graph: str, answer: Any) -> int | None:
        """Return how many tasks of a graph had finished at the instant."""
        if self._as_of is None:
            return cast("int | None", answer["done"])
        for segment in self.reader.files("main", until=self.instant):
            for (done,) in self.reader.ask(
                segment,
                "SELECT done FROM graph_progress WHERE graph = ? AND time <= ? "
                "ORDER BY time DESC LIMIT 1",
                (graph, self.instant),
            ):
                return cast("int | None", done)
        return 0

    def _worker(self, address: str) -> KnownWorker:
        _ = self.version
        found = self.catalogue.named(address, self.instant)
        if found is None:
            raise UnknownWorkerError(address)
        return found


def _rank(item: tuple[str, tuple[SegmentFile, Any]]) -> tuple[int, str]:
    name, (_, row) = item
    return (-sum(value or 0 for value in row[2:5]), name)


def _page(items: list[T], limit: int | None, offset: int) -> list[T]:
    return items[offset : None if limit is None else offset + limit]
