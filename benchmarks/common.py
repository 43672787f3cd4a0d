"""What the benchmarks share: a cluster, waiting, processor time, ratios, tables."""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import logging
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import dask
import psutil
from distributed import Client, LocalCluster

MB = 1_000_000

#: How long a cluster may take to settle, in seconds.
PATIENCE = 60.0


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the options that every benchmark has."""
    made = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    made.add_argument(
        "--quick", action="store_true", help="a few minutes at most: a rough picture"
    )
    made.add_argument(
        "--tiny", action="store_true", help="seconds: shows that it runs, no more"
    )
    return made


def sized(options: argparse.Namespace, full: Any, quick: Any, tiny: Any) -> Any:
    """Return what ``--tiny``, ``--quick`` or neither asks for."""
    return tiny if options.tiny else quick if options.quick else full


def progress(text: str) -> None:
    """Say on stderr what is going on, so that stdout holds the table alone."""
    print(f"  {time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def until(condition: Callable[[], Any], what: str, patience: float = PATIENCE) -> None:
    """Wait for a condition.

    Raises
    ------
    TimeoutError
        It does not come within `patience` seconds.
    """
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {patience:.0f} s for {what}")
        time.sleep(0.05)


@contextlib.contextmanager
def cluster(
    n_workers: int, threads: int, memory_limit: str
) -> Iterator[tuple[LocalCluster, Client]]:
    """Run a cluster of worker processes with nannies, on loopback, and close it."""
    with (
        dask.config.set({"distributed.admin.tick.limit": "1h"}),
        LocalCluster(
            n_workers=n_workers,
            threads_per_worker=threads,
            processes=True,
            memory_limit=memory_limit,
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
        ) as running,
        Client(running) as client,
    ):
        yield running, client


def process_seconds(pid: int) -> float:
    """Return the processor time that a process has taken, in seconds.

    By its own clock (clock_getcpuclockid(3)), in nanoseconds, where the system has
    one for other processes; else by psutil, in hundredths of a second.
    """
    clock = ctypes.c_int()
    try:
        failed = ctypes.CDLL(None).clock_getcpuclockid(pid, ctypes.byref(clock))
    except (AttributeError, OSError, TypeError):
        failed = 1
    if not failed:
        return time.clock_gettime(clock.value)
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Return first quartile, median and third quartile."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def spread(values: Sequence[float]) -> str:
    """Print a median of ratios with its quartiles."""
    low, middle, high = quartiles(values)
    return f"{middle:.3f} ({low:.3f} to {high:.3f})"


def header(*names: str) -> None:
    """Print the head of a Markdown table."""
    row(*names)
    row(*("---" for _ in names))


def row(*cells: object) -> None:
    """Print one row of a Markdown table."""
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)
