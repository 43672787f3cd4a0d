"""Every call carries a table of 24 MB with it, as part of its task.

Mended, the table is scattered once, and every call takes the same future.
"""

from __future__ import annotations

import numpy as np
from example import NEVER_SPILLS, Setup, main


def score(row, table):
    return float(table[row])


def fail(client):
    scores = [client.submit(score, i, np.ones(24 * 125_000) * i) for i in range(16)]
    return client.gather(scores)


def scattered(client):
    table = client.scatter(np.ones(24 * 125_000))
    scores = [client.submit(score, i, table) for i in range(16)]
    return client.gather(scores)


if __name__ == "__main__":
    main(Setup(fail, memory=NEVER_SPILLS), Setup(scattered, memory=NEVER_SPILLS))
