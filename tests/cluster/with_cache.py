"""A module of a user's that keeps things: a table, and results in a cache."""

from __future__ import annotations

import functools

import numpy as np

MB = 1_000_000

#: Filled by `fill_table`.
TABLE: dict[int, np.ndarray] = {}


def fill_table(i: int) -> int:
    TABLE[i] = np.ones(20 * MB, dtype="u1")
    return i


@functools.lru_cache
def load(i: int) -> np.ndarray:
    return np.ones(15 * MB, dtype="u1")


def use_cache(i: int) -> int:
    return int(load(i % 2)[0])


def give_cached() -> np.ndarray:
    """Return what the cache keeps too: it is stored, and no more is held."""
    return load(0)


def keep_by_run() -> None:
    """Keep something where no module's variable shows it."""
    import builtins

    builtins._kept = np.ones(40 * MB, dtype="u1")  # type: ignore[attr-defined]


def give_back() -> bytes:
    """Return much, and keep nothing."""
    return bytes(bytearray(b"x") * (50 * MB))
