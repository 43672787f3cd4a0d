"""Pauses of workers: which follow each other closely enough to be one, and their peak.

What held the memory is kept as it was when a pause was at its largest, since a pause
begins before it is read.

Imports the standard library only.
"""

from __future__ import annotations

from collections.abc import Callable

from dask_memdash.model.breakdown import Breakdown
from dask_memdash.model.incidents import Incident, IncidentLog
from dask_memdash.model.processes import WorkerState

#: Pauses of a worker that follow each other within so many seconds are one incident.
REST = 10.0

Open = Callable[[str, WorkerState, float], Incident]
LookInto = Callable[[Incident, WorkerState], None]


class Pauses:
    """Follows the pauses of workers.

    Parameters
    ----------
    log
        Where incidents are kept.
    open_incident
        Opens the incident of a kind on a worker, with what is known of it now.
    look_into
        Notes on an incident what runs and is stored on a worker now.
    """

    def __init__(
        self, log: IncidentLog, open_incident: Open, look_into: LookInto
    ) -> None:
        self._log = log
        self._open = open_incident
        self._look_into = look_into

    def begin(self, worker: WorkerState, time: float) -> None:
        """Open the incident of a pause, or go on with one that ended just now."""
        earlier = self._log.get(worker.last_pause)
        if earlier is not None and (earlier.until or time) > time - REST:
            earlier.until = None
            earlier.n_pauses += 1
        else:
            earlier = self._open("paused", worker, time)
        worker.last_pause = worker.pause = earlier.id

    def follow(self, worker: WorkerState, now: Breakdown | None) -> None:
        """Keep what held the memory when a pause was at its largest."""
        pause = self._log.get(worker.pause)
        if pause is not None and self.enlarge(pause.id, now):
            self._look_into(pause, worker)

    def enlarge(self, pause_id: str | None, now: Breakdown | None) -> bool:
        """Take the breakdown of now if it is the largest of a pause; say if it was."""
        pause = self._log.get(pause_id)
        if pause is None or now is None:
            return False
        if pause.breakdown is None or now.process > pause.breakdown.process:
            pause.breakdown = now
            return True
        return False

    def end(self, worker: WorkerState, time: float) -> None:
        """Note that a worker is no longer paused."""
        pause = self._log.get(worker.pause)
        if pause is not None:
            pause.until = time
        worker.pause = None

    def end_by_death(self, worker: WorkerState, time: float) -> None:
        """Note that a worker was removed, paused or not."""
        pause = self._log.get(worker.pause)
        if pause is not None:
            pause.ended_by_death = True
        self.end(worker, time)
