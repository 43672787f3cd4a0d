"""Opening an incident: what runs and is stored on its worker is noted at once.

All of that goes on changing after a death, and most of it is forgotten with the worker.

Imports the standard library only.
"""

from __future__ import annotations

from dataclasses import replace

from dask_memdash.model.event_parts import Thresholds
from dask_memdash.model.evidence import observe
from dask_memdash.model.graph_index import GraphIndex
from dask_memdash.model.incidents import (
    Incident,
    IncidentLog,
    StoredAtDeath,
    WorkerRef,
    rank_suspects,
    with_attempts,
)
from dask_memdash.model.memory_pools import host_facts
from dask_memdash.model.prefixes import Prefixes
from dask_memdash.model.processes import Processes, WorkerState

#: Prefixes whose storage an incident keeps, the largest.
MAX_STORED = 100


class IncidentOpening:
    """Opens incidents on workers.

    Parameters
    ----------
    log
        Where incidents are kept.
    processes, prefixes, graphs
        What the model knows beside.
    """

    def __init__(
        self,
        log: IncidentLog,
        processes: Processes,
        prefixes: Prefixes,
        graphs: GraphIndex,
    ) -> None:
        self._log = log
        self._processes = processes
        self._prefixes = prefixes
        self._graphs = graphs

    def open(self, kind: str, worker: WorkerState, time: float) -> Incident:
        """Open the incident of a kind on a worker, with what is known of it now."""
        info = worker.info
        incident = self._log.add(
            kind,
            time,
            WorkerRef(info.address, info.name, info.host, info.pid),
            limit=info.limit,
            breakdown=self._processes.breakdown_of(info.address),
            evidence="scheduler" if worker.reading is None else "heartbeat",
        )
        self._look_into(incident, worker)
        return incident

    def _look_into(self, incident: Incident, worker: WorkerState) -> None:
        """Note what runs and is stored on a worker, and why, as it is known now."""
        process = self._processes.by_key[worker.key]
        rss = process.breakdown.process if process.breakdown is not None else None
        suspects = rank_suspects(
            worker.executing, {}, worker.info.limit, self._graphs, rss=rss
        )
        incident.suspects = with_attempts(suspects, self._log, incident.id)
        incident.storage = tuple(
            StoredAtDeath(prefix, process.managed.get(prefix, 0), row.spilled, row.keys)
            for prefix, row in sorted(
                worker.rows.items(), key=lambda r: -(r[1].claimed + r[1].spilled)
            )[:MAX_STORED]
        )
        host = host_facts(self._processes, worker)
        facts = observe(worker, process, self._prefixes)
        if worker.reading is None:
            facts = replace(facts, thresholds=self._usual_thresholds(worker))
        incident.facts = replace(facts, host=host)

    def _usual_thresholds(self, worker: WorkerState) -> Thresholds:
        """Return the thresholds of others of its limit, before it has told its own."""
        others = (
            other.thresholds
            for other in self._processes.workers.values()
            if other.reading is not None and other.info.limit == worker.info.limit
        )
        return next(others, worker.thresholds)
