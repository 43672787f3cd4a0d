"""A living cluster as it was: at an instant, or the most of a span.

From the histories that the model keeps.  At an instant the workers' figures are those
of their last reading before it, and the cluster's are their sum.  Of a span each worker
and each prefix is told at its own most, so that they add up to nothing; the cluster is
told at its own.  What no history tells is ``None``, or what is known now and does not
change; :attr:`PastStore.notes` says what is missing.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from typing import Any, TypeVar, cast

from dask_memdash.errors import UnknownPrefixError
from dask_memdash.model.breakdown import UNKNOWN, scale
from dask_memdash.model.cluster import ClusterModel
from dask_memdash.model.processes import (
    HISTORY,
    MAX_DEPARTED,
    Departed,
    WorkerState,
)
from dask_memdash.model.series import Series, thin
from dask_memdash.store.base import Store
from dask_memdash.store.cluster_shapes import Cluster, History
from dask_memdash.store.limit_shapes import LimitAudit
from dask_memdash.store.natural_order import natural
from dask_memdash.store.order_shapes import Graph, OrderPoint
from dask_memdash.store.prefix_shapes import (
    Prefix,
    PrefixDetails,
    PrefixMinute,
    PrefixTotals,
)
from dask_memdash.store.strip_shapes import Strips
from dask_memdash.store.worker_rows import departed_row
from dask_memdash.store.worker_shapes import (
    Breakdown,
    ExecutingTask,
    PastTask,
    Worker,
)
from dask_memdash.text import format_clock

T = TypeVar("T")

#: Seconds after its last sight for which a task is taken to have run on: a heartbeat.
SEEN = 1.0


class PastStore:
    """A :class:`~dask_memdash.store.base.Store` of an earlier moment.

    Parameters
    ----------
    model
        Of the living cluster.
    now
        Its store: incidents, failures, graphs and limits are told as they are known.
    start, end
        The span in Unix time; the same for an instant.
    """

    version = 0

    def __init__(
        self, model: ClusterModel, now: Store, start: float, end: float
    ) -> None:
        self._model = model
        self._now = now
        self._start, self._end = start, end
        #: Sentences that say what is not known of that moment.
        self.notes: tuple[str, ...] = ()
        self._workers = sorted(self._make_workers(), key=lambda w: natural(w["name"]))
        self._cluster = self._make_cluster()
        self._prefixes = self._make_prefixes()
        self.notes = tuple(self._missing())

    # -- what was ----------------------------------------------------------------

    def cluster(self) -> Cluster:
        """Return the cluster at a glance."""
        return self._cluster

    def workers(self, limit: int | None = None, offset: int = 0) -> list[Worker]:
        """Return the workers that were there, by name."""
        return _page(self._workers, limit, offset)

    def departed(self, limit: int | None = None, offset: int = 0) -> list[Worker]:
        """Return the workers that had left by then, newest first."""
        gone = [
            departed_row(known)
            for known in reversed(self._model.processes.departed.values())
            if known.left < self._start
        ]
        return _page(gone, limit, offset)

    def prefixes(self, limit: int | None = None, offset: int = 0) -> list[Prefix]:
        """Return the task prefixes that held something, largest first."""
        return _page(list(self._prefixes.values()), limit, offset)

    def prefix(self, name: str) -> PrefixDetails:
        """Return one task prefix, with all sizes of outputs that are known."""
        found = self._prefixes.get(name)
        if found is None:
            raise UnknownPrefixError(name)
        bins = self._now.prefix(name)["output_bins"]
        return cast(PrefixDetails, {**found, "output_bins": bins})

    def prefix_totals(self) -> PrefixTotals:
        """Return the sums over all task prefixes."""
        known = list(self._prefixes.values())
        return {
            "prefixes": len(known),
            "managed": sum(p["storage"]["managed"] or 0 for p in known),
            "spilled": sum(p["storage"]["spilled"] or 0 for p in known),
            "executing": sum(p["execution"]["executing"] or 0 for p in known),
            "count": sum(p["storage"]["count"] or 0 for p in known),
            "running": sum(p["execution"]["running"] for p in known),
        }

    def history(
        self, worker: str | None = None, since: float | None = None, points: int = 300
    ) -> History:
        """Return the breakdown over time, up to that moment."""
        whole: dict[str, Any] = {**self._now.history(worker, since, 10**6)}
        times = whole["time"][: bisect_right(whole["time"], self._end)]
        chosen = thin(times, whole["process"], points)
        columns = {
            name: [values[index] for index in chosen]
            for name, values in whole.items()
            if name not in ("pauses", "n_pauses")
        }
        return cast(History, {**whole, **columns})

    def prefix_minute(self, name: str) -> PrefixMinute:
        """Return what a prefix had in the workers' processes, up to that moment."""
        times, sizes = self._model.prefix_history.in_processes(name, self._end)
        return {"time": times, "bytes": sizes}

    # -- what is known now -------------------------------------------------------

    def task_history(self, worker: str) -> list[PastTask]:
        """Return the recent tasks that a worker was seen to run."""
        return self._now.task_history(worker)

    def incidents(
        self, limit: int | None = None, offset: int = 0
    ) -> list[dict[str, Any]]:
        """Return the incidents, newest first, later ones too."""
        return self._now.incidents(limit, offset)

    def incident(self, incident_id: str) -> dict[str, Any]:
        """Return one incident."""
        return self._now.incident(incident_id)

    def failures(
        self, limit: int | None = None, offset: int = 0
    ) -> list[dict[str, Any]]:
        """Return the failures, newest first, later ones too."""
        return self._now.failures(limit, offset)

    def failure(self, failure_id: str) -> dict[str, Any]:
        """Return one failure."""
        return self._now.failure(failure_id)

    def limits(self, limit: int | None = None, offset: int = 0) -> list[LimitAudit]:
        """Return the audits of the limits."""
        return self._now.limits(limit, offset)

    def order(self, limit: int | None = None, offset: int = 0) -> list[Graph]:
        """Return the graphs, newest first."""
        return self._now.order(limit, offset)

    def graph(self, graph_id: str) -> Graph:
        """Return one graph."""
        return self._now.graph(graph_id)

    def order_point(self, graph_id: str, position: int) -> OrderPoint:
        """Say what a graph held when `position` of its tasks had finished."""
        return self._now.order_point(graph_id, position)

    def strips(self, start: float, end: float) -> Strips:
        """Return how full all workers were over a stretch of time."""
        return self._now.strips(start, end)

    def then(self, start: float, end: float) -> Store:
        """Return the cluster at another moment."""
        return PastStore(self._model, self._now, start, end)

    # -- making ------------------------------------------------------------------

    @property
    def _is_span(self) -> bool:
        return self._end > self._start

    def _stood(self, series: Series) -> tuple[float, list[int]] | None:
        return series.stood(self._start, self._end if self._is_span else None)

    def _make_workers(self) -> Iterable[Worker]:
        processes = self._model.processes
        for worker in processes.workers.values():
            if worker.info.time <= self._end:
                process = processes.by_key[worker.key]
                others = len(process.members) - 1
                yield self._worker(worker, process.history, None, others)
        for gone in processes.departed.values():
            if gone.worker.info.time <= self._end and gone.left >= self._start:
                yield self._worker(gone.worker, gone.history, gone.left, 0)

    def _worker(
        self, worker: WorkerState, history: Series, left: float | None, others: int
    ) -> Worker:
        figures = self._stood(history)
        base = departed_row(Departed(worker, history, None, left or self._end))
        pauses = list(worker.pauses)
        later = sum(pause.start > self._end for pause in pauses)
        paused = any(
            pause.start <= self._end and (pause.end or self._end) >= self._start
            for pause in pauses
        )
        return {
            **base,
            "status": "paused" if paused else "running",
            "n_pauses": worker.pauses.count - later,
            "last_seen": figures[0] if figures else base["last_seen"],
            "breakdown": _breakdown(figures, spills=_spills(worker)),
            "rss": {"anon": None, "file": None, "shmem": None},
            "shares_process_with": others,
            "executing_tasks": list(self._tasks(worker)),
        }

    def _tasks(self, worker: WorkerState) -> Iterable[ExecutingTask]:
        """Yield the tasks that were seen to run at that moment."""
        for task in worker.task_history.tasks():
            until = self._end if task.running else task.seen + SEEN
            if task.start <= self._end and until >= self._start:
                yield {
                    "key": task.key,
                    "prefix": task.prefix,
                    "thread": task.thread,
                    "seconds": max(0.0, min(self._end, task.seen) - task.start),
                    "bytes": None,
                    "peak": task.peak,
                    "method": task.method,
                    "error": None,
                    "largest_block": None,
                }

    def _make_cluster(self) -> Cluster:
        now = self._now.cluster()
        processes = {(w["host"], w["pid"]): w for w in self._workers}.values()
        limits = [w["limit"] for w in processes]
        breakdown = _sum_of([w["breakdown"] for w in processes])
        if self._is_span:
            figures = self._stood(self._model.processes.history)
            spills = any(w["breakdown"]["spilled"] is not None for w in processes)
            breakdown = _breakdown(figures, spills=spills)
        known = [limit for limit in limits if limit is not None]
        return {
            **now,
            "time": self._end,
            "n_workers": len(self._workers),
            "n_processes": len(processes),
            "limit": sum(known) if known and len(known) == len(limits) else None,
            "breakdown": breakdown,
            "others": [],
            "scheduler": None,
            "stored": 0,
            "stored_pending": 0,
            "intermediates": None,
        }

    def _make_prefixes(self) -> dict[str, Prefix]:
        found: dict[str, dict[str, int]] = {}
        for name, series in self._model.prefix_history.by_name.items():
            figures = self._prefix_figures(series)
            if figures is not None and any(figures.values()):
                found[name] = figures
        if not self._is_span:
            self._fit(found)
        ranked = sorted(
            found.items(),
            key=lambda item: (-sum(item[1][n] for n in FIGURES), item[0]),
        )
        rows = {name: self._prefix(name, figures) for name, figures in ranked}
        return {name: row for name, row in rows.items() if row is not None}

    def _prefix_figures(self, series: Series) -> dict[str, int] | None:
        """Return what a prefix held, each figure at its own most in a span."""
        if not self._is_span:
            stood = series.stood(self._start)
            if stood is None:
                return None
            rows = [stood[1]]
        else:
            times, columns = series.since(
                series.before(self._start) or self._start, *series.names
            )
            inside = sum(time <= self._end for time in times)
            rows = [list(row) for row in zip(*columns, strict=True)][:inside]
        if not rows:
            return None
        return {
            "managed": max(row[0] - row[1] - row[2] for row in rows),
            "spilled": max(row[1] for row in rows),
            "executing": max(row[2] for row in rows),
            "running": max(row[3] for row in rows),
            "finished": max(row[4] for row in rows),
        }

    def _fit(self, found: dict[str, dict[str, int]]) -> None:
        """Scale prefixes down to what the cluster had.

        They were looked at a little before or after its workers were read.
        """
        whole: dict[str, int | None] = self._cluster["breakdown"]  # type: ignore[assignment]
        for figure in FIGURES:
            sizes = {name: max(0, row[figure]) for name, row in found.items()}
            most = whole[figure] or 0
            if sum(sizes.values()) > most:
                sizes = {**dict.fromkeys(sizes, 0), **scale(sizes, most)}
            for name, size in sizes.items():
                found[name][figure] = size

    def _prefix(self, name: str, then: dict[str, int]) -> Prefix | None:
        try:
            now = self._now.prefix(name)
        except UnknownPrefixError:
            return None  # forgotten: nothing but these figures is known of it
        return {
            "prefix": name,
            "kind": "task",
            "bytes": then["managed"] + then["executing"],
            "part": None,
            "method": now["method"],
            "storage": {
                **now["storage"],
                "managed": then["managed"],
                "managed_claimed": None,
                "replicas": None,
                "spilled": then["spilled"]
                if now["storage"]["spilled"] is not None
                else None,
                "spilled_disk": None,
                "pinned": None,
                "awaited": None,
                "stored": 0,
                "stored_pending": 0,
                "count": None,
                "awaited_by": [],
            },
            "execution": {
                **now["execution"],
                "executing": then["executing"],
                "running": then["running"],
                "finished": then["finished"],
                "leak": None,
            },
            "children": {"processes": 0, "rss": 0, "peak": None},
            "graph_bytes": now["graph_bytes"],
            "advice": None,
        }

    def _missing(self) -> Iterable[str]:
        first = self._model.processes.history.first
        if first is None or self._end < first:
            since = "" if first is None else f" It begins at {format_clock(first)}."
            yield f"No history is kept of that moment.{since}"
            return
        if any(w["breakdown"]["process"] is None for w in self._workers):
            yield "Some workers had not reported by then."
        departed = self._model.processes.departed
        if len(departed) >= MAX_DEPARTED:
            oldest = next(iter(departed.values())).left
            if self._start < oldest:
                yield f"Of workers that have left, the last {MAX_DEPARTED} are kept."
        known = self._model.prefix_history
        if known.since is None or self._end < known.since:
            yield "Prefixes are not kept of that moment."
        elif known.forgotten is not None:
            yield "Of prefixes only those that held most are kept."


#: Figures of prefixes that sum to the cluster's.
FIGURES = ("managed", "spilled", "executing")


def _breakdown(figures: tuple[float, list[int]] | None, *, spills: bool) -> Breakdown:
    if figures is None:
        return cast(Breakdown, dict(UNKNOWN))
    known: dict[str, int | None] = dict(zip(HISTORY, figures[1], strict=True))
    known["unmanaged"] = (known["process"] or 0) - (known["managed"] or 0)
    if not spills:
        known["spilled"] = None
    return cast(Breakdown, {**UNKNOWN, **known})


def _sum_of(breakdowns: list[Breakdown]) -> Breakdown:
    total: dict[str, int | None] = dict(UNKNOWN)
    for name in total:
        values: list[int | None] = [b[name] for b in breakdowns]  # type: ignore[literal-required]
        known = [value for value in values if value is not None]
        total[name] = sum(known) if known else None
    return cast(Breakdown, total)


def _spills(worker: WorkerState) -> bool:
    """Say whether a worker tells what it has spilled."""
    return worker.reading is not None and worker.reading.spilled is not None


def _page(items: list[T], limit: int | None, offset: int) -> list[T]:
    return items[offset : None if limit is None else offset + limit]
