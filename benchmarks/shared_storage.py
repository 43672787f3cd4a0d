"""What a memory for a whole cluster costs and saves: persist with it and without.

Each beside plain Dask in the same run, by turns:

- *killed*: one worker is killed with -9 that holds stored results: what runs again?
- *resume*: the same persist on a new cluster: how often does the source run?
- *wall time*: two passes over an array that does not fit into RAM, and peak RSS.
- *loop lag*: the same with a store of which every call takes half a second.
- *many chunks*: a graph of 2,500 chunks.
- *healed*: every object is damaged, or deleted: how long until the value is there?

The truth of "how often" is a file that every run of the source adds a byte to.
"""

from __future__ import annotations

import os
import pickle
import signal
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import common
import dask.array as da
import numpy as np
from common import progress
from distributed import Client, LocalCluster, futures_of
from intermediates import finish, timed, work_for

from dask_memdash import FSMemory, SharedStorage
from dask_memdash.intermediates.shared.resume import load_task
from dask_memdash.intermediates.stored import Stored

#: Workers with one thread each, and their limit.
WORKERS, LIMIT = 2, "400MB"

#: Share of RAM for stored results where that is compared with Dask's spilling.
RAM = "25%"

#: Longest time until a damaged or missing value is there again, in seconds.
HEAL_BUDGET = 5.0

#: Longest lag of a worker's loop with a store of half a second, in seconds.
LAG_BUDGET = 0.1


class SlowMemory(FSMemory):
    """A store of which every call takes half a second."""

    def put(self, name: str, frames: Sequence[Any], new: bool = False) -> None:
        """Store frames, slowly."""
        time.sleep(0.5)
        super().put(name, frames, new)

    def get(self, name: str) -> Any:
        """Return an object's bytes, slowly."""
        time.sleep(0.5)
        return super().get(name)


def noted(block: Any, path: str, seconds: float) -> Any:
    """Take a while, and note that it ran."""
    if block.size:
        with Path(path).open("ab") as file:
            file.write(b".")
        time.sleep(seconds)
    return block + 1


