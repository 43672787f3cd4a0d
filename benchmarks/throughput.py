"""Tasks per second with MemDash, against without: a ratio, with its spread.

One cluster (two worker processes, one thread each) runs rounds.  Each round
measures three times: twice without MemDash and once with it, in an order that moves
on from round to round.  The ratio of a round compares neighbours in time, and so
does the ratio of the two runs without, which shows what the noise alone does (A/A).

MemDash is registered and unregistered between runs, rather than kept on a second
cluster beside the first: two clusters differ for good (ports, addresses, how warm
they are), and the one that waits would still take processor time from the other.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import time
from collections.abc import Sequence
from typing import Any

from distributed import Client, LocalCluster

from dask_memdash import MemDash
from dask_memdash.demos.api import Api

WITHOUT, AGAIN, WITH = "without", "without, again", "with"

#: How long the cluster may take to settle between runs, in seconds.
SETTLE = 30.0


def inc(x: int) -> int:
    """Add one: a task as small as they come."""
    return x + 1


def run(client: Client, tasks: int) -> float:
    """Compute `tasks` small tasks and their sum; give tasks per second."""
    start = time.perf_counter()
    futures = client.map(inc, range(tasks), pure=False)
    total = client.submit(sum, futures, pure=False).result(timeout=120)
    rate = tasks / (time.perf_counter() - start)
    assert total == tasks * (tasks + 1) // 2
    del futures
    until(lambda: client.run_on_scheduler(count_tasks) == 0)
    return rate


def count_tasks(dask_scheduler: Any = None) -> int:
    """Count the tasks that the scheduler still knows."""
    return len(dask_scheduler.tasks)


def until(condition: Any) -> None:
    """Wait for a condition, at most `SETTLE` seconds."""
    deadline = time.monotonic() + SETTLE
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("the cluster did not settle")
        time.sleep(0.05)


def measure(client: Client, api: Api, tasks: int, variant: str) -> float:
    """Run once, with or without MemDash."""
    if variant != WITH:
        return run(client, tasks)
    client.register_plugin(MemDash())
    try:
        until(lambda: all(w["breakdown"]["process"] for w in api.get("workers")))
        return run(client, tasks)
    finally:
        client.unregister_scheduler_plugin("memdash")


def rounds(client: Client, api: Api, tasks: int, pairs: int) -> list[dict[str, float]]:
    """Measure all variants, round after round, in an order that moves on."""
    variants = [WITHOUT, WITH, AGAIN]
    for variant in (WITHOUT, WITH):  # warm up
        measure(client, api, tasks, variant)
    measured = []
    for number in range(pairs):
        shift = number % len(variants)
        order = variants[shift:] + variants[:shift]
        measured.append({v: measure(client, api, tasks, v) for v in order})
        row = "  ".join(f"{v} {measured[-1][v]:,.0f}" for v in variants)
        print(f"{number + 1:>4} of {pairs}: {row} tasks/s", flush=True)
    return measured


def line(name: str, ratios: Sequence[float]) -> str:
    """Give one row of the closing table."""
    low, median, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return (
        f"{name:<28} {median:>6.3f}   {low:.3f} to {high:.3f}   "
        f"{min(ratios):.3f} to {max(ratios):.3f}   {len(ratios):>5}"
    )


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=20, help="rounds (default 20)")
    parser.add_argument(
        "--tasks", type=int, default=10_000, help="tasks of a run (default 10000)"
    )
    options = parser.parse_args()
    if options.pairs < 2 or options.tasks < 1:
        parser.error("it takes at least two pairs and one task")
    with (
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster) as client,
    ):
        port = cluster.scheduler_info["services"]["dashboard"]
        api = Api(f"http://127.0.0.1:{port}/memdash/api")
        measured = rounds(client, api, options.tasks, options.pairs)
    for variant in (WITHOUT, WITH):
        rate = statistics.median(m[variant] for m in measured)
        print(f"\nmedian {variant}: {rate:,.0f} tasks/s", end="")
    print(f"\n\n{'ratio':<28} median   quartiles        extremes         pairs")
    print(line("with / without", [m[WITH] / m[WITHOUT] for m in measured]))
    print(line("without / without (A/A)", [m[AGAIN] / m[WITHOUT] for m in measured]))


if __name__ == "__main__":
    main()
