"""One task needs all 24 parts at once, 360 MB, and spilling is out of the way.

Mended, parts are reduced in steps, so that few have to wait.
"""

from __future__ import annotations

import time

import dask
import numpy as np
from example import STORES_ALL, Setup, main


def part(number):
    """Make 15 MB."""
    time.sleep(0.05)
    return np.ones(15 * 125_000)


def combine(*parts):
    """Add parts up."""
    return sum(part.sum() for part in parts)


def mean(parts):
    """Make one number of one part."""
    return parts.mean()


def fail(client):
    parts = [dask.delayed(part)(n, dask_key_name=f"part-{n}") for n in range(24)]
    total = dask.delayed(combine)(*parts, dask_key_name="combine-all")
    client.compute(total).result(timeout=60)


def in_steps(client):
    parts = [dask.delayed(part)(n, dask_key_name=f"part-{n}") for n in range(24)]
    means = [
        dask.delayed(mean)(p, dask_key_name=f"mean-{n}") for n, p in enumerate(parts)
    ]
    total = dask.delayed(sum)(means, dask_key_name="total-all")
    client.compute(total).result(timeout=60)


if __name__ == "__main__":
    main(Setup(fail, memory=STORES_ALL), Setup(in_steps, memory=STORES_ALL))