class Notes:
    """How often the source ran."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "runs"
        self.path.touch()

    def array(self, chunks: int, side: int, seconds: float) -> da.Array:
        """Return an array of so many chunks of side × 1,000 numbers."""
        x = da.random.default_rng(1).random((chunks * side, 1000), chunks=(side, 1000))
        meta = np.empty((0, 0))
        return x.map_blocks(noted, str(self.path), seconds, dtype="f8", meta=meta)

    def runs(self) -> int:
        """Return the runs since the last look."""
        count = self.path.stat().st_size
        os.truncate(self.path, 0)
        return count


def give(client: Client, memory: FSMemory | None) -> None:
    """Give a cluster a memory, or none."""
    if memory is not None:
        client.register_plugin(SharedStorage(memory))


def stored(client: Client) -> int:
    """Return how many results are stored."""
    state: dict[str, Any] = client.sync(client.scheduler.memdash_storage_state)
    return int(state["keys"]["stored"])


def until_stored(client: Client, memory: FSMemory | None, number: int) -> None:
    """Wait until results are stored, if there is a memory."""
    if memory is not None:
        common.until(lambda: stored(client) >= number, f"{number} results to be stored")


def named(memory: FSMemory | None) -> str:
    """Return what a row is called."""
    return "x.persist()" if memory is None else "with SharedStorage"


def print_killed(folder: Path, chunks: int) -> bool:
    """Print what runs again after one of two workers was killed."""
    print("\n**One of two workers killed with -9, which holds half of the results**\n")
    common.header("", "results", "runs again", "bytes of a stand-in")
    right = True
    for memory in (None, FSMemory(folder / "killed")):
        progress(named(memory))
        notes = Notes(folder)
        with common.cluster(WORKERS, 1, LIMIT) as (_, client):
            give(client, memory)
            x = notes.array(chunks, 200, 0.01).persist()
            finish(x)
            until_stored(client, memory, chunks)
            notes.runs()
            os.kill(next(iter(client.run(os.getpid).values())), signal.SIGKILL)
            float(x.sum().compute())
            again = notes.runs()
            size = "–"
            if memory is not None:
                one = load_task(Stored(memory, ("x-0123456789abcdef", 0, 0), "0" * 40))
                size = str(len(pickle.dumps(one)))
                right &= again == 0
            common.row(named(memory), chunks, again, size)
    return right


def print_resume(folder: Path, chunks: int) -> bool:
    """Print what runs again on a new cluster."""
    print("\n**The same persist, on one cluster and then a new one**\n")
    common.header(
        "", "first, s", "runs", "again, s", "runs again", "written, of pinned"
    )
    right = True
    for memory in (None, FSMemory(folder / "resume")):
        cells: list[object] = [named(memory)]
        for turn in range(2):
            progress(f"{named(memory)}, turn {turn + 1}")
            notes = Notes(folder)
            notes.runs()
            with common.cluster(WORKERS, 1, LIMIT) as (_, client):
                give(client, memory)
                x = notes.array(chunks, 200, 0.1)
                taken, x = timed(lambda x=x: done(x.persist()))
                until_stored(client, memory, chunks)
                runs = notes.runs()
            cells += [f"{taken:.2f}", runs]
            right &= memory is None or turn == 0 or runs == 0
        if memory is not None:
            size = sum(entry.size for entry in memory.list("objects/"))
            cells.append(f"{size / (chunks * 200 * 1000 * 8):.4f}")
            common.row(*cells)
        else:
            common.row(*cells, "–")
    return right


def done(collection: Any) -> Any:
    """Wait until a collection is there, and give it."""
    finish(collection)
    return collection


def watch_lag(dask_worker: Any) -> None:
    """Have a worker note the longest lag of its loop."""
    import asyncio

    async def look() -> None:
        while True:
            begun = time.perf_counter()
            await asyncio.sleep(0.005)
            lag = time.perf_counter() - begun - 0.005
            dask_worker.longest_lag = max(lag, getattr(dask_worker, "longest_lag", 0))

    dask_worker.lag_watch = asyncio.ensure_future(look())


async def start_watch(dask_worker: Any) -> None:
    """Start the watch on the loop itself."""
    watch_lag(dask_worker)


def longest_lag(dask_worker: Any) -> float:
    """Return the longest lag so far, in seconds."""
    return float(getattr(dask_worker, "longest_lag", 0.0))


def peak_rss() -> int:
    """Return the most that this process ever had resident, in bytes."""
    status = Path("/proc/self/status").read_text().splitlines()
    line = next(line for line in status if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def passes(memory: FSMemory | None, chunks: int) -> tuple[float, float, float]:
    """Return time, peak RSS (bytes) and lag (s) of two passes over a large array."""
    with common.cluster(WORKERS, 1, LIMIT) as (_, client):
        give(client, memory)
        client.run(start_watch)
        rng = da.random.default_rng(1)
        x = rng.random((chunks * 500, 1000), chunks=(500, 1000))

        def work() -> None:
            y = x.persist()
            finish(y)
            for _ in range(2):
                float((y + 1).sum().compute(optimize_graph=False))

        taken, _ = timed(work)
        lag = max(client.run(longest_lag).values())
        return taken, max(client.run(peak_rss).values()), lag


def print_wall_time(folder: Path, chunks: int, pairs: int) -> bool:
    """Print two passes over what does not fit into RAM, by turns."""
    size = chunks * 500 * 1000 * 8
    print(f"\n**Persist {size / 1e9:.1f} GB on 2 workers of {LIMIT}, read it twice**\n")
    common.header("", "s (median)", "ratio of times", "peak RSS, MB", "loop lag, s")
    found: dict[bool, list[tuple[float, float, float]]] = {False: [], True: []}
    for turn in range(pairs):
        for memory in (None, FSMemory(folder / f"wall-{turn}", ram=RAM)):
            progress(f"{named(memory)}, turn {turn + 1} of {pairs}")
            found[memory is not None].append(passes(memory, chunks))
    times = [[row[0] for row in found[kind]] for kind in (False, True)]
    ratios = [own / plain for plain, own in zip(*times, strict=True)]
    for kind in (False, True):
        rows = found[kind]
        common.row(
            named(FSMemory(folder) if kind else None),
            f"{common.quartiles([row[0] for row in rows])[1]:.2f}",
            common.spread(ratios) if kind else "1",
            f"{max(row[1] for row in rows) / 1e6:.0f}",
            f"{max(row[2] for row in rows):.3f}",
        )
    progress("a store of half a second")
    taken, peak, lag = passes(
        SlowMemory(folder / "slow", ram=RAM), max(4, chunks // 10)
    )
    common.row(
        "a tenth, calls of 0.5 s",
        f"{taken:.2f}",
        "–",
        f"{peak / 1e6:.0f}",
        f"{lag:.3f}",
    )
    return lag <= LAG_BUDGET


def print_many(folder: Path, chunks: int, pairs: int) -> None:
    """Print a graph of many chunks, until all are there, by turns on one cluster."""
    print("\n**A graph of many chunks**, until all are there\n")
    common.header("graph", "x.persist(), s", "with SharedStorage, s", "ratio")
    plain: list[float] = []
    own: list[float] = []
    with common.cluster(WORKERS, 1, LIMIT) as (running, client):
        for turn in range(pairs + 1):
            order = [None, FSMemory(folder / "many")]
            for memory in order if turn % 2 else order[::-1]:
                progress(f"{named(memory)}, turn {turn} of {pairs}")
                taken = one_of_many(running, client, memory, chunks, turn)
                if turn:
                    (plain if memory is None else own).append(taken)
    ratios = [b / a for a, b in zip(plain, own, strict=True)]
    common.row(
        f"{chunks:,} chunks of 10 ms",
        f"{common.quartiles(plain)[1]:.2f}",
        f"{common.quartiles(own)[1]:.2f}",
        common.spread(ratios),
    )


def print_healed(folder: Path, chunks: int) -> bool:
    """Print how long values take whose objects are damaged; whether that is right."""
    print("\n**Objects that are damaged or missing**, from asking to the right value\n")
    common.header("object", "values", "s (median)", "s (most)", "runs again")
    right = True
    for how in ("one bit flipped", "missing"):
        progress(how)
        # so little RAM that nothing stays there
        memory, notes = FSMemory(folder / how, ram="1 kB"), Notes(folder)
        notes.runs()
        with common.cluster(WORKERS, 1, LIMIT) as (_, client):
            give(client, memory)
            x = notes.array(chunks, 200, 0.01).persist()
            finish(x)
            until_stored(client, memory, chunks)
            notes.runs()
            for entry in list(memory.list("objects/")):
                spoil(memory, entry.name, how)
            taken = [timed(future.result)[0] for future in futures_of(x)]
            again = notes.runs()
        middle = f"{common.quartiles(taken)[1]:.3f}"
        common.row(how, chunks, middle, f"{max(taken):.3f}", again)
        right &= max(taken) <= HEAL_BUDGET and again == chunks
    return right


def spoil(memory: FSMemory, name: str, how: str) -> None:
    """Flip a bit of an object, or delete it."""
    path = memory.local_root / name  # type: ignore[operator]
    if how == "missing":
        path.unlink()
        return
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def one_of_many(
    running: LocalCluster,
    client: Client,
    memory: FSMemory | None,
    chunks: int,
    turn: int,
) -> float:
    """Return how long one persist of many chunks takes, in seconds."""
    give(client, memory)
    x = da.full(chunks, 2 * turn + (memory is None), chunks=1).map_blocks(
        work_for, 0.01, dtype="f8", meta=np.empty((0, 0)),
        new_axis=1, chunks=((100,) * chunks, (100,)),
    )  # fmt: skip
    taken, y = timed(lambda: done(x.persist()))
    until_stored(client, memory, chunks)
    del y
    common.until(lambda: not running.scheduler.tasks, "tasks to be forgotten")
    if memory is not None:
        client.unregister_scheduler_plugin("memdash-storage")
    return taken


def main() -> int:
    """Run all; return 1 where something was recomputed, held up, or came too late."""
    options = common.parser(__doc__).parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        right = print_killed(folder, common.sized(options, 60, 60, 8))
        right &= print_healed(folder, common.sized(options, 100, 40, 4))
        right &= print_resume(folder, common.sized(options, 80, 40, 4))
        wall = common.sized(options, (300, 5), (150, 3), (4, 1))
        right &= print_wall_time(folder, *wall) or options.tiny
        print_many(folder, *common.sized(options, (2500, 5), (2500, 2), (20, 1)))
    return 0 if right else 1


if __name__ == "__main__":
    raise SystemExit(main())
