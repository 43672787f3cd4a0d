"""Stored outputs in a share of a worker's RAM: dropped, and read back in time.

Exchanges the worker's mapping for a :class:`~.stored_data.StoredData`, and wraps the
two methods that take values from it, ``execute`` and ``get_data``: what they are about
to need is read back first, in threads, so that the event loop never waits for a store.
What cannot be read back is told to the scheduler, which has it computed; the task that
wanted it waits for that, and a peer hears that it is not here.

Runs on the worker's event loop, but where it says *thread*.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Any

from dask_memdash.boundary import boundary
from dask_memdash.intermediates.shared.loading import load_for, load_stored
from dask_memdash.intermediates.shared.stored_data import around
from dask_memdash.intermediates.shared.threads import DaemonThreads
from dask_memdash.intermediates.stored import Stored
from dask_memdash.text import plain

if TYPE_CHECKING:
    from distributed import Worker

#: Threads that read back.
READERS = 4

#: Characters of an error that travel.
MAX_ERROR = 400


class RamShare:
    """Stored outputs of one worker, from :meth:`start` to :meth:`stop`.

    Parameters
    ----------
    limit
        Most bytes that they take in RAM.
    lost
        Called with a key, where it lay and why it cannot be read back.
    """

    def __init__(
        self, worker: Worker, limit: int, lost: Callable[[Any, Stored, str], object]
    ) -> None:
        self._worker: Any = worker
        self._lost = lost
        self._threads = DaemonThreads(READERS, "MemDash reading")
        self._coming: dict[Any, asyncio.Task[str | None]] = {}
        self._wrapped: dict[str, Any] = {}
        # where it fails, a value is read at once by whoever asks for it
        self._guarded_bring = boundary.guarded(
            self.bring, "reading stored values back", dict
        )
        self.data = around(
            self._worker.data, limit, self._size_of, self._load, self._moved
        )

    def start(self) -> None:
        """Take the place of Dask's mapping."""
        worker = self._worker
        worker.memory_manager.data = worker.state.data = self.data
        execute, get_data = worker.execute, worker.handlers["get_data"]

        async def executing(key: Any, *, stimulus_id: str) -> Any:
            return await self._execute(execute, key, stimulus_id)

        async def getting(comm: Any, keys: Collection[Any], **more: Any) -> Any:
            return await self._get_data(get_data, comm, keys, **more)

        self._wrapped = {"execute": executing, "get_data": (getting, get_data)}
        worker.execute = executing
        worker.handlers["get_data"] = getting

    async def stop(self, closing: bool) -> None:
        """Give everything back to Dask's mapping, and that back to the worker."""
        worker = self._worker
        if not closing:
            await self._bring_all_back()
        if vars(worker).get("execute") is self._wrapped.get("execute"):
            del worker.execute  # so that the class's shows again
        ours, theirs = self._wrapped["get_data"]
        if worker.handlers.get("get_data") is ours:
            worker.handlers["get_data"] = theirs
        if worker.data is self.data and not self.data.away:
            worker.memory_manager.data = worker.state.data = self.data.inner
        self._threads.stop()

    async def _bring_all_back(self) -> None:
        from distributed.worker_state_machine import RemoveReplicasEvent

        self.data.limit = 2**63
        failed = await self.bring(list(self.data.away))
        if failed:
            # nobody would compute what this worker says that it has
            event = RemoveReplicasEvent(
                keys=list(failed), stimulus_id="memdash-not-read-back"
            )
            self._worker.handle_stimulus(event)

    # -- what is stored -----------------------------------------------------------

    def is_stored(self, stored: Stored) -> None:
        """Take note that a key's value lies in the store."""
        self.data.is_stored(stored.key, stored)

    def is_in_memory(self, key: Any) -> None:
        """Take note that a task has put its value in memory: it may have loaded it."""
        task = self._worker.state.tasks.get(key)
        run_spec: Any = None if task is None else task.run_spec
        if getattr(run_spec, "func", None) is load_stored:
            self.data.is_stored(key, run_spec.args[0])

    def _size_of(self, key: Any) -> int:
        task = self._worker.state.tasks.get(key)
        return int(getattr(task, "nbytes", None) or 0)

    def _moved(self, key: Any, in_ram: bool) -> None:
        """Let MemDash's probe know, if there is one: it counts what is in RAM."""
        probe = self._worker.extensions.get("memdash")
        moved = getattr(probe, "moved", None)
        if moved is not None:
            moved(key, in_ram)

    # -- reading back --------------------------------------------------------------

    def _load(self, stored: Stored) -> Any:
        """Read a value back; in whatever thread asks."""
        return load_for(self._worker.address_safe, stored)

    async def bring(self, keys: Iterable[Any]) -> dict[Any, str]:
        """Read values back into RAM; return for those that cannot be why not."""
        coming = []
        for key in keys:
            task = self._coming.get(key)
            stored = self.data.away.get(key)
            if task is None and stored is not None:
                task = asyncio.ensure_future(self._bring_one(key, stored))
                self._coming[key] = task
            if task is not None:
                coming.append((key, task))
        failed = {}
        for key, task in coming:
            # whoever asks may be cancelled: others wait for the same value
            error = await asyncio.shield(task)
            if error is not None:
                failed[key] = error
        return failed

    async def _bring_one(self, key: Any, stored: Stored) -> str | None:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[tuple[Any, str | None]] = loop.create_future()

        def load() -> None:
            result: tuple[Any, str | None]
            try:
                result = self._load(stored), None
            except Exception as error:  # noqa: BLE001 - a store's, or a pickle's own
                said = plain(f"{type(error).__name__}: {error}", MAX_ERROR)
                result = None, said
            if not loop.is_closed():
                loop.call_soon_threadsafe(_set, done, result)

        self._threads.submit(load)
        try:
            value, error = await done
        finally:
            self._coming.pop(key, None)
        if error is None:
            self.data.came(key, value)
            return None
        if key in self.data.away:
            boundary.guarded(self._lost, "telling of a lost value")(key, stored, error)
        return error

    async def _execute(
        self, execute: Callable[..., Any], key: Any, stimulus_id: str
    ) -> Any:
        """Have a task's inputs in RAM before it begins."""
        task = self._worker.state.tasks.get(key)
        inputs = [] if task is None else [one.key for one in task.dependencies]
        self.data.pin(inputs)
        try:
            if self.data.away and await self._guarded_bring(inputs):
                return _rescheduled(key)
            return await execute(key, stimulus_id=stimulus_id)
        finally:
            self.data.unpin(inputs)

    async def _get_data(
        self,
        get_data: Callable[..., Any],
        comm: Any,
        keys: Collection[Any],
        **more: Any,
    ) -> Any:
        """Have what a peer asks for in RAM; leave out what cannot be read back."""
        if not self.data.away:
            return await get_data(comm, keys=keys, **more)
        wanted = list(keys)
        self.data.pin(wanted)
        try:
            failed = await self._guarded_bring(wanted)
            there = [key for key in wanted if key not in failed]
            return await get_data(comm, keys=there, **more)
        finally:
            self.data.unpin(wanted)


def _set(done: asyncio.Future[Any], result: Any) -> None:
    if not done.done():
        done.set_result(result)


def _rescheduled(key: Any) -> Any:
    """Return what a worker answers in place of a task that cannot run here now."""
    from distributed.worker_state_machine import RescheduleEvent

    return RescheduleEvent(key=key, stimulus_id="memdash-input-not-read-back")
