"""The model of a cluster's memory: :class:`ClusterModel`, one door for all state.

Covers what is known of workers, prefixes, graphs and incidents, and how events
change it.  Has no clock, no configuration, no I/O and no ``distributed``: live and
replayed runs feed it the same events.  What it knows is read by
:mod:`dask_memdash.store`; nobody else changes it.  Not thread-safe.

Imports the standard library only.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from dask_memdash.model.breakdown import Breakdown, break_down
from dask_memdash.model.events import (
    DeathReported,
    Event,
    Executing,
    GraphArrived,
    GraphChecked,
    MemoryErrorRaised,
    Noticed,
    OutputsMoved,
    SelfCost,
    SpillFailed,
    StorageHeld,
    TaskInfo,
    TaskKilled,
    Ticked,
    WorkerAdded,
    WorkerClosing,
    WorkerRemoved,
    WorkerReported,
    WorkerSampled,
    WorkersRestarting,
    WorkerStatusChanged,
)
from dask_memdash.model.evidence import observe, with_expected
from dask_memdash.model.graph_index import GraphIndex
from dask_memdash.model.incidents import (
    Exit,
    Incident,
    IncidentLog,
    StoredAtDeath,
    WorkerRef,
    kind_of_death,
    rank_suspects,
    with_attempts,
    with_lost,
)
from dask_memdash.model.memory_pools import danger_of, host_facts
from dask_memdash.model.order_log import OrderLog
from dask_memdash.model.prefixes import Prefixes
from dask_memdash.model.processes import Processes, WorkerState, history_row
from dask_memdash.model.worker_errors import Replacements, WorkerErrors

#: Least time between two points of a history, in seconds.
SPACING = 0.5

#: How long a worker's own report is waited for before a nanny's sample that does
#: not agree with the last one is used instead, in seconds.
REPORT_WAIT = 1.5

#: Pauses of a worker that follow each other within so many seconds are one incident.
REST = 10.0

#: Difference in stored bytes for which no report is waited for.
IN_STEP = 2**21

#: A worker whose reason for closing ends with one of these has failed by itself.
FAILED_CLOSING = ("heartbeat-error", "heartbeat-missing", "fail-hard")

#: Dead processes remembered, to join what arrives late.
MAX_SETTLED = 2_000

#: Prefixes whose storage an incident keeps, the largest.
MAX_STORED = 100

#: Tasks of one 'killed-worker' incident that are named; the others are counted.
MAX_KILLED = 20


class ClusterModel:
    """All that is known of a cluster's memory.

    Parameters
    ----------
    history_points
        Points of history kept for the cluster and for each worker.
    incidents_keep
        Incidents kept.
    """

    def __init__(self, history_points: int = 600, incidents_keep: int = 1000) -> None:
        self.processes = Processes(history_points, SPACING)
        self.prefixes = Prefixes()
        self.graphs = GraphIndex()
        self.orders = OrderLog()
        self.incidents = IncidentLog(incidents_keep)
        #: How MemDash is degraded: where → (since, sentences).
        self.notices: dict[str, tuple[float, tuple[str, ...]]] = {}
        #: What MemDash costs on the scheduler.
        self.cost = SelfCost()
        #: Unix time of the newest event, in seconds.
        self.time = 0.0
        #: Grows with every event.
        self.version = 0
        # (address, pid) → incident of its death, or None where it was asked to end.
        self._settled: OrderedDict[tuple[str, int], str | None] = OrderedDict()
        # (address, pid) → a report that waits for the removal.
        self._waiting: OrderedDict[tuple[str, int], DeathReported] = OrderedDict()
        # Death of a worker → the incident of the tasks that it made Dask give up.
        self._killed: OrderedDict[str, str] = OrderedDict()
        self._worker_errors = WorkerErrors(self.incidents, self._open)
        self._replacements = Replacements(self.incidents)

    def handle(self, event: Event) -> None:
        """Take in what has happened: the only way to change the model."""
        self.time = max(self.time, event.time)
        self.version += 1
        HANDLERS[type(event)](self, event)

    # -- workers ---------------------------------------------------------------

    def _worker_added(self, event: WorkerAdded) -> None:
        if event.address in self.processes.workers:
            self._let_go(event.address, event.time)
        self.processes.add(event)
        self._replacements.back(event.home, event.time)

    def _worker_reported(self, event: WorkerReported) -> None:
        worker = self._known(event.address, event.pid)
        if worker is None:
            return
        worker.last_seen = event.time
        worker.thresholds = event.thresholds
        worker.method = event.method
        worker.notices = event.notices
        if event.rows is not None:
            self.prefixes.replace_rows(worker.rows, event.rows)
            worker.rows = event.rows
            worker.claimed = sum(row.claimed for row in event.rows.values())
        worker.reading = event.reading
        if event.reading.managed_claimed != worker.claimed:
            worker.reading = replace(event.reading, managed_claimed=worker.claimed)
        worker.cost, worker.nanny_cost = event.cost, event.nanny_cost
        if worker.first_base is None:
            worker.first_base = event.reading.base
        self.prefixes.replace_executing(worker.executing, event.executing)
        worker.executing = event.executing
        worker.task_history.see(event.executing, event.time)
        self.prefixes.finish(event.finished)
        if event.limits is not None:
            self.processes.take_limits(worker, event.limits)
        self._refresh(worker, event.time)
        if event.limits is not None:
            danger = danger_of(worker, self.processes.by_key[worker.key])
            self._worker_errors.kernel_near(worker, event.time, danger)

    def _worker_sampled(self, event: WorkerSampled) -> None:
        worker = self._known(event.address, event.pid)
        if worker is None:
            return
        worker.nanny_notices = event.notices
        if worker.reading is None:
            return
        newest = event.reading if event.reading is not None else worker.reading
        gap = abs(newest.managed_claimed - worker.reading.managed_claimed)
        in_step = gap <= IN_STEP
        if not in_step and event.time < worker.last_seen + REPORT_WAIT:
            return  # outputs were stored since the last report: it will tell
        executing = self._named(event.executing, worker)
        worker.reading = replace(
            worker.reading,
            time=event.time,
            rss=event.rss,
            incoming=newest.incoming,
            outgoing=newest.outgoing,
            base=newest.base if newest.base is not None else worker.reading.base,
            live=sum(task.bytes or 0 for task in executing),
            busy=bool(executing),
        )
        self.prefixes.replace_executing(worker.executing, executing)
        worker.executing = executing
        worker.task_history.see(executing, event.time)
        self._refresh(worker, event.time)

    def _status_changed(self, event: WorkerStatusChanged) -> None:
        worker = self.processes.workers.get(event.address)
        if worker is None or worker.status == event.status:
            return
        worker.status = event.status
        if event.status == "paused":
            worker.pause = self._pause(worker, event.time).id
        else:
            self._resume(worker, event.time)

    def _worker_closing(self, event: WorkerClosing) -> None:
        worker = self.processes.workers.get(event.address)
        if worker is not None:
            worker.closing = event.reason

    def _workers_restarting(self, event: WorkersRestarting) -> None:
        for worker in self.processes.workers.values():
            worker.restarting = True

    def _worker_removed(self, event: WorkerRemoved) -> None:
        worker = self.processes.workers.get(event.address)
        if worker is None:
            return
        failed = worker.closing.endswith(FAILED_CLOSING)
        closed = bool(worker.closing) and not failed
        asked = event.expected or worker.restarting or closed
        key = (event.address, worker.info.pid)
        if asked and key not in self._settled:
            self._settle(key, None)
        incident = self._death_of(worker, event.time)
        if incident is not None:
            self._add_removal(incident, event)
        report = self._waiting.pop(key, None)
        if incident is not None and report is not None:
            self._add_report(incident, report)
        self._let_go(event.address, event.time)

    # -- deaths ----------------------------------------------------------------

    def _death_reported(self, event: DeathReported) -> None:
        key = (event.address, event.pid)
        worker = self._known(event.address, event.pid)
        restarting = worker is not None and worker.restarting
        if event.asked or (restarting and key not in self._settled):
            provisional = self._settled.get(key)
            if provisional is not None:
                self.incidents.withdraw(provisional)
            self._settle(key, None)
        if event.closing and key not in self._settled:
            self._remember(self._waiting, key, event)  # the removal knows the reason
            return
        if key in self._settled:
            incident = self.incidents.get(self._settled[key])
        else:
            incident = (
                self._death_of(worker, event.time)
                if worker is not None
                else self._death_of_unknown(event)
            )
        if incident is not None:
            self._add_report(incident, event)

    def _task_killed(self, event: TaskKilled) -> None:
        worker = self.processes.workers.get(event.address)
        if worker is None or worker.restarting:
            return
        death = self._death_of(worker, event.time)
        if death is None:
            return
        killed = self.incidents.get(self._killed.get(death.id))
        if killed is None:
            killed = self.incidents.add(
                "killed-worker",
                event.time,
                death.worker,
                limit=death.limit,
                breakdown=death.breakdown,
                evidence=death.evidence,
            )
            self._remember(self._killed, death.id, killed.id)
            earlier = self.incidents.deaths_of(event.hash)
            behind = [d for d in earlier if d != death.id][-event.allowed_failures :]
            killed.attempts = (*behind, death.id)
        killed.n_tasks += 1
        if len(killed.tasks) < MAX_KILLED:
            killed.tasks = (*killed.tasks, event.task)

    def _death_of(self, worker: WorkerState, time: float) -> Incident | None:
        """Return the incident of a worker's death, opened if it is the first news."""
        key = (worker.info.address, worker.info.pid)
        if key in self._settled:
            return self.incidents.get(self._settled[key])
        incident = self._open("exited" if worker.closing else "lost", worker, time)
        incident.closing = worker.closing
        incident.pause = worker.pause
        incident.nanny = worker.info.nanny
        self._replacements.left(worker.info.home, incident.id)
        process = self.processes.by_key[worker.key]
        incident.timeline = _tail(process.history.columns(since=time - 60))
        self._settle(key, incident.id)
        return incident

    def _death_of_unknown(self, event: DeathReported) -> Incident | None:
        """Open the incident of a worker that left before its report came."""
        ref = WorkerRef(event.address, event.address, "", event.pid)
        incident = self.incidents.add(
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
        incident.reported = True
        incident.clock_offset = event.clock_offset
        incident.exit = Exit(event.code, event.signal, event.by)
        if event.reading is not None:
            incident.breakdown = break_down(event.reading)
            self._enlarge(self.incidents.get(incident.pause), incident.breakdown)
        if event.samples:
            incident.timeline = event.samples
        if event.recorded:
            incident.evidence = "flight-recorder"
            known = {info.key: info for info in (*incident.assigned, *event.known)}
            suspects = rank_suspects(
                event.executing, known, incident.limit, self.graphs
            )
            incident.suspects = with_attempts(suspects, self.incidents, incident.id)
            self._expect(incident)
        killed = self.incidents.get(self._killed.get(incident.id))
        if killed is not None:
            killed.evidence = incident.evidence
            killed.breakdown = incident.breakdown
            killed.exit = incident.exit

    def _name_suspects(self, incident: Incident, known: tuple[TaskInfo, ...]) -> None:
        """Return suspects the priority and order position that has become known."""
        infos = {info.key: info for info in known}
        named = []
        for suspect in incident.suspects:
            info = infos.get(suspect.key)
            if info is not None and suspect.priority is None:
                place = self.graphs.position(info.group, info.priority)
                suspect = replace(
                    suspect,
                    prefix=info.prefix,
                    priority=info.priority,
                    order_position=place[0] if place else None,
                    order_total=place[1] if place else None,
                )
            named.append(suspect)
        incident.suspects = with_attempts(tuple(named), self.incidents, incident.id)
        self._expect(incident)

    def _expect(self, incident: Incident) -> None:
        """Add what the suspects' prefixes usually need, where that is not there yet."""
        if incident.facts is not None:
            names = [suspect.prefix for suspect in incident.suspects]
            incident.facts = with_expected(incident.facts, self.prefixes, names)

    # -- troubles without a death ----------------------------------------------

    def _memory_error_raised(self, event: MemoryErrorRaised) -> None:
        worker = self.processes.workers.get(event.address)
        if worker is not None:
            self._worker_errors.memory_error(event, worker)

    def _spill_failed(self, event: SpillFailed) -> None:
        worker = self.processes.workers.get(event.address)
        if worker is not None:
            self._worker_errors.spill_failed(event, worker)

    # -- the rest --------------------------------------------------------------

    def _graph_arrived(self, event: GraphArrived) -> None:
        priorities = (
            event.columns.priorities()
            if event.columns is not None
            else {
                tuple(float(n) for n in head.split(",") if n): last
                for head, last in event.priorities.items()
            }
        )
        self.graphs.add(event.graph, event.groups, priorities)
        self.orders.add(event, *self._strength())

    def _graph_checked(self, event: GraphChecked) -> None:
        self.orders.check(event)

    def _outputs_moved(self, event: OutputsMoved) -> None:
        self.orders.move(event, *self._strength())

    def _strength(self) -> tuple[int, int | None]:
        """Return the cluster's threads, and the sum of the limits if all have one."""
        limits = [process.limit for process in self.processes.by_key.values()]
        known = [limit for limit in limits if limit is not None]
        threads = sum(w.info.nthreads for w in self.processes.workers.values())
        return threads, sum(known) if known and len(known) == len(limits) else None

    def _storage_held(self, event: StorageHeld) -> None:
        worker = self.processes.workers.get(event.address)
        if worker is not None:
            self.prefixes.replace_held(worker.held, event.held)
            worker.held = event.held

    def _noticed(self, event: Noticed) -> None:
        if event.texts:
            since = self.notices.get(event.where, (event.time, ()))[0]
            self.notices[event.where] = (since, event.texts)
        else:
            self.notices.pop(event.where, None)

    def _ticked(self, event: Ticked) -> None:
        if event.cost is not None:
            self.cost = event.cost
        if len(self.processes.history):
            row = history_row(self.processes.total)
            self.processes.history.append(event.time, row)

    # -- helpers ---------------------------------------------------------------

    def _known(self, address: str, pid: int) -> WorkerState | None:
        worker = self.processes.workers.get(address)
        return worker if worker is not None and worker.info.pid == pid else None

    def _refresh(self, worker: WorkerState, time: float) -> None:
        self.prefixes.move_managed(self.processes.refresh(worker.key, time))
        self._follow_pause(worker)

    def _pause(self, worker: WorkerState, time: float) -> Incident:
        """Open the incident of a pause, or go on with one that ended just now."""
        earlier = self.incidents.get(worker.last_pause)
        if earlier is not None and (earlier.until or time) > time - REST:
            earlier.until = None
            earlier.n_pauses += 1
        else:
            earlier = self._open("paused", worker, time)
        worker.last_pause = earlier.id
        return earlier

    def _follow_pause(self, worker: WorkerState) -> None:
        """Keep what held the memory when a pause was at its largest.

        It begins before it is read.
        """
        if worker.pause is None:
            return
        pause = self.incidents.get(worker.pause)
        enlarged = self._enlarge(pause, self.processes.by_key[worker.key].breakdown)
        if pause is not None and enlarged:
            self._look_into(pause, worker)

    @staticmethod
    def _enlarge(pause: Incident | None, now: Breakdown | None) -> bool:
        if pause is None or now is None:
            return False
        if pause.breakdown is None or now.process > pause.breakdown.process:
            pause.breakdown = now
            return True
        return False

    def _look_into(self, incident: Incident, worker: WorkerState) -> None:
        """Note what runs and is stored on a worker, and why, as it is known now."""
        process = self.processes.by_key[worker.key]
        suspects = rank_suspects(worker.executing, {}, worker.info.limit, self.graphs)
        incident.suspects = with_attempts(suspects, self.incidents, incident.id)
        incident.storage = tuple(
            StoredAtDeath(prefix, process.managed.get(prefix, 0), row.spilled, row.keys)
            for prefix, row in sorted(
                worker.rows.items(), key=lambda r: -(r[1].claimed + r[1].spilled)
            )[:MAX_STORED]
        )
        host = host_facts(self.processes, worker)
        incident.facts = replace(observe(worker, process, self.prefixes), host=host)

    def _named(
        self, executing: tuple[Executing, ...], worker: WorkerState
    ) -> tuple[Executing, ...]:
        """Keep the prefix that the worker gave to a task that the nanny sees too."""
        prefixes = {task.key: task.prefix for task in worker.executing}
        return tuple(
            replace(task, prefix=prefixes[task.key]) if task.key in prefixes else task
            for task in executing
        )

    def _let_go(self, address: str, time: float) -> None:
        worker = self.processes.workers[address]
        pause = self.incidents.get(worker.pause)
        if pause is not None:
            pause.ended_by_death = True
        self._resume(worker, time)
        self.prefixes.replace_executing(worker.executing, ())
        self.prefixes.replace_rows(worker.rows, {})
        self.prefixes.replace_held(worker.held, {})
        worker.rows, worker.executing, worker.held = {}, (), {}
        worker.last_seen = time
        self.prefixes.move_managed(self.processes.remove(address))

    def _open(self, kind: str, worker: WorkerState, time: float) -> Incident:
        info = worker.info
        incident = self.incidents.add(
            kind,
            time,
            WorkerRef(info.address, info.name, info.host, info.pid),
            limit=info.limit,
            breakdown=self.processes.breakdown_of(info.address),
            evidence="scheduler" if worker.reading is None else "heartbeat",
        )
        self._look_into(incident, worker)
        return incident

    def _resume(self, worker: WorkerState, time: float) -> None:
        incident = self.incidents.get(worker.pause)
        if incident is not None:
            incident.until = time
        worker.pause = None

    def _settle(self, key: tuple[str, int], incident_id: str | None) -> None:
        self._remember(self._settled, key, incident_id)

    @staticmethod
    def _remember(book: OrderedDict[Any, Any], key: Any, value: Any) -> None:
        book[key] = value
        while len(book) > MAX_SETTLED:
            book.popitem(last=False)


def _tail(columns: dict[str, list[float]]) -> tuple[tuple[float, int], ...]:
    return tuple(
        (time, int(size))
        for time, size in zip(columns["time"], columns["process"], strict=True)
    )


#: Event → what takes it in.
HANDLERS: dict[type, Callable[[ClusterModel, Any], None]] = {
    WorkerAdded: ClusterModel._worker_added,
    WorkerReported: ClusterModel._worker_reported,
    WorkerSampled: ClusterModel._worker_sampled,
    WorkerStatusChanged: ClusterModel._status_changed,
    WorkerClosing: ClusterModel._worker_closing,
    WorkersRestarting: ClusterModel._workers_restarting,
    WorkerRemoved: ClusterModel._worker_removed,
    DeathReported: ClusterModel._death_reported,
    TaskKilled: ClusterModel._task_killed,
    MemoryErrorRaised: ClusterModel._memory_error_raised,
    SpillFailed: ClusterModel._spill_failed,
    GraphArrived: ClusterModel._graph_arrived,
    GraphChecked: ClusterModel._graph_checked,
    OutputsMoved: ClusterModel._outputs_moved,
    StorageHeld: ClusterModel._storage_held,
    Noticed: ClusterModel._noticed,
    Ticked: ClusterModel._ticked,
}
