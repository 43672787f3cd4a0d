"""The native tally: all that a task's code allocates, whatever library does it.

Covers loading the extension (``native/``), installing its wrappers once for all workers
of a process, looking after them, and saying in words what they do not see.  What is
wrapped and how it counts stands in ``native/native.h``; whether a process may have it
is tried first by :mod:`dask_memdash.measure.trial`.

It sees what goes through the C library's malloc, Python's arenas, Arrow's default pool,
what threads that a task starts allocate, and
those of pools that it gives jobs to.  It does not see allocators of their own
that libraries bring along (polars, jemalloc in Rust or C++ programs), nor memory that
is mapped directly.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dask_memdash.measure.pool_jobs import PoolJobs
from dask_memdash.measure.small_objects import SmallObjects
from dask_memdash.measure.tally import TEST_SIZE, TEST_TOLERANCE, Tally

if TYPE_CHECKING:
    from dask_memdash.measure._native import State

#: Versions of pyarrow whose memory pool was seen to be counted rightly (major ones: the
#: binary interface is the same within one).
ARROW_VERSIONS = frozenset({22, 24, 25, 26})

#: By how much a test's count may be off besides, in bytes: what is allocated for the
#: test itself, and kept by Python.
SLACK = 2**16

#: Looks at all loaded objects may take one part in so many of the time.
LOOKS_SHARE = 1000


class NativeTally(Tally):
    """The tally of this process, of the second generation; see :class:`Tally`."""

    mode = "native"
    counts_resident = True

    def __init__(self, native: Any) -> None:
        super().__init__(native)
        self._look_from = 0.0
        # Why Arrow's pool is not counted, though pyarrow is here; empty if it is.
        self._arrow = ""
        self._jobs = PoolJobs(native)
        self.small_objects = SmallObjects(native.objects)

    def check(self) -> list[str]:
        """Look whether the wrappers are still there, and set those that are not.

        To be called with every heartbeat.

        Returns
        -------
        list of str
            What is wrong or unseen, a sentence each.
        """
        with self._lock:
            if self._users == 0:
                return [self.refused] if self.refused else []
            now = time.monotonic()
            self._native.look(now >= self._look_from)
            self._look_from = now + LOOKS_SHARE * (time.monotonic() - now)
            texts = list(self.unseen)
            state = self.state()
            if not state["python"]:
                self._native.look(True)
                self.dropped += 1
                texts.append(
                    "another tool counts allocations in the tally's place: what tasks "
                    "allocate meanwhile is not counted in full"
                )
            if not state["arenas"]:
                texts.append(
                    "the tally no longer sees small Python objects: something else "
                    "allocates their arenas now"
                )
            self._see_arrow()
            if self._arrow:
                texts.append(self._arrow)
        return texts

    def files_mapped(self) -> int | None:
        """Return the bytes of files mapped so far."""
        return int(self._native.files_mapped())

    def mapped_by_allocators(self) -> int:
        """Return what allocators that nobody counts have mapped so far, in bytes."""
        return int(self._native.mapped_by_allocators())

    def doubt(self) -> int:
        """Return by how much the last peak in this thread may be too high, in bytes."""
        return self._native.doubt()  # type: ignore[no-any-return]

    def short_by(self) -> int:
        """Return by how much the last peak in this thread may be too low, in bytes."""
        return self._native.short_by()  # type: ignore[no-any-return]

    def others(self) -> int:
        """Return what the last task in this thread freed of others', in bytes."""
        return self._native.others()  # type: ignore[no-any-return]

    def state(self) -> State:
        """Return what is hooked now."""
        state: State = self._native.state()
        return state

    def self_test(self) -> str:
        """Allocate known sizes and compare; return what is wrong, or nothing.

        Sets `unseen` and `counts_small_objects`.  The wrappers must be installed.
        """
        counted = self.count(lambda: b"x" * TEST_SIZE)
        if not near(counted, TEST_SIZE):
            return f"of {TEST_SIZE} bytes allocated by Python it counted {counted[0]}"
        numpy = sys.modules.get("numpy")
        if hasattr(numpy, "full"):
            counted = self.count(lambda: numpy.full(TEST_SIZE, 1, "u1"))  # type: ignore[union-attr]
            if not near(counted, TEST_SIZE):
                return (
                    f"of {TEST_SIZE} bytes allocated by NumPy it counted {counted[0]}"
                )
        state = self.state()
        self.counts_small_objects = state["objects"]
        self.unseen = ()
        if not state["objects"] and not _has_arenas():
            self.unseen = (
                "the tally does not see small Python objects: this interpreter "
                "allocates them in a way of its own (free-threaded builds do)",
            )
        return ""

    def count(self, allocate: Callable[[], object]) -> tuple[int, int]:
        """Count what a function holds at most, and what is left when its result goes.

        In bytes.  Counts as a task does, in this thread.
        """
        if self._scratch is None:
            self._scratch = self.map_slots(-1, 4096)
        mapping, buffer = self._scratch
        counters = buffer[:24].cast("q")
        self.begin(mapping, 0)
        try:
            allocate()
        finally:
            self.end()
        return counters[1], counters[0]

    def _set_hooks(self) -> str | None:
        reason: str | None = self._native.install(self._see_arrow)
        if not reason:
            self._jobs.put_in()
            self._see_arrow()
        return reason

    def _take_out(self) -> None:
        self._jobs.take_out()
        super()._take_out()

    def _see_arrow(self) -> bool:
        """Count Arrow's pool from now on, if it is here and was not before.

        Returns
        -------
        bool
            Whether nothing is left to be done: it is counted, or never will be.
        """
        library = sys.modules.get("pyarrow.lib")
        version = getattr(sys.modules.get("pyarrow"), "__version__", None)
        if library is None or version is None or self.state()["arrow"]:
            return library is not None and version is not None
        self._arrow, self.counts_arrow = "", False
        if getattr(library, "default_memory_pool", None) is None:
            return False  # its import is under way
        # The system's is malloc, which is counted, but in threads of Arrow's own.
        pool = library.default_memory_pool().backend_name != "system"
        why = "this version was not tried"
        if int(version.partition(".")[0]) in ARROW_VERSIONS:
            path, why = _path_of("libarrow.so"), "its library is hidden"
            why = self._native.attach_arrow(path, pool) if path else why
        self.counts_arrow = not why or not pool
        if why and not pool:
            self._arrow = (
                f"the tally does not see what threads of pyarrow {version} allocate: "
                f"{why}"
            )
        elif why:
            self._arrow = (
                f"the tally does not see memory of pyarrow {version}: {why} "
                "(ARROW_DEFAULT_MEMORY_POOL=system makes it visible)"
            )
        return True


