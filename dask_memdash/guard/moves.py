"""What one worker moves: inputs fetched, outputs sent, outputs put on disk before.

Asks :mod:`~dask_memdash.guard.transfers`, whose rule it is, and does what comes of it.

Runs on the worker's event loop.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

from dask_memdash.guard.decision import Snapshot
from dask_memdash.guard.fetching import FetchLimit
from dask_memdash.guard.making_room import RoomMaker
from dask_memdash.guard.reading import Reading
from dask_memdash.guard.sending import Sending
from dask_memdash.guard.snapshots import Snapshots
from dask_memdash.guard.transfers import may_fetch, may_send

if TYPE_CHECKING:
    from distributed.worker import Worker
    from distributed.worker_state_machine import TaskState, WorkerState

#: Workers that have inputs which are looked at for the next one.
LOOKED_AT = 200


class Moves:
    """What is fetched, sent and put on disk by one worker.

    Parameters
    ----------
    look
        Returns a snapshot; None where there is nothing to decide by.
    """

    def __init__(
        self,
        worker: Worker,
        reading: Reading,
        snapshots: Snapshots,
        room: RoomMaker,
        look: Callable[[], Snapshot | None],
    ) -> None:
        self._worker = worker
        self._reading = reading
        self._snapshots = snapshots
        self._room = room
        self._look = look
        self._limit = FetchLimit(worker.state)
        self._sending = Sending(worker, self._may_send)
        # Since when an input is wanted and not fetched.
        self._since: float | None = None

    @property
    def fetch_limited(self) -> bool:
        """Whether less is fetched at a time than usual."""
        return self._limit.lowered or self._since is not None

    @property
    def waits(self) -> bool:
        """Whether somebody waits for something to be moved."""
        now = time.monotonic()
        return self._since is not None or self._sending.waited(now) > 0

    def install(self) -> None:
        """Take the place of what sends outputs."""
        self._sending.install()
        self._snapshots.sending = self._sending

    def remove(self) -> None:
        """Leave it all to the host."""
        self._snapshots.sending = None
        self._sending.remove()
        self._limit.restore()

    def may_fetch(self, state: WorkerState) -> bool:
        """Whether the next input is fetched now."""
        size = next_input(state)
        now = None if size is None else self._look()
        if size is None or now is None:
            return True
        instant = time.monotonic()
        waited = 0.0 if self._since is None else instant - self._since
        ready = bool(state.ready or state.constrained)
        if may_fetch(now, size, ready=ready, waited=waited):
            self._since = None
            return True
        if self._since is None:
            self._since = instant
        return False

    def step(self, state: WorkerState) -> bool:
        """Make room, and say whether more may be fetched than before."""
        now = self._look()
        if now is None:
            return False
        lacks = -now.room
        wanted = self._since is not None and state.data_needed and not now.gets_on
        if wanted and not (state.ready or state.constrained):
            lacks += next_input(state) or 0
        if lacks > 0 and now.evictable:
            self.make_room(state, lacks)
            now = self._look() or now
        more = self._limit.set(now.room + now.incoming)
        if not state.data_needed:
            self._since = None
        elif self._since is not None and state.running:
            return self.may_fetch(state)
        return more

    def make_room(
        self, state: WorkerState, lacks: int, task: TaskState | None = None
    ) -> None:
        """Put on disk what nothing uses, for a task if one is given."""
        in_use = self._snapshots.in_use(state)
        if task is not None:
            in_use.update(other.key for other in task.dependencies)
        self._room.make(lacks, in_use)

    def _may_send(self, keys: Collection[Any]) -> tuple[bool, int]:
        read_back = self._reading.read_back(keys)
        now = self._look() if read_back else None
        if now is None:
            return True, read_back
        lacks = read_back - now.room - now.owed
        if lacks > 0 and now.evictable and not now.gets_on:
            in_use = self._snapshots.in_use(self._worker.state).union(keys)
            if self._room.make(lacks, in_use):
                now = self._look() or now
        waited = self._sending.waited(time.monotonic())
        return may_send(now, read_back, waited=waited), read_back


def next_input(state: WorkerState) -> int | None:
    """Return the size of the input that is fetched next, in bytes; None: there is none.

    As the host chooses: by priority, from workers that can be asked.
    """
    first: TaskState | None = None
    for worker, tasks in list(state.data_needed.items())[:LOOKED_AT]:
        if not tasks or worker in state.in_flight_workers:
            continue
        if worker in state.busy_workers:
            continue
        task = tasks.peek()
        if first is None or (task.priority or ()) < (first.priority or ()):
            first = task
    return None if first is None else first.get_nbytes()
