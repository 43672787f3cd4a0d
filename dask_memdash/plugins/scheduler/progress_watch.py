"""Notices on the scheduler that tasks are ready and nothing moves: `ProgressWatch`.

Called at every tick.  While all workers may start tasks that is one comparison; only
when workers are paused, or none is left, are they and the prefixes' counts looked at,
never the tasks one by one.  What a look means is
:mod:`dask_memdash.model.progress`'s.

Runs on the scheduler's event loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

from distributed.core import Status

from dask_memdash.model.cluster import ClusterModel
from dask_memdash.model.event_parts import WaitingTasks
from dask_memdash.model.events import (
    ClusterMoving,
    ClusterStuck,
    Event,
)
from dask_memdash.model.progress import Look, Still, WorkerLook, follow, is_stuck
from dask_memdash.model.stalls import last_died

if TYPE_CHECKING:
    from distributed.scheduler import Scheduler, TaskState, WorkerState

#: A worker counts as silent after so many seconds, or heartbeats of the cluster.
SILENT = 5.0
SILENT_HEARTBEATS = 5

#: A worker whose memory is at least this share of its pause threshold is paused by it:
#: Dask lets a paused worker go on only at its next look, some 0.1 s later.
AT_PAUSE = 0.97

#: Seconds between two reports of a cluster that is still stuck.
REPEAT = 5.0

#: Prefixes and workers that a report names, those with most tasks.
MAX_PREFIXES = 20
MAX_WORKERS = 200

#: Tasks that no worker may run which are looked at for restrictions.
MAX_RESTRICTED = 200


class ProgressWatch:
    """Looks whether a cluster moves.

    Parameters
    ----------
    scheduler, model
        The scheduler, and what is known of its workers.
    handle
        Takes the events.
    after
        Seconds after which a cluster in which nothing moves is stuck.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        model: ClusterModel,
        handle: Callable[[Event], None],
        after: float,
    ) -> None:
        self._scheduler = scheduler
        self._model = model
        self._handle = handle
        self._after = after
        self._still: Still | None = None
        # When it was last said that the cluster is stuck; None while it is not.
        self._told: float | None = None
        # Transitions when the prefixes were last counted, and what came out.
        self._counted: tuple[int, int, tuple[WaitingTasks, ...]] = (-1, 0, ())

    def step(self, now: float) -> None:
        """Look once.

        Parameters
        ----------
        now
            Unix time in seconds.
        """
        look = None if self._may_start() else self._look(now)
        self._still = None if look is None else follow(self._still, look)
        if look is None or not is_stuck(self._still, look, self._after):
            if self._still is None and self._told is not None:
                self._told = None
                self._handle(ClusterMoving(now))
            return
        if self._told is None or now >= self._told + REPEAT:
            self._told = now
            self._handle(self._stuck(look))

    def _may_start(self) -> bool:
        """Say whether every worker may start tasks, or nothing is there to start."""
        scheduler = self._scheduler
        if not scheduler.tasks:
            return True
        workers = scheduler.workers
        return bool(workers) and len(scheduler.running) == len(workers)

    def _look(self, now: float) -> Look:
        scheduler = self._scheduler
        workers = scheduler.workers.values()
        paused = [w for w in workers if w.status == Status.paused]
        others = len(workers) - len(paused) - len(scheduler.running)
        busy = others > 0 or any(worker.processing for worker in scheduler.running)
        if busy or (workers and not paused):
            return Look(now, 0, busy_elsewhere=True)
        ended, waiting = self._count(paused)
        quiet = max(SILENT, SILENT_HEARTBEATS * _heartbeat(len(workers)))
        return Look(
            time=now,
            ended=ended,
            waiting=waiting,
            workers=tuple(self._worker(worker, now - quiet) for worker in paused),
            n_workers=len(workers),
            last_died=not workers
            and last_died(self._model.processes, self._model.incidents),
        )

    def _worker(self, worker: WorkerState, heard_since: float) -> WorkerLook:
        metrics: Mapping[str, Any] = worker.metrics
        transfer = _mapping(metrics.get("transfer"))
        spilled = _mapping(metrics.get("spilled_bytes"))
        known = self._model.processes.workers.get(worker.address)
        reading = None if known is None else known.reading
        rss = _whole(metrics.get("memory"))
        pause = None if known is None else known.thresholds.pause
        cpu = metrics.get("cpu")
        seceded = len(worker.long_running)
        return WorkerLook(
            address=worker.address,
            paused=True,
            by_memory=pause is not None and rss >= AT_PAUSE * pause,
            running=max(0, len(worker.executing) - seceded),
            seceded=seceded,
            transfers=_whole(transfer.get("incoming_count"))
            + _whole(transfer.get("outgoing_count")),
            cpu=cpu / 100 if isinstance(cpu, int | float) else None,
            heard=worker.last_seen >= heard_since,
            rss=rss,
            counts=(
                _whole(metrics.get("managed_bytes")),
                _whole(spilled.get("memory")),
                _whole(spilled.get("disk")),
                _whole(transfer.get("incoming_count_total")),
                _whole(transfer.get("outgoing_count_total")),
                *((reading.shuffle, reading.shuffle_disk or 0) if reading else (0, 0)),
            ),
        )

    def _count(
        self, paused: Iterable[WorkerState]
    ) -> tuple[int, tuple[WaitingTasks, ...]]:
        """Count tasks that have ended, and by prefix those that are ready.

        Again only after a transition: a cluster may be stuck for hours.
        """
        scheduler = self._scheduler
        if self._counted[0] == scheduler.transition_counter:
            return self._counted[1], self._counted[2]
        running: dict[str, int] = {}
        for worker in paused:
            for task in {*worker.executing, *worker.long_running}:
                running[task.prefix.name] = running.get(task.prefix.name, 0) + 1
        unplaceable = self._unplaceable(paused)
        ended = 0
        waiting = []
        for name, prefix in scheduler.task_prefixes.items():
            ended += prefix.state_counts["memory"] + prefix.state_counts["erred"]
            states = prefix.states
            queued = states["queued"] + states["no-worker"] - unplaceable.get(name, 0)
            assigned = states["processing"] - running.get(name, 0)
            if queued > 0 or assigned > 0:
                waiting.append(
                    WaitingTasks(str(name)[:200], max(0, queued), max(0, assigned))
                )
        waiting.sort(key=lambda tasks: (-tasks.count, tasks.prefix))
        self._counted = (scheduler.transition_counter, ended, tuple(waiting))
        return ended, tuple(waiting)

    def _unplaceable(self, paused: Iterable[WorkerState]) -> dict[str, int]:
        """Count by prefix the tasks that none of the paused workers may run either."""
        found: dict[str, int] = {}
        for task in islice(self._scheduler.unrunnable, MAX_RESTRICTED):
            if _restricted(task) and not any(_may_run(task, w) for w in paused):
                found[task.prefix.name] = found.get(task.prefix.name, 0) + 1
        return found

    def _stuck(self, look: Look) -> ClusterStuck:
        fullest = sorted(look.workers, key=lambda worker: -worker.rss)
        return ClusterStuck(
            time=look.time,
            since=look.time if self._still is None else self._still.since,
            waiting=look.waiting[:MAX_PREFIXES],
            n_waiting=sum(tasks.count for tasks in look.waiting),
            paused=tuple(worker.address for worker in fullest[:MAX_WORKERS]),
            n_paused=len(look.workers),
            n_workers=look.n_workers,
            by_hand=sum(not worker.by_memory for worker in look.workers),
            running=sum(worker.running + worker.seceded for worker in look.workers),
        )


def _restricted(task: TaskState) -> bool:
    return bool(
        task.worker_restrictions or task.host_restrictions or task.resource_restrictions
    )


def _may_run(task: TaskState, worker: WorkerState) -> bool:
    """Say whether a worker, were it not paused, may run a task."""
    if task.worker_restrictions and worker.address not in task.worker_restrictions:
        return False
    if task.host_restrictions and worker.host not in task.host_restrictions:
        return False
    wanted = task.resource_restrictions or {}
    return all(worker.resources.get(name, 0) >= n for name, n in wanted.items())


def _heartbeat(workers: int) -> float:
    from distributed.scheduler import heartbeat_interval

    return float(heartbeat_interval(workers))


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _whole(value: object) -> int:
    return int(value) if isinstance(value, int | float) else 0
