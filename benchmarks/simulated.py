"""A real scheduler in this process, with workers that only it believes in.

The scheduler is distributed's own, entered by the methods that its comms call:
``add_worker``, ``heartbeat_worker``, ``update_graph``, ``handle_task_finished``.  Only
the far end of the comms is made up: it takes whatever it is sent.  Heartbeats are
those of a real worker, caught on their way into the scheduler of a real cluster.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import pickle
import time
from collections.abc import AsyncIterator, Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any
from unittest import mock

import common
import dask
import numpy as np
from dask._expr import LLGExpr
from dask._task_spec import Task, TaskRef
from distributed import Scheduler
from distributed.comm.core import Comm, CommClosedError
from distributed.protocol import dumps, loads
from distributed.protocol.serialize import Serialized, serialize

import dask_memdash.plugins.scheduler.install
import dask_memdash.plugins.scheduler.plugin
from dask_memdash import MemDash
from dask_memdash.model.event_parts import Finished
from dask_memdash.model.event_readers import from_dict, to_dict
from dask_memdash.model.events import WorkerReported
from dask_memdash.model.packed_report import unpack
from dask_memdash.model.prefixes import Prefixes, PrefixState
from dask_memdash.plugins.protocol import PROTOCOL
from dask_memdash.plugins.scheduler.inbound import Inbound
from dask_memdash.plugins.scheduler.reports import Reports
from dask_memdash.plugins.worker.packing import pack
from dask_memdash.plugins.worker.report_pace import (
    ALL_EVERY,
    ALL_INTERVALS,
    MANY_WORKERS,
    REPORT_EVERY,
)

#: Threads of the worker whose heartbeats are caught, and kinds of outputs it holds.
THREADS = 4
PREFIXES = "abcdefgh"

#: What changes slowly.
SLOW = ("limits", "graph", "actors", "named")

#: What the scheduler adds to a report.
NOBODY = {"time": 0.0, "address": ""}

#: Client that owns the graphs.
CLIENT = "benchmark"


class Sink(Comm):
    """The end of a comm that takes everything and says nothing."""

    def __init__(self, address: str) -> None:
        super().__init__(deserialize=False)
        self._address = address
        self._closed = asyncio.Event()

    @property
    def local_address(self) -> str:
        """Address of this end."""
        return self._address

    @property
    def peer_address(self) -> str:
        """Address of the other end."""
        return self._address

    async def read(self, deserializers: Any = None) -> Any:
        """Wait for the end."""
        await self._closed.wait()
        raise CommClosedError("the benchmark is over")

    async def write(
        self, msg: Any, serializers: Any = None, on_error: Any = None
    ) -> int:
        """Take a message."""
        return 1

    async def close(self) -> None:
        """Close."""
        self._closed.set()

    def abort(self) -> None:
        """Close."""
        self._closed.set()

    def closed(self) -> bool:
        """Whether it is closed."""
        return self._closed.is_set()


class Clock:
    """The time as MemDash's hooks see it, moved on by hand.

    A thousand workers take six seconds to heartbeat once; here they take a tenth of a
    second, and a history that keeps a point each half second would keep nothing.
    """

    def __init__(self) -> None:
        self.now = time.time()

    def read(self) -> float:
        """Return the time, in seconds."""
        return self.now

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Show this clock to the scheduler plugin, and call no tick by itself."""
        shown = SimpleNamespace(**{**vars(time), "time": lambda: self.now})
        with (
            mock.patch.object(dask_memdash.plugins.scheduler.plugin, "time", shown),
            mock.patch.object(dask_memdash.plugins.scheduler.install, "TICK", 1e6),
            # Or most of what comes so fast would be refused.
            mock.patch.object(
                dask_memdash.plugins.scheduler.plugin,
                "Inbound",
                partial(Inbound, clock=self.read, monotonic=self.read),
            ),
            mock.patch.object(
                dask_memdash.plugins.scheduler.plugin,
                "Reports",
                partial(Reports, clock=self.read, monotonic=self.read),
            ),
        ):
            yield


# -- heartbeats of a real worker -------------------------------------------------------


def small_output(seconds: float) -> bytes:
    """Return an output of 100 kB after a while."""
    block = np.ones(1_000_000)
    time.sleep(seconds)
    return bytes(100_000 + int(block[0]))


def catch() -> dict[str, dict[str, Any]]:
    """Catch a heartbeat of a real worker with nothing to do, and of a busy one."""
    return {name: messages[0] for name, messages in catch_several(1).items()}


