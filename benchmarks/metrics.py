"""What a scrape of the scheduler's ``/metrics`` costs on its loop.

A model with many workers and task prefixes, all of them with something stored and
something running, and the collector that stands in Dask's registry.  Timed is what of a
scrape is MemDash's: making the figures, and writing them as text.  Dask's own metrics,
which have series for every prefix, are not in it.
"""

from __future__ import annotations

import gc
import random
import sys
import time
from types import SimpleNamespace

import common
import prometheus_client

from dask_memdash.metrics import registry
from dask_memdash.metrics.scheduler import SchedulerFigures
from dask_memdash.model.breakdown import Reading
from dask_memdash.model.cluster import ClusterModel
from dask_memdash.model.event_parts import (
    Executing,
    Finished,
    SelfCost,
    StorageRow,
    Thresholds,
)
from dask_memdash.model.events import Ticked, WorkerAdded, WorkerReported
from dask_memdash.model.quantiles import QuantileSketch

#: Budgets of a scrape: seconds, and series.
BUDGET = 0.005
SERIES = 200

MiB = 2**20

#: Tasks that a worker runs.
THREADS = 4

START = 1_760_000_000.0


def report(number: int, prefixes: int, each: int, when: float) -> WorkerReported:
    """Return a heartbeat of a busy worker that stores outputs of many prefixes."""
    draw = random.Random(number * 1000 + int(when) % 1000)
    names = [f"prefix-{(number * each + n) % prefixes}" for n in range(each)]
    rows = {
        name: StorageRow(3, draw.randrange(MiB, 20 * MiB), draw.randrange(MiB), MiB)
        for name in names
    }
    executing = tuple(
        Executing(f"{name}-1", "", name, n, 1.0, 5 * MiB, 9 * MiB, "exact", 0)
        for n, name in enumerate(draw.sample(names, min(THREADS, each)))
    )
    peaks = QuantileSketch.of([draw.randrange(MiB, 90 * MiB) for _ in range(5)])
    done = Finished(5, "exact", peaks, QuantileSketch(), peaks)
    stored = sum(row.claimed for row in rows.values())
    live = 5 * MiB * len(executing)
    return WorkerReported(
        time=when,
        address=f"tcp://10.0.{number // 250}.{number % 250}:1",
        pid=number,
        reading=Reading(
            when,
            stored + live + 200 * MiB,
            live=live,
            busy=True,
            base=150 * MiB,
            spilled=0,
            spilled_disk=0,
        ),
        rows=rows,
        executing=executing,
        finished=dict.fromkeys(names[:THREADS], done),
        thresholds=Thresholds(),
        method="exact",
        cost=SelfCost(0.01, MiB),
        nanny_cost=SelfCost(0.01, MiB),
    )


def busy_model(workers: int, prefixes: int) -> ClusterModel:
    """Return a model in which every prefix has something."""
    model = ClusterModel()
    each = max(10, -(-prefixes // workers))
    for number in range(workers):
        model.handle(
            WorkerAdded(
                time=START,
                address=f"tcp://10.0.{number // 250}.{number % 250}:1",
                pid=number,
                name=str(number),
                host=f"10.0.{number // 250}.{number % 250}",
                nthreads=THREADS,
                limit=4 * 2**30,
                nanny=True,
                status="running",
            )
        )
        for beat in range(2):
            model.handle(report(number, prefixes, each, START + beat))
    model.handle(Ticked(START + 2, SelfCost(0.01, MiB)))
    return model


def measure(
    workers: int, prefixes: int, scrapes: int
) -> tuple[list[float], list[float], int]:
    """Return seconds of making, and of all of a scrape, and the number of series."""
    model = busy_model(workers, prefixes)
    figures = SchedulerFigures(model)
    server = object()
    handler = SimpleNamespace(_collectors=(SimpleNamespace(server=server),))
    core = SimpleNamespace(PrometheusHandler=handler)
    sys.modules[registry.CORES["scheduler"]] = core  # type: ignore[assignment]
    withdraw = registry.serve("scheduler", server, figures.families)
    (collector,) = registry._collectors.values()
    own = prometheus_client.CollectorRegistry()
    own.register(collector)
    made, whole = [], []
    text = b""
    figures.families()
    gc.collect()
    gc.disable()
    for number in range(scrapes):
        # Other workers report between two scrapes.
        each = max(10, -(-prefixes // workers))
        for worker in range(number % 7, workers, 7):
            model.handle(report(worker, prefixes, each, START + 15 * (number + 1)))
        # One of the two: what the one has just touched the other would find in the
        # processor's caches.
        begun = time.thread_time()
        if number % 2:
            figures.families()
            made.append(time.thread_time() - begun)
        else:
            text = prometheus_client.generate_latest(own)
            whole.append(time.thread_time() - begun)
    gc.enable()
    withdraw()
    series = sum(not line.startswith("#") for line in text.decode().splitlines())
    return made, whole, series


def spread(seconds: list[float]) -> str:
    """Print a median with its quartiles, in milliseconds."""
    low, middle, high = (1e3 * second for second in common.quartiles(seconds))
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def main() -> int:
    """Measure clusters of several sizes; give 1 where a budget is not kept."""
    options = common.parser(__doc__).parse_args()
    sizes = common.sized(
        options,
        ((10, 20), (1_000, 100), (1_000, 10_000), (5_000, 10_000)),
        ((10, 20), (1_000, 10_000)),
        ((4, 8),),
    )
    scrapes = common.sized(options, 60, 30, 3)
    print("**A scrape**, milliseconds of processor time on the scheduler's loop\n")
    common.header(
        "workers", "prefixes", "series", "making (quartiles)", "with text (quartiles)",
        "most",
    )  # fmt: skip
    kept = True
    for workers, prefixes in sizes:
        made, whole, series = measure(workers, prefixes, scrapes)
        _, middle, _ = common.quartiles(whole)
        kept = kept and middle <= BUDGET and series <= SERIES
        common.row(
            f"{workers:,}",
            f"{prefixes:,}",
            series,
            spread(made),
            spread(whole),
            f"{1e3 * max(whole):.2f}",
        )
    print(f"\nbudget: {1e3 * BUDGET:g} ms, {SERIES} series")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