def near(counted: tuple[int, int], size: int) -> bool:
    """Whether a count is what was allocated, and nothing of it is left, nearly."""
    most, left = counted
    within = TEST_TOLERANCE * size + SLACK
    return abs(most - size) <= within and abs(left) <= within


def _has_arenas() -> bool:
    return not hasattr(sys, "_is_gil_enabled") or not _free_threaded()


def _free_threaded() -> bool:
    import sysconfig

    return bool(sysconfig.get_config_var("Py_GIL_DISABLED"))


def _path_of(name: str) -> str:
    """Return the path of a library that is loaded; empty if it is not."""
    with Path("/proc/self/maps").open(
        encoding="utf-8", errors="surrogateescape"
    ) as maps:
        for line in maps:
            path = line[line.find("/") :].rstrip("\n") if "/" in line else ""
            if Path(path).name.startswith(f"{name}.") or Path(path).name == name:
                return path
    return ""


@cache
def _load() -> tuple[NativeTally | None, str]:
    if sys.implementation.name != "cpython" or sys.platform != "linux":
        return None, "the native tally takes CPython on Linux with glibc"
    try:
        native = import_module("dask_memdash.measure._native")
    except ModuleNotFoundError:
        return None, (
            "the native tally was not built when dask_memdash was installed (that "
            "takes a C compiler, glibc and an x86-64 or aarch64 processor)"
        )
    except ImportError as error:
        return None, f"the native tally cannot be loaded: {error}"
    if not hasattr(native, "SAMPLED"):
        return None, (
            "the native tally was built from other sources than these: install "
            "dask_memdash again"
        )
    return NativeTally(native), ""


def load() -> NativeTally | None:
    """Return the native tally of this process; None (see `why_not`) without one."""
    return _load()[0]


def why_not() -> str:
    """Say why `load` gives None; empty if it does not."""
    return _load()[1]
