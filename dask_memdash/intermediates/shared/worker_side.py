"""The worker's side of a shared storage: writes what the scheduler asks for.

The scheduler names keys (``memdash-store``); their values are taken from where Dask
keeps them and written by two threads, off the event loop.  At most `PENDING_LIMIT`
bytes are held for writing at a time: what waits is a key, whose value stays where Dask
has it, in RAM or spilled, so that a slow store holds nothing up.  A key that is
released while it waits is not written.  What came of it goes back by the worker's own
stream.

Runs on the worker's event loop, but where it says *thread*.
"""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from dask_memdash.boundary import boundary
from dask_memdash.intermediates.memory import OBJECTS, Memory
from dask_memdash.intermediates.object_format import encode
from dask_memdash.intermediates.shared import loading
from dask_memdash.intermediates.shared.protocol import (
    CHECK,
    LOST,
    NAME,
    READY,
    STORE,
    STORE_FAILED,
    STORED,
)
from dask_memdash.intermediates.shared.ram_share import RamShare
from dask_memdash.intermediates.shared.threads import DaemonThreads
from dask_memdash.intermediates.stored import Stored
from dask_memdash.text import plain

if TYPE_CHECKING:
    from distributed import Worker

#: Threads that write.
THREADS = 2

#: Bytes that are held for writing at a time, unless one value alone has more.
PENDING_LIMIT = 64 * 2**20

#: Seconds that a closing worker goes on writing; its nanny waits for 4.
FLUSH_SECONDS = 3.0

#: Characters of an error that travel.
MAX_ERROR = 400


@dataclass(slots=True)
class Job:
    """One value that is to be written."""

    key: Any
    object_id: str
    #: As Dask sizes it, in bytes.
    nbytes: int = 0
    read: Callable[[], Any] | None = None


@dataclass(slots=True)
class Written:
    """What a worker has done for the storage since its start."""

    #: Numbers of values, and bytes as they lie in the store.
    stored: int = 0
    stored_bytes: int = 0
    failed: int = 0
    cancelled: int = 0
    #: Together, in seconds.
    seconds: float = 0.0
    #: The newest error, or None.
    error: str | None = None


@dataclass(slots=True)
class Outcome:
    """How one write went, as it was told by its thread."""

    size: int = 0
    seconds: float = 0.0
    error: str | None = None
    #: Whether trying again later may help.
    again: bool = False
    gone: bool = False
    facts: dict[str, Any] = field(default_factory=dict)


