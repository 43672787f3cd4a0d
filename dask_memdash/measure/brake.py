"""The brake: what would end the worker raises MemoryError in the task that asks for it.

Works beside the native tally only, and only for data of NumPy arrays and for Arrow's
default pool, in tasks' own threads: see ``native/brake.c``.  Whether it is wanted, for
which tasks, and what becomes of them, is :mod:`dask_memdash.guard.braking`'s.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, NamedTuple

from dask_memdash.measure.native_tally import NativeTally
from dask_memdash.measure.tally import current


class Refused(NamedTuple):
    """What a task was refused."""

    times: int
    #: What it asked for first, the RSS of its process then, and what it held itself, in
    #: bytes.
    asked: int
    rss: int
    held: int


class Brake:
    """The brake of this process.  Methods are those of ``_native``."""

    def __init__(self, native: Any) -> None:
        self._native = native

    def set(self, line: int) -> bool:
        """Refuse what would take the process beyond `line` bytes; say if that can be.

        0: refuse nothing from now on.
        """
        return bool(self._native.brake_set(line))

    def begin(self, *, may: bool) -> bool:
        """Say in a task's own thread, once it is counted, if it may be refused any."""
        return bool(self._native.brake_begin(may))

    def end(self) -> Refused | None:
        """End that in the same thread; return what was refused, None: nothing."""
        refused = Refused(*self._native.brake_end())
        return refused if refused.times else None


def brake() -> Brake | None:
    """Return the brake of this process; None where the native tally does not count."""
    if not isinstance(current(), NativeTally):
        return None
    native = import_module("dask_memdash.measure._native")
    return Brake(native) if hasattr(native, "brake_set") else None  # an earlier build
