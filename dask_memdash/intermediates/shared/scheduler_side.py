"""The scheduler's side of a shared storage: what is stored, by whom, and loaded when.

Wraps a few of the scheduler's own methods on the instance: the making of task states
from a graph (to load what is stored), the errors of tasks (to compute what could not be
loaded) and the leaving of clients (so that what they persisted is still written).  Each
wrapper does what Dask does where anything of ours fails.

Runs on the scheduler's event loop; the store is only spoken to in threads.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from tornado.ioloop import PeriodicCallback

from dask_memdash.boundary import LOG_INTERVAL, boundary
from dask_memdash.errors import UnreachableError
from dask_memdash.intermediates.memory import Memory, address_of
from dask_memdash.intermediates.shared import shims
from dask_memdash.intermediates.shared.graphs import Graphs
from dask_memdash.intermediates.shared.index import StoreIndex
from dask_memdash.intermediates.shared.ledger import (
    ASKED,
    FAILED,
    KEPT,
    NEVER,
    WANTED,
    Ledger,
)
from dask_memdash.intermediates.shared.naming import Naming
from dask_memdash.intermediates.shared.protocol import (
    CHECK,
    LOST,
    NAME,
    READY,
    STATE,
    STORE_FAILED,
    STORED,
)
from dask_memdash.intermediates.shared.stand_ins import StandIns
from dask_memdash.intermediates.shared.store_watch import StoreWatch
from dask_memdash.intermediates.shared.threads import DaemonThreads
from dask_memdash.intermediates.shared.writing import Writing
from dask_memdash.intermediates.stored import Stored
from dask_memdash.text import join, plain

if TYPE_CHECKING:
    from distributed.scheduler import Scheduler

logger = logging.getLogger("dask_memdash.storage")

#: Seconds between two looks at what has failed and at the index.
TICK = 2.0

#: Seconds that a registration waits for the store, and for the workers.
PATIENCE = 30.0

#: Folder of the objects by which workers tell whether they see the same store.
NONCES = "checks/"

#: How often workers that do not answer are asked for it, and seconds in between.
CHECKS = 6
CHECKS_APART = 0.5

#: Workers named in a message.
MOST_NAMED = 5


class SchedulerSide:
    """A shared storage on one scheduler, from :meth:`start` to :meth:`stop`."""

    def __init__(self, scheduler: Scheduler, memory: Memory) -> None:
        self.scheduler: Any = scheduler
        self.memory = memory
        self.index = StoreIndex(memory)
        self.ledger = Ledger()
        self.stand_ins = StandIns(scheduler)
        self.naming = Naming(memory, self.ledger, self.index, self._at_store)
        self.writing = Writing(scheduler, self.ledger, self.index, self.naming.stored)
        #: Loads that failed, so that the value is computed.
        self.recomputed = 0
        self._logged_at = -LOG_INTERVAL
        self.graphs = Graphs(
            *(scheduler, memory, self.ledger, self.index),
            *(self.stand_ins, self.writing, self.naming, self._in_thread),
        )
        # a store that hangs holds up what is said to it, and no thinking
        self._threads = DaemonThreads(1, "MemDash storage")
        self._speakers = DaemonThreads(1, "MemDash storage names")
        self._wrapped: list[tuple[str, Any]] = []
        self._handled: list[tuple[str, Any, Any]] = []
        self._ticker: PeriodicCallback | None = None
        self.watch = StoreWatch(memory, self.index, scheduler.loop.add_callback)
        self._stopped = self._swept = False
        self._errors_of_tasks: Callable[..., Any] | None = None

    # -- beginning and end -------------------------------------------------------

    async def start(self) -> None:
        """Look at the store, then have workers write and graphs rewritten.

        Raises
        ------
        StorageError
            The store is not there or refuses, or workers do not share it.
        """
        nonce = NONCES + uuid.uuid4().hex
        await asyncio.wait_for(asyncio.to_thread(self._prepare, nonce), PATIENCE)
        scheduler = self.scheduler
        for name, handler in (
            (READY, self.writing.worker_ready),
            (STORED, self.writing.was_stored),
            (STORE_FAILED, self.writing.was_not_stored),
            (LOST, self._was_lost),
        ):
            scheduler.stream_handlers[name] = boundary.guarded(
                handler, f"taking in {name}"
            )
        scheduler.handlers[STATE] = boundary.guarded(
            self.state, "telling what is stored"
        )
        self._errors_of_tasks = scheduler.stream_handlers["task-erred"]
        scheduler.stream_handlers["task-erred"] = self._task_erred
        self._wrap("_create_taskstate_from_graph", self.graphs.make_tasks)
        self._wrap("remove_client", self.writing.remove_client)
        self._ticker = PeriodicCallback(
            boundary.guarded(self._tick, "looking at the store"), TICK * 1000
        )
        self._ticker.start()
        try:
            await self._join_workers()
            await self._check_workers(nonce)
        except BaseException:
            self._at_store(lambda: self.memory.delete(nonce))
            self.detach()
            await self.leave_workers()
            raise
        self._at_store(lambda: self.memory.delete(nonce))

    def _prepare(self, nonce: str) -> None:
        """Make the store, leave a nonce in it, list it; in a thread."""
        create = getattr(self.memory, "create", None)
        if create is not None:
            create()
        self.memory.put(nonce, [b"memdash"])
        self.index.refresh()

    async def _check_workers(self, nonce: str) -> None:
        """Raise StorageError unless all workers see the store."""
        answers: dict[str, Any] = {}
        for _ in range(CHECKS):
            asking = self.scheduler.broadcast(
                msg={"op": CHECK, "nonce": nonce}, on_error="return"
            )
            answers = await asyncio.wait_for(asking, PATIENCE)
            if not any(isinstance(answer, OSError) for answer in answers.values()):
                break
            # maybe it is dying, which is no fault of the store's
            await asyncio.sleep(CHECKS_APART)
        wrong = {
            address: plain(str(answer), 300)
            for address, answer in answers.items()
            if answer is not None and address in self.scheduler.workers
        }
        if not wrong:
            return
        why = next(iter(wrong.values()))
        named = [plain(one, 80) for one in wrong]
        more = len(named) - MOST_NAMED
        shown = [*named[:MOST_NAMED], *([f"{more} more"] if more > 0 else [])]
        raise UnreachableError(
            f"{join(shown)} cannot use {address_of(self.memory)}: {why} "
            "Choose an address that all workers share, and install dask_memdash there."
        )

    async def _join_workers(self) -> None:
        """Put the workers' side on all that are there, and that will come.

        As the scheduler's own way, but for a worker that dies meanwhile.
        """
        plugin = shims.worker_plugin(self.memory)
        self.scheduler.worker_plugins[NAME] = plugin
        message = {"op": "plugin-add", "plugin": plugin, "name": NAME}
        await self.scheduler.broadcast(msg=message, on_error="ignore")

    async def leave_workers(self) -> None:
        """Take the workers' side away."""
        self.scheduler.worker_plugins.pop(NAME, None)
        leave = boundary.guarded(
            self.scheduler.broadcast, "taking the storage off workers"
        )
        message = {"op": "plugin-remove", "name": NAME}
        await leave(msg=message, on_error="ignore")

    def detach(self, closing: bool = False) -> None:
        """Take away what is on the scheduler itself; tasks are as Dask made them."""
        if self._stopped:
            return
        self._stopped = True
        if self._ticker is not None:
            self._ticker.stop()
        for name, ours in self._wrapped:
            if vars(self.scheduler).get(name) is ours:
                delattr(self.scheduler, name)  # so that the class's shows again
        handlers = self.scheduler.stream_handlers
        for operation, theirs, ours in self._handled:
            if handlers.get(operation) is ours:
                handlers[operation] = theirs
        if handlers.get("task-erred") == self._task_erred:
            handlers["task-erred"] = self._errors_of_tasks
        for name in (READY, STORED, STORE_FAILED, LOST):
            # what is under way must find a handler, or its worker would be removed
            handlers[name] = _ignore
        self.scheduler.handlers.pop(STATE, None)
        if not closing:
            boundary.guarded(self.stand_ins.give_all_back, "giving tasks back")()
        if not closing:
            boundary.guarded(self.writing.stop, "letting go of what is held")()
        self._threads.stop()
        self._speakers.stop()
        self.watch.stop()

    def _wrap(self, name: str, ours: Callable[..., Any]) -> None:
        theirs = getattr(self.scheduler, name)

        def wrapper(*args: Any, **kwargs: Any) -> Any:
            if self._stopped:  # another's wrapper keeps this one in place
                return theirs(*args, **kwargs)
            return ours(theirs, *args, **kwargs)

        handlers = self.scheduler.stream_handlers
        for operation, handler in handlers.items():
            if handler == theirs:  # messages find the method there, not by its name
                handlers[operation] = wrapper
                self._handled.append((operation, theirs, wrapper))
        setattr(self.scheduler, name, wrapper)
        self._wrapped.append((name, wrapper))

    def _in_thread(
        self, call: Callable[[], Any], then: Callable[[Any], Any] | None = None
    ) -> None:
        """Have something done in our thread, and its result taken in on the loop."""
        loop = self.scheduler.loop

        def run() -> None:
            result = call()
            if then is not None:
                take = boundary.guarded(then, "taking in what a thread found")
                loop.add_callback(take, result)

        self._threads.submit(boundary.guarded(run, "a thread of the storage's"))

    def _at_store(self, call: Callable[[], Any]) -> None:
        """Have something said to the store in a thread."""
        self._speakers.submit(boundary.guarded(call, "a thread of the storage's"))

    # -- keys that come and go -----------------------------------------------------

    def came(self, key: Any) -> None:
        """Take note that a followed key's value is in memory."""
        self.writing.ask(key)

    def went(self, key: Any, finish: str) -> None:
        """Take note that a followed key's value is in no worker's memory any more."""
        one = self.ledger.keys[key]
        if one.state != KEPT:
            self.ledger.lost(key)
            return
        ts = self.scheduler.tasks.get(key)
        if finish == "released" and ts is not None and not ts.who_has:
            stored = Stored(self.memory, key, one.object_id)
            self.stand_ins.take_place(ts, stored)

    def forgot(self, key: Any) -> None:
        """Take note that the scheduler forgets a followed key."""
        self.ledger.forget(key)
        self.stand_ins.forget(key)

    # -- loads that fail -------------------------------------------------------------

    def _task_erred(
        self, key: Any, worker: str, stimulus_id: str, **message: Any
    ) -> None:
        """Compute what could not be loaded; all else is Dask's."""
        if key in self.stand_ins:
            failed = boundary.guarded(self._load_failed, "computing what is not stored")
            if failed(key, worker, message):
                return
        assert self._errors_of_tasks is not None
        self._errors_of_tasks(
            key=key, worker=worker, stimulus_id=stimulus_id, **message
        )

    def _load_failed(self, key: Any, worker: str, message: Mapping[str, Any]) -> bool:
        ts, one = self.scheduler.tasks.get(key), self.ledger.keys.get(key)
        if ts is None or ts.state != "processing" or ts.run_id != message.get("run_id"):
            return False
        text = plain(str(message.get("exception_text")), 300)
        is_away = text.startswith(UnreachableError.__name__)
        if one is not None and not is_away:
            self.index.discard(one.object_id)
        if not self.stand_ins.give_back(ts):
            if one is not None:
                # nobody has it, and nobody can compute it: it is not stored
                self.ledger.failed(key, text, again=False)
            return False
        self._is_computed(key, text)
        self.scheduler.transitions({key: "released"}, stimulus_id="memdash-not-loaded")
        if is_away:
            # the others would take as long to fail, one after the other
            self.stand_ins.call_off(self._is_computed)
        return True

    def _is_computed(self, key: Any, why: str | None = None) -> None:
        self.recomputed += 1
        now = time.monotonic()
        if why and now - self._logged_at >= LOG_INTERVAL:
            # the page counts them, and a store that was emptied has thousands
            self._logged_at = now
            logger.warning("A stored value is computed again: %s", why)
        if key in self.ledger.keys:
            self.ledger.lost(key)

    def _was_lost(
        self, worker: str, key: Any, object_id: str, error: str, **_: Any
    ) -> None:
        """Compute what a worker has dropped from RAM and cannot read back.

        Where nobody can, it is loaded once more, by a task whose error says why not.
        """
        self.index.discard(object_id)
        ts = self.scheduler.tasks.get(key)
        holders = () if ts is None else ts.who_has or ()
        if ts is None or worker not in {holder.address for holder in holders}:
            return
        if key in self.stand_ins:
            is_computed = self.stand_ins.give_back(ts)
        else:
            is_computed = not ts.has_lost_dependencies
        if is_computed:
            self._is_computed(key, plain(error, 300))
        self.scheduler.transitions({key: "released"}, stimulus_id="memdash-lost")

    # -- from time to time -------------------------------------------------------------

    def _tick(self) -> None:
        if not self._swept:
            # what was forgotten before the plugin's hooks were called
            self._swept = True
            for key in [k for k in self.ledger.keys if k not in self.scheduler.tasks]:
                self.forgot(key)
        self.naming.retry()
        self.writing.ask_for_all()
        self.watch.tick()

    def figures(self) -> dict[str, Any]:
        """Return what is told of the whole, as the model's ``IntermediatesTold``."""
        counts = self.ledger.counts()
        return {
            "address": address_of(self.memory),
            "objects": len(self.index),
            "stored": counts[KEPT],
            "pending": counts[WANTED] + counts[ASKED],
            "failed": counts[FAILED],
            "never": counts[NEVER],
            "stand_ins": len(self.stand_ins),
            "resumed": self.graphs.resumed,
            "recomputed": self.recomputed,
            "names": self.naming.progress(),
            "refused": self.naming.refused(),
            "error": self.ledger.error,
            "unreachable": self.watch.unreachable,
        }

    def state(self, comm: Any = None) -> dict[str, Any]:
        """Return what is stored and what is not, for a client."""
        return {
            "address": address_of(self.memory),
            "keys": self.ledger.counts(),
            "stand_ins": len(self.stand_ins),
            "workers": len(self.writing.ready),
            "objects": len(self.index),
            "error": self.ledger.error,
        }


def _ignore(**_: Any) -> None:
    """Take what comes after the storage has gone."""
