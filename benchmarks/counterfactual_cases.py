"""Small computations for the benchmark of counterfactuals, and how each is varied.

A *case* is one computation; a *setup* is the cluster that it runs on and the size of
its pieces.  Each case is run on a base setup and on others that differ from it in one
thing, so that any two runs of a case that differ in one thing alone are a pair: what is
said of one from the record of the other can be compared with what really happened.
"""

from __future__ import annotations

import builtins
import ctypes
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from distributed import Client, Future

MB = 1_000_000


@dataclass(frozen=True, slots=True)
class Setup:
    """A cluster, and the size of the pieces that it works on."""

    workers: int = 1
    threads: int = 2
    #: Of each worker, in MB.
    limit: int = 300
    #: Size of a piece, as a multiple of the base's; there are as many fewer pieces.
    chunks: float = 1.0
    spilling: bool = True

    @property
    def name(self) -> str:
        """Its name in files and tables."""
        spills = "" if self.spilling else "-nospill"
        chunks = f"-x{self.chunks:g}" if self.chunks != 1 else ""
        return f"{self.workers}w{self.threads}t{self.limit}{chunks}{spills}"

    def changed(self, other: Setup) -> list[str]:
        """Return in which things another one differs."""
        mine, its = asdict(self), asdict(other)
        return [name for name in mine if mine[name] != its[name]]


#: Given a client and the size of pieces as a multiple: starts the work, returns what is
#: to be waited for and held.
Work = Callable[[Client, float], Sequence["Future[Any]"]]


def numbers(size: float) -> np.ndarray:
    """Return an array of so many bytes, all of them touched."""
    return np.ones(int(size / 8))


# -- what tasks do -----------------------------------------------------------------


def hold_block(number: int, size: float, seconds: float) -> float:
    """Hold one block for a while."""
    block = numbers(size)
    time.sleep(seconds)
    return float(block[number])


def grow_slowly(number: int, size: float, step: float = 10 * MB) -> float:
    """Take a block after the other, until there is so much."""
    blocks = []
    while sum(block.nbytes for block in blocks) < size:
        blocks.append(numbers(step))
        time.sleep(0.04)
    return float(blocks[-1][number])


def burst(number: int, size: float) -> float:
    """Hold much for an instant only, little all the time."""
    small = numbers(5 * MB)
    time.sleep(0.2)
    total = float(numbers(size)[0])
    time.sleep(0.2)
    return total + float(small[number])


def piece(number: int, size: float, seconds: float = 0.03) -> np.ndarray:
    """Return so many bytes to be stored."""
    made = numbers(size)
    time.sleep(seconds)
    return made


def add_up(*parts: np.ndarray) -> float:
    """Take everything, return little."""
    return sum(float(part[0]) for part in parts)


def reduce_slowly(part: np.ndarray) -> float:
    """Take one piece, slowly."""
    time.sleep(0.15)
    return float(part[0])


def leave_behind(number: int, size: float) -> int:
    """Put so much aside for good."""
    kept = builtins.__dict__.setdefault("_memdash_benchmark_kept", [])
    kept.append(numbers(size))
    time.sleep(0.05)
    return number


def native(number: int, size: float, seconds: float) -> int:
    """Hold what a native library allocates."""
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    libc.malloc.argtypes = [ctypes.c_size_t]
    libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    block = libc.malloc(int(size))
    libc.memset(block, 1, int(size))
    time.sleep(seconds)
    libc.free(block)
    return number


def fault(number: int) -> int:
    """Read from an address that nothing is mapped to, in one task of all."""
    time.sleep(0.05)
    if number == 9:
        ctypes.string_at(0)
    return number


def killed(number: int) -> int:
    """Have the worker killed, in one task of all."""
    time.sleep(0.05)
    if number == 9:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def with_table(table: np.ndarray, number: int) -> float:
    """Use a table that all tasks use, and a copy of it."""
    copy = table * 2.0
    time.sleep(0.2)
    return float(copy[number])


def leak_slowly(number: int, size: float, seconds: float) -> int:
    """Put so much aside for good, and take some time over it."""
    time.sleep(seconds)
    return leave_behind(number, size)


def ordered(part: np.ndarray) -> np.ndarray:
    """Return a sorted copy of a piece, and take as much again beside it."""
    beside = part * 2.0
    time.sleep(0.05)
    return np.sort(beside)


def frame(number: int, rows: int) -> Any:
    """Make a partition of so many rows."""
    import pandas as pd

    value = np.arange(rows, dtype=float)
    return pd.DataFrame({"key": np.arange(rows) % 100, "value": value + number})


