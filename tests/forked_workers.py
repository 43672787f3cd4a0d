"""Workers of a test's clusters that are forked from a server which has Dask loaded.

A worker that is started anew spends a second on imports, and the tests start hundreds.
What such a server hands on is what a nanny would have given: its environment holds
Dask's settings of the allocator from the beginning.  ``dask worker`` as a process of
its own, and the demos, start theirs as everybody's do.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from collections.abc import Iterator
from multiprocessing import forkserver

import dask

#: What is loaded before the workers are forked: what every worker loads, and no more.
LOADED = ("distributed", "distributed.nanny", "distributed.worker")


@contextlib.contextmanager
def forked_workers() -> Iterator[None]:
    """Have nannies fork their workers meanwhile."""
    before = dict(os.environ)
    # before the server starts: an allocator reads its settings once
    os.environ.update(
        {
            k: str(v)
            for k, v in dask.config.get("distributed.nanny.pre-spawn-environ").items()
        }
    )
    try:
        multiprocessing.set_forkserver_preload(list(LOADED))
        forkserver.ensure_running()
    finally:
        os.environ.clear()
        os.environ.update(before)
    with dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"}):
        yield
