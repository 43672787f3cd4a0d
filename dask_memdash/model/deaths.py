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

from dask_memdash.model.breakdown import break_down, grown_to
from dask_memdash.model.event_parts import TaskInfo
from dask_memdash.model.events import DeathReported, TaskKilled, WorkerRemoved
from dask_memdash.model.evidence import with_expected, with_leaving
from dask_memdash.model.graph_index import GraphIndex
from dask_memdash.model.incidents import (
    Incident,
    IncidentLog,
    Suspect,
    WorkerRef,
    exit_of,
    kind_of_death,
    rank_suspects,
    with_attempts,
    with_lost,
)
from dask_memdash.model.last_seconds import pack
from dask_memdash.model.prefixes import Prefixes
from dask_memdash.model.processes import Processes, WorkerState
from dask_memdash.model.worker_errors import Replacements

#: A worker whose reason for closing ends with one of these has failed by itself.
FAILED_CLOSING = ("heartbeat-error", "heartbeat-missing", "fail-hard")

#: Names of dead processes remembered, to join what arrives late.
MAX_SETTLED = 4_000

#: Tasks of one 'killed-worker' incident that are named; the others are counted.
MAX_KILLED = 20

#: A process that is being torn down has given pages back already: the largest of its
#: last samples is what it had.
LAST_SAMPLES = 3

#: What the process of a worker goes by: its nanny's address, or its own, and its pid.
Process = tuple[str, int]

Open = Callable[[str, WorkerState, float], Incident]


