"""What the workloads that fail do on workers; of array and record sizes in MB."""

from __future__ import annotations

import ctypes
import resource
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import psutil
from zoo_tasks import MB, Liar


def output(_: Any = 0, size: int = 15) -> Any:
    time.sleep(0.05)
    return np.ones(size * MB)


def expand(block: Any) -> Any:
    """Take four times as much as it is given, and return one number of it."""
    copies = []
    for factor in range(4):
        copies.append(block * factor)
        time.sleep(0.02)
    time.sleep(0.3)
    return np.asarray([copies[-1].sum()])


def outlined(block: Any) -> Any:
    """Take 128 times as much as it is given, in one allocation."""
    return np.asarray([np.zeros((128, *block.shape))[0].sum()])


def limit_address_space(more: int) -> None:
    """Let this process have so many MB more of address space, as ``ulimit -v`` does."""
    size = psutil.Process().memory_info().vms + more * 8 * MB
    resource.setrlimit(resource.RLIMIT_AS, (size, size))


def fixed(most: int) -> int:
    """Take so many MB, in steps."""
    blocks = []
    for _ in range(0, most, 10):
        blocks.append(np.ones(10 * MB))
        time.sleep(0.01)
    time.sleep(0.3)
    return len(blocks)


def part_of_all(*parts: Any) -> float:
    time.sleep(0.2)
    return float(sum(part[0] for part in parts))


def looked_up(table: Any, row: int) -> float:
    time.sleep(0.3)
    return float(table[row])


def scoring(table: Any) -> Callable[[int], float]:
    """Return a task that brings a table along."""

    def score(row: int) -> float:
        time.sleep(0.3)
        return float(table[row])

    return score


def combined(one: Any, other: Any) -> float:
    """Use two tables, and 50 MB beside them."""
    own = np.ones(50 * MB)
    time.sleep(0.2)
    return float(one[0] + other[0] + own[0])


def ready(*parts: Any) -> int:
    return len(parts)


def edge(part: Any) -> float:
    return float(part[0])


def scaled(part: Any, barrier: int) -> float:
    time.sleep(0.02)
    return float(part[0]) * barrier


def holding_the_gil(seconds: int) -> int:
    """Sleep without letting any other thread of the worker run."""
    ctypes.PyDLL(None).sleep(seconds)
    return seconds


_kept: list[Any] = []


def remembering(_: int) -> int:
    """Keep 4 MB a task for ever."""
    _kept.append(np.ones(4 * MB))
    time.sleep(0.4)
    return len(_kept)


def lying_much(_: Any) -> Liar:
    """Return 40 MB that say they are small."""
    time.sleep(0.05)
    return Liar(40)


class Journal:
    """An actor that keeps all that it is told."""

    def __init__(self) -> None:
        self.pages: list[Any] = []

    def note(self, page: Any) -> int:
        self.pages.append(page)
        return len(self.pages)
