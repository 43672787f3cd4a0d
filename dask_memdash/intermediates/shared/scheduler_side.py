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
import uuid
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from tornado.ioloop import PeriodicCallback

from dask_memdash.boundary import boundary
from dask_memdash.errors import StorageError, UnreachableError
from dask_memdash.intermediates.lineage import Lineage
from dask_memdash.intermediates.memory import Memory, address_of
from dask_memdash.intermediates.shared import shims
from dask_memdash.intermediates.shared.index import StoreIndex
from dask_memdash.intermediates.shared.ledger import (
    ASKED,
    FAILED,
    KEPT,
    NEVER,
    WANTED,
    Followed,
    Ledger,
)
from dask_memdash.intermediates.shared.protocol import (
    CHECK,
    NAME,
    READY,
    STATE,
    STORE,
    STORE_FAILED,
    STORED,
)
from dask_memdash.intermediates.shared.resume import (
    Resumed,
    Verdict,
    is_persist,
    judge,
    may_be_stored,
    resume,
)
from dask_memdash.intermediates.shared.stand_ins import StandIns
from dask_memdash.intermediates.shared.threads import DaemonThreads
from dask_memdash.intermediates.stored import Stored
from dask_memdash.text import join, plain

if TYPE_CHECKING:
    from distributed.scheduler import Scheduler

logger = logging.getLogger("dask_memdash.storage")

#: Seconds between two looks at what has failed and at the index.
TICK = 2.0

#: Seconds that a registration waits for the store, and for the workers.
PATIENCE = 30.0

#: Who wants what a client that has left persisted, until it is written.
HOLDER = "memdash-storage"

