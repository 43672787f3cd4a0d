"""Kinds of memory that a task can hold, and how much that is in truth.

Every kind is a function ``(size, seconds)`` that holds about `size` bytes for some
seconds and lets them go.  Where the bytes are known from how they are made (NumPy's
data, Arrow's, `malloc`), that is the truth.  Where they are not (Python
objects with their headers, strings), a fresh process
tells: it warms up with a small size, gives free memory back (``malloc_trim``), sets
the kernel's peak back (writing 5 to ``/proc/self/clear_refs``), makes the objects, and
reads by how much ``VmHWM`` is above the RSS of before, less the pages of files that
whoever asks sees come meanwhile.  MemDash has no part in that.

Run as a program, this module is that fresh process.
"""

from __future__ import annotations

import ctypes
import gc
import importlib.util
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import counted
import numpy as np

#: Bytes that one object of :func:`small_objects` takes, about: a list and an integer.
SMALL = 120

#: Fresh processes asked for the truth of one kind and size; their median counts.
ASKED = 3


# -- known from how they are made ----------------------------------------------------


def numpy_array(size: int, seconds: float) -> None:
    """Hold one array."""
    block = np.ones(size // 8)
    time.sleep(seconds)
    del block


def numpy_burst(size: int, seconds: float) -> None:
    """Hold a tenth all the time, and all of it for an instant."""
    block = np.ones(size // 80)
    time.sleep(seconds / 2)
    np.ones(size // 8 - size // 80)
    time.sleep(seconds / 2)
    del block


def numpy_small(size: int, seconds: float) -> None:
    """Hold many arrays of 100 kB, which the allocator takes from its heap."""
    blocks = [np.ones(12_500) for _ in range(size // 100_000)]
    time.sleep(seconds)
    del blocks


def pandas_numbers(size: int, seconds: float) -> None:
    """Hold a frame of numbers and another made of it, half each."""
    import pandas as pd

    frame = pd.DataFrame(np.ones((size // 2 // 80, 10)))
    twice = frame * 2
    time.sleep(seconds)
    del frame, twice


def native_malloc(size: int, seconds: float) -> None:
    """Hold what a native library allocates: `malloc`, filled."""
    libc = _libc()
    block = libc.malloc(size)
    libc.memset(block, 1, size)
    time.sleep(seconds)
    libc.free(block)


def arrow_numbers(size: int, seconds: float) -> None:
    """Hold an Arrow table of numbers, from Arrow's own pool."""
    import pyarrow as pa
    import pyarrow.compute as pc

    table = pa.table({"x": pc.random(size // 8)})
    time.sleep(seconds)
    del table


def pandas_arrow(size: int, seconds: float) -> None:
    """Hold a pandas frame of two columns of Arrow strings: 96 bytes and an offset."""
    import pandas as pd
    import pyarrow as pa

    kind = pd.ArrowDtype(pa.string())
    columns = {
        letter: pd.Series(pa.repeat(pa.scalar(letter * 96), size // 200), dtype=kind)
        for letter in "ab"
    }
    frame = pd.DataFrame(columns)
    time.sleep(seconds)
    del frame, columns


def untouched(size: int, seconds: float) -> None:
    """Reserve and touch nothing: no memory is taken."""
    block = np.empty(size // 8)
    time.sleep(seconds)
    del block


# -- told by a fresh process ---------------------------------------------------------


def small_objects(size: int, seconds: float) -> None:
    """Hold many small Python objects, in a worker that has run nothing before."""
    kept = [[i] for i in range(size // SMALL)]
    time.sleep(seconds)
    del kept


def small_objects_warm(size: int, seconds: float) -> None:
    """Hold many small Python objects, in arenas that small outputs have kept."""
    small_objects(size, seconds)


def object_burst(size: int, seconds: float) -> None:
    """Make and drop small objects a hundredth at a time: little at any instant."""
    step = size // SMALL // 100
    for _ in range(100):
        [[i] for i in range(step)]
        time.sleep(seconds / 100)


def strings_of_1kb(size: int, seconds: float) -> None:
    """Hold strings of 1 kB, which Python takes one by one."""
    kept = [bytes(967) for _ in range(size // 1000)]
    time.sleep(seconds)
    del kept


def pandas_objects(size: int, seconds: float) -> None:
    """Hold a pandas column of Python strings."""
    import pandas as pd

    column = pd.Series([f"{i:020d}" for i in range(size // 104)], dtype=object)
    time.sleep(seconds)
    del column


class Kind(NamedTuple):
    """One kind of memory."""

    hold: Callable[[int, float], None]
    #: True where the size asked for is what it holds, 0 where it holds nothing, None
    #: where a fresh process tells.
    resident: float | None
    #: The package that it needs.
    needs: str = ""
    #: Whether its tasks run in workers that have run nothing before.
    fresh: bool = False
    #: Whether it runs in a worker that :func:`pin_arenas` has warmed up.
    warm: bool = False
    #: Whether its first run of a size in a process makes its inputs.
    inputs: bool = False

    @property
    def name(self) -> str:
        """What it is called in the tables, and in keys."""
        return self.hold.__name__

    @property
    def missing(self) -> bool:
        """Whether the package that it needs is not installed."""
        return bool(self.needs) and importlib.util.find_spec(self.needs) is None


#: In the order in which they run: those in fresh workers first.
KINDS = (
    Kind(small_objects, None, fresh=True),
    Kind(numpy_array, 1.0),
    Kind(numpy_burst, 1.0),
    Kind(numpy_small, 1.0),
    Kind(pandas_numbers, 1.0, "pandas"),
    Kind(pandas_objects, None, "pandas"),
    Kind(pandas_arrow, 1.0, "pyarrow"),
    Kind(arrow_numbers, 1.0, "pyarrow"),
    Kind(strings_of_1kb, None),
    Kind(object_burst, None),
    Kind(native_malloc, 1.0),
    Kind(untouched, 0.0),
    Kind(small_objects_warm, None, warm=True),
)


def every() -> tuple[Kind, ...]:
    """Return all kinds, in the order in which they run.

    That which fills the worker with arenas that are nearly empty comes last.
    """
    from library_kinds import LIBRARY_KINDS  # which needs Kind

    first = [kind for kind in KINDS if not kind.warm]
    return (*first, *LIBRARY_KINDS, *(kind for kind in KINDS if kind.warm))


def pin_arenas(size: int) -> list[Any]:
    """Make small objects and keep one in 3,000: their arenas stay, nearly empty."""
    made = [[i] for i in range(size // SMALL)]
    return made[::3000]


class Truth(NamedTuple):
    """What a kind holds at its peak, in bytes."""

    size: int
    #: By how much fresh processes differ from each other.
    spread: int = 0


def truth(kind: Kind, size: int) -> Truth | None:
    """Return what a kind holds at its peak; None where nobody can tell."""
    if kind.resident is not None:
        return Truth(round(size * kind.resident))
    ways = (*WAYS, *_counted()) if kind.inputs else ({},)
    first = [_ask(kind, size, way) for way in ways]
    seen = [told for told, way in zip(first, ways, strict=True) if not _counts(way)]
    least_seen = min((told for told in seen if told is not None), default=0)
    # a count that lacks so much has not met an allocator that the library brings along
    first = [
        None if _counts(way) and (told or 0) < LACKS * least_seen else told
        for told, way in zip(first, ways, strict=True)
    ]
    least = min(
        (n for n, told in enumerate(first) if told is not None),
        key=lambda n: first[n] or 0,
        default=0,
    )
    told = [first[least], *(_ask(kind, size, ways[least]) for _ in range(ASKED - 1))]
    known = [answer for answer in told if answer is not None]
    if not known:
        return None
    return Truth(round(statistics.median(known)), max(known) - min(known))


#: What makes VmHWM the peak of what is allocated, and not of what allocators keep: what
#: is freed goes back at once, and Python's small objects do not come from arenas.
GIVE_BACK = {
    "MALLOC_MMAP_THRESHOLD_": "65536",
    "MALLOC_MMAP_MAX_": "1000000",
    "MALLOC_ARENA_MAX": "1",
    "PYTHONMALLOC": "malloc",
    "MIMALLOC_PURGE_DELAY": "0",  # Arrow's allocator
    "_RJEM_MALLOC_CONF": "dirty_decay_ms:0,muzzy_decay_ms:0",  # polars' allocator
}

#: Every allocator needs more than is asked for, each more in other cases (glibc's heap
#: keeps holes, jemalloc rounds up, Arrow's system pool copies what grows): the truth is
#: the least that one of them gets by with, and no more than what was allocated at the
#: same time, whether touched or not (``counted.py``).
SYSTEM = {"ARROW_DEFAULT_MEMORY_POOL": "system"}
WAYS: tuple[dict[str, str], ...] = (GIVE_BACK | SYSTEM,)
for _path in sorted(Path("/usr/lib").glob("*/libjemalloc.so.2"))[:1]:
    _jemalloc = GIVE_BACK | {
        "LD_PRELOAD": str(_path),
        "MALLOC_CONF": "dirty_decay_ms:0,muzzy_decay_ms:0,narenas:1,tcache:false",
    }
    WAYS = (*WAYS, _jemalloc | SYSTEM, _jemalloc)


#: What a count must have at least of what the kernel saw, to be of the same memory.
LACKS = 0.75


def _counts(way: dict[str, str]) -> bool:
    return counted.COUNTS in way


def _counted() -> tuple[dict[str, str], ...]:
    """Return a way of its own: where what is allocated is counted, and no page."""
    library = counted.counter()
    if library is None:
        return ()
    return (GIVE_BACK | SYSTEM | {"LD_PRELOAD": str(library), counted.COUNTS: "1"},)


#: So many bytes of files come with code that runs for the first time.
LOADED = 4_000_000

#: As the nanny sets it for workers.
AS_WORKERS = {
    "MALLOC_TRIM_THRESHOLD_": "65536",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}


def _ask(kind: Kind, size: int, way: dict[str, str]) -> int | None:
    with subprocess.Popen(
        [sys.executable, __file__, kind.name, str(size)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **AS_WORKERS, **way},
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        if not process.stdout.readline():
            return None
        status = Path(f"/proc/{process.pid}/status")
        most = 0
        process.stdin.write("\n")
        process.stdin.flush()
        while process.poll() is None:
            most = max(most, _line("RssFile", status))
            time.sleep(0.0005)
        answer = process.stdout.read()
    if process.returncode or not answer:
        return None
    grown, file = map(int, answer.split())
    mapped = most - file
    # pages of files that were mapped meanwhile are the kernel's to take back
    return grown - mapped if mapped > LOADED else grown


def _libc() -> Any:
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    libc.malloc.argtypes = [ctypes.c_size_t]
    libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    return libc


def _status(name: str) -> int:
    """Read a line of /proc/self/status, in bytes."""
    return _line(name, Path("/proc/self/status"))


def _line(name: str, status: Path) -> int:
    """Read a line of a process's status, in bytes; 0 where it has none (any more)."""
    try:
        text = status.read_text(encoding="ascii")
    except OSError:
        return 0
    found = re.search(rf"^{name}:\s+(\d+) kB", text, re.MULTILINE)
    return int(found[1]) * 1024 if found is not None else 0


def main() -> None:
    """Print by how many bytes this process grows while it holds what is asked for."""
    name, size = sys.argv[1], int(sys.argv[2])
    kind = next(kind for kind in every() if kind.name == name)
    hold = kind.hold
    for _ in range(2):
        hold(size if kind.inputs else 100_000, 0.0)
    gc.collect()
    _libc().malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    print("ready", flush=True)
    sys.stdin.readline()
    file, before = _status("RssFile"), _status("VmRSS")
    if counted.COUNTS in os.environ:
        counter = ctypes.CDLL(None)
        counter.counter_most.restype = ctypes.c_long
        counter.counter_reset()
        hold(size, 0.0)
        # whoever asks takes off what is mapped of files: nothing is, in a count
        print(counter.counter_most(), 1 << 40, flush=True)
        return
    hold(size, 0.0)
    print(_status("VmHWM") - before, file, flush=True)


if __name__ == "__main__":
    main()
