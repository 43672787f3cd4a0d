"""One task builds a table of 320 MB on a worker that has 300 MB.

Mended, it works through the table in pieces of 40 MB.
"""

from __future__ import annotations

import time

import numpy as np
from example import Setup, main


def build_table(rows):
    """Take 8 MB for each million rows."""
    parts = []
    for _ in range(rows):
        parts.append(np.ones(1_000_000))
        time.sleep(0.01)
    return float(sum(part.sum() for part in parts))


def fail(client):
    client.submit(build_table, 40).result(timeout=60)


def in_pieces(client):
    pieces = client.map(build_table, [5] * 8, pure=False)
    client.submit(sum, pieces).result(timeout=60)


if __name__ == "__main__":
    main(Setup(fail), Setup(in_pieces))
