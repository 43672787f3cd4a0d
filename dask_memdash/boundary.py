"""The boundary: what the host calls goes through here, and nothing gets out.

Covers: every plugin hook, heartbeat, handler, callback and thread of MemDash's
that code outside MemDash calls.  Each process has its own :data:`boundary`.  What
fails is logged at a limited rate and remembered as a fault; faults travel with
heartbeats and samples to the scheduler, where the page shows MemDash as degraded.

Does not cover: errors that a person's own call should see (client, command line).

This module imports the standard library, :mod:`dask_memdash.text` and
:mod:`dask_memdash.redact` only, and is safe to use from any thread.
"""

from __future__ import annotations

import functools
import inspect
import logging
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from dask_memdash.redact import in_text
from dask_memdash.text import plain

logger = logging.getLogger("dask_memdash")

#: Least time between two log lines about the same entry point, in seconds.
LOG_INTERVAL = 60.0

#: Seconds after its last failure for which a fault is still told of: what has long been
#: right again is no warning any more.
TOLD_FOR = 600.0

#: Faults remembered at most; the oldest goes first.
MAX_FAULTS = 50

#: Characters of an error that are kept, and of a log line; lines of a traceback.
MAX_ERROR = 500
MAX_LINE = 200
MAX_TRACEBACK = 60

#: Characters of one part of a traceback that are looked at.
MAX_TEXT = 10_000

C = TypeVar("C", bound=type)


@dataclass(slots=True)
class Fault:
    """What went wrong at one entry point, so far."""

    where: str
    #: How often.
    count: int
    #: The newest error, as ``Type: message``.
    error: str
    #: Unix time of the first failure, in seconds.
    since: float
    #: Monotonic times of the last log line and of the last failure, in seconds.
    logged: float
    last: float = 0.0

    @property
    def text(self) -> str:
        """One sentence for a person."""
        times = "once" if self.count == 1 else f"{self.count} times"
        return f"MemDash failed in {self.where} {times}: {self.error}"


class Charged(Protocol):
    """What adds up processor time: a ``CostMeter``."""

    def charge(self, spent: float, calls: int) -> int:
        """Take in what a call took that stands for so many; return that of the next."""


class Boundary:
    """Wraps functions so that they never raise, and remembers what failed.

    Only :class:`Exception` is held back: ``SystemExit``, ``KeyboardInterrupt`` and
    ``asyncio.CancelledError`` belong to the host.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._faults: dict[str, Fault] = {}
        self._lock = threading.Lock()

    def guarded(
        self, function: Callable[..., Any], where: str, default: Any = None
    ) -> Callable[..., Any]:
        """Wrap a function or coroutine function so that it never raises.

        Parameters
        ----------
        function
            What the host will call.
        where
            Name of the entry point in words, for the log and the page.
        default
            Returned in place of a result when `function` raises; called first
            if it is callable.
        """
        fallback = self._failing(where, default)
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def guard_async(*args: Any, **kwargs: Any) -> Any:
                try:
                    return await function(*args, **kwargs)
                except Exception as error:
                    return fallback(error)

            return guard_async

        @functools.wraps(function)
        def guard(*args: Any, **kwargs: Any) -> Any:
            try:
                return function(*args, **kwargs)
            except Exception as error:
                return fallback(error)

        return guard

    def metered(
        self, function: Callable[..., Any], where: str, cost: Charged
    ) -> Callable[..., Any]:
        """Wrap what is called for every task: guarded, and its cost metered.

        Both in one wrapper, which takes no keywords: two take longer than some of what
        they wrap.

        Parameters
        ----------
        function, where
            As for :meth:`guarded`.
        cost
            Is charged for it.
        """
        failed = self._failing(where)
        stride = left = 1

        @functools.wraps(function)
        def guard(*args: Any) -> Any:
            nonlocal stride, left
            left -= 1
            if left > 0:
                try:
                    return function(*args)
                except Exception as error:
                    return failed(error)
            begun = time.thread_time()
            try:
                return function(*args)
            except Exception as error:
                return failed(error)
            finally:
                left = stride = cost.charge(time.thread_time() - begun, stride)

        return guard

    def _failing(self, where: str, default: Any = None) -> Callable[[Exception], Any]:
        """Return what notes a failure of an entry point, and gives the default."""

        def fallback(error: Exception) -> Any:
            self.note(where, error)
            return default() if callable(default) else default

        return fallback

    def note(self, where: str, error: BaseException | str) -> None:
        """Remember a failure and log it, at most once in `LOG_INTERVAL`."""
        text = in_text(error if isinstance(error, str) else _text(error))
        now = time.monotonic()
        with self._lock:
            fault = self._faults.get(where)
            if fault is None:
                if len(self._faults) >= MAX_FAULTS:
                    del self._faults[next(iter(self._faults))]
                fault = Fault(where, 0, text, self._clock(), now - 2 * LOG_INTERVAL)
                self._faults[where] = fault
            fault.count += 1
            fault.last = now
            fault.error = plain(text, MAX_ERROR)
            due = now - fault.logged >= LOG_INTERVAL
            if due:
                fault.logged = now
        if due:
            logger.warning("%s%s", plain(fault.text, MAX_LINE), _traceback(error))

    def texts(self) -> tuple[str, ...]:
        """Return every fault so far as a sentence."""
        with self._lock:
            return tuple(fault.text for fault in self._faults.values())

    def recent(self) -> tuple[str, ...]:
        """Return the faults that are still told of, a sentence each."""
        since = time.monotonic() - TOLD_FOR
        with self._lock:
            return tuple(f.text for f in self._faults.values() if f.last >= since)

    def clear(self) -> None:
        """Forget all faults."""
        with self._lock:
            self._faults.clear()


def _text(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"[:MAX_TEXT]
    except Exception:  # an error of the user's own making
        return f"{type(error).__name__}, which cannot be printed"


def _traceback(error: BaseException | str) -> str:
    """Print an error's traceback for the log: its last lines, each made harmless.

    Errors carry keys and names of users.
    """
    if isinstance(error, str):
        return ""
    try:
        parts = traceback.format_exception(error)
    except Exception:  # an error of the user's own making
        return ""
    lines = [x for part in parts for x in in_text(part[:MAX_TEXT]).splitlines()]
    return "\n".join(["", *(plain(x, MAX_LINE) for x in lines[-MAX_TRACEBACK:])])


#: The boundary of this process.
boundary = Boundary()


def guard_entry_points(cls: C) -> C:
    """Put every public method that the class body defines behind the boundary.

    The one mechanism for classes whose methods the host calls (plugins and
    extensions).  Methods that start with an underscore are ours alone.  The class
    may map method names to fall-back values in ``ON_FAILURE``, and name in ``BARE``
    those that are called so often that they guard themselves.
    """
    fallbacks: dict[str, Any] = getattr(cls, "ON_FAILURE", {})
    bare: tuple[str, ...] = getattr(cls, "BARE", ())
    for name, member in list(vars(cls).items()):
        if not name.startswith("_") and name not in bare and inspect.isfunction(member):
            where = f"{cls.__name__}.{name}"
            setattr(cls, name, boundary.guarded(member, where, fallbacks.get(name)))
    return cls
