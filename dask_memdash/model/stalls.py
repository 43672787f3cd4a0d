"""Incidents of kind 'stuck': who waits, who holds, and what became of it.

That nothing moves is found by :mod:`dask_memdash.model.progress`; here it is put
together with what the model knows of the paused workers: what fills them, which prefix
that is, and who wants it.

Imports the standard library only.  All sizes are integers in bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice

from dask_memdash.model.breakdown import EMPTY, exchange
from dask_memdash.model.events import ClusterMoving, ClusterStuck
from dask_memdash.model.incidents import (
    DEATHS,
    Incident,
    IncidentLog,
    WorkerRef,
)
from dask_memdash.model.prefixes import Prefixes
from dask_memdash.model.processes import Processes, WorkerState
from dask_memdash.model.room import process_room, room_of
from dask_memdash.model.stall import Holding, Stall

#: A cluster that is stuck again within so many seconds is in the same incident.
REST = 10.0

#: Prefixes kept of what fills the workers, the largest.
MAX_HOLDING = 20

#: Deaths named where no worker is left, and incidents looked through for them.
MAX_DEATHS = 5
MAX_SEARCHED = 100

Open = Callable[[str, WorkerState, float], Incident]


class Stalls:
    """Opens, brings up to date and closes the incident of a cluster that is stuck."""

    def __init__(
        self,
        log: IncidentLog,
        open_incident: Open,
        processes: Processes,
        prefixes: Prefixes,
    ) -> None:
        self._log = log
        self._open = open_incident
        self._processes = processes
        self._prefixes = prefixes
        self._last: str | None = None

    def stuck(self, event: ClusterStuck) -> None:
        """Take in that nothing moves, or still does not."""
        incident = self._log.get(self._last)
        if incident is None or (
            incident.until is not None and event.since > incident.until + REST
        ):
            incident = self._begin(event)
        incident.until = None
        stall = self._gather(event)
        if stall != incident.stall:
            incident.stall = stall
            incident.attempts = stall.deaths

    def moving(self, event: ClusterMoving) -> None:
        """Take in that something moves again, or that nothing is left to do."""
        incident = self._log.get(self._last)
        if incident is not None and incident.until is None:
            incident.until = event.time

    def _begin(self, event: ClusterStuck) -> Incident:
        paused = self._paused(event)
        if paused:
            fullest = max(paused, key=self._use)
            incident = self._open("stuck", fullest, event.time)
        else:
            left = self._last_left()
            incident = self._log.add(
                "stuck",
                event.time,
                WorkerRef("", "", "", 0)
                if left is None
                else WorkerRef(
                    left.info.address, left.info.name, left.info.host, left.info.pid
                ),
                limit=None if left is None else left.info.limit,
                breakdown=None,
                evidence="scheduler",
            )
        self._last = incident.id
        return incident

    def _gather(self, event: ClusterStuck) -> Stall:
        """Put together what waits and what fills the paused workers."""
        workers = self._paused(event)
        keys = dict.fromkeys(worker.key for worker in workers)
        processes = [self._processes.by_key[key] for key in keys]
        rooms = [process_room(process) for process in processes]
        parts = EMPTY
        for process in processes:
            parts = exchange(parts, EMPTY, process.breakdown or EMPTY)
        idle = [room.idle for room in rooms]
        spills = [room.spills for room in rooms]
        names = [waiting.prefix for waiting in event.waiting]
        known = {n: self._prefixes.by_name[n] for n in names if self._knows(n)}
        return Stall(
            since=event.since,
            waiting=event.waiting,
            n_waiting=event.n_waiting,
            n_paused=event.n_paused,
            n_workers=event.n_workers,
            by_hand=event.by_hand,
            running=event.running,
            unreceived=event.unreceived,
            holding=_holding(workers, [process.managed for process in processes]),
            parts=parts if processes else None,
            idle=None if None in idle else sum(size or 0 for size in idle),
            limit=_sum(room.limit for room in rooms),
            pause=_sum(room.pause for room in rooms),
            spills=None if None in spills or not spills else any(spills),
            spill_trouble=self._spill_trouble(workers),
            room=room_of(self._processes),
            outputs={
                name: size
                for name, state in known.items()
                if (size := state.outputs.quantile(0.5)) is not None
            },
            deaths=self._led_there(event),
        )

    def _paused(self, event: ClusterStuck) -> list[WorkerState]:
        known = self._processes.workers
        return [known[address] for address in event.paused if address in known]

    def _use(self, worker: WorkerState) -> int:
        breakdown = self._processes.by_key[worker.key].breakdown
        return 0 if breakdown is None else breakdown.process

    def _knows(self, prefix: str) -> bool:
        return prefix in self._prefixes.by_name

    def _last_left(self) -> WorkerState | None:
        left = self._processes.departed
        return left[next(reversed(left))].worker if left else None

    def _led_there(self, event: ClusterStuck) -> tuple[str, ...]:
        """Name the newest incidents that it comes of, oldest first."""
        searched = islice(self._log, MAX_SEARCHED)
        if event.unreceived:
            addresses = set(event.paused)
            found = [
                incident.id
                for incident in searched
                if incident.stage == "receiving"
                and incident.worker.address in addresses
            ]
        elif not event.n_workers:
            found = [incident.id for incident in searched if incident.kind in DEATHS]
        else:
            found = []
        return tuple(reversed(found[:MAX_DEATHS]))

    def _spill_trouble(self, workers: list[WorkerState]) -> str:
        """Say why outputs could not be spilled: the newest such incident's reason."""
        addresses = {worker.info.address for worker in workers}
        for incident in islice(self._log, MAX_SEARCHED):
            address = incident.worker.address
            if incident.kind == "spill-failed" and address in addresses:
                return incident.detail.partition(":")[0]
        return ""


def last_died(processes: Processes, log: IncidentLog) -> bool:
    """Say whether the last worker that left had died, and was not asked to leave."""
    if not processes.departed:
        return False
    left = processes.departed[next(reversed(processes.departed))].worker.info
    return any(
        incident.kind in DEATHS
        and (incident.worker.address, incident.worker.pid) == (left.address, left.pid)
        for incident in islice(log, MAX_SEARCHED)
    )


def _holding(
    workers: list[WorkerState], managed: list[dict[str, int]]
) -> tuple[Holding, ...]:
    """Sum up by prefix what is stored on some workers, and for whom."""
    sizes: dict[str, int] = {}
    for stored in managed:
        for prefix, size in stored.items():
            sizes[prefix] = sizes.get(prefix, 0) + size
    largest = sorted(sizes, key=lambda name: (-sizes[name], name))[:MAX_HOLDING]
    found = []
    for prefix in largest:
        because: dict[str, int] = {}
        clients: dict[str, int] = {}
        awaited_by: dict[str, int] = {}
        for worker in workers:
            held = worker.held.get(prefix)
            if held is None:
                continue
            for sums, more in (
                (because, held.because),
                (clients, held.clients),
                (awaited_by, held.awaited_by),
            ):
                for name, size in more.items():
                    sums[name] = sums.get(name, 0) + size
        found.append(Holding(prefix, sizes[prefix], because, clients, awaited_by))
    return tuple(found)


def _sum(sizes: Iterable[int | None]) -> int | None:
    known = list(sizes)
    return None if None in known or not known else sum(size or 0 for size in known)
