"""What measuring costs the tasks that are measured: ratios to the same without.

One cluster (two worker processes, one thread each) runs every workload in rounds.
A round measures it bare twice and once with each tool, one straight after the other,
in an order that moves on from round to round; tools are put on and taken off again
between runs.  Each ratio compares neighbours in time, and so does the one of the two
bare runs, which shows what the noise alone does (A/A).

A second cluster beside the first, rather than one that changes, would differ from it
for good (ports, addresses, how warm it is) and take processor time from it while it
waits.

Beside tasks per second stands processor time per task: of the workers, and of this
process, in which scheduler, nannies and client live.  Others on the machine reach it
much less.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import common
import numpy as np
import peers
from common import progress
from distributed import Client, LocalCluster

from dask_memdash import MemDash
from dask_memdash.demos.api import Api

BARE, AGAIN, MEMDASH = "bare", "bare again (A/A)", "MemDash"
MEMUSAGE, MEMRAY = "dask-memusage", "memray_workers"

#: Turns of an empty loop that are timed to find out how many take a millisecond.
TURNS = 200_000


class Workload(NamedTuple):
    """Tasks of one kind: as many calls of `work` as `tasks` says, in one run."""

    name: str
    work: Callable[[int], int]
    tasks: int
    #: What every call gets, beside its number: turns of the loop for a millisecond.
    turns: int = 0


class Run(NamedTuple):
    """What one run of a workload took, in seconds."""

    wall: float
    workers: float
    rest: float

    @property
    def cpu(self) -> float:
        """Processor time of all processes."""
        return self.workers + self.rest


# -- workloads -------------------------------------------------------------------------


def empty(x: int) -> int:
    """Add one: a task as small as they come."""
    return x + 1


def spin(turns: int) -> int:
    """Compute for so many turns, without allocating."""
    for _ in range(turns):
        pass
    return turns


def python_loop(x: int) -> int:
    """Do nothing but allocate small objects, keep them for a while, and drop them."""
    kept = [[i] for i in range(20_000)]
    grown: list[str] = []
    for i in range(5_000):
        grown.append(f"{i:040d}")  # noqa: PERF401
    return len(kept) + len(grown)


def numpy_work(x: int) -> int:
    """Compute on arrays of 1.6 MB, a new one at each step."""
    block = np.linspace(0.0, 1.0, 200_000)
    for _ in range(5):
        block = np.sqrt(block * 2 + 1)
    return int(np.sort(block)[0])


def large_arrays(x: int) -> int:
    """Fill an array of 64 MB and make one of 96 MB of it."""
    block = np.ones(8_000_000)
    return int(np.concatenate([block, block[: len(block) // 2]])[-1])


def turns_of(seconds: float) -> int:
    """Find out how many turns of the empty loop take so many seconds here."""
    times = []
    for _ in range(9):
        start = time.thread_time()
        spin(TURNS)
        times.append(time.thread_time() - start)
    return max(1, round(TURNS * seconds / min(times)))


def workloads(options: argparse.Namespace, client: Client) -> list[Workload]:
    """Return the workloads that are asked for."""
    counts = common.sized(
        options,
        (10_000, 2_000, 300, 300, 200, 24),
        (3_000, 800, 100, 100, 60, 8),
        (100, 40, 10, 6, 6, 2),
    )
    turns = client.submit(turns_of, 0.001, pure=False).result()
    every = [
        Workload("empty tasks", empty, counts[0]),
        Workload("1 ms", spin, counts[1], turns),
        Workload("10 ms", spin, counts[2], 10 * turns),
        Workload("Python loop that allocates", python_loop, counts[3]),
        Workload("NumPy, 1.6 MB arrays", numpy_work, counts[4]),
        Workload("NumPy, 64 MB and 96 MB", large_arrays, counts[5]),
    ]
    chosen = options.workloads or range(1, len(every) + 1)
    return [every[number - 1] for number in chosen]


# -- tools -----------------------------------------------------------------------------


@contextlib.contextmanager
def memdash(cluster: LocalCluster, client: Client) -> Iterator[None]:
    """Run MemDash on the cluster."""
    port = cluster.scheduler.http_server.port
    api = Api(f"http://127.0.0.1:{port}/memdash/api")
    client.register_plugin(MemDash())
    try:
        common.until(
            lambda: all(w["breakdown"]["process"] for w in api.get("workers")),
            "MemDash to read the workers",
        )
        yield
    finally:
        client.unregister_scheduler_plugin("memdash")
        common.until(
            lambda: not any(client.run(has_probe).values()), "MemDash to leave"
        )


def has_probe(dask_worker: Any) -> bool:
    """Whether MemDash is on a worker."""
    return "memdash" in dask_worker.extensions


@contextlib.contextmanager
def tool(
    name: str, cluster: LocalCluster, client: Client, scratch: Path
) -> Iterator[None]:
    """Run one of the tools, or nothing, on the cluster."""
    if name == MEMDASH:
        with memdash(cluster, client):
            yield
    elif name == MEMUSAGE:
        with peers.memusage(cluster, scratch / "memusage.csv"):
            yield
    elif name == MEMRAY:
        with peers.memray(scratch / "memray"):
            yield
    else:
        yield


# -- measuring -------------------------------------------------------------------------


def run(cluster: LocalCluster, client: Client, load: Workload) -> Run:
    """Compute a workload once, and wait until the scheduler has forgotten it."""
    pids = list(client.run(os.getpid).values())
    arguments = [load.turns] * load.tasks if load.turns else list(range(load.tasks))
    before = [common.process_seconds(pid) for pid in (*pids, os.getpid())]
    start = time.perf_counter()
    futures = client.map(load.work, arguments, pure=False)
    total = client.submit(len, futures, pure=False)
    assert total.result(timeout=600) == load.tasks
    wall = time.perf_counter() - start
    after = [common.process_seconds(pid) for pid in (*pids, os.getpid())]
    spent = [b - a for a, b in zip(before, after, strict=True)]
    del futures, total
    common.until(lambda: not cluster.scheduler.tasks, "the tasks to be forgotten")
    return Run(wall, sum(spent[:-1]), spent[-1])


def measure(
    cluster: LocalCluster,
    client: Client,
    load: Workload,
    variants: list[str],
    pairs: int,
    scratch: Path,
) -> dict[str, list[Run]]:
    """Run a workload in all variants, round after round."""
    runs: dict[str, list[Run]] = {variant: [] for variant in variants}
    for number in range(-1, pairs):  # the first round warms up
        shift = number % len(variants)
        for variant in variants[shift:] + variants[:shift]:
            with tool(variant, cluster, client, scratch):
                taken = run(cluster, client, load)
            if number >= 0:
                runs[variant].append(taken)
        if number >= 0:
            ratio = runs[BARE][-1].wall / runs[MEMDASH][-1].wall
            progress(f"{load.name}: {number + 1} of {pairs}, MemDash {ratio:.3f}")
    return runs


def print_rows(load: Workload, runs: dict[str, list[Run]]) -> None:
    """Print the rows of one workload."""
    bare = runs[BARE]
    for variant, taken in runs.items():
        pairs = list(zip(bare, taken, strict=True))
        cells = (load.name, variant)
        rate = load.tasks / statistics.median(r.wall for r in taken)
        cpu = statistics.median(r.cpu for r in taken) / load.tasks
        workers = statistics.median(r.workers for r in taken) / load.tasks
        same = variant == BARE
        common.row(
            *cells,
            f"{rate:,.0f}" if rate >= 100 else f"{rate:.1f}",
            "" if same else common.spread([b.wall / t.wall for b, t in pairs]),
            f"{cpu * 1e3:.3f}",
            "" if same else common.spread([t.cpu / b.cpu for b, t in pairs]),
            f"{workers * 1e3:.3f}",
            "" if same else common.spread([t.workers / b.workers for b, t in pairs]),
        )


def main() -> None:
    """Measure, and print a table."""
    parser = common.parser(__doc__)
    parser.add_argument("--pairs", type=int, help="rounds (default 20)")
    parser.add_argument(
        "--workloads", type=int, nargs="+", help="by number, from 1 (default: all six)"
    )
    parser.add_argument(
        "--no-peers", action="store_true", help="leave the other tools out"
    )
    options = parser.parse_args()
    pairs = options.pairs or common.sized(options, 20, 5, 1)
    variants = [BARE, MEMDASH, AGAIN]
    if not options.no_peers:
        for name, installed in (
            (MEMUSAGE, peers.has_memusage()),
            (MEMRAY, peers.has_memray()),
        ):
            if installed:
                variants.append(name)
            else:
                print(f"{name} is left out: it is not installed.\n")
    with (
        tempfile.TemporaryDirectory() as scratch,
        common.cluster(2, 1, "2 GB") as (cluster, client),
    ):
        common.header(
            "workload", "", "tasks/s", "tasks/s against bare: median (quartiles)",
            "CPU per task, ms", "against bare", "workers' alone, ms", "against bare",
        )  # fmt: skip
        for load in workloads(options, client):
            print_rows(
                load, measure(cluster, client, load, variants, pairs, Path(scratch))
            )


if __name__ == "__main__":
    main()
