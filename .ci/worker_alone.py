"""Workers that have Dask and this package alone: no page, no pandas, not even NumPy.

    python .ci/worker_alone.py /path/to/their/python

The scheduler and the client are this environment's.  Tasks must be counted, and a task
that is too large be named when it kills workers.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from distributed import Client
from distributed.scheduler import KilledWorker

import dask_memdash

SIZE = 30_000_000
WITHOUT = ("numpy", "pandas", "bokeh", "panel", "pyarrow")


def fill(seconds: float) -> int:
    """Hold a known size for a while."""
    block = bytearray(SIZE)
    time.sleep(seconds)
    return len(block)


def fill_up() -> None:
    """Take all there is."""
    kept = []
    while True:
        kept.append(b"x" * SIZE)


def what_is_there() -> list[str]:
    """Return what of the page's and the analysis's libraries a worker could load."""
    from importlib.util import find_spec

    return [name for name in WITHOUT if find_spec(name)]


@contextlib.contextmanager
def cluster(python: str, folder: Path) -> Iterator[Client]:
    """Start a scheduler here and two workers there."""
    file = folder / "scheduler.json"
    host = ("--host", "127.0.0.1", "--port", "0", "--dashboard-address", "127.0.0.1:0")
    started = []
    try:
        for program, *arguments in (
            (sys.executable, "scheduler", *host, "--preload", "dask_memdash"),
            (python, "worker", "--nworkers=2", "--nthreads=1", "--memory-limit=300MB"),
        ):
            command = (program, "-m", "dask", *arguments, "--scheduler-file", str(file))
            started.append(
                subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL)
            )
            until = time.monotonic() + 60
            while not file.exists() and time.monotonic() < until:
                time.sleep(0.1)
        with Client(scheduler_file=str(file), timeout=60) as client:
            client.wait_for_workers(2, timeout=60)
            yield client
    finally:
        for process in reversed(started):
            process.terminate()
            process.wait(30)


def main(python: str) -> None:
    """Check it, and say so in one line."""
    with (
        tempfile.TemporaryDirectory() as folder,
        cluster(python, Path(folder)) as client,
    ):
        there = set().union(*client.run(what_is_there).values())
        assert not there, f"workers have {', '.join(sorted(there))}"
        connection = dask_memdash.connect(client)
        client.gather(client.map(fill, [0.3] * 6, pure=False))
        until = time.monotonic() + 30
        while not (peak := peak_of(connection)) and time.monotonic() < until:
            time.sleep(0.2)
        assert abs(peak - SIZE) < 0.01 * SIZE, f"a peak of {peak} instead of {SIZE}"
        try:
            client.submit(fill_up, pure=False).result()
        except KilledWorker as error:
            told = str(dask_memdash.explain(error))
            assert "one task needs too much" in told, told
            assert "responsible: fill_up" in told, told
        else:
            raise AssertionError("no worker died")
    print("workers without NumPy and page: counted, and explained")


def peak_of(connection: dask_memdash.client.connection.Connection) -> int:
    """Return the largest peak of the tasks that fill, 0 while there is none."""
    rows = connection.ask("prefixes")
    return max(
        (r["execution"]["peak"]["max"] or 0 for r in rows if r["prefix"] == "fill"),
        default=0,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
