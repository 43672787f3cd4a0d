"""What storing intermediates costs, and what it saves: persist into a store.

Three questions, each beside plain Dask in the same run:

- *resume*: a rechunk whose source is expensive, once more on a new cluster: how often
  does the source run, how long does it take, and how long to open it by name?
- *killed*: every worker is killed with -9 half way: what has to run again?
- *overhead*: a graph of 2,500 chunks, stored and plainly persisted in alternation.

The truth of "how often" is a file that every run of the source adds a byte to.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import common
import dask.array as da
import numpy as np
from common import progress
from distributed import Client, futures_of, wait

from dask_memdash import FSMemory, open_persisted, persist

#: Workers with one thread each, and their limit.
WORKERS, LIMIT = 2, "600MB"

#: Most bytes in the store for each byte that is pinned.
BYTES_BUDGET = 1.1


def expensive(block: Any, path: str, seconds: float) -> Any:
    """Take a while, and note that it ran."""
    if block.size:
        with Path(path).open("ab") as file:
            file.write(b".")
        time.sleep(seconds)
    return block + 1


class Source:
    """A rechunk of an array with expensive chunks, and how often those were made."""

    def __init__(self, folder: Path, side: int, chunks: int, seconds: float) -> None:
        self.notes = folder / "runs"
        self.notes.touch()
        self.side, self.chunks, self.seconds = side, chunks, seconds

    def rechunked(self) -> da.Array:
        """Return it, from rows to columns; P2P wants a client to be there."""
        rows, columns = (self.side // self.chunks, self.side), (self.side, -1)
        x = da.random.default_rng(1).random((self.side, self.side), chunks=rows)
        x = x.map_blocks(
            expensive, str(self.notes), self.seconds, dtype="f8", meta=np.empty((0, 0))
        )
        return x.rechunk((columns[0], self.side // self.chunks))

    def runs(self) -> int:
        """Return how often a chunk was made since the last look."""
        count = self.notes.stat().st_size
        os.truncate(self.notes, 0)
        return count


@contextlib.contextmanager
def stores(s3: bool) -> Iterator[list[tuple[str, FSMemory]]]:
    """Give a new store of each kind: a directory, and S3 by moto on loopback."""
    with tempfile.TemporaryDirectory() as folder:
        found = [("file://", FSMemory(Path(folder) / "store"))]
        if not s3:
            yield found
            return
        import logging

        import boto3
        from moto.server import ThreadedMotoServer

        logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        try:
            host, port = server.get_host_and_port()
            where = {"endpoint_url": f"http://{host}:{port}"}
            secrets = {"aws_access_key_id": "x", "aws_secret_access_key": "x"}
            client = boto3.client("s3", region_name="us-east-1", **where, **secrets)
            client.create_bucket(Bucket="bench")
            options = {"key": "x", "secret": "x", "client_kwargs": where}
            found.append(("s3:// (moto)", FSMemory("s3://bench/store", options)))
            yield found
        finally:
            server.stop()


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return how long a call took, in seconds, and its result."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def finish(collection: Any) -> None:
    """Wait until a collection is there; raise what one of its tasks raised."""
    futures = futures_of(collection)
    wait(futures)
    for future in futures:
        if future.status == "error":
            future.result()


def persist_plainly(source: Source) -> float:
    """Persist as Dask does, on a new cluster; return the time in seconds."""
    with common.cluster(WORKERS, 1, LIMIT):
        x = source.rechunked()
        return timed(lambda: finish(x.persist()))[0]


def persist_stored(source: Source, memory: FSMemory, name: str) -> float:
    """Persist into a store, on a new cluster; return the time in seconds."""
    with common.cluster(WORKERS, 1, LIMIT):
        x = source.rechunked()

        def work() -> None:
            finish(persist(x, memory=memory, name=name))

        return timed(work)[0]


def open_and_read(memory: FSMemory, name: str) -> tuple[float, float]:
    """Open a name on a new cluster; return the times to open and to read all, in s."""
    with common.cluster(WORKERS, 1, LIMIT):
        opening, y = timed(lambda: open_persisted(memory, name))
        reading, _ = timed(lambda: float(y.sum().compute()))
        return opening, reading


def print_resume(source: Source, s3: bool) -> bool:
    """Print the table of resuming; return whether nothing was recomputed."""
    print(
        "\n**A rechunk whose source is expensive, on one cluster and then a new one**\n"
    )
    common.header(
        "store", "first, s", "runs of the source", "again, s", "runs again",
        "open by name, s", "read all, s", "written, of the pinned bytes",
    )  # fmt: skip
    progress("plain Dask, twice")
    first, runs = persist_plainly(source), source.runs()
    second, again = persist_plainly(source), source.runs()
    common.row(
        "none: x.persist()", f"{first:.2f}", runs, f"{second:.2f}", again, *"–––"
    )
    right = True
    with stores(s3) as found:
        for kind, memory in found:
            progress(kind)
            first, runs = persist_stored(source, memory, "bench"), source.runs()
            size = sum(entry.size for entry in memory.list("objects/"))
            ratio = size / (source.side**2 * 8)
            second, again = persist_stored(source, memory, "bench"), source.runs()
            opening, reading = open_and_read(memory, "bench")
            right &= again == 0 == source.runs() and ratio <= BYTES_BUDGET
            common.row(
                kind, f"{first:.2f}", runs, f"{second:.2f}", again,
                f"{opening:.3f}", f"{reading:.2f}", f"{ratio:.4f}",
            )  # fmt: skip
    return right


def print_killed(folder: Path, chunks: int, seconds: float) -> bool:
    """Print what runs again after all were killed; return whether that is right."""
    print("\n**All workers killed with -9 half way, then a new cluster**\n")
    common.header("store", "chunks", "stored when killed", "runs on the new cluster")
    memory = FSMemory(folder / "killed")
    notes = folder / "killed-runs"
    notes.touch()

    def made() -> da.Array:
        x = da.ones((chunks, 1000), chunks=(1, 1000))
        meta = np.empty((0, 0))
        return x.map_blocks(expensive, str(notes), seconds, dtype="f8", meta=meta)

    def stored() -> int:
        folder = memory.local_root / "objects"  # type: ignore[operator]
        return len([*folder.glob("[!.]*")]) if folder.exists() else 0

    with common.cluster(WORKERS, 1, LIMIT) as (_, client):
        y = persist(made(), memory=memory, name="killed")
        common.until(lambda: stored() >= chunks // 2, "half of the chunks")
        kill_all(client)
        client.cancel(futures_of(y))
        del y
    before = stored()
    os.truncate(notes, 0)
    persist_again(made, memory)
    again = notes.stat().st_size
    common.row("file://", chunks, before, again)
    return again == chunks - before


def kill_all(client: Client) -> None:
    """Kill every worker with -9."""
    for pid in client.run(os.getpid).values():
        os.kill(pid, signal.SIGKILL)


def persist_again(made: Callable[[], da.Array], memory: FSMemory) -> None:
    """Persist what was cut short, on a new cluster."""
    with common.cluster(WORKERS, 1, LIMIT):
        finish(persist(made(), memory=memory, name="killed"))


def work_for(block: Any, seconds: float) -> Any:
    """Take processor time, and give a chunk of 80 kB that depends on the block."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass
    return np.full((100, 100), float(block.sum()))