class Deaths:
    """Makes one incident of all that is heard of a worker's death.

    Parameters
    ----------
    log
        Where incidents are kept.
    open_incident
        Opens the incident of a kind on a worker, with what is known of it now.
    processes, prefixes, graphs, replacements
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
        replacements: Replacements,
    ) -> None:
        self._log = log
        self._open = open_incident
        self._processes = processes
        self._prefixes = prefixes
        self._graphs = graphs
        self._replacements = replacements
        # Process → incident of its death, or None where it was asked to end.
        self._settled: OrderedDict[Process, str | None] = OrderedDict()
        # Process → a report that waits for the removal.
        self._waiting: OrderedDict[Process, DeathReported] = OrderedDict()
        # Death of a worker → the incident of the tasks that it made Dask give up.
        self._killed: OrderedDict[str, str] = OrderedDict()

    def removed(self, worker: WorkerState, event: WorkerRemoved) -> None:
        """Take in that the scheduler removed a worker, while it is still known."""
        failed = worker.closing.endswith(FAILED_CLOSING)
        closed = bool(worker.closing) and not failed
        asked = event.expected or worker.restarting or closed
        asked = asked and worker.unresponsive is None  # nobody asked for that
        names = _names_of(worker)
        if asked and self._known(names) is None:
            self._settle(names, None)
        incident = self._death_of(worker, event.time)
        if incident is not None:
            self._add_removal(incident, with_inputs(event, worker.leaving))
            if not incident.worker.name or incident.worker.address != event.address:
                incident.worker = _ref_of(worker)
        reports = [self._waiting.pop(name, None) for name in names]
        for report in reports:
            if incident is not None and report is not None:
                self._add_report(incident, report)
                break

    def leaving(self, worker: WorkerState) -> None:
        """Take in what a worker held when it is about to be removed."""
        known = self._known(_names_of(worker))
        incident = self._log.get(self._settled[known]) if known is not None else None
        if incident is not None:
            self._add_holdings(incident, worker)

    def reported(self, event: DeathReported) -> None:
        """Take in a nanny's report of how a worker's process ended.

        It may come before or after the scheduler lets go of the worker, or twice, and
        its address may be missing: nanny and pid say whose death it is.
        """
        worker = self._worker_of(event)
        names = _names_of(worker) if worker is not None else _names_in(event)
        known = self._known(names)
        restarting = worker is not None and worker.restarting
        provisional = self._settled[known] if known is not None else None
        asked = event.asked and not self._gave_up(worker, provisional)
        if asked or (restarting and known is None):
            if provisional is not None:
                self._log.withdraw(provisional)
            self._settle(names, None)
            known = names[0]
            if worker is None:
                self._replacements.given_up(event.nanny, event.time)
        if event.closing and known is None:
            for name in names:
                _remember(self._waiting, name, event)  # the removal knows the reason
            return
        if known is not None:
            incident = self._log.get(self._settled[known])
        elif worker is not None:
            incident = self._death_of(worker, event.time)
        else:
            incident = self._death_of_unknown(event, names)
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
        names = _names_of(worker)
        known = self._known(names)
        if known is not None:
            return self._log.get(self._settled[known])
        by_itself = worker.closing and worker.unresponsive is None
        incident = self._open("exited" if by_itself else "lost", worker, time)
        incident.closing = worker.closing
        incident.nanny = worker.info.nanny
        incident.unresponsive = worker.unresponsive
        if worker.held_share is not None:
            self._add_holdings(incident, worker)
        self._replacements.left(worker.info.home, incident.id)
        process = self._processes.by_key[worker.key]
        incident.timeline = _tail(process.history.columns(since=time - 60))
        self._settle(names, incident.id)
        return incident

    def _death_of_unknown(
        self, event: DeathReported, names: tuple[Process, ...]
    ) -> Incident:
        """Open the incident of a worker that the scheduler does not know.

        It died before it had registered, or left before its report came.
        """
        incident = self._log.add(
            "lost",
            event.time,
            WorkerRef(
                event.address, event.name or event.address, event.host, event.pid
            ),
            limit=None,
            breakdown=None,
            evidence="scheduler",
        )
        incident.nanny = True
        self._replacements.left(event.nanny, incident.id)
        self._settle(names, incident.id)
        return incident

    def _add_removal(self, incident: Incident, event: WorkerRemoved) -> None:
        incident.assigned = event.assigned
        incident.n_assigned = event.n_assigned
        incident.hashes = frozenset(event.assigned_hashes)
        incident.keys_lost = event.keys_lost
        incident.bytes_lost = event.bytes_lost
        incident.seconds_lost = event.seconds_lost
        incident.keys_stored = event.keys_stored
        incident.bytes_stored = event.bytes_stored
        incident.storage = with_lost(incident.storage, event.lost)
        self._name_suspects(incident, event.assigned)

    def _add_report(self, incident: Incident, event: DeathReported) -> None:
        incident.exit = exit_of(event)
        incident.kind = kind_of_death(incident.exit)
        if event.asked and incident.unresponsive is not None:
            incident.kind = "lost"
        incident.reported = True
        incident.clock_offset = event.clock_offset
        if event.reading is not None:
            incident.breakdown = break_down(event.reading)
            if incident.facts is not None:
                base = self._idle(incident, event.reading.base)
                loaded = event.reading.loaded
                incident.facts = replace(
                    incident.facts,
                    base=base,
                    loaded=incident.facts.loaded if loaded is None else loaded,
                )
        elif event.samples:
            rss = max(size for _, size in event.samples[-LAST_SAMPLES:])
            busy = bool(incident.suspects)
            before = incident.breakdown
            incident.unseen = max(0, rss - (before.process if before else 0))
            incident.breakdown = grown_to(incident.breakdown, rss, busy=busy)
            incident.suspects = _still_running(incident)
        if event.children and incident.facts is not None:
            incident.facts = replace(incident.facts, children=event.children)
            for row in event.children:
                if row.prefix:
                    state = self._prefixes.of(row.prefix)
                    state.children_peak = max(state.children_peak, row.peak)
        if event.samples:
            incident.timeline = event.samples
        if event.last_seconds is not None:
            incident.last_seconds = pack(event.last_seconds)
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

    def _idle(self, incident: Incident, base: int | None) -> int | None:
        """Return what a process needs when it is idle, of which no heartbeat came.

        Its recorder says what it last was; one that lived for long may have grown by
        then, as others of its limit show.
        """
        others = [
            worker.first_base
            for worker in self._processes.workers.values()
            if worker.first_base and worker.info.limit == incident.limit
        ]
        return None if base is None else min([base, *others])

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
        incident.suspects = _still_running(incident)
        self._expect(incident)

    def _expect(self, incident: Incident) -> None:
        """Add what the suspects' prefixes usually need; note what they held here."""
        for suspect in incident.suspects:
            held = max(suspect.bytes or 0, suspect.peak or 0)
            if held:
                self._prefixes.learn(suspect.prefix, held)
        if incident.facts is not None:
            names = [suspect.prefix for suspect in incident.suspects]
            incident.facts = with_expected(incident.facts, self._prefixes, names)

    def _worker_of(self, event: DeathReported) -> WorkerState | None:
        """Find the worker that a report is about, by nanny and pid, else by address."""
        workers = self._processes.workers
        worker = workers.get(event.address)
        wanted = set(_names_in(event))
        if worker is not None and wanted.intersection(_names_of(worker)):
            return worker
        found = (w for w in workers.values() if w.info.pid == event.pid)
        return next((w for w in found if wanted.intersection(_names_of(w))), None)

    def _known(self, names: tuple[Process, ...]) -> Process | None:
        """Return the name by which the death of a process is settled, if it is."""
        return next((name for name in names if name in self._settled), None)

    def _settle(self, names: tuple[Process, ...], incident_id: str | None) -> None:
        for name in names:
            _remember(self._settled, name, incident_id)


def _still_running(incident: Incident) -> tuple[Suspect, ...]:
    """Return the suspects, with what the process grew by after the last look at them.

    That counts for those that were assigned to the worker still when it was removed,
    where no other task can have begun meanwhile.
    """
    threads = 0 if incident.facts is None else incident.facts.nthreads
    others = len(incident.suspects) < min(threads, incident.n_assigned)
    if not incident.unseen or incident.breakdown is None or others:
        return incident.suspects
    process = incident.breakdown.process
    assigned = {info.key for info in incident.assigned}
    return tuple(
        replace(s, grown=max(0, process - s.rss_at_begin))
        if s.key in assigned and s.rss_at_begin is not None
        else s
        for s in incident.suspects
    )


def _ref_of(worker: WorkerState) -> WorkerRef:
    info = worker.info
    return WorkerRef(info.address, info.name, info.host, info.pid)


def _names_of(worker: WorkerState) -> tuple[Process, ...]:
    """Return what the process of a worker goes by: its nanny's word comes first."""
    info = worker.info
    own = (info.address, info.pid)
    return ((info.home, info.pid), own) if info.nanny and info.home else (own,)


def _names_in(event: DeathReported) -> tuple[Process, ...]:
    """Return what the process that a report is about goes by.

    An address counts only where the nanny is not known: it may be the one of the
    worker before.
    """
    return ((event.nanny or event.address, event.pid),)


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
