"""The store of a running cluster: reads a :class:`ClusterModel`, changes nothing.

The shapes are those of :mod:`dask_memdash.store.base`.  What is costly is made once
for each version of the model, however many pages look at it.
"""

from __future__ import annotations

import heapq
import itertools
import operator
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, TypeVar, cast

from dask_memdash.analysis.leaks import Audit, audit
from dask_memdash.errors import (
    UnknownFailureError,
    UnknownIncidentError,
    UnknownPrefixError,
    UnknownWorkerError,
)
from dask_memdash.model.breakdown import EMPTY
from dask_memdash.model.cluster import ClusterModel
from dask_memdash.model.processes import WorkerState
from dask_memdash.store.beside_tasks import beside_tasks
from dask_memdash.store.cluster_shapes import Cluster, History, Notice, SelfCosts
from dask_memdash.store.failures import FailureReader
from dask_memdash.store.graph_orders import Orders
from dask_memdash.store.guard import DEATHS, cluster_guard
from dask_memdash.store.guard_shapes import ClusterGuard
from dask_memdash.store.incidents import IncidentReader
from dask_memdash.store.intermediates import intermediates
from dask_memdash.store.limit_audits import Audits
from dask_memdash.store.limit_shapes import LimitAudit
from dask_memdash.store.live_strips import LiveStrips
from dask_memdash.store.natural_order import natural
from dask_memdash.store.order_shapes import Graph, OrderPoint
from dask_memdash.store.past import PastStore
from dask_memdash.store.prefix_rows import prefix_row
from dask_memdash.store.prefix_shapes import (
    Prefix,
    PrefixDetails,
    PrefixMinute,
    PrefixTotals,
)
from dask_memdash.store.scheduler_memory import scheduler_memory
from dask_memdash.store.strip_shapes import Strips
from dask_memdash.store.worker_rows import (
    breakdown_row,
    cost_row,
    departed_row,
    stale,
    worker_row,
)
from dask_memdash.store.worker_shapes import (
    PastTask,
    Worker,
)

SCHEMA_VERSION = 1

#: Seconds without a heartbeat from which on the cluster's notices tell of it; a task
#: that holds the GIL keeps a worker silent for less, many times a minute.
LONG_SILENCE = 10.0

#: Bins of the distribution of a prefix's output sizes at most.
BINS = 48

T = TypeVar("T")