class WorkerSide:
    """One worker's part in a shared storage."""

    def __init__(self, worker: Worker, memory: Memory) -> None:
        self._worker = worker
        self._memory = memory
        self._threads = DaemonThreads(THREADS, "MemDash storing")
        self._waiting: deque[Job] = deque()
        self._under_way: dict[Any, Job] = {}
        self._under_way_bytes = 0
        self._stopped = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._bringing: set[asyncio.Task[None]] = set()
        self.written = Written()
        self.share: RamShare | None = None

    async def start(self) -> None:
        """Take orders from the scheduler, and tell it so."""
        worker: Any = self._worker
        worker.stream_handlers[STORE] = boundary.guarded(
            self.ask, "being asked to store a value"
        )
        worker.handlers[CHECK] = boundary.guarded(
            self._check, "looking for the store", "MemDash failed to look"
        )
        limit = ram_limit(self._memory, worker.memory_manager.memory_limit)
        if limit is not None:
            self.share = RamShare(worker, limit, self._lost)
            self.share.start()
        # where MemDash's probe, if there is one, finds our figures
        worker.extensions[NAME] = self
        self._send({"op": READY})

    async def stop(self) -> None:
        """Write on for a moment where the worker closes; then take no more orders."""
        worker: Any = self._worker
        closing = str(getattr(worker.status, "name", "")) in ("closing", "closed")
        if closing and not self._idle.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._idle.wait(), FLUSH_SECONDS)
        self._stopped = True
        self._waiting.clear()
        # an order that is under way must not find an unknown operation
        worker.stream_handlers[STORE] = _ignore
        worker.handlers.pop(CHECK, None)
        worker.extensions.pop(NAME, None)
        self._threads.stop()
        share, self.share = self.share, None
        if share is not None:
            await share.stop(closing)
        loading.forget(worker.address_safe)

    def loaded(self, stored: Stored, value: Any) -> None:
        """Tell what a value is like that was loaded; called in a task's thread."""
        message = {"op": STORED, "key": stored.key, "object_id": stored.object_id}
        loop: Any = self._worker.loop
        loop.add_callback(self._send, {**message, "size": 0, "facts": facts_of(value)})

    def transition(self, key: Any, start: str, finish: str, **_: Any) -> None:
        """Take note of a value that came into memory; on the path of every task."""
        if finish == "memory" and self.share is not None:
            self._came(key)

    def ask(self, key: Any, object_id: str, **_: Any) -> None:
        """Take an order to store a value."""
        if self._stopped:
            return
        if self.share is not None and key in self.share.data.away:
            # its object is missed: it is read back to be written, or told as lost
            bring = boundary.guarded(self._bring, "reading back what is missed")
            self._bringing.add(task := asyncio.ensure_future(bring(key, object_id)))
            task.add_done_callback(self._bringing.discard)
            return
        self._waiting.append(Job(key, object_id))
        self._idle.clear()
        self._pump()

    async def _bring(self, key: Any, object_id: str) -> None:
        """Read a value back and write it anew; the share tells if it is lost."""
        share = self.share
        if share is None or await share.bring([key]) or key in share.data.away:
            self._finish(Job(key, object_id), Outcome(gone=True))
            return
        self.ask(key, object_id)

    def figures(self) -> dict[str, Any]:
        """Return what was stored, waits and was read back, for a heartbeat.

        The names are those of ``Storing`` of the model.
        """
        tasks = self._worker.state.tasks
        waiting = [job.key for job in (*self._waiting, *self._under_way.values())]
        known = [tasks[key].nbytes or 0 for key in waiting if key in tasks]
        back, share = loading.read_back(self._worker.address_safe), self.share
        return {
            **asdict(self.written),
            "dropped": share.data.dropped if share is not None else 0,
            "dropped_bytes": share.data.dropped_bytes if share is not None else 0,
            "ram": share.data.limit if share is not None else None,
            "pending": len(waiting),
            "pending_bytes": sum(known),
            "read_back": back.count,
            "read_back_bytes": back.bytes,
            "read_back_seconds": back.seconds,
            "read_back_failed": back.failed,
        }

    # -- writing ---------------------------------------------------------------

    def _pump(self) -> None:
        """Hand on what there is room for."""
        while self._waiting and len(self._under_way) < THREADS:
            job = self._waiting[0]
            task = self._worker.state.tasks.get(job.key)
            read = None if task is None else self._reader(job.key)
            if task is None or read is None:
                self._waiting.popleft()
                self._finish(job, Outcome(gone=True))
                continue
            job.nbytes = task.nbytes or 0
            if self._under_way and self._under_way_bytes + job.nbytes > PENDING_LIMIT:
                return
            self._waiting.popleft()
            if job.key in self._under_way:
                continue
            job.read = read
            self._under_way[job.key] = job
            self._under_way_bytes += job.nbytes
            self._threads.submit(lambda job=job: self._write(job))  # type: ignore[misc]
        if not self._waiting and not self._under_way:
            self._idle.set()

    def _reader(self, key: Any) -> Callable[[], Any] | None:
        """Return what gives a key's value; None if it is not here."""
        data: Any = self._worker.data
        data = getattr(data, "inner", data)
        return reader_of(data, key) if key in data else None

    def _write(self, job: Job) -> None:
        """Write a value; in a thread."""
        failed = partial(Outcome, error="MemDash failed to store it", again=True)
        outcome = boundary.guarded(write, "storing a value", failed)(self._memory, job)
        job.read = None
        loop: Any = self._worker.loop
        try:
            loop.add_callback(
                boundary.guarded(self._written, "noting what was stored"), job, outcome
            )
        except RuntimeError:  # the loop is closed
            return

    def _written(self, job: Job, outcome: Outcome) -> None:
        self._under_way.pop(job.key, None)
        self._under_way_bytes -= job.nbytes
        self._finish(job, outcome)
        self._pump()

    def _finish(self, job: Job, outcome: Outcome) -> None:
        """Count what came of an order, and tell the scheduler."""
        counts = self.written
        message = {"op": STORE_FAILED, "key": job.key, "object_id": job.object_id}
        if outcome.gone:
            counts.cancelled += 1
            message |= {"error": None, "again": True}
        elif outcome.error is not None:
            counts.failed += 1
            counts.error = outcome.error
            message |= {"error": outcome.error, "again": outcome.again}
        else:
            counts.stored += 1
            counts.stored_bytes += outcome.size
            counts.seconds += outcome.seconds
            if self.share is not None:
                self.share.is_stored(Stored(self._memory, job.key, job.object_id))
            message |= {
                "op": STORED,
                "size": outcome.size,
                "facts": outcome.facts,
            }
        self._send(message)

    def _came(self, key: Any) -> None:
        note = boundary.guarded(_note_load, "noting what was loaded")
        note(self.share, key)

    def _lost(self, key: Any, stored: Stored, error: str) -> None:
        """Tell the scheduler that a value cannot be read back."""
        message = {"op": LOST, "key": key, "object_id": stored.object_id}
        self._send({**message, "error": error})

    def _send(self, message: dict[str, Any]) -> None:
        stream = self._worker.batched_stream
        if not stream.closed():
            stream.send(message)

    async def _check(self, nonce: str) -> str | None:
        """Return why this worker cannot use the store; None if it can."""
        return await asyncio.to_thread(reach, self._memory, nonce)


