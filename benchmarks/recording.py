"""What recording a run costs the scheduler: processor time, latency, disk.

A real scheduler in this process with 1,000 simulated workers (``simulated.py``), all
busy and heartbeating as they do (each 6 s), is recorded for a while, and not for as
long, in alternation.  Another task on the same loop sees how late it wakes up.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import sqlite3
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import common
import simulated
from common import progress
from distributed import Scheduler
from distributed.protocol import loads
from distributed.scheduler import heartbeat_interval

from dask_memdash import MemDash
from dask_memdash.plugins.scheduler.recording import Recording
from dask_memdash.runs.directory import (
    KINDS,
    Manifest,
    Segment,
    closed_name,
    live_name,
    new_run_id,
    write_manifest,
)
from dask_memdash.runs.listing import LocalRuns
from dask_memdash.runs.tables import TABLES

#: Budgets: share of a core on the loop, and bytes a minute that stay.
CPU_BUDGET = 0.01
GROWTH_BUDGET = 10**6

#: Seconds between two looks at the loop's latency.
PROBE = 0.005


class Steps:
    """Processor and wall time of each step of the recorder on the loop."""

    def __init__(self, recording: Recording) -> None:
        self.cpu: list[float] = []
        self.wall: list[float] = []
        self._step = recording.step
        recording.step = self  # type: ignore[assignment, method-assign]

    def __call__(self, now: float) -> None:
        """Take one step, and its times."""
        begun, cpu = time.perf_counter(), time.thread_time()
        self._step(now)
        self.cpu.append(time.thread_time() - cpu)
        self.wall.append(time.perf_counter() - begun)


async def heartbeats(running: Scheduler, frames: list[Any], seconds: float) -> None:
    """Let all workers heartbeat at their own rate, with figures that change."""
    each = heartbeat_interval(len(frames)) / len(frames)
    end, number = time.monotonic() + seconds, 0
    due = time.monotonic()
    chance = random.Random(1)
    while time.monotonic() < end:
        message = loads(frames[number % len(frames)])
        own = message["extensions"]["memdash"]["reading"]
        for name in ("rss", "anon"):
            if isinstance(own.get(name), int):
                own[name] = int(own[name] * chance.uniform(0.9, 1.1))
        running.heartbeat_worker(**message)
        number += 1
        due = max(due + each, time.monotonic() - 1.0)
        await asyncio.sleep(max(0.0, due - time.monotonic()))


async def latency(late: list[float], seconds: float) -> None:
    """See how late this task wakes up."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        before = time.perf_counter()
        await asyncio.sleep(PROBE)
        late.append(time.perf_counter() - before - PROBE)


async def measure(options: argparse.Namespace) -> None:
    """Run all, and print what was found."""
    workers = options.workers or common.sized(options, 1000, 1000, 20)
    seconds = options.seconds or common.sized(options, 120.0, 60.0, 2.0)
    rounds = common.sized(options, 2, 1, 1)
    progress("catching heartbeats of a real worker")
    caught = await asyncio.to_thread(simulated.catch)
    with tempfile.TemporaryDirectory() as directory:
        async with simulated.scheduler() as running:
            plugin = MemDash(record=directory)
            await running.register_scheduler_plugin(
                plugin, name="memdash", idempotent=True
            )
            await simulated.add_workers(running, workers, caught["busy"]["metrics"])
            frames = simulated.packed(caught["busy"], workers, with_memdash=True)
            recording = plugin._recording
            if recording is None:
                raise RuntimeError("no run is recorded")
            steps = Steps(recording)
            await heartbeats(running, frames, 8.0 if workers > 100 else 1.0)
            steps.cpu.clear()
            steps.wall.clear()
            late: dict[bool, list[float]] = {True: [], False: []}
            cpu: dict[bool, list[float]] = {True: [], False: []}
            writing = 0.0
            grown: dict[str, int] = {}
            for number in range(2 * rounds):
                on = number % 4 in (0, 3)
                plugin._recording = recording if on else None
                sizes = live_sizes(recording)
                before, begun = recording.writer.cpu, time.process_time()
                await asyncio.gather(
                    heartbeats(running, frames, seconds), latency(late[on], seconds)
                )
                cpu[on].append((time.process_time() - begun) / seconds)
                writing += (recording.writer.cpu - before) if on else 0.0
                for kind, size in live_sizes(recording).items() if on else ():
                    grown[kind] = grown.get(kind, 0) + size - sizes[kind]
                progress(f"{number + 1} of {2 * rounds}, recorded: {on}")
            plugin._recording = recording
            home = recording.writer.home
            if home is None:
                raise RuntimeError(f"nothing was written: {recording.writer.texts()}")
            lost = recording.writer.lost
            begun = time.perf_counter()
            # Without the last state of all workers, which comes once.
            await asyncio.to_thread(recording.writer.close, 5.0)
            closing = time.perf_counter() - begun
            plugin._recording = None
            report(steps, late, cpu, rounds * seconds, writing, workers)
            print_growth(home, grown, rounds * seconds, lost, closing)


