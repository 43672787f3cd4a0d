"""What is persisted into a store outlives its worker and its cluster.

The wish of those who asked for storage of intermediates apart from workers: a rechunk
whose source is expensive is persisted, a worker is killed, the cluster is closed, and a
new one persists the same.  Played twice: with a store, and with Dask alone.  How often
the source ran is counted in a file, whatever clusters and workers become of.
"""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from distributed import wait

from dask_memdash.demos import DemoError, terminal
from dask_memdash.demos.cluster import Plan, Running, running
from dask_memdash.demos.experiment import Say
from dask_memdash.text import UNKNOWN, count, format_bytes, format_duration

#: The source: blocks, numbers in each, and seconds that one takes.
BLOCKS = 24
SIDE = 1_200
SECONDS = 0.25

#: What the result is kept as.
NAME = "wide"

#: What is played, in order.
FIRST, KILLED, AGAIN, OPENED = (
    "first x.persist()",
    "a worker killed (-9)",
    "new cluster, x.persist() again",
    "opened by its name",
)


@dataclass(frozen=True, slots=True)
class Step:
    """One step, as it went."""

    name: str
    #: How often the source was computed in it; None where it was not played.
    ran: int | None
    seconds: float = 0.0
    #: Sum of the whole array, which has to be the same each time.
    total: float | None = None

    @property
    def said(self) -> str:
        """How often the source ran, and how long it took."""
        if self.ran is None:
            return UNKNOWN
        took = format_duration(self.seconds) if self.seconds >= 0.01 else "under 0.01 s"
        return f"{self.ran} of {BLOCKS} blocks, {took}"