def print_overhead(folder: Path, chunks: int, seconds: float, pairs: int) -> None:
    """Print how long a graph takes, stored and plainly persisted in alternation."""
    common.row(*measure_overhead(folder, chunks, seconds, pairs))


def measure_overhead(
    folder: Path, chunks: int, seconds: float, pairs: int
) -> list[str]:
    """Return the cells of one row: the medians, and the ratios with quartiles."""
    plain: list[float] = []
    stored: list[float] = []
    seconds_of_cpu: dict[bool, list[float]] = {False: [], True: []}
    with common.cluster(WORKERS, 1, LIMIT) as (_, client):
        pids = [os.getpid(), *client.run(os.getpid).values()]

        def cpu() -> float:
            return sum(map(common.process_seconds, pids))

        def run(number: int, memory: FSMemory | None) -> float:
            x = da.full(chunks, number, chunks=1).map_blocks(
                work_for, seconds, dtype="f8", meta=np.empty((0, 0)),
                new_axis=1, chunks=((100,) * chunks, (100,)),
            )  # fmt: skip

            def work() -> None:
                finish(x.persist() if memory is None else persist(x, memory=memory))

            before = cpu()
            taken = timed(work)[0]
            if number:
                seconds_of_cpu[memory is not None].append(cpu() - before)
            common.until(lambda: idle(client), "the cluster to be idle")
            return taken

        run(0, None)
        for number in range(1, pairs + 1):
            target = folder / f"overhead-{number}"
            order: list[Any] = [None, FSMemory(target)]
            for memory in order if number % 2 else order[::-1]:
                (plain if memory is None else stored).append(run(number, memory))
            shutil.rmtree(target)
            progress(f"pair {number}: {plain[-1]:.2f} s, {stored[-1]:.2f} s")
    ratios = [b / a for a, b in zip(plain, stored, strict=True)]
    by_cpu = zip(seconds_of_cpu[False], seconds_of_cpu[True], strict=True)
    return [
        f"{chunks:,} chunks of 80 kB, {seconds * 1000:.0f} ms each",
        f"{statistics.median(plain):.2f}",
        f"{statistics.median(stored):.2f}",
        common.spread(ratios),
        common.spread([b / a for a, b in by_cpu]),
    ]


def idle(client: Client) -> bool:
    """Return whether the scheduler has forgotten all tasks."""
    return not client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks))


def main() -> int:
    """Run all three; return 1 if something was recomputed that need not be."""
    parser = common.parser(__doc__)
    parser.add_argument("--no-s3", action="store_true", help="leave S3 out")
    options = parser.parse_args()
    side, chunks, seconds = common.sized(
        options, (8000, 80, 0.1), (4000, 40, 0.1), (400, 4, 0.01)
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        right = print_resume(Source(folder, side, chunks, seconds), not options.no_s3)
        right &= print_killed(folder, *common.sized(options, *KILLED))
        print("\n**A graph of many chunks**, until all are there\n")
        common.header(
            "graph", "x.persist(), s", "stored, s", "ratio (quartiles)",
            "of processor time, workers, scheduler and client",
        )  # fmt: skip
        many, pairs = common.sized(options, (2500, 5), (2500, 3), (50, 2))
        for each in (0.01, 0.0):
            print_overhead(folder, many, each, pairs)
    return 0 if right else 1


#: Chunks, and seconds that each takes, of what is killed half way: full, quick, tiny.
KILLED = ((200, 0.05), (60, 0.1), (12, 0.1))


if __name__ == "__main__":
    raise SystemExit(main())
