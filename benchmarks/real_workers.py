"""Whether simulated workers tell what real ones cost the scheduler.

As many real worker processes as the machine bears (200 by default, one thread each)
heartbeat to a real scheduler as those of a cluster of 1,000 do: every six seconds.
What MemDash takes for one heartbeat is measured where it happens, with nothing to do
and with tasks running.  Then the very heartbeats of some of them are fed to a scheduler
of this process with as many simulated workers (``simulated.py``), and measured the same
way.

The workers are forked from one process that has imported all they need, without
nannies, profiler and page, and look at their memory each second: the machine has to
bear them.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import multiprocessing
import os
import pickle
import signal
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any
from unittest import mock

import common
import dask
import psutil
import simulated
from common import MB, progress, sized
from distributed import Client, Scheduler, Worker

from dask_memdash import MemDash
from dask_memdash.plugins.scheduler import reports

#: What a worker may take, and real ones whose heartbeats are fed to simulated ones.
LIMIT = 400 * MB
CAUGHT = 20

#: Heartbeats of each that are fed, and the fewest.
IN_TURNS, LEAST = 12, 3

#: Heartbeats that were handled, and seconds for all of each and for MemDash's part.
NOTHING = {"count": 0, "whole": 0.0, "ours": 0.0}

#: Seconds that a task runs.
TASK = 2.0

#: What real workers need not do here.
QUIET = {
    "distributed.worker.profile.enabled": False,
    "distributed.worker.memory.monitor-interval": "1s",
    "distributed.admin.system-monitor.interval": "5s",
    "distributed.admin.tick.limit": "1h",
    "distributed.scheduler.worker-ttl": None,
}


# -- processes -------------------------------------------------------------------------


def be_scheduler(pipe: Connection, interval: float) -> None:
    """Run a scheduler that asks for a heartbeat so often, until the pipe says so."""
    import distributed.scheduler

    reports.heartbeat_interval = lambda n: interval
    distributed.scheduler.heartbeat_interval = reports.heartbeat_interval
    logging.getLogger("distributed").setLevel(logging.CRITICAL)

    async def run() -> None:
        async with Scheduler(
            host="127.0.0.1", port=0, dashboard_address="127.0.0.1:0"
        ) as scheduler:
            pipe.send(scheduler.address)
            await asyncio.to_thread(pipe.recv)

    with dask.config.set(QUIET):
        asyncio.run(run())


def be_nursery(pipe: Connection, address: str, count: int) -> None:
    """Fork so many workers, and end them when the pipe says so."""
    import numpy as np

    from dask_memdash.plugins.worker import probe

    progress(f"forking workers with {np.__name__} and {probe.__name__}")
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    gc.collect()
    gc.freeze()
    children = []
    for number in range(count):
        child = os.fork()
        if child == 0:
            with contextlib.suppress(BaseException), dask.config.set(QUIET):
                asyncio.run(_work(address, number))
            os._exit(0)
        children.append(child)
    pipe.send(children)
    with contextlib.suppress(EOFError):
        pipe.recv()
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


async def _work(address: str, number: int) -> None:
    async with Worker(
        address,
        host="127.0.0.1",
        name=f"w{number}",
        nthreads=1,
        memory_limit=LIMIT,
        dashboard=False,
    ) as worker:
        await worker.finished()


@contextlib.contextmanager
def process(target: Any, *arguments: Any) -> Iterator[tuple[Connection, int, Any]]:
    """Run a function in a process of its own; give a pipe, its pid, its answer."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=target, args=(theirs, *arguments))
    child.start()
    try:
        if not ours.poll(600):
            raise TimeoutError(f"{target.__name__} says nothing")
        yield ours, int(child.pid or 0), ours.recv()
    finally:
        with contextlib.suppress(OSError):
            ours.send("end")
        child.join(60)
        if child.is_alive():
            child.kill()


# -- on the scheduler ------------------------------------------------------------------


def listen(dask_scheduler: Any) -> None:
    """Measure each heartbeat from now on, and MemDash's part, and keep some of them."""
    extension = dask_scheduler.extensions["memdash"]
    take, handle = extension._take, dask_scheduler.handlers["heartbeat_worker"]
    dask_scheduler.seen = {**NOTHING, "caught": {}}

    def timed(worker: Any, data: Any) -> None:
        begun = time.thread_time()
        take(worker, data)
        dask_scheduler.seen["ours"] += time.thread_time() - begun

    def timed_whole(**message: Any) -> Any:
        seen = dask_scheduler.seen
        address, caught = message["address"], seen["caught"]
        if address in caught or len(caught) < CAUGHT:
            kept = pickle.loads(pickle.dumps({**message, "comm": None}))
            caught.setdefault(address, []).append(kept)
        begun = time.thread_time()
        answer = handle(**message)
        seen["whole"] += time.thread_time() - begun
        seen["count"] += 1
        return answer

    extension._take = timed
    dask_scheduler.handlers["heartbeat_worker"] = timed_whole


def heard(dask_scheduler: Any) -> dict[str, Any]:
    """Return what was measured since the last time, and forget it."""
    told = dask_scheduler.seen
    dask_scheduler.seen = {**NOTHING, "caught": {}}
    return dict(told)


# -- both ways -------------------------------------------------------------------------


def small_task(number: int) -> bytes:
    """Take some memory for a while, and return a little of it."""
    import numpy as np

    block = np.ones(500_000)
    time.sleep(TASK)
    return bytes(50_000 + int(block[0]))