class LiveStore:
    """A :class:`~dask_memdash.store.base.Store` over a live model.

    Not thread-safe: belongs to the thread that feeds the model.

    Parameters
    ----------
    model
        What is read.
    looked
        Told before the memory of workers is looked at, so that the model is as new as
        what is known: the address of the one, or None for all.
    """

    def __init__(
        self,
        model: ClusterModel,
        looked: Callable[[str | None], None] = lambda address: None,
    ) -> None:
        self._model = model
        self._looked = looked
        self._orders = Orders(model)
        self._incidents = IncidentReader(model, self._orders.facts)
        self._failures = FailureReader(model, self._incidents)
        self._made: dict[str, tuple[int, Any]] = {}
        # Address → what a worker was made of, and what was made.
        self._kept: dict[str, tuple[tuple[Any, ...], Worker]] = {}
        self._limit_audits = Audits(model)
        self._strips = LiveStrips(model)

    @property
    def version(self) -> int:
        """The model's version."""
        return self._model.version

    def cluster(self) -> Cluster:
        """Return the cluster at a glance."""
        self._looked(None)
        model = self._model
        workers = model.processes.workers.values()
        limits = [process.limit for process in model.processes.by_key.values()]
        total = None if None in limits else sum(limit or 0 for limit in limits)
        read = any(w.reading is not None for w in workers)
        return {
            "schema_version": SCHEMA_VERSION,
            "time": model.time,
            "n_workers": len(model.processes.workers),
            "n_processes": len(model.processes.by_key),
            "n_incidents": len(model.incidents),
            "n_failures": len(model.failures),
            "limit": total if limits else None,
            "breakdown": breakdown_row(model.processes.total if read else None),
            "others": beside_tasks(
                model.processes.total if read else EMPTY,
                model.processes.by_key.values(),
                model.processes.counted,
            ),
            "scheduler": scheduler_memory(model.scheduler),
            "stored": sum(worker.stored[0] for worker in workers),
            "stored_pending": sum(worker.stored[1] for worker in workers),
            "intermediates": intermediates(model),
            "guard": self._guard(),
            "self_cost": self._self_costs(),
            "degraded": self._notices(),
        }

    def workers(self, limit: int | None = None, offset: int = 0) -> list[Worker]:
        """Return the connected workers, by name."""
        self._looked(None)
        return _page(self._once("workers", self._workers), limit, offset)

    def worker(self, address: str) -> Worker:
        """Return one connected worker, without making the others.

        Raises
        ------
        UnknownWorkerError
        """
        self._looked(address)
        processes = self._model.processes
        known = processes.workers.get(address)
        if known is None:
            raise UnknownWorkerError(address)
        said = self._said_outside_reports(known)
        return worker_row(known, processes.by_key[known.key], said)

    def departed(self, limit: int | None = None, offset: int = 0) -> list[Worker]:
        """Return the workers that have left, newest first, as they were last seen."""
        left = list(reversed(self._model.processes.departed.values()))
        return [departed_row(known) for known in _page(left, limit, offset)]

    def task_history(self, worker: str) -> list[PastTask]:
        """Return the recent tasks that a worker was seen to run, oldest first."""
        self._looked(worker)
        processes = self._model.processes
        known = processes.workers.get(worker)
        if known is None:
            gone = processes.departed.get(worker)
            if gone is None:
                raise UnknownWorkerError(worker)
            known = gone.worker
        return [cast(PastTask, asdict(task)) for task in known.task_history.tasks()]

    def prefixes(self, limit: int | None = None, offset: int = 0) -> list[Prefix]:
        """Return the task prefixes, largest first."""
        self._looked(None)
        known = self._model.prefixes.by_name
        order, _ = self._once("walk over prefixes", self._walk_prefixes)
        end = len(order) if limit is None else min(len(order), offset + limit)
        whole = end > len(order) // 4
        ranked = sorted(order) if whole else heapq.nsmallest(end, order)
        spills = self._once("spills", self._spills)
        audits = self._once("audits", self._audits)
        made = self._once("prefixes", dict[str, Prefix])
        names = [name for _, name in ranked[offset:end]]
        for name in names:
            if name not in made:
                made[name] = prefix_row(
                    name, known[name], audits.get(name), spills=spills
                )
        return [made[name] for name in names]

    def prefix_totals(self) -> PrefixTotals:
        """Return the sums over all task prefixes."""
        self._looked(None)
        return self._once("walk over prefixes", self._walk_prefixes)[1]

    def prefix(self, name: str) -> PrefixDetails:
        """Return one task prefix with the distribution of its outputs' sizes."""
        self._looked(None)
        state = self._model.prefixes.by_name.get(name)
        if state is None:
            raise UnknownPrefixError(name)
        return {
            **prefix_row(
                name,
                state,
                self._once("audits", self._audits).get(name),
                spills=self._once("spills", self._spills),
            ),
            "output_bins": [
                {"low": low, "high": high, "count": count}
                for low, high, count in state.outputs.bins(BINS)
            ],
        }

    def prefix_minute(self, name: str) -> PrefixMinute:
        """Return what a prefix had in the last minute, and longer."""
        self._looked(None)
        times, sizes = self._model.prefix_history.in_processes(name)
        return {"time": times, "bytes": sizes}

    def incidents(
        self, limit: int | None = None, offset: int = 0
    ) -> list[dict[str, Any]]:
        """Return the incidents, newest first."""
        page = _page(list(self._model.incidents), limit, offset)
        return [self._incidents.brief(incident) for incident in page]

    def incident(self, incident_id: str) -> dict[str, Any]:
        """Return one incident whole."""
        incident = self._model.incidents.get(incident_id)
        if incident is None:
            raise UnknownIncidentError(incident_id)
        return self._incidents.whole(incident)

    def failures(
        self, limit: int | None = None, offset: int = 0
    ) -> list[dict[str, Any]]:
        """Return the failures, newest first."""
        page = _page(list(self._model.failures), limit, offset)
        return [self._failures.failure(failure) for failure in page]

    def failure(self, failure_id: str) -> dict[str, Any]:
        """Return one failure."""
        failure = self._model.failures.get(failure_id)
        if failure is None:
            raise UnknownFailureError(failure_id)
        return self._failures.failure(failure)

    def order(self, limit: int | None = None, offset: int = 0) -> list[Graph]:
        """Return the graphs, newest first, each with its curve."""
        return self._orders.list(limit, offset)

    def graph(self, graph_id: str) -> Graph:
        """Return one graph."""
        return self._orders.graph(graph_id)

    def order_point(self, graph_id: str, position: int) -> OrderPoint:
        """Say what a graph held when `position` of its tasks had finished."""
        return self._orders.point(graph_id, position)

    def limits(self, limit: int | None = None, offset: int = 0) -> list[LimitAudit]:
        """Return the audit of every worker's memory limit, worst first."""
        self._looked(None)
        return _page(self._limit_audits.read(), limit, offset)

    def history(
        self, worker: str | None = None, since: float | None = None, points: int = 300
    ) -> History:
        """Return the breakdown over time of the cluster or of one worker."""
        self._looked(worker)
        processes = self._model.processes
        series, pauses = processes.history, self._model.pauses
        if worker is not None:
            state = processes.workers.get(worker)
            gone = processes.departed.get(worker)
            if state is not None:
                series = processes.by_key[state.key].history
                pauses = state.pauses
            elif gone is not None:
                series, pauses = gone.history, gone.worker.pauses
            else:
                raise UnknownWorkerError(worker)
        beside = {"pauses": pauses.bands(since), "n_pauses": pauses.count}
        return cast(History, {**series.columns(since, points), **beside})

    def strips(self, start: float, end: float) -> Strips:
        """Return how full all workers were over a stretch of time, in few rows."""
        self._looked(None)
        return self._strips.answer(start, end)

    def then(self, start: float, end: float) -> PastStore:
        """Return the cluster at an earlier instant, or at the most of a span."""
        self._looked(None)
        return PastStore(self._model, self, start, end)

    # -- making ----------------------------------------------------------------

    def _once(self, name: str, make: Callable[[], T]) -> T:
        version, value = self._made.get(name, (-1, None))
        if version != self.version:
            value = make()
            self._made[name] = (self.version, value)
        return cast(T, value)

    def _workers(self) -> list[Worker]:
        workers = self._model.processes.workers.values()
        ordered = sorted(workers, key=lambda w: natural(w.info.name))
        kept, self._kept = self._kept, {}
        return [self._worker_kept(worker, kept) for worker in ordered]

    def _worker_kept(
        self, worker: WorkerState, kept: dict[str, tuple[tuple[Any, ...], Worker]]
    ) -> Worker:
        """Return a worker as it was made before, if nothing of it has been replaced.

        Of 1,000 workers 170 report in a second: making them all anew would cost most
        of what a page costs.
        """
        process = self._model.processes.by_key[worker.key]
        now = (
            *(worker.info, worker.status, worker.last_seen, worker.reading),
            *(worker.executing, worker.shares, worker.thresholds, worker.method),
            worker.notices,
            *(worker.nanny_notices, worker.cost, worker.nanny_cost, worker.children),
            *(
                worker.stored,
                worker.storing,
                process.breakdown,
                len(process.members),
                worker.stale_for,
            ),
            *self._said_outside_reports(worker),
        )
        before = kept.get(worker.info.address)
        if before is not None and all(map(operator.is_, before[0], now)):
            self._kept[worker.info.address] = before
            return before[1]
        made = worker_row(worker, process, self._said_outside_reports(worker))
        self._kept[worker.info.address] = (now, made)
        return made

    def _said_outside_reports(self, worker: WorkerState) -> list[tuple[str, ...]]:
        """Return what worker and nanny said but for reports: that MemDash is not there.

        The very tuples that the model keeps, so that a change shows by identity.
        """
        said = self._model.notices
        places = (f"worker {worker.info.address}", f"nanny {worker.info.home}")
        return [said.get(place, (0.0, ()))[1] for place in places]

    def _guard(self) -> ClusterGuard | None:
        newest = itertools.islice(self._model.incidents, DEATHS)
        return cluster_guard(self._model, map(self._incidents.brief, newest))

    def _self_costs(self) -> SelfCosts:
        workers = self._model.processes.workers.values()
        return {
            "scheduler": cost_row([self._model.cost]),
            "workers": cost_row([worker.cost for worker in workers]),
            "nannies": cost_row([worker.nanny_cost for worker in workers]),
        }

    def _audits(self) -> dict[str, Audit]:
        growth = self._model.processes.idle_growth()
        return audit(self._model.prefixes.by_name, growth)

    def _spills(self) -> bool:
        """Say whether any worker tells what it has spilled."""
        return any(
            w.reading is not None and w.reading.spilled is not None
            for w in self._model.processes.workers.values()
        )

    def _walk_prefixes(self) -> tuple[list[tuple[int, str]], PrefixTotals]:
        """Return what prefixes are ranked by, least first, and the sums over them.

        In one walk: there may be 10,000, and each page asks for both.
        """
        order = []
        managed = spilled = executing = count = running = 0
        measured = not self._model.prefixes.by_name
        for name, state in self._model.prefixes.by_name.items():
            order.append((-state.managed - state.spilled - state.executing, name))
            managed += state.managed
            spilled += state.spilled
            executing += state.executing
            if state.count > state.n_replicas:
                count += state.count - state.n_replicas
            running += state.running
            measured = measured or state.running == 0 or state.measured > 0
        return order, {
            "prefixes": len(order),
            "managed": managed,
            "spilled": spilled if self._once("spills", self._spills) else None,
            "executing": executing if measured else None,
            "count": count,
            "running": running,
        }

    def _notices(self) -> list[Notice]:
        notices: list[Notice] = [
            {"where": where, "text": text, "since": since}
            for where, (since, texts) in self._model.notices.items()
            for text in texts
        ]
        for worker in self._model.processes.workers.values():
            silent = (worker.stale_for or 0) >= LONG_SILENCE
            for kind, texts, since in (
                ("worker", worker.notices, worker.info.time),
                ("worker", stale(worker) if silent else (), worker.last_seen),
                ("nanny of", worker.nanny_notices, worker.info.time),
            ):
                notices += [
                    {
                        "where": f"{kind} {worker.info.address}",
                        "text": text,
                        "since": since,
                    }
                    for text in texts
                ]
        return notices


def _page(items: list[T], limit: int | None, offset: int) -> list[T]:
    return items[offset : None if limit is None else offset + limit]
