"""`parse` makes many small strings, and keeps one of 500.

The allocator keeps the pages between them, and `forecast` finds no room. Mended, freed
memory is given back between the two.
"""

from __future__ import annotations

import ctypes
import time

import numpy as np
from example import Setup, main


def parse():
    """Allocate 117 MB in small pieces, and keep a few that are far apart."""
    import builtins

    pieces = [b"%900d" % n for n in range(130_000)]
    builtins.kept = pieces[::500]
    return len(pieces)


def forecast():
    """Take 96 MB."""
    steps = []
    for _ in range(12):
        steps.append(np.ones(1_000_000))
        time.sleep(0.01)
    time.sleep(1)
    return float(steps[-1][0])


def trim():
    return ctypes.CDLL("libc.so.6").malloc_trim(0)


def fail(client):
    client.submit(parse).result(timeout=60)
    time.sleep(1.2)
    client.submit(forecast).result(timeout=60)


def trimmed(client):
    client.submit(parse).result(timeout=60)
    client.run(trim)
    time.sleep(1.2)
    client.submit(forecast).result(timeout=60)


if __name__ == "__main__":
    main(Setup(fail), Setup(trimmed))
