"""How right the peaks of running tasks are: figures against known truth.

Tasks that hold a known number of bytes for a known time run on one worker, with 1 and
with 4 threads, measured by the tally and without it.  For each kind of memory the
table gives the mean absolute error of the tasks' median and 95 % peaks, as a share of
the truth, and whether the error beside the figure covers it.

A figure is a ratio, so it does not depend on how fast the machine is.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
import urllib.request
from collections.abc import Callable
from typing import Any

import dask
import numpy as np
from distributed import Client, LocalCluster

from dask_memdash import MemDash

MB = 1_000_000


def numpy_array(size: int, seconds: float) -> int:
    """Hold one array of `size` bytes."""
    block = np.ones(size // 8)
    time.sleep(seconds)
    return int(block[0])


def numpy_burst(size: int, seconds: float) -> int:
    """Hold a tenth, and for an instant all of `size` bytes."""
    block = np.ones(size // 80)
    time.sleep(seconds / 2)
    peak = int(np.ones(size // 8 - size // 80)[0])
    time.sleep(seconds / 2)
    return peak + int(block[0])


def byte_strings(size: int, seconds: float) -> int:
    """Hold `size` bytes in strings of 1 kB, which Python takes one by one."""
    blocks = [bytes(967) for _ in range(size // 1000)]
    time.sleep(seconds)
    return len(blocks)


def untouched(size: int, seconds: float) -> int:
    """Reserve `size` bytes and touch none: the truth is nothing."""
    block = np.empty(size // 8)
    time.sleep(seconds)
    return len(block)


KINDS: tuple[tuple[Callable[[int, float], int], float], ...] = (
    (numpy_array, 1.0),
    (numpy_burst, 1.0),
    (byte_strings, 1.0),
    (untouched, 0.0),
)


def measure(threads: int, tally: bool, size: int, tasks: int) -> list[dict[str, Any]]:
    """Run every kind of task and read what MemDash says of it."""
    with (
        dask.config.set({"memdash.tally": tally}),
        LocalCluster(
            n_workers=1,
            threads_per_worker=threads,
            memory_limit="2 GB",
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.ERROR,
        ) as cluster,
        Client(cluster) as client,
    ):
        client.register_plugin(MemDash())
        port = cluster.scheduler.http_server.port
        url = f"http://127.0.0.1:{port}/memdash/api/prefixes"
        rows = []
        for kind, resident in KINDS:
            client.gather(client.map(kind, [size] * tasks, [0.2] * tasks, pure=False))
            execution = None
            while execution is None or execution["finished"] < tasks:
                with urllib.request.urlopen(url, timeout=10) as answer:
                    found = [
                        p["execution"]
                        for p in json.load(answer)
                        if p["prefix"] == kind.__name__
                    ]
                execution = found[0] if found else None
            truth = size * resident
            off = [abs(execution["peak"][q] - truth) for q in ("p50", "p95")]
            rows.append(
                {
                    "kind": kind.__name__,
                    "threads": threads,
                    "method": execution["method"],
                    "p50": off[0] / size,
                    "p95": off[1] / size,
                    "covered": off[0] <= execution["error"] + 0.01 * size,
                }
            )
        return rows


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=12, help="tasks of each kind")
    parser.add_argument("--size", type=int, default=50 * MB, help="bytes each holds")
    options = parser.parse_args()
    print("| memory | threads | method | error of p50 | of p95 | covered |")
    print("|---|---|---|---|---|---|")
    for threads in (1, 4):
        for tally in (True, False):
            for row in measure(threads, tally, options.size, options.tasks):
                print(
                    f"| {row['kind']} | {row['threads']} | {row['method']} "
                    f"| {row['p50']:.1%} | {row['p95']:.1%} "
                    f"| {'yes' if row['covered'] else 'no'} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