class Source:
    """An array that is expensive to compute, and counts how often it was."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.touch()

    def rechunked(self) -> Any:
        """Return the array, rechunked from rows to columns."""
        import dask.array as da

        rows = SIDE * BLOCKS // 4
        blocks = da.arange(rows, chunks=rows // BLOCKS, dtype="f8")
        tall = blocks[:, None] * da.ones((1, SIDE), chunks=(1, SIDE))
        made = tall.map_blocks(expensive, str(self._path), dtype="f8", meta=tall._meta)
        return made.rechunk((rows, SIDE // 8))

    def take_count(self) -> int:
        """Return how often a block was computed since the last time."""
        ran = self._path.stat().st_size
        os.truncate(self._path, 0)
        return ran


def expensive(block: Any, path: str) -> Any:
    """Compute a block slowly, and note it down."""
    time.sleep(SECONDS)
    with Path(path).open("ab") as file:
        file.write(b".")
    return block + 1.0


@dataclass(frozen=True, slots=True)
class Kept:
    """The story, once with a store and once without."""

    workers: int
    #: Of each worker, in bytes.
    memory_limit: int
    needs: Sequence[str] = ("dask.array",)

    def largest(self, host: str, port: int) -> Plan:
        """Return the cluster; all of them are alike."""
        return Plan(self.workers, self.memory_limit, host, port)

    def play(self, host: str, port: int, say: Say, write: Any, hold: Any) -> bool:
        """Play both; return whether the store saved all that Dask computed again."""
        plan = self.largest(host, port)
        size = terminal.workers(plan.workers, plan.threads, plan.memory_limit)
        with tempfile.TemporaryDirectory(prefix="memdash-demo-") as directory:
            say(f"With a store of intermediates, on {size} each:")
            stored = play(plan, Path(directory), say, hold, with_store=True)
            say("\nThe same with Dask alone:")
            alone = play(plan, Path(directory), say, lambda: None, with_store=False)
        say("\n" + "\n".join(told(stored, alone)))
        write(document(stored, alone))
        return shown(stored, alone)


def play(
    plan: Plan, directory: Path, say: Say, hold: Any, *, with_store: bool
) -> list[Step]:
    """Play all steps on two clusters, one after the other."""
    source = Source(directory / ("stored" if with_store else "alone"))
    store = directory / "store" if with_store else None
    steps = []

    def done(step: Step) -> None:
        steps.append(step)
        say(f"  {step.name:<31} {step.said}")

    with running(plan) as cluster:
        _give(cluster, store)
        say(f"  watch it live: {cluster.page}")
        begun = time.monotonic()
        kept = _persist(source)
        wait(kept)
        _name(source, store)
        first = time.monotonic() - begun
        done(Step(FIRST, source.take_count(), first, _sum(kept)))
        begun = time.monotonic()
        _kill_one(cluster)
        total = _sum(kept)
        done(Step(KILLED, source.take_count(), time.monotonic() - begun, total))
        del kept
    with running(plan) as cluster:
        _give(cluster, store)
        begun = time.monotonic()
        kept = _persist(source)
        wait(kept)
        again = time.monotonic() - begun
        done(Step(AGAIN, source.take_count(), again, _sum(kept)))
        del kept
        done(_opened(source, store))
        hold()
    return steps


def _give(cluster: Running, store: Path | None) -> None:
    """Give the cluster a memory: the one line that users write."""
    from dask_memdash import FSMemory, SharedStorage

    if store is not None:
        cluster.client.register_plugin(SharedStorage(FSMemory(store)))


def _persist(source: Source) -> Any:
    """Persist the array as anybody does."""
    return source.rechunked().persist()


def _sum(kept: Any) -> float:
    return float(kept.sum().compute())


def _name(source: Source, store: Path | None) -> None:
    """Give what is persisted a name: it is stored already, and nothing runs for it."""
    from dask_memdash import FSMemory, persist

    if store is not None:
        wait(persist(source.rechunked(), memory=FSMemory(store), name=NAME))


def _kill_one(cluster: Running) -> None:
    """Kill the worker that holds the most, and wait until another is in its place."""
    client = cluster.client
    held = client.has_what()
    address = max(held, key=lambda worker: len(held[worker]))
    pid = client.run(os.getpid, workers=[address])[address]
    process = psutil.Process(pid)
    os.kill(pid, signal.SIGKILL)
    process.wait(timeout=30)
    deadline = time.monotonic() + 30
    while address in client.scheduler_info(n_workers=-1)["workers"]:
        if time.monotonic() > deadline:
            raise DemoError("the scheduler did not notice that a worker was killed")
        time.sleep(0.05)
    client.wait_for_workers(cluster.workers, timeout=60)


def _opened(source: Source, store: Path | None) -> Step:
    """Open the set by its name, as a program does that knows nothing else of it."""
    from dask_memdash import FSMemory, open_persisted

    if store is None:
        return Step(OPENED, None)
    begun = time.monotonic()
    opened = open_persisted(FSMemory(store), NAME)
    seconds = time.monotonic() - begun
    total = _sum(opened)
    return Step(OPENED, source.take_count(), seconds, total)


# -- what is said of it ----------------------------------------------------------------


def told(stored: Sequence[Step], alone: Sequence[Step]) -> list[str]:
    """Set both side by side, with a sentence on what it means."""
    rows = [[a.name, a.said, b.said] for a, b in zip(stored, alone, strict=True)]
    table = terminal.table(["", "with a store", "Dask alone"], rows)
    again = sum(step.ran or 0 for step in alone[1:])
    saved = again - sum(step.ran or 0 for step in stored[1:])
    text = (
        f"After the first time, Dask alone computed {count(again, 'block')} of the "
        f"source again. The store saved {saved} of them. It keeps "
        f"{format_bytes(BLOCKS * SIDE // 4 * SIDE * 8)}, beside the workers' memory."
    )
    return [table, "", *terminal.paragraph(text)]


def document(stored: Sequence[Step], alone: Sequence[Step]) -> dict[str, Any]:
    """Return all of it as plain data; times in seconds."""
    return {
        "demo": "storage",
        "blocks": BLOCKS,
        "runs": [
            {
                "store": kind,
                "steps": [
                    {
                        "name": step.name,
                        "computed": step.ran,
                        "seconds": step.seconds,
                        "total": step.total,
                    }
                    for step in steps
                ],
            }
            for kind, steps in ((True, stored), (False, alone))
        ],
    }


def shown(stored: Sequence[Step], alone: Sequence[Step]) -> bool:
    """See whether nothing ran again with a store, and all did without."""
    totals = {step.total for step in (*stored, *alone) if step.total is not None}
    return (
        len(totals) == 1
        and [step.ran for step in stored] == [BLOCKS, 0, 0, 0]
        and alone[2].ran == BLOCKS
    )