def report(
    steps: Steps,
    late: dict[bool, list[float]],
    cpu: dict[bool, list[float]],
    seconds: float,
    writing: float,
    workers: int,
) -> None:
    """Print processor time and latency."""
    print(f"\n**{workers:,} busy workers**, recorded for {seconds:.0f} s\n")
    common.header("what", "found", "budget")
    share = sum(steps.cpu) / seconds
    common.row(
        "the recorder on the loop", f"{share:.2%} of a core", f"{CPU_BUDGET:.0%}"
    )
    common.row("the thread that writes", f"{writing / seconds:.2%} of a core", "")
    common.row(
        "the whole process, recorded / not",
        " / ".join(f"{statistics.mean(cpu[on]):.1%}" for on in (True, False)),
        "",
    )
    taken = sorted(steps.wall)
    middle, high = taken[len(taken) // 2], taken[int(len(taken) * 0.99)]
    common.row(
        "one look: median, p99, most",
        f"{middle * 1e3:.1f}, {high * 1e3:.1f}, {taken[-1] * 1e3:.1f} ms",
        "20 ms",
    )
    for quantile in (0.5, 0.99):
        both = [
            f"{sorted(late[on])[int(len(late[on]) * quantile)] * 1e3:.1f}"
            for on in (True, False)
        ]
        common.row(
            f"latency of the loop, p{quantile * 100:.0f}, recorded / not",
            f"{both[0]} / {both[1]} ms",
            "",
        )


def live_sizes(recording: Recording) -> dict[str, int]:
    """Return kind of segment → size of the one that is written, in bytes."""
    found = {}
    for kind in KINDS:
        path = f"file:{recording.writer.home}/{live_name(kind)}?mode=ro"
        with contextlib.closing(sqlite3.connect(path, uri=True)) as db:
            pages = db.execute("PRAGMA page_count").fetchone()[0]
            found[kind] = pages * db.execute("PRAGMA page_size").fetchone()[0]
    return found


def print_growth(
    home: Path, found: dict[str, int], seconds: float, lost: int, closing: float
) -> None:
    """Print how the record grows, beside what comes once."""
    minutes = seconds / 60
    stays = sum(found.get(kind, 0) for kind in ("main", "s60")) / minutes
    print("\n**The record**\n")
    common.header("segments", "a minute", "kept")
    for kind, kept in (
        ("main", "for good"),
        ("s60", "for good"),
        ("s10", "3 hours"),
        ("s1", "10 minutes"),
    ):
        common.row(kind, f"{found.get(kind, 0) / minutes / 1e6:.2f} MB", kept)
    common.row(
        "growth for good",
        f"{stays / 1e6:.2f} MB",
        f"budget {GROWTH_BUDGET / 1e6:.0f} MB",
    )
    tables(home)
    print(f"\n{lost} rows lost; closing took {closing:.2f} s")


def tables(home: Path) -> None:
    """Print which tables of ``main`` are large."""
    print("\n**Tables of `main`**\n")
    common.header("table", "rows", "bytes of values")
    for path in home.glob("*-main.sqlite"):
        with contextlib.closing(
            sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        ) as db:
            for table in TABLES:
                columns = " + ".join(
                    f"coalesce(length({column.name}), 0)"
                    if column.type in ("TEXT", "BLOB")
                    else "6"
                    for column in table.columns
                )
                query = f"SELECT count(*), sum({columns}) FROM {table.name}"
                rows, size = db.execute(query).fetchone()
                if rows:
                    common.row(table.name, f"{rows:,}", f"{size:,}")


def listing(number: int = 200) -> None:
    """Print what a list of runs costs: manifests alone are read."""
    with tempfile.TemporaryDirectory() as folder:
        now = time.time()
        for n in range(number):
            begun = now - 3600.0 * (n + 1)
            run = Path(folder, new_run_id(begun))
            run.mkdir()
            kinds = [*["main"] * 6, *["s10"] * 6, *["s60"] * 6, "s1"]
            names = [closed_name(i, kind) for i, kind in enumerate(kinds, 1)]
            for name in names:
                (run / name).touch()
            segments = [
                Segment(name, kind, begun, begun + 1, 2**20)
                for name, kind in zip(names, kinds, strict=True)
            ]
            told = Manifest(run.name, begun, ended=begun + 3000, segments=segments)
            write_manifest(run, told)
        runs, taken = LocalRuns(folder), []
        for _ in range(2):
            begun = time.perf_counter()
            assert len(runs.rows()) == number
            taken.append(time.perf_counter() - begun)
        print(
            f"\n{number} runs listed in {taken[0]:.2f} s (budget 1 s), and again in "
            f"{taken[1]:.2f} s"
        )


def main() -> None:
    """Run the benchmark."""
    listing()
    parser = common.parser(__doc__)
    parser.add_argument("--workers", type=int, help="simulated workers")
    parser.add_argument("--seconds", type=float, help="seconds of each part")
    asyncio.run(measure(parser.parse_args()))


if __name__ == "__main__":
    main()
