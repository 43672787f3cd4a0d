"""A client holds 120 MB of results on a worker of 300 MB.

`forecast` alone would fit, and finds no room beside them. Mended, the client lets go of
the results first.
"""

from __future__ import annotations

import time

import numpy as np
from distributed import wait
from example import Setup, main


def load(day):
    """Make 20 MB."""
    time.sleep(0.05)
    return np.ones(20 * 125_000)


def forecast():
    """Take 104 MB."""
    steps = []
    for _ in range(13):
        steps.append(np.ones(1_000_000))
        time.sleep(0.02)
    time.sleep(1)
    return float(steps[-1][0])


def fail(client):
    days = client.map(load, range(6))
    wait(days)
    time.sleep(1)
    client.submit(forecast).result(timeout=60)


def let_go(client):
    days = client.map(load, range(6))
    wait(days)
    del days
    time.sleep(1)
    client.submit(forecast).result(timeout=60)


if __name__ == "__main__":
    main(Setup(fail, memory={"spill": False}), Setup(let_go, memory={"spill": False}))
