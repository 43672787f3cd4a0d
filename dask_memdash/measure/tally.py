"""The tally: exact bytes of every running task, counted by native code.

Covers loading the extension (``_tally.c``), testing it against known sizes before
anybody relies on it, installing its hooks once for all workers of a process, and
saying in words what it does not see.  What it counts, and how, stands in
``_tally.c``; what is made of the figures is :mod:`dask_memdash.measure.attribution`'s.

Nothing here raises for what it finds at run time: without the tally MemDash
estimates.
"""

from __future__ import annotations

import os
import struct
import sys
import threading
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

from dask_memdash.measure import lines
from dask_memdash.measure.small_objects import SmallObjects

if TYPE_CHECKING:
    from collections.abc import Callable

    from dask_memdash.measure._tally import Hooks, Mapping

#: What a self-test allocates, in bytes, and by how much the count may be off: the C
#: library rounds a block of this size up to whole pages.
TEST_SIZE = 2**20
TEST_TOLERANCE = 0.01

#: What a small Python object takes on the average, in bytes, on the small side.
MEAN_SMALL = 64

#: What a task's counts may lack, as a sum: all of them, as there was no begin …
MISSED_TASK = 1
#: … Python's own memory, as the hooks had been dropped at its begin or its end …
MISSED_PYTHON = 2
#: … NumPy's, as the task itself imported it, or set or used a handler of its own.
MISSED_NUMPY = 4
#: … Arrow's, as pyarrow was imported meanwhile (the native tally).
MISSED_ARROW = 8
#: Not missed: small objects were counted one by one (the native tally).
BY_OBJECTS = 16

#: Bytes now, bytes at most, and the latter's error.
_COUNTERS = struct.Struct("<qqq")


#: The tally whose hooks are in this process now: one or none.
_INSTALLED: list[Tally] = []


def current() -> Tally | None:
    """Return the tally that counts in this process now; None if none does."""
    return _INSTALLED[0] if _INSTALLED else None


