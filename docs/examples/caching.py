"""A module with a cache, as workers import it."""

from __future__ import annotations

import time

import numpy as np

CACHE = {}


def parse(number, most=None):
    """Keep 8 MB in the cache; with `most`, only so many times."""
    CACHE[number] = np.ones(1_000_000)
    while most and len(CACHE) > most:
        del CACHE[next(iter(CACHE))]
    time.sleep(0.1)
    return number
