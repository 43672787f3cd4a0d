"""`load` is fast, and one slow `write` at a time uses what it makes.

The scheduler was told to hand out all tasks at once (`worker-saturation: inf`). Mended,
it holds tasks back until a worker has a thread for them, as it does by default.
"""

from __future__ import annotations

import time

import dask
import numpy as np
from example import STORES_ALL, Setup, main


def load(day):
    """Make 15 MB."""
    time.sleep(0.05)
    return np.ones(15 * 125_000)


def write(block):
    """Take a while."""
    time.sleep(1)


def run(client):
    first = dask.delayed(load)(-1, dask_key_name="load-first")
    with dask.annotate(resources={"disk": 1}):
        written = dask.delayed(write)(first, dask_key_name="write-first")
    client.compute(written).result(timeout=60)
    loaded = [dask.delayed(load)(n, dask_key_name=f"load-{n}") for n in range(20)]
    with dask.annotate(resources={"disk": 1}):
        written = [
            dask.delayed(write)(block, dask_key_name=f"write-{n}")
            for n, block in enumerate(loaded)
        ]
    client.gather(client.compute(written))


DISK = {"distributed.worker.resources": {"disk": 1}}
ALL_AT_ONCE = {"distributed.scheduler.worker-saturation": "inf"}

if __name__ == "__main__":
    main(
        Setup(run, threads=2, memory=STORES_ALL, config={**DISK, **ALL_AT_ONCE}),
        Setup(run, threads=2, memory=STORES_ALL, config=DISK),
    )
