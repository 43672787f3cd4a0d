"""Twelve tables of 15 MB lie on three workers, and every pair of them is compared.

Each worker fetches nearly all tables. Mended, there is one worker with three threads
and the memory of all three: it has each table once.
"""

from __future__ import annotations

import itertools
import time

import numpy as np
from distributed import wait
from example import STORES_ALL, Setup, main


def table(number):
    """Make 15 MB."""
    time.sleep(0.05)
    return np.ones(15 * 125_000)


def compare(one, other):
    """Use two tables, and 80 MB beside them."""
    work = np.ones(80 * 125_000)
    time.sleep(0.2)
    return float(one[0] + other[0] + work[0])


def run(client):
    tables = client.map(table, range(12))
    wait(tables)
    time.sleep(1)
    pairs = [
        client.submit(compare, one, other, pure=False)
        for one, other in itertools.combinations(tables, 2)
    ]
    client.gather(pairs)


if __name__ == "__main__":
    main(
        Setup(run, workers=3, memory=STORES_ALL),
        Setup(run, threads=3, limit="900 MB", memory=STORES_ALL),
    )