class Tally:
    """The tally of this process, of the first generation: hooks in Python and NumPy.

    Its successor is :class:`dask_memdash.measure.native_tally.NativeTally`.

    All methods may be called from any thread, `begin` and `end` in the task's own
    thread and context.

    Attributes
    ----------
    begin : (mapping, offset) -> bool
        Count this thread into a slot from now on, starting at 0.  The native
        function itself, as every task goes through it.  Where there are
        `small_objects`, a third argument asks for them to be counted one by one.
    end : () -> int
        End the last `begin` in this thread.  Gives what its counts may lack, as a sum
        of ``MISSED_…``; 0 if nothing.
    map_slots : (fd, size) -> (mapping, memoryview)
        Map memory for slots, for as long as the process lives.
    """

    #: The setting that asks for it.
    mode = "python"
    #: Whether only what is resident counts: then a process that grew by less than was
    #: counted has used again what an allocator had kept.
    counts_resident = False

    def __init__(self, native: ModuleType) -> None:
        self._native = native
        self.begin: Callable[..., bool] = native.begin
        self.end: Callable[[], int] = native.end
        self.map_slots: Callable[[int, int], tuple[Mapping, memoryview]]
        self.map_slots = native.map_slots
        #: Why the last `acquire` was refused; empty if it was not.
        self.refused = ""
        #: What is not seen in this process, a sentence each.
        self.unseen: tuple[str, ...] = ()
        #: Whether small Python objects are counted one by one, not as arenas.
        self.counts_small_objects = False
        #: Whether what comes from Arrow's pool is counted.
        self.counts_arrow = False
        #: How often somebody had dropped the hooks, so that they were set again.
        self.dropped = 0
        #: Which prefixes' small objects are counted one by one; None where none can be.
        self.small_objects: SmallObjects | None = None
        self._users = 0
        # Where they are known: the lines of large blocks.
        self._lines: lines.Lines | None = None
        # Python's objects when the hooks were set: arenas were about full of them.
        self._blocks = 0
        self._lock = threading.Lock()
        self._scratch: tuple[Mapping, memoryview] | None = None
        os.register_at_fork(after_in_child=self._forget)

    def acquire(self) -> bool:
        """Install the hooks for one more worker; False (see `refused`) if in vain."""
        with self._lock:
            if self._users == 0:
                self._blocks = sys.getallocatedblocks()
                self.refused = self._install()
                if self.refused:
                    return False
                _INSTALLED.append(self)
            self._users += 1
            return True

    def release(self) -> None:
        """Take the hooks out with the last worker, if nobody has wrapped them since."""
        with self._lock:
            if self._users == 0:
                return
            self._users -= 1
            if self._users == 0:
                self._take_out()
                _INSTALLED.remove(self)
                self._forget_lines()

    def know_lines(self) -> str:
        """Have the lines of large blocks known from now on; say why not, or nothing.

        Until the last worker releases the tally.
        """
        known = lines.load()
        if known is None:
            return lines.why_not()
        self._native.use_lines(known.table)
        self._lines = known
        return ""

    def _forget_lines(self) -> None:
        if self._lines is not None:
            self._native.use_lines(None)
            self._lines.forget_all()
            self._lines = None

    @property
    def installed(self) -> bool:
        """Whether some worker of this process has acquired it."""
        return self._users > 0

    def check(self) -> list[str]:
        """Look whether the hooks are still there, and set them again if they are not.

        To be called with every heartbeat.

        Returns
        -------
        list of str
            What is wrong or unseen, a sentence each.
        """
        with self._lock:
            if self._users == 0:
                return [self.refused] if self.refused else []
            hooks = self.hooks()
            texts = list(self.unseen)
            if hooks["raw"] == "lost":
                self.dropped += 1
                reason = self._native.install()
                if reason:
                    texts.append(f"the tally no longer sees Python's memory: {reason}")
            if hooks["arenas"] == "lost":
                texts.append(
                    "the tally no longer sees small Python objects: something else "
                    "allocates their arenas now"
                )
            if hooks["numpy"] == "unusable":
                texts.append(
                    "the tally does not see NumPy arrays: the C API of this NumPy is "
                    "not one that it was built for"
                )
        if self.dropped:
            times = "once" if self.dropped == 1 else f"{self.dropped} times"
            texts.append(
                f"the tally's hooks were dropped {times} (tracemalloc.stop() does so) "
                "and set again; tasks that ran meanwhile were not counted in full"
            )
        return texts

    def files_mapped(self) -> int | None:
        """Return the bytes of files mapped so far; None where nobody counts them."""
        return None

    def mapped_by_allocators(self) -> int:
        """Return what allocators that nobody counts have mapped so far, in bytes.

        0 where there is none, or where nobody can tell.
        """
        return 0

    def doubt(self) -> int:
        """Return by how much the last peak in this thread may be too high, in bytes.

        As far as the count knows: what was allocated, and may never have been touched.
        """
        return 0

    def short_by(self) -> int:
        """Return by how much the last peak in this thread may be too low, in bytes.

        As far as the count knows: what may have been touched, and was not looked at.
        """
        return 0

    def others(self) -> int:
        """Return what the last task in this thread freed of others', in bytes.

        What was there before it, or may have been: the process grew by so much less.
        """
        return 0

    def arena_free(self) -> int:
        """Return the room for small objects in arenas that are there, in bytes.

        By how much arenas have grown since the hooks were set, less what the objects
        that have come since take at `MEAN_SMALL` each: an estimate, at least 0.
        """
        more = sys.getallocatedblocks() - self._blocks
        return max(0, int(self._native.arenas()) - more * MEAN_SMALL)

    def hooks(self) -> Hooks:
        """Return the state of each hook as it is now."""
        hooks: Hooks = self._native.hooks()
        return hooks

    def self_test(self) -> str:
        """Allocate known sizes and compare; give what is wrong, or nothing.

        Sets `unseen` and `counts_small_objects`.  The hooks must be installed.
        """
        seen = self._count(lambda: bytearray(TEST_SIZE))
        unseen: tuple[str, ...] = ()
        if seen == 0:
            unseen = (
                "the tally sees NumPy arrays only: this interpreter allocates Python "
                "objects in a way of its own (free-threaded builds do)",
            )
        elif not _close(seen):
            return f"of {TEST_SIZE} bytes allocated by Python it counted {seen}"
        numpy = sys.modules.get("numpy")
        if numpy is not None and self.hooks()["numpy"] in ("chained", "raw"):
            seen = self._count(lambda: numpy.empty(TEST_SIZE, "u1"))
            if not _close(seen):
                return f"of {TEST_SIZE} bytes allocated by NumPy it counted {seen}"
        self.unseen = unseen
        self.counts_small_objects = self.hooks()["objects"] == "ours"
        return ""

    def _install(self) -> str:
        try:
            reason = self._set_hooks()
            if not reason:
                reason = self.self_test()
                if reason:
                    self._take_out()
        except BaseException as error:
            self._take_out()
            if not isinstance(error, (OSError, MemoryError)):
                raise
            reason = f"{type(error).__name__}: {error}"
        return f"the tally cannot be used: {reason}" if reason else ""

    def _set_hooks(self) -> str | None:
        reason: str | None = self._native.install()
        return reason

    def _take_out(self) -> None:
        self._native.uninstall()

    def _count(self, allocate: Callable[[], object]) -> int:
        """Count what a function's result weighs, in bytes; -1 if not all of it goes."""
        if self._scratch is None:
            self._scratch = self.map_slots(-1, _COUNTERS.size)
        mapping, buffer = self._scratch
        self.begin(mapping, 0)
        try:
            result = allocate()
            held, _, _ = _COUNTERS.unpack(buffer)
            del result
            left, _, _ = _COUNTERS.unpack(buffer)
        finally:
            self.end()
        gone = abs(left) <= TEST_TOLERANCE * TEST_SIZE
        return int(held) if gone else -1

    def _forget(self) -> None:
        """Start anew in a forked child, where native code has stopped counting."""
        _INSTALLED.clear()
        self._lock = threading.Lock()
        self._users = 0
        self._scratch = None


def _close(seen: int) -> bool:
    return abs(seen - TEST_SIZE) <= TEST_TOLERANCE * TEST_SIZE


@cache
def _load() -> tuple[Tally | None, str]:
    if sys.implementation.name != "cpython" or sys.platform == "win32":
        return None, "the tally takes CPython on Linux or macOS"
    try:
        native = import_module("dask_memdash.measure._tally")
    except ModuleNotFoundError:
        return None, (
            "the tally was not built when dask_memdash was installed (that takes a C "
            "compiler and NumPy)"
        )
    except ImportError as error:
        return None, f"the tally cannot be loaded: {error}"
    return Tally(native), ""


def load() -> Tally | None:
    """Return the tally of this process; None (see `why_not`) where there is none."""
    return _load()[0]


def why_not() -> str:
    """Say why `load` gives None; empty if it does not."""
    return _load()[1]
