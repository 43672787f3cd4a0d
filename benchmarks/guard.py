"""Whether workers live with the guard, and what it costs where nobody dies.

Each case is run without and with the guard in alternation, each run on a cluster of its
own: how many runs ended well, how many workers died, and how long the runs took that
did end well (where none did, all of them).  A run in which nothing ends for `STUCK`
seconds is *stuck*.
"""

from __future__ import annotations

import contextlib
import logging
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import common
import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
from common import MB, header, parser, progress, row, sized
from distributed import Client, LocalCluster, fire_and_forget, get_worker, wait

from dask_memdash import MemDash

#: Seconds after which a run in which nothing gets on is stuck, and most that one takes:
#: usually, and where outputs go to disk and back.
STUCK = 15.0
PATIENCE = 120.0
PATIENCE_RECHUNK = 600.0

#: What is set for every worker where nothing is to be spilled.
NO_SPILLING = {
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    # producers are not held back, as before queuing
    "distributed.scheduler.worker-saturation": float("inf"),
}


def hold(size: int, seconds: float) -> float:
    """Take `size` bytes for a moment."""
    held = np.ones(size // 8)
    time.sleep(seconds)
    return float(held[0])


def make(i: int, size: int) -> Any:
    """Return an array of `size` bytes."""
    return np.full(size // 8, float(i))


def total(array: Any, seconds: float) -> float:
    """Take a while to look at an array."""
    time.sleep(seconds)
    return float(array[0])


def leak(i: int, size: int) -> int:
    """Leave `size` bytes behind in the worker's process."""
    kept = get_worker().__dict__.setdefault("_kept_by_benchmark", [])
    kept.append(np.ones(size // 8))
    return i


def outlier(i: int, size: int) -> float:
    """Take much more memory, and longer, than what runs beside it."""
    return hold(size, 0.5)


def light(i: int) -> float:
    """Take next to nothing."""
    return hold(1 * MB, 0.05)


# -- cases ---------------------------------------------------------------------


def large(client: Client) -> Any:
    """Run large tasks, of which two fit beside each other."""
    return client.map(hold, [220 * MB] * 12, [0.3] * 12, pure=False)


def ahead(client: Client) -> Any:
    """Run producers of higher priority than what consumes their outputs."""
    made = client.map(make, range(60), [40 * MB] * 60, priority=10, pure=False)
    return client.map(total, made, [0.05] * 60, pure=False)


def rechunk(side: int) -> Callable[[Client], Any]:
    """Rechunk as the report of dask/dask#2456 does, by tasks."""

    def run(client: Client) -> Any:
        n = side * side
        array = da.random.random((n, n), chunks=(n, side))
        with dask.config.set({"array.rechunk.method": "tasks"}):
            return client.compute(array.rechunk((side, n)).sum(axis=0).sum())

    return run


def shuffle(method: str) -> Callable[[Client], Any]:
    """Shuffle a table."""

    def run(client: Client) -> Any:
        frame = dask.datasets.timeseries(
            "2000-01-01", "2000-03-01", freq="2s", partition_freq="1D", seed=1
        )
        with dask.config.set({"dataframe.shuffle.method": method}):
            return client.compute(frame.shuffle("name").map_partitions(len).sum())

    return run


def leaking(client: Client) -> Any:
    """Run tasks that leave something behind."""
    return client.map(leak, range(40), [20 * MB] * 40, pure=False)


def too_large(client: Client) -> Any:
    """Run a task that no worker has room for."""
    return [client.submit(hold, 1500 * MB, 0.1, pure=False)]


def calm(client: Client) -> Any:
    """Run small tasks without pressure."""
    return client.map(hold, [5 * MB] * 600, [0.02] * 600, pure=False)


def tiny(client: Client) -> Any:
    """Run tasks that take no time: what is decided of each shows most."""
    return client.submit(len, client.map(abs, range(6000), pure=False), pure=False)


def beside_an_outlier(client: Client) -> Any:
    """Run light tasks, which are waited for, and a few of a heavy prefix among them."""
    found = []
    for i in range(300):
        if i % 50 == 0:
            fire_and_forget(client.submit(outlier, i, 100 * MB, pure=False))
        found.append(client.submit(light, i, pure=False))
    return found


def skewed(i: int, rows: int) -> Any:
    """Make a part of a table in which every other row has the same key."""
    rng = np.random.default_rng(i)
    key = np.where(rng.random(rows) < 0.5, 0, rng.integers(1, 10_000, rows))
    return pd.DataFrame({"key": key, "value": rng.random(rows)})


def merge(client: Client) -> Any:
    """Merge two tables, by tasks: half of all rows end in one partition."""
    left = dd.from_map(skewed, range(24), rows=200_000)
    columns = {f"c{i}": np.arange(10_000.0) for i in range(8)}
    right = pd.DataFrame({"key": np.arange(10_000), **columns})
    with dask.config.set({"dataframe.shuffle.method": "tasks"}):
        joined = left.merge(
            dd.from_pandas(right, npartitions=8), on="key", broadcast=False
        )
        return client.compute(joined.map_partitions(len).sum())


@dataclass(frozen=True)
class Case:
    """One thing to run."""

    begin: Callable[[Client], Any]
    workers: int = 2
    threads: int = 4
    limit: int = 600
    config: dict[str, Any] = field(default_factory=dict)
    patience: float = PATIENCE


def rechunk_case(side: int) -> Case:
    """Return the case of a rechunk of a (side², side²) array."""
    patience = PATIENCE_RECHUNK
    return Case(rechunk(side), workers=4, threads=1, limit=584, patience=patience)


CASES = {
    "12 x 220 MB": Case(large),
    "producers ahead": Case(ahead, threads=2, limit=500, config=NO_SPILLING),
    "rechunk 112": rechunk_case(112),
    "rechunk 120": rechunk_case(120),
    "rechunk 128": rechunk_case(128),
    "shuffle tasks": Case(shuffle("tasks"), threads=2, limit=400),
    "shuffle p2p": Case(shuffle("p2p"), threads=2, limit=400),
    "merge": Case(merge, threads=2, limit=500),
    "leak": Case(leaking, threads=2),
    "too large": Case(too_large),
    "calm": Case(calm, threads=2),
    "tiny": Case(tiny, threads=2),
    "outlier": Case(beside_an_outlier, threads=4),
}


@dataclass(slots=True)
class Run:
    """What became of one run."""

    how: str
    seconds: float
    deaths: int
    #: What the guards did: held, seconds, opened, drained, passed, failed.
    did: dict[str, float]


@contextlib.contextmanager
def cluster_of(case: Case) -> Iterator[tuple[LocalCluster, Client]]:
    """Run the cluster of a case."""
    config = {"distributed.admin.tick.limit": "1h", **case.config}
    with (
        dask.config.set(config),
        LocalCluster(
            n_workers=case.workers,
            threads_per_worker=case.threads,
            memory_limit=case.limit * MB,
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL + 1,
        ) as running,
        Client(running) as client,
    ):
        yield running, client


def run(case: Case, *, guard: bool) -> Run:
    """Run a case once."""
    with cluster_of(case) as (running, client):
        client.register_plugin(MemDash(guard=guard))
        plugin: Any = running.scheduler.plugins["memdash"]
        common.until(
            lambda: all(w["breakdown"]["process"] for w in plugin.store.workers()),
            "every worker's first report",
        )
        begin = time.monotonic()
        found = case.begin(client)
        found = found if isinstance(found, list) else [found]
        how = _watch(running, found, begin, case.patience)
        seconds = time.monotonic() - begin
        time.sleep(1.5)  # for what is told last
        did: dict[str, float] = {}
        for worker in plugin.store.workers():
            for name, figure in (worker["guard"] or {}).items():
                if isinstance(figure, int | float):
                    did[name] = did.get(name, 0) + figure
        deaths = sum(
            i["kind"] in ("terminated", "oom-killed", "killed", "lost")
            for i in plugin.store.incidents()
        )
        client.cancel(found)
        return Run(how, seconds, deaths, did)


def _watch(
    running: LocalCluster, found: list[Any], begin: float, patience: float
) -> str:
    """Wait until all has ended, or nothing gets on any more; say how it ended."""
    moved, before = begin, None
    while time.monotonic() < begin + patience:
        with contextlib.suppress(TimeoutError):
            wait(found, timeout=0.2)
            break
        states = running.scheduler.task_prefixes
        now = sorted((name, dict(p.states)) for name, p in states.items())
        executing = any(w.executing for w in running.scheduler.workers.values())
        if now != before or executing:
            moved, before = time.monotonic(), now
        elif time.monotonic() - moved > STUCK:
            return "stuck"
    else:
        return "slow"
    failed = [future for future in found if future.status != "finished"]
    return type(failed[0].exception()).__name__ if failed else "done"


def _told(name: str, runs: dict[bool, list[Run]]) -> None:
    for guard, of_one in runs.items():
        well = [one.seconds for one in of_one if one.how == "done"]
        ended = well or [one.seconds for one in of_one]
        others = sorted({one.how for one in of_one} - {"done"})
        sums = {
            key: sum(one.did.get(key, 0) for one in of_one)
            for key in ("held", "opened", "drained", "passed", "failed")
        }
        row(
            name,
            "with" if guard else "without",
            f"{len(well)} of {len(of_one)}",
            ", ".join(others) or "-",
            sum(one.deaths for one in of_one),
            f"{statistics.median(ended):.1f}",
            ", ".join(f"{n:.0f} {key}" for key, n in sums.items() if n) or "-",
        )


def main() -> int:
    """Run the cases that are named, or all."""
    arguments = parser(__doc__)
    arguments.add_argument("--runs", type=int, help="of each case, with and without")
    arguments.add_argument("--cases", nargs="*", choices=list(CASES))
    options = arguments.parse_args()
    runs = options.runs or sized(options, 20, 5, 1)
    names = options.cases or sized(options, list(CASES), list(CASES), ["12 x 220 MB"])
    header("case", "guard", "ended well", "else", "deaths", "seconds", "what it did")
    for name in names:
        kept: dict[bool, list[Run]] = {False: [], True: []}
        for number in range(runs):
            for guard in (False, True):
                one = run(CASES[name], guard=guard)
                kept[guard].append(one)
                progress(
                    f"{name} {number + 1}/{runs} {'with' if guard else 'without'}: "
                    f"{one.how} {one.seconds:.1f} s, {one.deaths} deaths"
                )
        _told(name, kept)
    return 0


if __name__ == "__main__":
    sys.exit(main())
