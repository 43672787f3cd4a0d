"""A trial of the native tally, in a forked child of the process that is to have it.

The child installs it, allocates known sizes in every way, starts threads, loads a
library, compares counts and takes it out again.  Whatever goes wrong in it (a wrong
count, a crash, a hang) is its own end, and the parent's answer: then the process keeps
the first generation, and says why.

The parent waits for the child, for `LIMIT` seconds at most.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import importlib.util
import mmap
import os
import select
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

from dask_memdash.measure.native_tally import NativeTally, near

#: Seconds that the trial may take; it takes some hundredths.
LIMIT = 5.0

#: What is allocated in each way, in bytes.
SIZE = 4 * 2**20

#: What is reserved and never touched, in bytes: so much never comes from what has been
#: freed, and may still be resident.
UNTOUCHED = 64 * 2**20

#: Modules of the standard library with code of their own, of which one is loaded.
LIBRARIES = ("_lzma", "_bz2", "_sqlite3", "_elementtree", "_decimal", "_crypt", "_dbm")

#: Way of allocating → what is done, and the bytes that it holds at most.
Ways = dict[str, tuple[Callable[[], object], int]]


def try_out(tally: NativeTally, limit: float = LIMIT) -> str:
    """Try the tally in a forked child; return what is wrong with it, or nothing."""
    read, write = os.pipe()
    try:
        with warnings.catch_warnings():
            # of the danger of a fork beside threads, which the limit is for
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
    except OSError as error:
        os.close(read)
        os.close(write)
        return f"no process for its trial could be started ({error})"
    if child == 0:
        _be_the_child(tally, write)
    os.close(write)
    try:
        return _wait_for(child, read, limit)
    finally:
        os.close(read)


def _be_the_child(tally: NativeTally, write: int) -> None:
    """Run the trial, tell its outcome, and be gone: nothing of the host's may run."""
    text = b"its trial was cut short"
    try:
        gc.disable()
        with contextlib.suppress(Exception):
            signal.set_wakeup_fd(-1)
            resource = importlib.import_module("resource")
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        text = (outcome(tally) or "ok").encode()
    except BaseException as error:  # noqa: BLE001 (nothing may escape the child)
        text = f"its trial failed with {type(error).__name__}: {error}".encode()
    finally:
        with contextlib.suppress(BaseException):
            os.write(write, text[:1000])
        os._exit(0)


def _wait_for(child: int, read: int, limit: float) -> str:
    until = time.monotonic() + limit
    text = b""
    while True:
        ready, _, _ = select.select([read], [], [], max(0.0, until - time.monotonic()))
        more = os.read(read, 1000) if ready else None
        if more:
            text += more
            continue
        if more is None:
            with contextlib.suppress(OSError):
                os.kill(child, signal.SIGKILL)
        break
    with contextlib.suppress(ChildProcessError):  # somebody else waits for children
        _, status = os.waitpid(child, 0)
        if more is None:
            return f"its trial took longer than {limit:g} s"
        if os.WIFSIGNALED(status):
            return f"its trial ended with signal {os.WTERMSIG(status)}"
    said = text.decode("utf-8", "replace") or "its trial ended without a word"
    return "" if said == "ok" else said


def outcome(tally: NativeTally) -> str:
    """Install, allocate in every way, compare, remove; return what is wrong, if so."""
    if not tally.acquire():
        return tally.refused
    wrong = [
        f"of {size:,} bytes by {way} it counted {counted[0]:,} and left {counted[1]:,}"
        for way, (allocate, size) in ways().items()
        if not near(counted := tally.count(allocate), size)
    ]
    freed = _freed_elsewhere(tally)
    if not near(freed, SIZE):
        wrong.append(f"a block that another thread freed left {freed[1]:,} bytes")
    wrong += _loads_a_library(tally)
    held = tally.state()
    tally.release()
    left = tally.state()
    if left["python"] or left["arenas"] or left["arrow"] or left["slots"]:
        wrong.append("it could not be taken out")
    if not held["python"] or not held["slots"]:
        wrong.append("it was not in place")
    return "; ".join(wrong[:2])


def ways() -> Ways:
    """Return the ways in which a process can allocate."""
    found: Ways = {
        "Python": (lambda: b"x" * SIZE, SIZE),
        "malloc": (lambda: _free(_filled(_libc().malloc(SIZE), SIZE)), SIZE),
        "calloc": (lambda: _free(_filled(_libc().calloc(SIZE, 1), SIZE)), SIZE),
        "malloc, untouched": (lambda: _free(_libc().malloc(UNTOUCHED)), 0),
        "realloc": (_reallocate, SIZE),
        "posix_memalign": (_align, SIZE),
        "aligned_alloc": (
            lambda: _free(_filled(_libc().aligned_alloc(64, SIZE), SIZE)),
            SIZE,
        ),
        "many small blocks": (_small_blocks, SIZE),
        "a thread": (_in_a_thread, SIZE),
    }
    numpy = sys.modules.get("numpy")
    if hasattr(numpy, "full"):
        found["NumPy"] = (lambda: numpy.full(SIZE, 1, "u1"), SIZE)  # type: ignore[union-attr]
    return found


def _libc() -> Any:
    libc = ctypes.CDLL(None)
    for name in ("malloc", "calloc", "realloc", "aligned_alloc"):
        function = getattr(libc, name)
        function.restype = ctypes.c_void_p
        count = 1 if name == "malloc" else 2
        function.argtypes = [ctypes.c_size_t] * count
    libc.realloc.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    libc.free.restype = None
    return libc


def _filled(block: int, size: int) -> int:
    ctypes.memset(block, 1, size)
    return block


def _free(block: int) -> None:
    _libc().free(block)


def _reallocate() -> None:
    libc, block = _libc(), None
    for part in (64, 4096, SIZE // 16, SIZE // 4, SIZE):
        block = _filled(libc.realloc(block, part), part)
    libc.free(block)


def _align() -> None:
    libc, block = _libc(), ctypes.c_void_p()
    if libc.posix_memalign(ctypes.byref(block), mmap.PAGESIZE, ctypes.c_size_t(SIZE)):
        raise MemoryError
    _free(_filled(block.value or 0, SIZE))


def _small_blocks() -> None:
    libc, size = _libc(), 2**15 - 8
    blocks = [libc.malloc(size) for _ in range(SIZE // (size + 8))]
    for block in blocks:
        libc.free(block)


def _in_a_thread() -> None:
    thread = threading.Thread(target=lambda: b"x" * SIZE)
    thread.start()
    thread.join(LIMIT)


def _freed_elsewhere(tally: NativeTally) -> tuple[int, int]:
    """Count a block that a thread which was there before frees."""
    hand_over, held = threading.Event(), [b""]

    def drop() -> None:
        hand_over.wait(LIMIT)
        held.clear()

    thread = threading.Thread(target=drop)
    thread.start()

    def make() -> None:
        held[0] = b"x" * SIZE
        hand_over.set()
        thread.join(LIMIT)

    return tally.count(make)


def _loads_a_library(tally: NativeTally) -> list[str]:
    """Load a module with code of its own, and see that its calls are hooked."""
    for name in LIBRARIES:
        if name in sys.modules or importlib.util.find_spec(name) is None:
            continue
        before = tally.state()["slots"]
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
            tally.check()
            if tally.state()["slots"] > before:
                return []
            return [f"it did not see the library of {name}"]
    return []
