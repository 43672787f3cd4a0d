"""Deaths of workers: one incident for each, whatever is heard of it first, or twice.

A death is heard of from the scheduler, which removes the worker, from the nanny, which
reports how the process ended and what its flight recorder held, and from Dask giving up
tasks.  They come in any order.

Imports the standard library only.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from dask_memdash.model.breakdown import break_down
from dask_memdash.model.event_parts import TaskInfo
from dask_memdash.model.events import DeathReported, TaskKilled, WorkerRemoved
from dask_memdash.model.evidence import with_expected, with_leaving
from dask_memdash.model.graph_index import GraphIndex
from dask_memdash.model.incidents import (
    Exit,
    Incident,
    IncidentLog,
    WorkerRef,
    kind_of_death,
    rank_suspects,
    with_attempts,
    with_lost,
)
from dask_memdash.model.pauses import Pauses
from dask_memdash.model.prefixes import Prefixes
from dask_memdash.model.processes import Processes, WorkerState
from dask_memdash.model.worker_errors import Replacements

#: A worker whose reason for closing ends with one of these has failed by itself.
FAILED_CLOSING = ("heartbeat-error", "heartbeat-missing", "fail-hard")

#: Dead processes remembered, to join what arrives late.
MAX_SETTLED = 2_000

#: Tasks of one 'killed-worker' incident that are named; the others are counted.
MAX_KILLED = 20

Open = Callable[[str, WorkerState, float], Incident]


class Deaths:
    """Makes one incident of all that is heard of a worker's death.

    Parameters
    ----------
    log
        Where incidents are kept.
    open_incident
        Opens the incident of a kind on a worker, with what is known of it now.
    processes, prefixes, graphs, pauses, replacements
        What the model knows beside.
    """

    def __init__(
        self,
        log: IncidentLog,
        open_incident: Open,
        *,
        processes: Processes,
        prefixes: Prefixes,
        graphs: GraphIndex,
        pauses: Pauses,
        replacements: Replacements,
    ) -> None:
        self._log = log
        self._open = open_incident
        self._processes = processes
        self._prefixes = prefixes
        self._graphs = graphs
        self._pauses = pauses
        self._replacements = replacements
        # (address, pid) → incident of its death, or None where it was asked to end.
        self._settled: OrderedDict[tuple[str, int], str | None] = OrderedDict()
        # (address, pid) → a report that waits for the removal.
        self._waiting: OrderedDict[tuple[str, int], DeathReported] = OrderedDict()
        # Death of a worker → the incident of the tasks that it made Dask give up.
        self._killed: OrderedDict[str, str] = OrderedDict()

    def removed(self, worker: WorkerState, event: WorkerRemoved) -> None:
        """Take in that the scheduler removed a worker, while it is still known."""
        failed = worker.closing.endswith(FAILED_CLOSING)
        closed = bool(worker.closing) and not failed
        asked = event.expected or worker.restarting or closed
        asked = asked and worker.unresponsive is None  # nobody asked for that
        key = (event.address, worker.info.pid)
        if asked and key not in self._settled:
            self._settle(key, None)
        incident = self._death_of(worker, event.time)
        if incident is not None:
            self._add_removal(incident, with_inputs(event, worker.leaving))
        report = self._waiting.pop(key, None)
        if incident is not None and report is not None:
            self._add_report(incident, report)

    def leaving(self, worker: WorkerState) -> None:
        """Take in what a worker held when it is about to be removed."""
        key = (worker.info.address, worker.info.pid)
        incident = self._log.get(self._settled.get(key))
        if incident is not None:
            self._add_holdings(incident, worker)

    def reported(self, event: DeathReported) -> None:
        """Take in a nanny's report of how a worker's process ended."""
        key = (event.address, event.pid)
        worker = self._processes.workers.get(event.address)
        if worker is not None and worker.info.pid != event.pid:
            worker = None
        restarting = worker is not None and worker.restarting
        provisional = self._settled.get(key)
        asked = event.asked and not self._gave_up(worker, provisional)
        if asked or (restarting and key not in self._settled):
            if provisional is not None:
                self._log.withdraw(provisional)
            self._settle(key, None)
        if event.closing and key not in self._settled:
            _remember(self._waiting, key, event)  # the removal knows the reason
            return
        if key in self._settled:
            incident = self._log.get(self._settled[key])
        else:
            incident = (
                self._death_of(worker, event.time)
                if worker is not None
                else self._death_of_unknown(event)
            )
        if incident is not None:
            self._add_report(incident, event)

    def task_killed(self, event: TaskKilled) -> None:
        """Take in that Dask gave up a task for the death of a worker."""
        worker = self._processes.workers.get(event.address)
        if worker is None or worker.restarting:
            return
        death = self._death_of(worker, event.time)
        if death is None:
            return
        killed = self._log.get(self._killed.get(death.id))
        if killed is None:
            killed = self._log.add(
                "killed-worker",
                event.time,
                death.worker,
                limit=death.limit,
                breakdown=death.breakdown,
                evidence=death.evidence,
            )
            _remember(self._killed, death.id, killed.id)
            earlier = self._log.deaths_of(event.hash)
            behind = [d for d in earlier if d != death.id][-event.allowed_failures :]
            killed.attempts = (*behind, death.id)
        killed.n_tasks += 1
        if len(killed.tasks) < MAX_KILLED:
            killed.tasks = (*killed.tasks, event.task)

    def _gave_up(self, worker: WorkerState | None, incident_id: str | None) -> bool:
        """Whether the scheduler had a worker ended because it did not answer."""
        incident = self._log.get(incident_id)
        silent = worker.unresponsive if worker is not None else None
        return silent is not None or (
            incident is not None and incident.unresponsive is not None
        )

    def _add_holdings(self, incident: Incident, worker: WorkerState) -> None:
        if incident.facts is not None:
            incident.facts = with_leaving(incident.facts, worker)
        sizes = {name: (held.keys, held.size) for name, held in worker.held.items()}
        incident.storage = with_lost(incident.storage, sizes)

    def _death_of(self, worker: WorkerState, time: float) -> Incident | None:
        """Return the incident of a worker's death, opened if it is the first news."""
        key = (worker.info.address, worker.info.pid)
        if key in self._settled:
            return self._log.get(self._settled[key])
        incident = self._open("exited" if worker.closing else "lost", worker, time)
        incident.closing = worker.closing
        incident.pause = worker.pause
        incident.nanny = worker.info.nanny
        incident.unresponsive = worker.unresponsive
        if worker.held_share is not None:
            self._add_holdings(incident, worker)
        self._replacements.left(worker.info.home, incident.id)
        process = self._processes.by_key[worker.key]
        incident.timeline = _tail(process.history.columns(since=time - 60))
        self._settle(key, incident.id)
        return incident

    def _death_of_unknown(self, event: DeathReported) -> Incident | None:
        """Open the incident of a worker that left before its report came."""
        ref = WorkerRef(event.address, event.address, "", event.pid)
        incident = self._log.add(
            "lost",
            event.time,
            ref,
            limit=None,
            breakdown=None,
            evidence="scheduler",
        )
        self._settle((event.address, event.pid), incident.id)
        return incident

    def _add_removal(self, incident: Incident, event: WorkerRemoved) -> None:
        incident.assigned = event.assigned
        incident.n_assigned = event.n_assigned
        incident.hashes = frozenset(event.assigned_hashes)
        incident.keys_lost = event.keys_lost
        incident.bytes_lost = event.bytes_lost
        incident.seconds_lost = event.seconds_lost
        incident.storage = with_lost(incident.storage, event.lost)
        self._name_suspects(incident, event.assigned)

    def _add_report(self, incident: Incident, event: DeathReported) -> None:
        incident.kind = kind_of_death(event)
        if event.asked and incident.unresponsive is not None:
            incident.kind = "lost"
        incident.reported = True
        incident.clock_offset = event.clock_offset
        incident.exit = Exit(event.code, event.signal, event.by)
        if event.reading is not None:
            incident.breakdown = break_down(event.reading)
            self._pauses.enlarge(incident.pause, incident.breakdown)
        if event.samples:
            incident.timeline = event.samples
        if event.recorded:
            incident.evidence = "flight-recorder"
            known = {info.key: info for info in (*event.known, *incident.assigned)}
            suspects = rank_suspects(
                event.executing,
                known,
                incident.limit,
                self._graphs,
                rss=event.reading.rss if event.reading is not None else None,
                actors=incident.facts.actors if incident.facts is not None else (),
            )
            incident.suspects = with_attempts(suspects, self._log, incident.id)
            self._expect(incident)
        killed = self._log.get(self._killed.get(incident.id))
        if killed is not None:
            killed.evidence = incident.evidence
            killed.breakdown = incident.breakdown
            killed.exit = incident.exit

    def _name_suspects(self, incident: Incident, known: tuple[TaskInfo, ...]) -> None:
        """Give suspects the priority and order position that has become known."""
        infos = {info.key: info for info in known}
        named = []
        for suspect in incident.suspects:
            info = infos.get(suspect.key)
            if info is not None and suspect.inputs is None:
                suspect = replace(suspect, inputs=info.inputs, arguments=info.arguments)
            if info is not None and suspect.priority is None:
                place = self._graphs.position(info.group, info.priority)
                suspect = replace(
                    suspect,
                    prefix=info.prefix,
                    priority=info.priority,
                    order_position=place[0] if place else None,
                    order_total=place[1] if place else None,
                )
            named.append(suspect)
        incident.suspects = with_attempts(tuple(named), self._log, incident.id)
        self._expect(incident)

    def _expect(self, incident: Incident) -> None:
        """Add what the suspects' prefixes usually need, where that is not there yet."""
        if incident.facts is not None:
            names = [suspect.prefix for suspect in incident.suspects]
            incident.facts = with_expected(incident.facts, self._prefixes, names)

    def _settle(self, key: tuple[str, int], incident_id: str | None) -> None:
        _remember(self._settled, key, incident_id)


def with_inputs(event: WorkerRemoved, leaving: tuple[TaskInfo, ...]) -> WorkerRemoved:
    """Put what was known of the assigned tasks before the removal in its place."""
    known = {info.key: info for info in leaving}
    assigned = tuple(known.get(info.key, info) for info in event.assigned)
    return replace(event, assigned=assigned)


def _tail(columns: dict[str, list[float]]) -> tuple[tuple[float, int], ...]:
    return tuple(
        (time, int(size))
        for time, size in zip(columns["time"], columns["process"], strict=True)
    )


def _remember(book: OrderedDict[Any, Any], key: Any, value: Any) -> None:
    book[key] = value
    while len(book) > MAX_SETTLED:
        book.popitem(last=False)
