"""Whether anything grows while a cluster runs for long: memory, threads, files.

*Real*: two clusters of a scheduler process and two worker processes do the same work
side by side for an hour, one with MemDash and one without: small graphs, a shuffle, new
names of prefixes all the time, a scrape and a look at the page each round, and now and
then a worker that dies.  Each process tells its RSS, threads and open files.

*Simulated*: a real scheduler in this process, with workers that only it believes in,
hears of 30 days in some minutes (a heartbeat a minute from each, a tick a minute, and
graphs that come and go), with MemDash's clock moved on by hand.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import common
import dask.array as da
import numpy as np
import psutil
import simulated
from common import MB, header, parser, progress, row, sized
from distributed import Client

from dask_memdash import MemDash

#: Workers of each real cluster, what each may take, and seconds from round to round.
WORKERS = 2
LIMIT = "400MB"
ROUND = 15.0

#: A worker dies in one round of so many.
DEATHS = 20

#: What of the time is warming up: it is in no line.
WARM = 0.25

#: Simulated workers, and seconds between two heartbeats of each and between two ticks.
SIMULATED = 8
MINUTE = 60.0
DAY = 86_400.0

#: A simulated graph comes and goes each so many minutes.
GRAPHS = 60

#: The scheduler says in its log where it listens.
ADDRESS = re.compile(r"(?:Scheduler|dashboard) at:\s+(\S+)")


# -- real ------------------------------------------------------------------------------


@dataclass
class Sample:
    """What one process had at one time."""

    hours: float
    rss: float
    threads: int
    files: int


@dataclass
class Real:
    """One cluster of processes, and what was seen of them."""

    name: str
    scheduler: subprocess.Popen[bytes]
    workers: subprocess.Popen[bytes]
    client: Client
    page: str
    samples: dict[str, list[Sample]] = field(default_factory=lambda: defaultdict(list))
    kept: dict[str, str] = field(default_factory=dict)

    def sample(self, hours: float) -> None:
        """Look at the scheduler, and at the worker that never dies."""
        self._look("scheduler", self.scheduler.pid, hours)
        info = self.client.scheduler_info(n_workers=-1)["workers"]
        nannies = psutil.Process(self.workers.pid)
        self._look("nannies", nannies.pid, hours)
        if address := self.kept.get("worker"):
            pid = self.client.run(os.getpid, workers=[address])[address]
            self._look("worker", pid, hours)
        else:
            self.kept["worker"] = min(info)

    def _look(self, name: str, pid: int, hours: float) -> None:
        process = psutil.Process(pid)
        with process.oneshot():
            rss = process.memory_info().rss / MB
            seen = Sample(hours, rss, process.num_threads(), process.num_fds())
        self.samples[name].append(seen)

    def work(self, number: int) -> None:
        """Do one round: the same in both clusters."""
        x = da.random.random((1500, 1500), chunks=(300, 300))
        x.rechunk((1500, 60)).sum().compute()
        keys = [f"kind{number % 500}-{number}-{i}" for i in range(40)]
        futures = self.client.map(_hold, range(40), key=keys)
        self.client.gather(futures)
        del futures
        other = [a for a in self.addresses() if a != self.kept.get("worker")]
        if number % DEATHS == DEATHS - 1 and other and "worker" in self.kept:
            doomed = self.client.submit(
                _too_much, pure=False, workers=other, key=f"doomed-{number}"
            )
            with contextlib.suppress(Exception):
                doomed.result(timeout=60)
            common.until(lambda: len(self.addresses()) == WORKERS, "the new worker")
        paths = ["metrics"]
        if self.name == "MemDash":
            paths += ["memdash", "memdash/api/cluster", "memdash/api/incidents"]
        for path in paths:
            with urllib.request.urlopen(f"{self.page}/{path}", timeout=60) as answer:
                answer.read()

    def addresses(self) -> list[str]:
        """Return the workers' addresses."""
        return sorted(self.client.scheduler_info(n_workers=-1)["workers"])


def _hold(i: int) -> int:
    block = np.ones(250_000)
    return int(block[0]) + i


def _too_much() -> None:
    blocks = []
    while True:
        blocks.append(np.ones(1_250_000))
        time.sleep(0.01)


