"""Other tools that measure memory in Dask, put on a cluster and taken off again."""

from __future__ import annotations

import contextlib
import importlib.util
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from distributed import Client, LocalCluster


def has_memusage() -> bool:
    """Whether dask-memusage is installed."""
    return importlib.util.find_spec("dask_memusage") is not None


def has_memray() -> bool:
    """Whether memray is installed."""
    return importlib.util.find_spec("memray") is not None


@contextlib.contextmanager
def memusage(cluster: LocalCluster, path: Path) -> Iterator[None]:
    """Run dask-memusage on a cluster, as its documentation says.

    It cannot be removed by itself.  So its client is kept hold of, and its thread
    ends at its next look at the time.
    """
    import dask_memusage

    clients: list[Client] = []
    leave = threading.Event()

    def client(*args: Any, **kwargs: Any) -> Client:
        # not the default client: the benchmark's own stays that
        clients.append(Client(*args, **kwargs, set_as_default=False))
        return clients[-1]

    def sleep(seconds: float) -> None:
        if leave.is_set():
            raise SystemExit
        time.sleep(seconds)

    before = dask_memusage.Client, dask_memusage.sleep
    dask_memusage.Client, dask_memusage.sleep = client, sleep
    known = set(threading.enumerate())
    plugins = set(cluster.scheduler.plugins)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Thread.setDaemon
            dask_memusage.install(cluster.scheduler, str(path))
        threads = [
            t
            for t in threading.enumerate()
            if t not in known and t.name == "WorkerMemory"
        ]
        yield
    finally:
        for name in set(cluster.scheduler.plugins) - plugins:
            cluster.scheduler.remove_plugin(name)
        leave.set()
        for thread in threads:
            thread.join(30)
        for one in clients:
            one.close()
        dask_memusage.Client, dask_memusage.sleep = before


@contextlib.contextmanager
def memray(directory: Path) -> Iterator[None]:
    """Run memray on the workers of the default client, its raw profiles kept."""
    from distributed.diagnostics.memray import memray_workers

    with memray_workers(directory, report_args=False):
        yield