def measure_real(
    workers: int, interval: float, seconds: float
) -> dict[str, dict[str, Any]]:
    """Measure heartbeats of real workers, idle and busy."""
    found = {}
    with (
        process(be_scheduler, interval) as (_, scheduler, address),
        process(be_nursery, address, workers) as (_, _, children),
        Client(address, set_as_default=False) as client,
    ):
        progress(f"{workers} workers are forked")
        client.wait_for_workers(workers, timeout=600)
        client.register_plugin(MemDash(sample_interval="1s"))
        progress("all of them are there, with MemDash")
        client.run_on_scheduler(listen)
        time.sleep(3 * interval)
        for name in ("idle", "busy"):
            futures = []
            if name == "busy":
                count = round(workers * (seconds + 6 * interval) / TASK)
                keys = [f"{'abcdefgh'[n % 8]}-busy-{n}" for n in range(count)]
                futures = client.map(small_task, range(count), key=keys)
                time.sleep(3 * interval)
            client.run_on_scheduler(heard)
            begun = common.process_seconds(scheduler), time.monotonic()
            time.sleep(seconds)
            told = client.run_on_scheduler(heard)
            passed = time.monotonic() - begun[1]
            told["core"] = (common.process_seconds(scheduler) - begun[0]) / passed
            told["rate"] = told["count"] / passed
            told["pss"] = sum(map(_pss, children)) / len(children)
            found[name] = told
            progress(f"{name}: {told['count']} heartbeats")
            client.cancel(futures)
    return found


def _pss(pid: int) -> float:
    return float(psutil.Process(pid).memory_full_info().pss)


async def measure_simulated(
    found: dict[str, dict[str, Any]], workers: int, interval: float
) -> dict[str, dict[str, Any]]:
    """Feed heartbeats of real workers to simulated ones, and measure them."""
    clock = simulated.Clock()
    spent = {}
    with (
        clock.installed(),
        mock.patch.object(reports, "heartbeat_interval", return_value=interval),
    ):
        async with simulated.scheduler() as scheduler:
            plugin = MemDash()
            await plugin.start(scheduler)
            metrics = simulated.catch()["idle"]["metrics"]
            await simulated.add_workers(scheduler, workers, metrics)
            for address in scheduler.workers:
                plugin.add_worker(scheduler, address)
            listen(scheduler)
            for name, told in found.items():
                spent[name] = _fed(scheduler, told["caught"], clock, interval)
            await plugin.close()
    return spent


def _fed(
    scheduler: Scheduler,
    caught: dict[str, list[dict[str, Any]]],
    clock: simulated.Clock,
    interval: float,
) -> dict[str, Any]:
    lines = [line for line in caught.values() if len(line) >= LEAST]
    turns = min(IN_TURNS, *map(len, lines))
    handle = scheduler.handlers["heartbeat_worker"]
    for number in range(-turns, turns):  # once to warm up
        if number == 0:
            heard(scheduler)
        clock.now += interval
        messages = [
            _as_of(lines[at % len(lines)][number % turns], address, at)
            for at, address in enumerate(scheduler.workers)
        ]
        gc.collect()
        gc.disable()
        for message in messages:
            handle(**message)
        gc.enable()
    return heard(scheduler)


def _as_of(message: dict[str, Any], address: str, number: int) -> dict[str, Any]:
    """Return a worker's heartbeat as one of another worker."""
    sent: dict[str, Any] = pickle.loads(pickle.dumps(message))
    del sent["comm"]
    sent["address"] = address
    sent["extensions"]["spans"] = {}  # of tasks that this scheduler never had
    if "pid" in (own := sent["extensions"].get("memdash", {})):
        own["pid"] = simulated.pid_of(number)
    return sent


def main() -> None:
    """Measure, and print the table."""
    parser = common.parser(__doc__)
    parser.add_argument("--workers", type=int, help="(default 200)")
    parser.add_argument("--interval", type=float, help="of heartbeats (default 6 s)")
    parser.add_argument("--seconds", type=float, help="of each, idle and busy")
    options = parser.parse_args()
    workers = options.workers or sized(options, 200, 50, 6)
    interval = options.interval or sized(options, 6.0, 6.0, 1.0)
    seconds = options.seconds or sized(options, 120.0, 60.0, 5.0)
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    real = measure_real(workers, interval, seconds)
    fed = asyncio.run(measure_simulated(real, workers, interval))
    print(
        f"\n{workers} worker processes, a heartbeat each {interval:g} s; microseconds"
        " of processor time that MemDash takes for one\n"
    )
    common.header(
        "workers", "", "bare, µs", "MemDash's part, µs", "ratio",
        "heartbeats a second", "scheduler, of a core", "PSS of a worker, MB",
    )  # fmt: skip
    for name, told in real.items():
        for kind, one in (("real", told), ("simulated", fed[name])):
            count = max(1, one["count"])
            ours, bare = one["ours"], one["whole"] - one["ours"]
            common.row(
                name,
                kind,
                f"{bare / count * 1e6:.1f}",
                f"{ours / count * 1e6:.1f}",
                f"{1 + ours / bare:.2f}",
                f"{one['rate']:.0f}" if one is told else "",
                f"{one['core']:.1%}" if one is told else "",
                f"{one['pss'] / MB:.0f}" if one is told else "",
            )


if __name__ == "__main__":
    main()
