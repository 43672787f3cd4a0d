"""The model of a cluster's memory: :class:`ClusterModel`, one door for all state.

Covers what is known of workers, prefixes, graphs and incidents, and how events
change it.  Has no clock, no configuration, no I/O and no ``distributed``: live and
replayed runs feed it the same events.  What it knows is read by
:mod:`dask_memdash.store`; nobody else changes it.  Not thread-safe.

Imports the standard library only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from dask_memdash.model.deaths import Deaths
from dask_memdash.model.event_parts import (
    ActorRow,
    ChildRow,
    Executing,
    GraphRow,
    SelfCost,
)
from dask_memdash.model.events import (
    ClusterMoving,
    ClusterStuck,
    DeathReported,
    Event,
    FailureChecked,
    GraphArrived,
    GraphChecked,
    IntermediatesTold,
    MemoryErrorRaised,
    Noticed,
    OutputsMoved,
    SchedulerLooked,
    SpillFailed,
    StorageHeld,
    TaskKilled,
    Ticked,
    WorkerAdded,
    WorkerClosing,
    WorkerLeaving,
    WorkerRemoved,
    WorkerReported,
    WorkerSampled,
    WorkersRestarting,
    WorkerStatusChanged,
    WorkerTimedOut,
)
from dask_memdash.model.failures import FailureLog
from dask_memdash.model.graph_index import GraphIndex
from dask_memdash.model.guard_log import GuardLog
from dask_memdash.model.incident_opening import IncidentOpening
from dask_memdash.model.incidents import (
    IncidentLog,
    owner_of,
)
from dask_memdash.model.memory_pools import danger_of, scheduler_danger
from dask_memdash.model.order_log import OrderLog
from dask_memdash.model.pauses import KEPT_OF_CLUSTER, Pause, PauseLog
from dask_memdash.model.prefix_history import PrefixHistory
from dask_memdash.model.prefixes import Prefixes
from dask_memdash.model.processes import (
    Changes,
    Processes,
    WorkerState,
    as_rows_say,
    history_row,
    larger_rows,
)
from dask_memdash.model.room import Room, room_of
from dask_memdash.model.stalls import Stalls
from dask_memdash.model.worker_errors import Replacements, WorkerErrors

#: Least time between two points of a history, in seconds.
SPACING = 0.5

#: How long a worker's own report is waited for before a nanny's sample that does
#: not agree with the last one is used instead, in seconds.
REPORT_WAIT = 1.5

#: Difference in stored bytes for which no report is waited for.
IN_STEP = 2**21

#: Places of which it is said how MemDash is degraded there, sentences of one place, and
#: characters of a sentence and of a place's name.
MAX_PLACES = 500
MAX_NOTICES = 20
MAX_NOTICE = 500


#: A tick that is older than the newest event by more, in seconds, tells that the
#: scheduler's clock was set back.
OUT_OF_ORDER = 5.0


def first_notices(texts: tuple[str, ...]) -> tuple[str, ...]:
    """Return what is kept of what was said: the first sentences, cut."""
    return tuple([text[:MAX_NOTICE] for text in texts[:MAX_NOTICES]])


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
        self.prefix_history = PrefixHistory()
        self.graphs = GraphIndex()
        self.orders = OrderLog()
        #: Of all workers, those that have left too.
        self.pauses = PauseLog(KEPT_OF_CLUSTER)
        self.incidents = IncidentLog(incidents_keep)
        self.failures = FailureLog(self.incidents, self.graphs, self.orders)
        #: How MemDash is degraded: where → (since, sentences).
        self.notices: dict[str, tuple[float, tuple[str, ...]]] = {}
        #: The scheduler's own process, as last looked at; None before.
        self.scheduler: SchedulerLooked | None = None
        self.intermediates: IntermediatesTold | None = None
        self.guard_log = GuardLog()
        #: What MemDash costs on the scheduler.
        self.cost = SelfCost()
        #: Unix time of the newest event, in seconds.
        self.time = 0.0
        #: Grows with every event.
        self.version = 0
        # Workers whose heartbeat is overdue.
        self._silent: list[str] = []
        opening = IncidentOpening(
            self.incidents, self.processes, self.prefixes, self.graphs
        )
        self._worker_errors = WorkerErrors(self.incidents, opening.open)
        self._replacements = Replacements(self.incidents)
        self._deaths = Deaths(
            self.incidents,
            opening.open,
            processes=self.processes,
            prefixes=self.prefixes,
            graphs=self.graphs,
            replacements=self._replacements,
        )

        self._stalls = Stalls(
            self.incidents, opening.open, self.processes, self.prefixes
        )

    def handle(self, event: Event) -> None:
        """Take in what has happened: the only way to change the model."""
        self.time = self._time_after(event)
        self.version += 1
        HANDLERS[type(event)](self, event)
        self.failures.follow(event.time)

    def _time_after(self, event: Event) -> float:
        """Return the newest time; an older one where the scheduler's clock went back.

        Events come a little out of order; a tick comes at its own time.
        """
        if isinstance(event, Ticked) and event.time < self.time - OUT_OF_ORDER:
            return event.time
        return max(self.time, event.time)

    # -- workers ---------------------------------------------------------------

    def _worker_added(self, event: WorkerAdded) -> None:
        if event.address in self.processes.workers:
            self._let_go(event.address, event.time)
        self.processes.add(event)
        if event.status == "paused":
            self._pause(self.processes.workers[event.address], event.time)
        self._replacements.back(event.home, event.time)

    def _worker_reported(self, event: WorkerReported) -> None:
        worker = self._known(event.address, event.pid)
        if worker is None:
            return
        worker.last_seen, worker.stale_for = event.time, None
        worker.thresholds = event.thresholds
        worker.method = event.method
        worker.notices = first_notices(event.notices)
        if event.rows is not None:
            self.prefixes.replace_rows(worker.rows, event.rows)
            worker.rows = event.rows
        worker.reading = as_rows_say(event.reading, worker.rows.values())
        if event.graph is not None:
            self._weigh_graph(worker, event.graph)
        worker.actors = worker.actors if event.actors is None else event.actors
        worker.named = worker.named if event.named is None else event.named
        worker.spill_room, worker.storing = event.spill_room, event.storing
        worker.guard = event.guard
        name, actions = worker.info.name, event.guard_actions
        self.guard_log.see(event.address, name, event.guard, actions)
        self._see_children(worker, event.children, event.time)
        worker.cost, worker.nanny_cost = event.cost, event.nanny_cost
        if worker.first_base is None:
            worker.first_base = event.reading.base
            worker.first_base_file = event.reading.base_file
            worker.first_loaded = event.reading.loaded or 0
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
        worker.nanny_notices = first_notices(event.notices)
        if event.children is not None:
            self._see_children(worker, event.children, event.time)
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
            anon=newest.anon,
            file=newest.file,
            shmem=newest.shmem,
            base_file=newest.base_file,
            loaded=newest.loaded
            if newest.loaded is not None
            else worker.reading.loaded,
            base=newest.base if newest.base is not None else worker.reading.base,
            actors=newest.actors
            if newest.actors is not None
            else worker.reading.actors,
            graph=newest.graph if newest.graph is not None else worker.reading.graph,
            live=sum(task.bytes or 0 for task in executing),
            busy=bool(executing),
        )
        self.prefixes.replace_executing(worker.executing, executing)
        worker.executing = executing
        worker.task_history.see(executing, event.time)
        self._refresh(worker, event.time)

    def _weigh_graph(self, worker: WorkerState, rows: dict[str, GraphRow]) -> None:
        self.prefixes.replace_graph(worker.graph, rows)
        worker.graph = rows

    def _see_children(
        self, worker: WorkerState, children: tuple[ChildRow, ...], time: float
    ) -> None:
        """Take in what processes a worker's tasks have; tell of those killed since."""
        if not (children or worker.children):
            return
        self.prefixes.replace_children(worker.children, children)
        worker.children = children
        told = worker.killed_children
        worker.killed_children = {
            (row.prefix, row.key): row.killed for row in children if row.killed
        }
        for row in children:
            if row.killed > told.get((row.prefix, row.key), 0):
                self._worker_errors.child_killed(row, worker, time)

    def _status_changed(self, event: WorkerStatusChanged) -> None:
        worker = self.processes.workers.get(event.address)
        if worker is None or worker.status == event.status:
            return
        worker.status = event.status
        if event.status == "paused":
            self._pause(worker, event.time)
        else:
            worker.pauses.end(event.time)

    def _pause(self, worker: WorkerState, time: float) -> None:
        pause = Pause(time)
        worker.pauses.add(pause)
        self.pauses.add(pause)

    def _worker_closing(self, event: WorkerClosing) -> None:
        worker = self.processes.workers.get(event.address)
        if worker is not None:
            worker.closing = event.reason

    def _worker_timed_out(self, event: WorkerTimedOut) -> None:
        worker = self.processes.workers.get(event.address)
        if worker is not None:
            worker.unresponsive = event.silent

    def _worker_leaving(self, event: WorkerLeaving) -> None:
        worker = self.processes.workers.get(event.address)
        if worker is not None:
            self.prefixes.replace_held(worker.held, event.held)
            worker.hold(event.held)
            worker.held_share = event.held_share
            worker.leaving = event.assigned
            self._weigh_graph(worker, larger_rows(worker.graph, event.graph))
            unseen = {name: ActorRow(0, 0, 0) for name in event.actors}
            worker.actors = {**unseen, **worker.actors}
            self._deaths.leaving(worker)

    def _workers_restarting(self, event: WorkersRestarting) -> None:
        for worker in self.processes.workers.values():
            worker.restarting = True

    def _worker_removed(self, event: WorkerRemoved) -> None:
        worker = self.processes.workers.get(event.address)
        if worker is None:
            return
        self._deaths.removed(worker, event)
        self._let_go(event.address, event.time)

    # -- deaths ----------------------------------------------------------------

    def _death_reported(self, event: DeathReported) -> None:
        self._deaths.reported(event)

    def _task_killed(self, event: TaskKilled) -> None:
        self._deaths.task_killed(event)

    # -- troubles without a death ----------------------------------------------

    def _memory_error_raised(self, event: MemoryErrorRaised) -> None:
        worker = self.processes.workers.get(event.address)
        if worker is not None:
            limits = [process.limit for process in self.processes.by_key.values()]
            together = None if None in limits else sum(filter(None, limits))
            self._worker_errors.memory_error(event, worker, together)

    def _spill_failed(self, event: SpillFailed) -> None:
        worker = self.processes.workers.get(event.address)
        if worker is not None:
            self._worker_errors.spill_failed(event, worker)

    def _cluster_stuck(self, event: ClusterStuck) -> None:
        self._stalls.stuck(event)

    def _cluster_moving(self, event: ClusterMoving) -> None:
        self._stalls.moving(event)

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
        self.graphs.add(event.graph, event.groups, priorities, submits=event.submits)
        self.orders.add(event, *self._strength())

    def _failure_checked(self, event: FailureChecked) -> None:
        self.failures.check(event.failure, alive=event.alive)

    def _graph_checked(self, event: GraphChecked) -> None:
        self.orders.check(event)

    def _outputs_moved(self, event: OutputsMoved) -> None:
        self.orders.move(event, *self._strength())

    def _strength(self) -> tuple[int, Room]:
        """Return the cluster's threads, and what its workers have room for."""
        threads = sum(w.info.nthreads for w in self.processes.workers.values())
        return threads, room_of(self.processes)

    def _storage_held(self, event: StorageHeld) -> None:
        worker = self.processes.workers.get(event.address)
        if worker is not None:
            self.prefixes.replace_held(worker.held, event.held)
            worker.hold(event.held)

    def _intermediates_told(self, event: IntermediatesTold) -> None:
        self.intermediates = event if event.address else None

    def _scheduler_looked(self, event: SchedulerLooked) -> None:
        self.scheduler = event
        self._worker_errors.scheduler_near(event, scheduler_danger(event))

    def _noticed(self, event: Noticed) -> None:
        where = event.where[:MAX_NOTICE]
        if not event.texts:
            self.notices.pop(where, None)
        elif where in self.notices or len(self.notices) < MAX_PLACES:
            since = self.notices.get(where, (event.time, ()))[0]
            self.notices[where] = (since, first_notices(event.texts))

    def _ticked(self, event: Ticked) -> None:
        if event.cost is not None:
            self.cost = event.cost
        if event.silent is not None:
            self._note_silence(event.silent)
        self.failures.close_quiet(event.time)
        if len(self.processes.history):
            row = history_row(self.processes.total)
            self.processes.history.append(event.time, row)
        self.prefix_history.look(event.time, self.prefixes.by_name)

    def _note_silence(self, silent: tuple[tuple[str, float], ...]) -> None:
        workers = self.processes.workers
        for address in self._silent:
            if address in workers:
                workers[address].stale_for = None
        self._silent = [address for address, _ in silent if address in workers]
        for address, seconds in silent:
            if address in workers:
                workers[address].stale_for = seconds

    # -- helpers ---------------------------------------------------------------

    def _known(self, address: str, pid: int) -> WorkerState | None:
        worker = self.processes.workers.get(address)
        return worker if worker is not None and worker.info.pid == pid else None

    def _refresh(self, worker: WorkerState, time: float) -> None:
        self._move(self.processes.refresh(worker.key, time))

    def _move(self, changes: Changes) -> None:
        self.prefixes.move_managed(changes.managed)
        self.prefixes.move_executing(changes.executing)

    def _named(
        self, executing: tuple[Executing, ...], worker: WorkerState
    ) -> tuple[Executing, ...]:
        """Keep the prefix that the worker gave to a task that the nanny sees too."""
        prefixes = {task.key: task.prefix for task in worker.executing}
        return tuple(
            replace(
                task,
                prefix=prefixes.get(task.key, owner_of(task.prefix, worker.actors)),
            )
            for task in executing
        )

    def _let_go(self, address: str, time: float) -> None:
        worker = self.processes.workers[address]
        worker.pauses.end(time)
        self.prefixes.replace_executing(worker.executing, ())
        self.prefixes.replace_rows(worker.rows, {})
        self.prefixes.replace_held(worker.held, {})
        self.prefixes.replace_children(worker.children, ())
        self.prefixes.replace_graph(worker.graph, {})
        worker.rows, worker.executing = {}, ()
        worker.hold({})
        worker.last_seen = time
        self._move(self.processes.remove(address))


