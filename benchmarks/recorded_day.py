"""A recorded day of 1,000 workers and 1,000 failures: how large, how fast to open.

A while of a real scheduler with simulated workers is recorded, and laid end to end
until a day is full, by the rules of retention: figures of each minute for all of it,
of each 10 s for three hours, of each second for ten minutes.  Failures are those of
simulated deaths, told to the real model.  A fresh process then opens it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import common
import simulated
from common import progress
from corpus.judging import imagine, told_model
from recording import heartbeats

from dask_memdash import MemDash
from dask_memdash.runs.directory import (
    Manifest,
    Segment,
    closed_name,
    new_run_id,
    write_manifest,
)
from dask_memdash.runs.recorder import failure_row, incident_row
from dask_memdash.runs.retention import KEPT
from dask_memdash.runs.rows import fit
from dask_memdash.runs.schema import INDEXES, statements
from dask_memdash.runs.tables import BY_NAME
from dask_memdash.store.live import LiveStore

#: Budgets: seconds and bytes to open it, and bytes a minute of the run.
SECONDS, MEMORY, GROWTH = 2.0, 300e6, 1e6

#: Seconds of a segment, and of the record that is laid end to end.
SPAN, PIECE = 600.0, 100.0

#: Tables of what comes again and again, and the column that is its instant.
STATES = ("cluster_states", "worker_states", "prefix_states", "limits", "tasks")

#: What a fresh process does with it, and prints.
OPENING = """
import json, sys, time
begun = time.perf_counter()
import dask_memdash
import dask_memdash.client.recorded, dask_memdash.store.recorded
imported = time.perf_counter()
run = dask_memdash.open_run(sys.argv[1])
store = run._store
first, last = store.span()
def overview(store):
    store.cluster(), store.workers(25), store.prefixes(25), store.prefix_totals()
    store.failures(20), store.history(points=300), store.marks()
