"""``SharedStorage``: the scheduler plugin that gives a whole cluster a memory.

Covers the hooks that the scheduler calls.  What is done is
:mod:`dask_memdash.intermediates.shared.scheduler_side`'s on the scheduler and
:mod:`dask_memdash.intermediates.shared.worker_side`'s on workers.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, ClassVar
from weakref import WeakKeyDictionary

from distributed.diagnostics.plugin import SchedulerPlugin

from dask_memdash.boundary import boundary, guard_entry_points
from dask_memdash.errors import StorageError
from dask_memdash.intermediates.memory import Memory, address_of
from dask_memdash.intermediates.shared import shims
from dask_memdash.intermediates.shared.ledger import SHOWN_AS
from dask_memdash.intermediates.shared.protocol import NAME
from dask_memdash.intermediates.shared.scheduler_side import SchedulerSide

if TYPE_CHECKING:
    from distributed.scheduler import Scheduler

#: Scheduler → the plugin that is being taken off its workers.
LEAVING: WeakKeyDictionary[Any, asyncio.Future[None]] = WeakKeyDictionary()

#: Seconds that another one waits for that.
LEAVING_SECONDS = 30.0


@guard_entry_points
class SharedStorage(SchedulerPlugin):
    """A memory for a whole cluster: what is persisted is stored, and found again.

    ``client.register_plugin(SharedStorage(memory))`` on a running cluster, or
    ``LocalCluster(scheduler_kwargs={"plugins": [SharedStorage(memory)]})``, or
    configuration alone: ``memdash.storage.url`` with ``dask scheduler --preload
    dask_memdash``.  From then on ``x.persist()`` stores its results, and the next
    cluster that persists the same loads them.
    ``client.unregister_scheduler_plugin("memdash-storage")`` takes it away.

    Parameters
    ----------
    memory
        Such as ``FSMemory("s3://bucket/store")``; scheduler and workers must reach it.

    Raises
    ------
    StorageError
        `memory` is none.  When registered: it is not there, or workers do not share it.
    """

    name: ClassVar[str] = NAME
    idempotent = True
    BARE = ("start", "transition", "state_of")

    def __init__(self, memory: Memory) -> None:
        if not isinstance(memory, Memory):
            raise StorageError(
                f"{type(memory).__name__} is no memory; FSMemory('/scratch/me/store') "
                "is one"
            )
        self.memory = memory
        self._side: SchedulerSide | None = None
        self._followed = boundary.guarded(self._move, "following a stored key")

    def __reduce__(self) -> tuple[Any, ...]:
        return shims.scheduler_plugin(self.memory)

    def __repr__(self) -> str:
        state = "running" if self._side is not None else "not started"
        return f"<SharedStorage at {address_of(self.memory)}: {state}>"

    async def start(self, scheduler: Scheduler) -> None:
        """Attach to the scheduler and its workers; again changes nothing."""
        if self._side is not None or not getattr(self.memory, "outlives_workers", True):
            return
        before = LEAVING.pop(scheduler, None)
        if before is not None:
            # workers take the former one's side away before they are given this one's
            await asyncio.wait([before], timeout=LEAVING_SECONDS)
        side = SchedulerSide(scheduler, self.memory)
        await side.start()
        self._side = side
        self._wrap_removal(scheduler)

    @property
    def is_running(self) -> bool:
        """Whether it is attached to a scheduler."""
        return self._side is not None

    def state_of(self, key: Any) -> str | None:
        """Return whether a key's value is "stored" or "pending"; None for neither."""
        side = self._side
        one = None if side is None else side.ledger.keys.get(key)
        return None if one is None else SHOWN_AS[one.state]

    def figures(self) -> dict[str, Any] | None:
        """Return what MemDash shows of the whole; None while it is not attached."""
        return None if self._side is None else self._side.figures()

    async def close(self) -> None:
        """Detach when the scheduler closes."""
        side, self._side = self._side, None
        if side is not None:
            side.detach(closing=True)

    def transition(
        self, key: Any, start: str, finish: str, *args: Any, **kwargs: Any
    ) -> None:
        """Follow the keys that are stored; on the hot path of every task."""
        side = self._side
        if side is None or key not in side.ledger.keys:
            return
        self._followed(side, key, start, finish)

    def _move(self, side: SchedulerSide, key: Any, start: str, finish: str) -> None:
        if finish == "forgotten":
            side.forgot(key)
        elif finish == "memory":
            side.came(key)
        elif start == "memory":
            side.went(key, finish)

    def remove_worker(
        self, scheduler: Scheduler, worker: str, *, stimulus_id: str, **kwargs: Any
    ) -> None:
        """Have others store what a worker that has gone was to."""
        if self._side is not None:
            self._side.writing.worker_left(worker)

    def _wrap_removal(self, scheduler: Any) -> None:
        """Hear of it when the plugin is removed: the host calls nothing then."""
        remove_plugin = scheduler.remove_plugin

        def remove(name: str | None = None) -> None:
            if name == self.name and scheduler.plugins.get(name) is self:
                if vars(scheduler).get("remove_plugin") is remove:
                    del scheduler.remove_plugin  # so that the class's shows again
                    if getattr(remove_plugin, "__self__", None) is not scheduler:
                        # another plugin's wrapper, which was there before
                        scheduler.remove_plugin = remove_plugin
                side, self._side = self._side, None
                if side is not None:
                    side.detach()
                    LEAVING[scheduler] = asyncio.ensure_future(side.leave_workers())
            remove_plugin(name)

        scheduler.remove_plugin = remove


def preload(server: Any) -> None:
    """Give a scheduler that is starting the memory that is configured, if any is."""
    from distributed.scheduler import Scheduler

    from dask_memdash.intermediates.shared.configured import configured_memory

    if not isinstance(server, Scheduler):
        return
    memory = configured_memory()
    if memory is not None:
        server.add_plugin(Lenient(memory), idempotent=True, name=NAME)


class Lenient(SharedStorage):
    """One that was configured: the scheduler starts even where it cannot."""

    async def start(self, scheduler: Scheduler) -> None:
        """Attach, or say in the log why not."""
        start = boundary.guarded(super().start, "starting the storage of intermediates")
        await start(scheduler)