#: Event → what takes it in.
HANDLERS: dict[type, Callable[[ClusterModel, Any], None]] = {
    WorkerAdded: ClusterModel._worker_added,
    WorkerReported: ClusterModel._worker_reported,
    WorkerSampled: ClusterModel._worker_sampled,
    WorkerStatusChanged: ClusterModel._status_changed,
    WorkerClosing: ClusterModel._worker_closing,
    WorkerTimedOut: ClusterModel._worker_timed_out,
    WorkerLeaving: ClusterModel._worker_leaving,
    WorkersRestarting: ClusterModel._workers_restarting,
    WorkerRemoved: ClusterModel._worker_removed,
    DeathReported: ClusterModel._death_reported,
    TaskKilled: ClusterModel._task_killed,
    MemoryErrorRaised: ClusterModel._memory_error_raised,
    SpillFailed: ClusterModel._spill_failed,
    GraphArrived: ClusterModel._graph_arrived,
    GraphChecked: ClusterModel._graph_checked,
    FailureChecked: ClusterModel._failure_checked,
    OutputsMoved: ClusterModel._outputs_moved,
    StorageHeld: ClusterModel._storage_held,
    IntermediatesTold: ClusterModel._intermediates_told,
    ClusterStuck: ClusterModel._cluster_stuck,
    ClusterMoving: ClusterModel._cluster_moving,
    SchedulerLooked: ClusterModel._scheduler_looked,
    Noticed: ClusterModel._noticed,
    Ticked: ClusterModel._ticked,
}