#: Folder of the objects by which workers tell whether they see the same store.
NONCES = "checks/"

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
        self.ready: set[str] = set()
        #: Results that were found stored when their graph came, and loads that failed.
        self.resumed = 0
        self.recomputed = 0
        self._threads = DaemonThreads(1, "MemDash storage")
        self._wrapped: list[tuple[str, Any]] = []
        self._ticker: PeriodicCallback | None = None
        self._listing = False
        self._stopped = False
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
            (READY, self._worker_ready),
            (STORED, self._was_stored),
            (STORE_FAILED, self._was_not_stored),
        ):
            scheduler.stream_handlers[name] = boundary.guarded(
                handler, f"taking in {name}"
            )
        scheduler.handlers[STATE] = boundary.guarded(
            self.state, "telling what is stored"
        )
        self._errors_of_tasks = scheduler.stream_handlers["task-erred"]
        scheduler.stream_handlers["task-erred"] = self._task_erred
        self._wrap("_create_taskstate_from_graph", self._make_tasks)
        self._wrap("remove_client", self._remove_client)
        self._ticker = PeriodicCallback(
            boundary.guarded(self._tick, "looking at the store"), TICK * 1000
        )
        self._ticker.start()
        await scheduler.register_worker_plugin(
            None, shims.worker_plugin(self.memory), NAME, idempotent=False
        )
        try:
            await self._check_workers(nonce)
        except StorageError:
            self.detach()
            await self.leave_workers()
            raise
        finally:
            self._in_thread(lambda: self.memory.delete(nonce))

    def _prepare(self, nonce: str) -> None:
        """Make the store, leave a nonce in it, list it; in a thread."""
        create = getattr(self.memory, "create", None)
        if create is not None:
            create()
        self.memory.put(nonce, [b"memdash"])
        self.index.refresh()

    async def _check_workers(self, nonce: str) -> None:
        """Raise StorageError unless all workers see the store."""
        if not self.scheduler.workers:
            return
        asking = self.scheduler.broadcast(
            msg={"op": CHECK, "nonce": nonce}, on_error="return"
        )
        answers = await asyncio.wait_for(asking, PATIENCE)
        wrong = {
            address: plain(str(answer), 300)
            for address, answer in answers.items()
            if answer is not None
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

    async def leave_workers(self) -> None:
        """Take the workers' side away."""
        leave = boundary.guarded(
            self.scheduler.unregister_worker_plugin, "taking the storage off workers"
        )
        await leave(None, NAME)

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
        if handlers.get("task-erred") == self._task_erred:
            handlers["task-erred"] = self._errors_of_tasks
        for name in (READY, STORED, STORE_FAILED):
            # what is under way must find a handler, or its worker would be removed
            handlers[name] = _ignore
        self.scheduler.handlers.pop(STATE, None)
        if not closing:
            boundary.guarded(self.stand_ins.give_all_back, "giving tasks back")()
        if HOLDER in self.scheduler.clients and not closing:
            self.scheduler.remove_client(HOLDER, stimulus_id="memdash-storage-leaves")
        self._threads.stop()

    def _wrap(self, name: str, ours: Callable[..., Any]) -> None:
        theirs = getattr(self.scheduler, name)

        def wrapper(*args: Any, **kwargs: Any) -> Any:
            if self._stopped:  # another's wrapper keeps this one in place
                return theirs(*args, **kwargs)
            return ours(theirs, *args, **kwargs)

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

    # -- graphs that arrive ------------------------------------------------------

    def _make_tasks(self, theirs: Callable[..., Any], **arguments: Any) -> Any:
        """Let what is stored be loaded; have what is persisted stored."""
        tasks = arguments["dsk"]
        resumed = boundary.guarded(self._resume, "resuming a graph")(arguments)
        if resumed is not None:
            arguments["dsk"] = resumed.tasks
        try:
            made = theirs(**arguments)
        except BaseException:
            for key in resumed.loads if resumed is not None else ():
                if key not in self.scheduler.tasks:
                    self.stand_ins.forget(key)
                    self.ledger.forget(key)
            raise
        boundary.guarded(self._judge, "choosing what to store")(arguments, tasks)
        return made

    def _resume(self, arguments: Mapping[str, Any]) -> Resumed | None:
        tasks, known = arguments["dsk"], self.scheduler.tasks
        if arguments.get("actors"):
            return None
        resumed = resume(
            tasks,
            arguments["keys"],
            self.stand_ins.task,
            known.__contains__,
            _Lineages(self.ledger),
            self._earlier,
            self.index,
            self.memory,
        )
        if resumed is None:
            return None
        loads = [(key, resumed.tasks[key]) for key in resumed.loads]
        self.stand_ins.arrived(loads, tasks)
        self.resumed += len(loads)
        for key, stored in resumed.loads.items():
            one = Followed(stored.object_id, resumed.lineages[key], KEPT)
            self.ledger.follow(key, one)
        return resumed

    def _earlier(self, keys: Any) -> dict[Any, Any]:
        """Return the scheduler's tasks up to keys, as far as no lineage is known."""
        found: dict[Any, Any] = {}
        stack = list(keys)
        while stack:
            key = stack.pop()
            ts = self.scheduler.tasks.get(key)
            if ts is None or key in found or key in self.ledger.keys:
                continue
            if key in self.stand_ins:
                found |= self.stand_ins.tasks_before(key)
            elif ts.run_spec is not None:
                found[key] = ts.run_spec
                stack.extend(dts.key for dts in ts.dependencies)
        return found

    def _judge(self, arguments: Mapping[str, Any], tasks: Mapping[Any, Any]) -> None:
        """Have it worked out, in a thread, under which names results are stored."""
        if not is_persist(arguments.get("span_metadata"), arguments.get("actors")):
            return
        known = self.scheduler.tasks
        keys = [
            key
            for key in arguments["keys"]
            if key not in self.ledger.keys
            and key in known
            and may_be_stored(key, tasks.get(key))
        ]
        if not keys:
            return
        before = {k for t in tasks.values() for k in t.dependencies if k not in tasks}
        whole = {**self._earlier(before), **tasks}
        version = getattr(self.memory, "version", None)
        lineages = _Lineages(self.ledger)
        self._in_thread(lambda: judge(whole, keys, lineages, version), self._follow)

    def _follow(self, verdicts: Mapping[Any, Verdict]) -> None:
        """Follow keys; those that are in memory already are stored at once."""
        for key, verdict in verdicts.items():
            ts = self.scheduler.tasks.get(key)
            if ts is None or key in self.ledger.keys:
                continue
            if verdict.object_id is None:
                self.ledger.follow(key, Followed("", verdict.lineage, NEVER))
                continue
            self.ledger.follow(key, Followed(verdict.object_id, verdict.lineage))
            self.ask(key)

    # -- writing -----------------------------------------------------------------

    def ask(self, key: Any) -> None:
        """Ask a worker that has a key's value to store it, if any has."""
        ts, one = self.scheduler.tasks.get(key), self.ledger.keys[key]
        if ts is None or ts.state != "memory" or one.state in (ASKED, KEPT, NEVER):
            return
        for worker in ts.who_has or ():
            if worker.address in self.ready:
                self.ledger.ask(key, worker.address)
                message = {"op": STORE, "key": key, "object_id": one.object_id}
                self.scheduler.worker_send(worker.address, message)
                return

    def _worker_ready(self, worker: str, **_: Any) -> None:
        self.ready.add(worker)
        for key in self.ledger.wanted():
            self.ask(key)

    def worker_left(self, worker: str) -> None:
        """Ask others for what a worker that has gone was to store."""
        self.ready.discard(worker)
        for key in self.ledger.left(worker):
            self.ask(key)

    def _was_stored(
        self,
        worker: str,
        key: Any,
        object_id: str,
        size: int,
        seconds: float,
        facts: dict[str, Any],
        **_: Any,
    ) -> None:
        self.index.add(object_id)
        one = self.ledger.keys.get(key)
        if one is not None and one.object_id == object_id:
            self.ledger.stored(key, size, facts)
        self._let_go(key)

    def _was_not_stored(
        self, worker: str, key: Any, error: str | None, again: bool, **_: Any
    ) -> None:
        one = self.ledger.keys.get(key)
        if one is not None and one.state == ASKED and one.worker == worker:
            self.ledger.failed(key, error, again)
            if error is not None and again:
                boundary.note("storing intermediates", error)
        self._let_go(key)

    # -- keys that come and go -----------------------------------------------------

    def came(self, key: Any) -> None:
        """Take note that a followed key's value is in memory."""
        self.ask(key)

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

    def _remove_client(
        self, theirs: Callable[..., Any], client: str, *args: Any, **kwargs: Any
    ) -> Any:
        """Hold what a leaving client persisted until it is written."""
        if client != HOLDER:
            boundary.guarded(self._hold, "holding what is written")(client)
        return theirs(client, *args, **kwargs)

    def _hold(self, client: str) -> None:
        state = self.scheduler.clients.get(client)
        wanted = state.wants_what if state is not None else ()
        keys = [ts.key for ts in wanted if self._is_pending(ts)]
        if keys:
            self.scheduler.client_desires_keys(keys, HOLDER)

    def _is_pending(self, ts: Any) -> bool:
        one = self.ledger.keys.get(ts.key)
        return one is not None and one.state == ASKED and ts.state == "memory"

    def _let_go(self, key: Any) -> None:
        """Let go of a key that was only held to be written."""
        holder = self.scheduler.clients.get(HOLDER)
        ts = self.scheduler.tasks.get(key)
        if holder is not None and ts is not None and ts in holder.wants_what:
            self.scheduler.client_releases_keys(
                [key], HOLDER, stimulus_id="memdash-written"
            )

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
        if one is not None:
            self.index.discard(one.object_id)
        text = plain(str(message.get("exception_text")), 300)
        if not self.stand_ins.give_back(ts):
            return False
        self.recomputed += 1
        logger.warning("A stored value is computed again: %s", text)
        if one is not None:
            self.ledger.lost(key)
        self.scheduler.transitions({key: "released"}, stimulus_id="memdash-not-loaded")
        return True

    # -- from time to time -------------------------------------------------------------

    def _tick(self) -> None:
        for key in self.ledger.wanted():
            self.ask(key)
        if self.index.due() and not self._listing:
            self._listing = True
            self._in_thread(self._refresh, self._refreshed)

    def _refresh(self) -> str | None:
        try:
            self.index.refresh()
        except StorageError as error:
            return str(error)
        return None

    def _refreshed(self, error: str | None) -> None:
        self._listing = False
        if error is not None:
            boundary.note("listing the store", error)

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
            "resumed": self.resumed,
            "recomputed": self.recomputed,
            "names": {},
            "error": self.ledger.error,
        }

    def state(self, comm: Any = None) -> dict[str, Any]:
        """Return what is stored and what is not, for a client."""
        return {
            "address": address_of(self.memory),
            "keys": self.ledger.counts(),
            "stand_ins": len(self.stand_ins),
            "workers": len(self.ready),
            "objects": len(self.index),
            "error": self.ledger.error,
        }


class _Lineages(Mapping[Any, Lineage]):
    """The lineages of followed keys, as a mapping that is read as it is."""

    def __init__(self, ledger: Ledger) -> None:
        self._keys = ledger.keys

    def __getitem__(self, key: Any) -> Lineage:
        return self._keys[key].lineage

    def __iter__(self):  # type: ignore[no-untyped-def]
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


def _ignore(**_: Any) -> None:
    """Take what comes after the storage has gone."""