def ram_limit(memory: Memory, memory_limit: int | None) -> int | None:
    """Return the bytes of RAM that stored values may take; None for no share."""
    share: float | int | None = getattr(memory, "ram", None)
    if share is None or isinstance(share, int):
        return share
    return None if memory_limit is None else int(share * memory_limit)


def _note_load(share: RamShare | None, key: Any) -> None:
    if share is not None:
        share.is_in_memory(key)


def reader_of(data: Any, key: Any) -> Callable[[], Any] | None:
    """Return what gives a value that Dask keeps; what is spilled is read by a thread.

    Nothing is read back into Dask's own RAM, whose order stays as it is.
    """
    fast = getattr(data, "fast", None)
    if fast is None:
        value = data[key]
        return lambda: value
    plain_fast = getattr(fast, "d", fast)
    if key in plain_fast:
        value = plain_fast[key]
        return lambda: value
    slow = getattr(data, "_slow_uncached", data.slow)
    return lambda: slow[key]


def write(memory: Memory, job: Job) -> Outcome:
    """Write one value; never raises what a store or a value can raise."""
    begun = time.perf_counter()
    try:
        value = job.read() if job.read is not None else None
    except (KeyError, OSError):
        return Outcome(gone=True)
    if value is None:
        return Outcome(error="it is None, which is not stored", again=False)
    try:
        frames = encode(job.key, value)
    except Exception as error:  # noqa: BLE001 - the user's own class may raise anything
        return Outcome(error=_said(error), again=False)
    try:
        memory.put(OBJECTS + job.object_id, frames)
    except Exception as error:  # noqa: BLE001 - StorageError; of others' stores, any
        return Outcome(error=_said(error), again=True)
    size = sum(len(frame) for frame in frames)
    facts = boundary.guarded(facts_of, "describing a value", dict)(value)
    return Outcome(size, time.perf_counter() - begun, facts=facts)


def facts_of(value: Any) -> dict[str, Any]:
    """Return what a name needs of a value beside its key; see ``naming``."""
    shape: Any = getattr(value, "shape", None)
    dtype: Any = getattr(value, "dtype", None)
    if type(value).__module__.partition(".")[0] == "pandas":
        return {"kind": "dataframe", "meta": pickle.dumps(value[:0])}
    if isinstance(shape, tuple) and dtype is not None:
        sizes = [int(size) for size in shape]
        return {"kind": "array", "shape": sizes, "meta": pickle.dumps(dtype)}
    return {"kind": "other"}


def reach(memory: Memory, nonce: str) -> str | None:
    """Return why a store, in which another process wrote a nonce, is not the same."""
    try:
        memory.get(nonce)
    except Exception as error:  # noqa: BLE001 - any store's
        return _said(error)
    return None


def _said(error: BaseException) -> str:
    return plain(f"{type(error).__name__}: {error}", MAX_ERROR)


def _ignore(**_: Any) -> None:
    """Take an order that came too late."""