def catch_several(count: int) -> dict[str, list[dict[str, Any]]]:
    """Catch heartbeats of a real worker: with nothing to do, and busy.

    The idle worker stores outputs of several prefixes.  The busy one runs a task in
    each of its threads, has finished others since its last heartbeat, and has other
    outputs than then; of it so many heartbeats in a row.  MemDash's part is plain
    data: :func:`packed` packs it as a worker does.
    """
    caught: list[dict[str, Any]] = []
    with common.cluster(1, THREADS, "2 GB") as (cluster, client):
        client.register_plugin(MemDash())
        heartbeat = cluster.scheduler.handlers["heartbeat_worker"]

        def listen(**message: Any) -> Any:
            copy = pickle.loads(pickle.dumps(message))
            if "packed" in (own := copy["extensions"].get("memdash") or {}):
                plain = to_dict(unpack(own, 0.0, "", 0))
                sent = {
                    name: part for name, part in plain.items() if name not in NOBODY
                }
                copy["extensions"]["memdash"] = {**sent, "protocol": PROTOCOL}
            caught.append(copy)
            return heartbeat(**message)

        cluster.scheduler.handlers["heartbeat_worker"] = listen

        def find(wanted: Any, count: int = 1) -> list[dict[str, Any]]:
            caught.clear()
            common.until(
                lambda: sum(map(bool, map(wanted, caught))) >= count, "heartbeats"
            )
            return list(filter(wanted, caught))[:count]

        kept = [
            client.submit(small_output, 0.0, key=f"{p}-{i}")
            for p in PREFIXES
            for i in range(10)
        ]
        client.gather(kept)
        find(_own)  # what has just finished is told
        idle = find(lambda m: _own(m) and not _own(m)["finished"])
        futures = [
            client.submit(small_output, 0.1, key=f"{PREFIXES[i % 8]}-busy-{i}")
            for i in range(150 + 60 * count)
        ]
        busy = find(
            lambda m: (
                _own(m)
                and len(_own(m)["executing"]) >= THREADS
                and len(_own(m)["finished"]) >= THREADS
            ),
            count,
        )
        client.cancel(futures)
        del kept, futures
    return {"idle": idle, "busy": busy}


def _own(message: dict[str, Any]) -> Any:
    own = (message.get("extensions") or {}).get("memdash")
    return own if own and "reading" in own else None


# -- the scheduler ---------------------------------------------------------------------


def address_of(number: int) -> str:
    """Return address of a simulated worker: four to a host, nobody listens there."""
    host, place = divmod(number, 4)
    return f"tcp://127.1.{host // 250}.{host % 250 + 1}:{50_000 + place}"


def pid_of(number: int) -> int:
    """Return the process number that a simulated worker says it has."""
    return 100_000 + number


@contextlib.asynccontextmanager
async def scheduler() -> AsyncIterator[Scheduler]:
    """Run a scheduler on loopback."""
    quiet = logging.getLogger("distributed")
    quiet.setLevel(logging.CRITICAL)
    with dask.config.set(
        {
            "distributed.scheduler.worker-ttl": None,
            "distributed.admin.tick.limit": "1h",
        }
    ):
        async with Scheduler(
            host="127.0.0.1", port=0, dashboard_address="127.0.0.1:0"
        ) as running:
            yield running


async def add_workers(running: Scheduler, count: int, metrics: dict[str, Any]) -> None:
    """Let workers join, as they do."""
    joined = [
        asyncio.ensure_future(
            running.add_worker(
                Sink(address_of(number)),
                address=address_of(number),
                status="running",
                server_id=f"worker-{number}",
                nthreads=THREADS,
                name=f"w{number}",
                now=time.time(),
                resources={},
                memory_limit=4 * 2**30,
                metrics=metrics,
                pid=pid_of(number),
                services={},
                local_directory="/nowhere",
                versions={},
                nanny="",
                extra={},
                stimulus_id=f"join-{number}",
            )
        )
        for number in range(count)
    ]
    while len(running.stream_comms) < count or any(
        comm.comm is None for comm in running.stream_comms.values()
    ):
        await asyncio.sleep(0.01)
        failed = [task for task in joined if task.done()]
        if failed:
            raise RuntimeError("a worker could not join") from failed[0].exception()


