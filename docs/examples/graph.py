"""Each of twelve tasks brings a table of 40 MB along, in its closure.

Mended, the table is scattered once, and tasks are given its future.
"""

from __future__ import annotations

import time

import numpy as np
from example import Setup, main


def scoring(table):
    """Make a task that closes over a table."""

    def score(row):
        time.sleep(0.3)
        return float(table[row])

    return score


def score(table, row):
    time.sleep(0.3)
    return float(table[row])


def fail(client):
    table = np.ones(40 * 125_000)
    scores = [client.submit(scoring(table), n, key=f"score-{n}") for n in range(12)]
    client.gather(scores)


def scattered(client):
    table = client.scatter(np.ones(40 * 125_000))
    client.gather([client.submit(score, table, n) for n in range(12)])


if __name__ == "__main__":
    main(Setup(fail, limit="400 MB"), Setup(scattered, limit="400 MB"))