overview(store)
opened, busy = time.perf_counter(), time.process_time()
overview(store.at(first + (last - first) * 0.37))
moved = time.perf_counter()
failures = store.failures()
listed = time.perf_counter()
peak = next(int(l.split()[1]) for l in open("/proc/self/status") if "VmHWM" in l)
print(json.dumps({
    "cpu": busy, "import": imported - begun, "open": opened - imported,
    "move": moved - opened,
    "failures": listed - moved, "count": len(failures), "peak": peak * 1024,
}))
"""


async def template(directory: Path, workers: int, seconds: float) -> Path:
    """Record some seconds of simulated workers; give the run."""
    caught = await asyncio.to_thread(simulated.catch)
    async with simulated.scheduler() as running:
        plugin = MemDash(record=str(directory))
        await running.register_scheduler_plugin(plugin, name="memdash", idempotent=True)
        await simulated.add_workers(running, workers, caught["busy"]["metrics"])
        frames = simulated.packed(caught["busy"], workers, with_memdash=True)
        await heartbeats(running, frames, 8.0)
        await heartbeats(running, frames, seconds)
        recording = plugin._recording
        if recording is None or recording.writer.home is None:
            raise RuntimeError("no run is recorded")
        await asyncio.to_thread(recording.writer.close, 20.0)
        plugin._recording = None
        return recording.writer.home


def failures(number: int) -> list[tuple[Any, list[Any]]]:
    """Return failures with their incidents, as answered of simulated deaths."""
    found = []
    for seed in count():
        found += list(told(seed))
        if len(found) >= number:
            return found[:number]
    return found


def told(seed: int) -> Iterator[tuple[Any, list[Any]]]:
    """Give the failures of one simulated death."""
    store = LiveStore(told_model(imagine(seed)))
    for brief in store.failures():
        answer = store.failure(brief["id"])
        yield answer, [store.incident(one) for one in answer["incidents"]]


class Day:
    """A day that is laid together from a piece.

    Parameters
    ----------
    home
        Directory of the run.
    piece
        Closed segment that is laid end to end.
    ended
        Unix time of the end.
    """

    def __init__(self, home: Path, piece: Path, ended: float, hours: float) -> None:
        self.home, self.piece = home, piece
        self.began, self.ended = ended - hours * 3600, ended
        self.segments: list[Segment] = []
        with contextlib.closing(sqlite3.connect(piece)) as db:
            query = "SELECT min(time), max(time) FROM worker_states"
            self.first, last = db.execute(query).fetchone()
            self.processes = [r[0] for r in db.execute("SELECT id FROM processes")]
        self.first = max(self.first, last - PIECE)

    @contextlib.contextmanager
    def segment(self, kind: str, opened: float) -> Iterator[sqlite3.Connection]:
        """Make a closed segment; who is there is in each."""
        number = len(self.segments) + 1
        path = self.home / closed_name(number, kind)
        db = sqlite3.connect(path)
        for statement in statements():
            db.execute(statement)
        db.execute("ATTACH ? AS piece", (str(self.piece),))
        db.execute("INSERT INTO processes SELECT * FROM piece.processes")
        db.execute("INSERT INTO workers SELECT * FROM piece.workers")
        db.execute("UPDATE workers SET added = ?", (self.began,))
        yield db
        for statement in INDEXES:
            db.execute(statement)
        db.commit()
        db.close()
        self.segments.append(
            Segment(path.name, kind, opened, opened + SPAN, path.stat().st_size)
        )

    def history(self, kind: str, opened: float, each: float) -> None:
        """Write what processes had, each so many seconds."""
        chance = random.Random(opened)
        width = len(BY_NAME["breakdown"].columns)
        marks = ",".join("?" * width)
        with self.segment(kind, opened) as db:
            rows = []
            for step in range(int(SPAN / each)):
                moment = opened + step * each
                for process in (0, *self.processes):
                    size = chance.randrange(200_000_000, 1_500_000_000)
                    rows.append((moment, process, size, *(size // 8,) * (width - 3)))
            db.executemany(f"INSERT INTO breakdown VALUES ({marks})", rows)

    def main(self, opened: float, told: list[tuple[Any, list[Any]]]) -> None:
        """Write states of ten minutes, and some failures."""
        with self.segment("main", opened) as db:
            for number in range(int(SPAN / PIECE)):
                shift = opened + number * PIECE - self.first
                for table in STATES:
                    columns = [column.name for column in BY_NAME[table].columns]
                    at = "began" if table == "tasks" else "time"
                    moved = [
                        f"{c} + {shift!r}" if c in ("time", "began", "seen") else c
                        for c in columns
                    ]
                    db.execute(
                        f"INSERT INTO {table} SELECT {', '.join(moved)} "
                        f"FROM piece.{table} WHERE {at} >= {self.first!r}"
                    )
            for number, (failure, incidents) in enumerate(told):
                self.failure(db, opened, number, failure, incidents)

    def failure(
        self, db: sqlite3.Connection, opened: float, number: int, answer: Any, of: Any
    ) -> None:
        """Write one failure and its incidents, as of an instant of this segment."""
        moment = opened + number * SPAN / 50
        identity = f"{len(self.segments) * 100 + number}"
        names = [f"{identity}{k:03d}" for k in range(len(of))]
        ended = moment + 60
        changed = {"id": identity, "opened": moment, "closed": ended}
        rows = [failure_row({**answer, **changed, "incidents": names}, ended)]
        for name, one in zip(names, of, strict=True):
            then = {"id": name, "time": moment, "until": ended, "failure": identity}
            rows.append(incident_row({**one, **then}, ended))
        for table, values in rows:
            fitted = fit(table, values)
            marks = ",".join("?" * len(fitted))
            db.execute(f"INSERT INTO {table} VALUES ({marks})", fitted)


def build(home: Path, piece: Path, hours: float, number: int) -> Manifest:
    """Lay a run together."""
    now = time.time()
    day = Day(home, piece, now, hours)
    pieces = [day.began + k * SPAN for k in range(int(hours * 3600 / SPAN))]
    known = failures(number)
    progress(f"{len(known)} failures are told")
    for place, opened in enumerate(pieces):
        share = (
            len(known) * place // len(pieces),
            len(known) * (place + 1) // len(pieces),
        )
        day.main(opened, known[slice(*share)])
        day.history("s60", opened, 60.0)
        if opened >= now - KEPT["s10"]:
            day.history("s10", opened, 10.0)
        if opened >= now - KEPT["s1"]:
            day.history("s1", opened, 1.0)
    manifest = Manifest(home.name, day.began, ended=now, updated=now)
    manifest.segments, manifest.live = day.segments, None
    write_manifest(home, manifest)
    return manifest


def main() -> None:
    """Run the benchmark."""
    parser = common.parser(__doc__)
    parser.add_argument("--keep", type=Path, help="directory in which the run stays")
    options = parser.parse_args()
    hours = common.sized(options, 24.0, 24.0, 0.5)
    with contextlib.ExitStack() as stack:
        made = stack.enter_context(tempfile.TemporaryDirectory())
        measure(options, hours, options.keep or Path(made))


def measure(options: argparse.Namespace, hours: float, directory: Path) -> None:
    """Make a day, open it in a fresh process three times, and print."""
    workers = common.sized(options, 1000, 1000, 20)
    number = common.sized(options, 1000, 1000, 10)
    with tempfile.TemporaryDirectory() as scratch:
        seconds = PIECE + 5.0 if workers > 100 else 5.0
        run = asyncio.run(template(Path(scratch), workers, seconds))
        home = directory / new_run_id(time.time() - hours * 3600)
        home.mkdir(parents=True, mode=0o700)
        manifest = build(home, next(run.glob("*-main.sqlite")), hours, number)
    total = sum(one.bytes for one in manifest.segments)
    progress(f"{total / 1e6:,.0f} MB in {len(manifest.segments)} segments")
    runs = []
    for _ in range(3):
        command = [sys.executable, "-c", OPENING, str(home)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        runs.append(json.loads(done.stdout))
    middle = {name: sorted(one[name] for one in runs)[1] for name in runs[0]}
    print(
        f"\n**{hours:g} hours of {workers:,} workers, {middle['count']:,} failures**\n"
    )
    common.header("what", "found", "budget")
    growth = total / hours / 60
    common.row("growth", f"{growth / 1e6:.2f} MB/min", f"{GROWTH / 1e6:.0f}")
    common.row("opened, and the overview", f"{middle['open']:.2f} s", f"{SECONDS:.0f}")
    common.row("processor time of import and opening", f"{middle['cpu']:.2f} s", "")
    common.row("another instant", f"{middle['move']:.2f} s", "")
    common.row("all failures listed", f"{middle['failures']:.2f} s", "")
    common.row(
        "most memory of the process",
        f"{middle['peak'] / 1e6:.0f} MB",
        f"{MEMORY / 1e6:.0f}",
    )
    common.row("import of the package", f"{middle['import']:.2f} s", "")


if __name__ == "__main__":
    main()
