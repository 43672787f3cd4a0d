"""What the zoo's tasks do: each takes memory, or ends, in a way of its own.

They run on workers, which import this module.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
from typing import Any

import numpy as np

#: Numbers in an array of a megabyte.
MB = 125_000


def small(_: int) -> int:
    block = np.ones(2 * MB)
    time.sleep(0.05)
    return len(block)


def _grow(most: int, step: int = 8, pause: float = 0.005) -> list[Any]:
    """Take up to `most` MB in steps of `step` MB."""
    blocks = []
    for _ in range(0, most, step):
        blocks.append(np.ones(step * MB))
        time.sleep(pause)
    return blocks


def oversized(_: int = 0) -> int:
    return len(_grow(2000))


def oversized_frame(_: int = 0) -> int:
    import pandas as pd

    frames = []
    for _ in range(200):
        frames.append(pd.DataFrame({"x": np.ones(MB // 2), "y": np.arange(MB // 2)}))
        frames.append(frames[-1] + 1)
        time.sleep(0.005)
    return len(pd.concat(frames))


def oversized_strings(_: int = 0) -> int:
    strings: list[str] = []
    for block in range(2000):
        strings += [f"{block} {n} of very many" for n in range(10_000)]
    return len(strings)


def medium(_: int) -> int:
    blocks = _grow(110)
    time.sleep(1.5)
    return len(blocks)


def medium_frame(_: int) -> int:
    import pandas as pd

    frame = pd.concat([pd.DataFrame({"x": np.ones(2 * MB)})] * 25)
    time.sleep(0.2)
    frame = frame * 2
    time.sleep(1.5)
    return len(frame)


def medium_strings(_: int) -> int:
    strings = [f"one of very many strings, {n}" * 3 for n in range(500_000)]
    time.sleep(1.5)
    return len(strings)


def innocent(*_: Any) -> int:
    """Take as much as would fit if nothing else were there."""
    blocks = _grow(104)
    time.sleep(1)
    return len(blocks)


def block(_: int, size: int = 20) -> Any:
    time.sleep(0.05)
    return np.ones(size * MB)


def taking(_: Any) -> None:
    time.sleep(2)


_leaked: list[Any] = []


def leaking(_: int) -> int:
    _leaked.append(np.ones(8 * MB))
    time.sleep(0.1)
    return len(_leaked)


def leaking_strings(_: int) -> int:
    _leaked.append([f"a string that nobody lets go of, {n}" * 2 for n in range(60_000)])
    time.sleep(0.03)
    return len(_leaked)


_kept: list[Any] = []


def fragmenting(_: int) -> int:
    """Allocate many small blocks, and keep a few that are far apart."""
    blocks = [b"%900d" % n for n in range(130_000)]
    _kept.extend(blocks[::500])
    return len(blocks)


def next_step(_: int = 0) -> int:
    blocks = _grow(96)
    time.sleep(1)
    return len(blocks)


class Liar:
    """Says that it is small."""

    def __init__(self, size: int) -> None:
        self.data = b"x" * (size * 1_000_000)

    def __sizeof__(self) -> int:
        return 100


def lying(_: int) -> Liar:
    time.sleep(0.05)
    return Liar(12)


class Unpicklable:
    """Cannot be written to disk."""

    def __init__(self, size: int) -> None:
        self.data = b"x" * (size * 1_000_000)
        self.lock = threading.Lock()

    def __sizeof__(self) -> int:
        return len(self.data)


def unpicklable(_: int) -> Unpicklable:
    time.sleep(0.05)
    return Unpicklable(12)


def segfaulting() -> None:
    ctypes.string_at(0)


def leaving() -> None:
    os._exit(3)


def absurd() -> int:
    return len(np.ones((2000, 2000, 1_000_000)))


def idle(seconds: float) -> None:
    time.sleep(seconds)
