"""Each task takes 110 MB, and four of them run at once on a worker of 400 MB.

Mended, the worker has one thread instead of four.
"""

from __future__ import annotations

import time

import numpy as np
from example import Setup, main


def regrid(day):
    """Take 110 MB for a while."""
    fields = []
    for _ in range(11):
        fields.append(np.ones(1_250_000))
        time.sleep(0.01)
    time.sleep(1)
    return float(fields[-1].sum())


def run(client):
    client.submit(regrid, -1).result(timeout=60)
    client.gather(client.map(regrid, range(8)))


if __name__ == "__main__":
    main(Setup(run, threads=4, limit="400 MB"), Setup(run, threads=1, limit="400 MB"))