def pair(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Add two pieces up into a new one."""
    time.sleep(0.05)
    return one + other


# -- computations ---------------------------------------------------------------------


def _map(function: Callable[..., Any], count: int, size: float, *rest: float) -> Work:
    """Return the work of `count` tasks that get a size; fewer and larger, or more."""

    def work(client: Client, chunks: float) -> Sequence[Future[Any]]:
        number = max(1, round(count / chunks))
        each = [[size * chunks] * number, *([one] * number for one in rest)]
        return client.map(function, range(number), *each, pure=False)

    return work


def _all_to_one(client: Client, chunks: float) -> Sequence[Future[Any]]:
    number = max(1, round(16 / chunks))
    parts = client.map(piece, range(number), [12 * MB * chunks] * number, pure=False)
    return [client.submit(add_up, *parts, pure=False)]


def _ahead(client: Client, chunks: float) -> Sequence[Future[Any]]:
    import dask

    number = max(1, round(40 / chunks))
    made = [dask.delayed(piece)(n, 10 * MB * chunks, 0.02) for n in range(number)]
    slow = [dask.delayed(reduce_slowly)(part) for part in made]
    return [client.compute(dask.delayed(sum)(slow))]


def _rechunk(client: Client, chunks: float) -> Sequence[Future[Any]]:
    import dask.array as da

    side, rows = 4000, round(500 * chunks)
    tall = da.random.random((side, side), chunks=(rows, side))
    return [client.compute(tall.rechunk((side, rows), method="tasks").sum())]


def _array(client: Client, chunks: float) -> Sequence[Future[Any]]:
    import dask.array as da

    rows = round(250 * chunks)
    made = da.random.random((8000, 4000), chunks=(rows, 4000))
    return [client.compute((made + made.mean(axis=0)).std(axis=0).sum())]


def _skewed(client: Client, chunks: float) -> Sequence[Future[Any]]:
    sizes = [140 * MB * chunks if n == 7 else 10 * MB * chunks for n in range(20)]
    return client.map(hold_block, range(20), sizes, [0.15] * 20, pure=False)


def _broadcast(client: Client, chunks: float) -> Sequence[Future[Any]]:
    table = client.submit(piece, 0, 50 * MB * chunks, pure=False)
    return [client.submit(with_table, table, n, pure=False) for n in range(10)]


def _two_kinds(client: Client, chunks: float) -> Sequence[Future[Any]]:
    small = _map(hold_block, 20, 15 * MB, 0.1)(client, chunks)
    large = _map(grow_slowly, 4, 70 * MB)(client, chunks)
    return [*small, *large]


def _sorted(client: Client, chunks: float) -> Sequence[Future[Any]]:
    import dask

    number = max(1, round(12 / chunks))
    made = [dask.delayed(piece)(n, 12 * MB * chunks) for n in range(number)]
    return [client.compute(dask.delayed(ordered)(part)) for part in made]


def _tree(client: Client, chunks: float) -> Sequence[Future[Any]]:
    import dask

    number = max(2, round(16 / chunks))
    level = [dask.delayed(piece)(n, 14 * MB * chunks) for n in range(number)]
    while len(level) > 1:
        rest = level[len(level) // 2 * 2 :]
        pairs = zip(level[::2], level[1::2], strict=False)
        level = [dask.delayed(pair)(one, other) for one, other in pairs] + rest
    return [client.compute(level[0])]


def _swings(client: Client, chunks: float) -> Sequence[Future[Any]]:
    sizes = [(10 + 17 * n % 70) * MB for n in range(50)]
    return client.map(hold_block, range(50), sizes, [0.5] * 50, pure=False)


def _plain(function: Callable[[int], int]) -> Work:
    return lambda client, chunks: client.map(function, range(20), pure=False)


@dataclass(frozen=True, slots=True)
class Case:
    """One computation, and how it is varied."""

    name: str
    work: Work
    base: Setup
    #: Values of each thing that is varied, beside the base's.
    limits: tuple[int, ...] = ()
    threads: tuple[int, ...] = ()
    chunks: tuple[float, ...] = ()
    spilling: tuple[bool, ...] = ()
    workers: tuple[int, ...] = ()

    def setups(self) -> list[Setup]:
        """Return all setups, the base first."""
        base = self.base
        return [
            base,
            *(replace(base, limit=limit) for limit in self.limits),
            *(replace(base, threads=threads) for threads in self.threads),
            *(replace(base, chunks=chunks) for chunks in self.chunks),
            *(replace(base, spilling=spilling) for spilling in self.spilling),
            *(replace(base, workers=workers) for workers in self.workers),
        ]


CASES = (
    Case(
        "one-block",
        _map(hold_block, 8, 90 * MB, 0.4),
        Setup(threads=1),
        limits=(200, 450),
        threads=(2, 4),
        chunks=(0.5, 3.0),
        workers=(2,),
    ),
    Case(
        "many-at-once",
        _map(hold_block, 16, 60 * MB, 0.3),
        Setup(threads=4),
        limits=(200, 450, 600),
        threads=(1, 2),
        chunks=(0.5, 0.25),
        workers=(2,),
        spilling=(False,),
    ),
    Case(
        "grows",
        _map(grow_slowly, 6, 150 * MB),
        Setup(threads=2),
        limits=(200, 450, 600),
        threads=(1,),
        chunks=(0.5,),
    ),
    Case(
        "bursts",
        _map(burst, 12, 60 * MB),
        Setup(threads=2),
        limits=(200, 450),
        threads=(4,),
        chunks=(2.0,),
    ),
    Case(
        "kept",
        _map(piece, 24, 12 * MB),
        Setup(threads=2, spilling=False),
        limits=(200, 450, 600),
        threads=(1,),
        chunks=(0.5,),
        spilling=(True,),
        workers=(2,),
    ),
    Case(
        "all-to-one",
        _all_to_one,
        Setup(threads=2),
        limits=(200, 450),
        threads=(1,),
        spilling=(False,),
        workers=(2,),
    ),
    Case(
        "ahead",
        _ahead,
        Setup(threads=2, spilling=False),
        limits=(200, 600),
        threads=(1,),
        chunks=(0.5,),
        spilling=(True,),
        workers=(2,),
    ),
    Case(
        "leak",
        _map(leave_behind, 40, 6 * MB),
        Setup(threads=2),
        limits=(200, 450, 600),
        threads=(1,),
        chunks=(0.5,),
        workers=(2,),
    ),
    Case(
        "rechunk",
        _rechunk,
        Setup(workers=2, threads=1),
        limits=(200, 450),
        threads=(2,),
        chunks=(2.0,),
        spilling=(False,),
    ),
    Case(
        "array",
        _array,
        Setup(workers=2, threads=2),
        limits=(200, 450),
        chunks=(4.0,),
        spilling=(False,),
    ),
    Case(
        "skewed",
        _skewed,
        Setup(threads=2),
        limits=(200, 450),
        threads=(1, 4),
        chunks=(2.0,),
    ),
    Case(
        "broadcast",
        _broadcast,
        Setup(threads=2),
        limits=(200, 450),
        threads=(1, 4),
        workers=(2,),
    ),
    Case(
        "native",
        _map(native, 10, 70 * MB, 0.3),
        Setup(threads=2),
        limits=(200, 450),
        threads=(1, 4),
    ),
    Case("fault", _plain(fault), Setup(threads=2), limits=(600,), threads=(1,)),
    Case("killed", _plain(killed), Setup(threads=2), limits=(600,), threads=(1,)),
)

#: Cases that were not looked at while the model was made.
CASES += (
    Case(
        "two-kinds",
        _two_kinds,
        Setup(threads=2),
        limits=(200, 450),
        threads=(1, 4),
        chunks=(2.0,),
    ),
    Case(
        "sorted",
        _sorted,
        Setup(threads=2),
        limits=(200, 450),
        threads=(4,),
        spilling=(False,),
        workers=(2,),
    ),
    Case(
        "tree",
        _tree,
        Setup(threads=2, spilling=False),
        limits=(200, 450),
        threads=(4,),
        chunks=(0.5,),
        spilling=(True,),
    ),
)

#: Cases for the time to the limit: slow ones, which fill a worker steadily or do not.
TIMED = (
    Case("fills", _map(piece, 80, 3 * MB, 0.4), Setup(threads=2, spilling=False)),
    Case(
        "fills-slower", _map(piece, 90, 2 * MB, 0.4), Setup(threads=2, spilling=False)
    ),
    Case("leaks", _map(leak_slowly, 80, 3 * MB, 0.4), Setup(threads=2)),
    Case("leaks-too", _map(leak_slowly, 80, 4 * MB, 0.8), Setup(threads=2)),
    Case("swings", _swings, Setup(threads=2)),
    Case("one-task", _map(grow_slowly, 1, 130 * MB, 0.5 * MB), Setup(threads=1)),
    Case("spilled", _map(piece, 60, 4 * MB, 0.4), Setup(threads=2)),
)
