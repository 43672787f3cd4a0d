"""What the rule looks at: a worker at one instant, and the tasks that are ready there.

Reads and changes nothing.  Runs on the worker's event loop.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from distributed.core import Status

from dask_memdash.guard.decision import (
    DRAINED,
    FREEING,
    LOOKED_AT,
    LOOKED_AT_PAUSED,
    Candidate,
    Snapshot,
)
from dask_memdash.guard.gate import freeing_tasks, ready_tasks
from dask_memdash.guard.holding import Holding
from dask_memdash.guard.making_room import RoomMaker
from dask_memdash.guard.reading import OnDisk, Reading
from dask_memdash.guard.sending import Sending
from dask_memdash.guard.stillness import Stillness
from dask_memdash.guard.thresholds import Thresholds

if TYPE_CHECKING:
    from distributed.worker import Worker
    from distributed.worker_state_machine import TaskState, WorkerState

    from dask_memdash.measure.shared_process import SharedProcess

#: Seconds for which a reading of the RSS serves, where no task holds more than so many
#: bytes.
RECENT = 0.005
SMALL = 2**20

#: Seconds without progress after which one more task starts: where a task may wait for
#: others, since a client lives in this worker, and elsewhere.
PATIENCE = 2.0
PATIENCE_ALONE = 10.0

#: Times that a held task is passed by others that fit, and what share of the limit
#: those may need together: what they leave behind, it has not.
PASSES = 64
PASSED_BY = 0.1


class Snapshots:
    """Takes them of one worker."""

    def __init__(
        self,
        worker: Worker,
        process: SharedProcess,
        reading: Reading,
        stillness: Stillness,
        holding: Holding,
        room: RoomMaker,
    ) -> None:
        self._worker = worker
        self._process = process
        self._reading = reading
        self._stillness = stillness
        self._holding = holding
        self._room = room
        #: What is sent; None before the guard stands in for it.
        self.sending: Sending | None = None
        # Since when the first has waited for room to be made; None: it does not.
        self._making_room_since: float | None = None

    def waits_for_room(self, now: float | None) -> None:
        """Take note that the first waits for room to be made; None: no more."""
        if now is None or self._making_room_since is None:
            self._making_room_since = now

    def in_use(self, state: WorkerState) -> set[Any]:
        """Return keys of outputs that tasks use, or that are being sent."""
        sent = () if self.sending is None else self.sending.keys
        return self._reading.in_use(state).union(sent)

    def take(
        self, state: WorkerState, lines: Thresholds, *, paused: bool, hope: float
    ) -> Snapshot:
        """Return what there is now; `hope` as the snapshot's."""
        # before the RSS: what a task fills meanwhile is then there twice, not never
        running = tuple(self._reading.running(state))
        large = any(task.held > SMALL for task in running)
        rss = self._process.recent_rss(0.0 if large else RECENT) or 0
        now = time.monotonic()
        since = self._making_room_since
        return Snapshot(
            process=rss,
            limit=lines.limit,
            pause=lines.pause,
            end=lines.end,
            running=running,
            executing=len(state.executing),
            still=self._stillness.lasts(now),
            patience=self._patience() if state.executing else PATIENCE,
            paused=paused,
            spilling=self._reading.is_spilling(rss, now),
            stored=0 if self._reading.may_spill() else state.nbytes,
            hope=hope,
            incoming=int(state.transfer_incoming_bytes),
            outgoing=int(self._worker.transfer_outgoing_bytes),
            owed=0 if self.sending is None else self.sending.owed(now),
            evictable=self._room.evictable(self.in_use(state)),
            making_room=0.0 if since is None else now - since,
            may_pass=self._may_pass(state, lines.limit),
            may_free=state.nthreads > 1,
        )

    def candidates(
        self, state: WorkerState, looked_at: list[TaskState], *, paused: bool
    ) -> Iterator[Candidate]:
        """Iterate over what may start, and put the tasks into `looked_at` meanwhile.

        In the order of their priority, and then those further behind that free memory.
        """
        on_disk = OnDisk(self._worker.data)
        for task in ready_tasks(state, LOOKED_AT_PAUSED if paused else LOOKED_AT):
            looked_at.append(task)
            yield self._reading.candidate(task, on_disk)
        seen = set(looked_at)
        for task in freeing_tasks(state, FREEING):
            if task not in seen:
                looked_at.append(task)
                yield self._reading.candidate(task, on_disk)

    def paused_for_memory(self, lines: Thresholds) -> bool:
        """Whether Dask has paused the worker, and not somebody by hand."""
        if self._worker.status != Status.paused:
            return False
        return (self._process.recent_rss(RECENT) or 0) > lines.pause

    def inputs_fit(self, state: WorkerState, now: Snapshot) -> bool:
        """Whether the next inputs to be fetched fit into a worker that is paused."""
        room = DRAINED * now.end - now.process - now.growth
        wanted = (tasks.peek() for tasks in state.data_needed.values() if tasks)
        return all((task.nbytes or 0) <= room for task in wanted)

    def _may_pass(self, state: WorkerState, limit: int) -> bool:
        """Whether a task may go before one that is held.

        Never where it could take the thread that the held one needs: not the last that
        is free, and not where tasks may wait for each other.
        """
        return (
            len(state.executing) + 1 < state.nthreads
            and getattr(self._worker, "_client", None) is None
            and self._holding.may_be_passed(times=PASSES, size=int(PASSED_BY * limit))
        )

    def _patience(self) -> float:
        client = getattr(self._worker, "_client", None)
        return PATIENCE_ALONE if client is None else PATIENCE