def as_many_tell(
    messages: list[dict[str, Any]], interval: float, *, holds: bool
) -> list[dict[str, Any]]:
    """Return heartbeats as workers send them that are so many.

    What has finished is told in some of them, then with that of those before, and with
    what changes slowly; and while a report holds, some heartbeats say nothing.

    Parameters
    ----------
    messages
        As they were caught of a worker that is one of few.
    interval
        Seconds between two heartbeats of a worker.
    holds
        Whether the RSS stays within what is no news.
    """
    if interval < MANY_WORKERS:
        return messages
    all_every = max(ALL_EVERY, ALL_INTERVALS * interval)
    slow = {
        name: part
        for message in messages
        for name in SLOW
        if (part := message["extensions"]["memdash"][name]) is not None
    }
    told, prefixes, reported, told_all = [], Prefixes(), -math.inf, -math.inf
    for number, message in enumerate(messages):
        now = number * interval
        copy = pickle.loads(pickle.dumps(message))
        own = copy["extensions"]["memdash"]
        prefixes.finish(from_dict(WorkerReported, {**own, **NOBODY}).finished)
        own |= {"finished": {}, **dict.fromkeys(SLOW)}
        waits = holds and now < reported + REPORT_EVERY
        if not waits and now >= told_all + all_every:
            told_all = now
            own |= slow
            own["finished"] = {
                name: _finished(state) for name, state in prefixes.by_name.items()
            }
            prefixes = Prefixes()
        if waits:
            copy["extensions"]["memdash"] = {"protocol": PROTOCOL}
        else:
            reported = now
        told.append(copy)
    return told


def _finished(state: PrefixState) -> dict[str, Any]:
    sums = state.method, state.peaks, state.errors, state.outputs, state.weighed
    done: dict[str, Any] = to_dict(Finished(state.finished, *sums, state.unseen))
    return done


def packed(message: dict[str, Any], count: int, *, with_memdash: bool) -> list[Any]:
    """Return a caught heartbeat as each worker would send it, packed for the comm."""
    frames = []
    for number in range(count):
        sent = pickle.loads(pickle.dumps(message))
        sent["address"] = address_of(number)
        sent["extensions"]["spans"] = {}  # of tasks that this scheduler never had
        if with_memdash:
            own = sent["extensions"]["memdash"]
            if "reading" in own:
                sent["extensions"]["memdash"] = pack({**own, "pid": pid_of(number)})
        else:
            del sent["extensions"]["memdash"]
        frames.append(dumps(sent))
    return frames


def beat(running: Scheduler, frames: list[Any]) -> None:
    """Let heartbeats come in, one after the other: unpack and handle each."""
    for packet in frames:
        running.heartbeat_worker(**loads(packet))


# -- tasks -----------------------------------------------------------------------------


def inc(*values: Any) -> int:
    """Do next to nothing; never called."""
    return len(values)


class Graph:
    """A graph of two layers, each task of the second waits for two of the first."""

    def __init__(self, name: str, tasks: int) -> None:
        half = max(1, tasks // 2)
        first = [(f"load-{name}", i) for i in range(half)]
        second = [(f"add-{name}", i) for i in range(half)]
        self.dsk = {key: Task(key, inc) for key in first}
        for i, key in enumerate(second):
            neighbours = TaskRef(first[i]), TaskRef(first[(i + 1) % half])
            self.dsk[key] = Task(key, inc, *neighbours)
        self.keys = set(second)

    async def submit(self, running: Scheduler) -> None:
        """Hand it to the scheduler, as a client does."""
        await running.update_graph(
            client=CLIENT,
            expr_ser=Serialized(*serialize(LLGExpr(self.dsk))),
            keys=self.keys,
            span_metadata={"collections": []},
            internal_priority=None,
            submitting_task=None,
            stimulus_id="benchmark-graph",
        )

    def compute(self, running: Scheduler) -> None:
        """Let the workers finish whatever they are given, until all is done."""
        busy = True
        while busy:
            busy = False
            for address, worker in running.workers.items():
                for task in list(worker.processing):
                    busy = True
                    running.handle_task_finished(
                        key=task.key,
                        worker=address,
                        stimulus_id="benchmark-finished",
                        run_id=task.run_id,
                        nbytes=100_000,
                        type=b"",
                        typename="bytes",
                        metadata={},
                        thread=1,
                        startstops=[{"action": "compute", "start": 0.0, "stop": 0.001}],
                        status="OK",
                    )
        left = [key for key in self.keys if running.tasks[key].state != "memory"]
        if left:
            raise RuntimeError(f"{len(left)} tasks of the graph were not computed")

    def release(self, running: Scheduler) -> None:
        """Let go of the outputs, as a client does: the tasks are forgotten."""
        running.client_releases_keys(
            keys=list(self.keys), client=CLIENT, stimulus_id="benchmark-release"
        )