@contextlib.contextmanager
def started(arguments: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Start a program of distributed's in a process of its own, and end it."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments], stdout=output, stderr=output
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def listening(log: Path) -> tuple[str, str]:
    """Return where a scheduler and its dashboard listen, once its log says so."""
    common.until(lambda: len(ADDRESS.findall(log.read_text())) >= 2, "the scheduler")
    scheduler, dashboard = ADDRESS.findall(log.read_text())[:2]
    return scheduler, dashboard.removesuffix("/status")


@contextlib.contextmanager
def real_cluster(name: str, folder: Path) -> Iterator[Real]:
    """Run one of the two clusters."""
    log = folder / f"{name}-scheduler.log"
    local = ["--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0"]
    with contextlib.ExitStack() as stack:
        scheduler = stack.enter_context(
            started(["distributed.cli.dask_scheduler", *local, "--port", "0"], log)
        )
        address, page = listening(log)
        workers = stack.enter_context(
            started(
                [
                    *("distributed.cli.dask_worker", address, *local),
                    *("--nworkers", str(WORKERS), "--nthreads", "2"),
                    *("--memory-limit", LIMIT, "--local-directory", str(folder)),
                ],
                folder / f"{name}-workers.log",
            )
        )
        client = stack.enter_context(Client(address, set_as_default=False))
        client.wait_for_workers(WORKERS, timeout=60)
        if name == "MemDash":
            client.register_plugin(MemDash())
        yield Real(name, scheduler, workers, client, page)


def real(minutes: float, folder: Path) -> list[Real]:
    """Let both clusters work side by side for some minutes."""
    with (
        real_cluster("MemDash", folder) as ours,
        real_cluster("plain", folder) as plain,
    ):
        both = [ours, plain]
        begun, number = time.monotonic(), 0
        while time.monotonic() - begun < 60 * minutes:
            next_round = time.monotonic() + ROUND
            for one in both:
                with one.client.as_current():
                    one.work(number)
                one.sample((time.monotonic() - begun) / 3600)
            number += 1
            if number % 20 == 0:
                last = ours.samples["scheduler"][-1]
                progress(f"round {number}: scheduler {last.rss:.0f} MB")
            time.sleep(max(0.0, next_round - time.monotonic()))
        return both


def slope(samples: list[Sample]) -> tuple[float, float, float]:
    """Return MB an hour: the median of the lines through all pairs, and quartiles.

    After Theil and Sen: a few samples that are far off do not matter.
    """
    between = [
        (b.rss - a.rss) / (b.hours - a.hours)
        for i, a in enumerate(samples)
        for b in samples[i + len(samples) // 3 :]
        if b.hours > a.hours
    ]
    return common.quartiles(between) if between else (0.0, 0.0, 0.0)


def tell_real(both: list[Real]) -> None:
    """Print a table of all processes."""
    header(
        *("cluster", "process", "rounds", "RSS after warming up, MB", "at the end"),
        *("MB an hour (quartiles)", "threads", "files"),
    )
    for one in both:
        for name, samples in one.samples.items():
            late = samples[int(WARM * len(samples)) :]
            few = max(1, len(late) // 10)
            low, middle, high = slope(late)
            row(
                *(one.name, name, len(samples)),
                f"{statistics.median(s.rss for s in late[:few]):.1f}",
                f"{statistics.median(s.rss for s in late[-few:]):.1f}",
                f"{middle:+.1f} ({low:+.1f} to {high:+.1f})",
                f"{late[0].threads} → {late[-1].threads}",
                f"{late[0].files} → {late[-1].files}",
            )


# -- simulated -------------------------------------------------------------------------


async def simulate(
    days: int, caught: dict[str, Any], *, ours: bool
) -> list[tuple[int, float, int]]:
    """Let simulated days pass; return of some of them RSS in MB, and objects.

    A scheduler grows without MemDash too: it keeps the last computations, and what it
    tells simulated workers nobody takes from it.
    """
    clock = simulated.Clock()
    seen = []
    told = {1, *range(5, days + 1, 5), days}
    with clock.installed():
        async with simulated.scheduler() as running:
            plugin = MemDash()
            if ours:
                await running.register_scheduler_plugin(
                    plugin, name="memdash", idempotent=True
                )
            await simulated.add_workers(running, SIMULATED, caught["idle"]["metrics"])
            busy, idle = (
                simulated.packed(caught[kind], SIMULATED, with_memdash=ours)
                for kind in ("busy", "idle")
            )
            minutes = int(DAY / MINUTE)
            for day in range(1, days + 1):
                for minute in range(minutes):
                    clock.now += MINUTE
                    simulated.beat(running, busy if minute % 2 else idle)
                    if ours:
                        plugin.tick()
                    if minute % GRAPHS == 0:
                        graph = simulated.Graph(f"d{day}m{minute}", 40)
                        await graph.submit(running)
                        graph.compute(running)
                        graph.release(running)
                    if minute % 30 == 0:
                        await asyncio.sleep(0)
                if day in told:
                    gc.collect()
                    rss = psutil.Process().memory_info().rss / MB
                    seen.append((day, rss, len(gc.get_objects())))
                    name = "with MemDash" if ours else "bare"
                    progress(f"{name}, day {day}: {rss:.0f} MB")
    return seen


def tell_simulated(
    seen: list[tuple[int, float, int]], bare: list[tuple[int, float, int]]
) -> None:
    """Print a table of the days that were looked at."""
    header(
        "simulated days", "RSS, MB", "Python objects that are tracked",
        "more than on the first day", "the same without MemDash",
    )  # fmt: skip
    for (day, rss, objects), (_, _, alone) in zip(seen, bare, strict=True):
        more, alone = objects - seen[0][2], alone - bare[0][2]
        row(day, f"{rss:.1f}", objects, more, alone)


def main() -> None:
    """Run what is asked for, and print a table of each."""
    options = parser(__doc__)
    options.add_argument("--minutes", type=float, help="of the real run (default 60)")
    options.add_argument("--days", type=int, help="simulated ones (default 30)")
    options.add_argument("--only", choices=("real", "simulated"))
    given: argparse.Namespace = options.parse_args()
    minutes = given.minutes or sized(given, 60.0, 5.0, 0.7)
    days = given.days or sized(given, 30, 3, 1)
    if given.only != "simulated":
        with tempfile.TemporaryDirectory() as folder:
            tell_real(real(minutes, Path(folder)))
    if given.only != "real":
        print()
        caught = simulated.catch()
        seen = asyncio.run(simulate(days, caught, ours=True))
        tell_simulated(seen, asyncio.run(simulate(days, caught, ours=False)))


if __name__ == "__main__":
    main()
