"""A task whose function's module imports much: tests let it be a worker's first."""

from __future__ import annotations

import time

import dask.array
import numpy as np
import pandas as pd
import yaml

#: What a worker loads as the task arrives, before it begins.
MODULES = (dask.array, np, pd, yaml)


def fill_memory(*_: object) -> None:
    """Take memory, 16 MB at a time, until somebody ends it."""
    taken = []
    while True:
        taken.append(np.ones(2_000_000))
        time.sleep(0.02)
