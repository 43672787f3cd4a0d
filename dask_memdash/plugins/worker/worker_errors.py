"""Errors on a worker that no death tells of: ``MemoryError``, and failing to spill.

Both are sent at once, as events of the scheduler's topic `memdash`: the next heartbeat
may never come.  Must stay light to import.  Runs on the worker's event loop.
"""

from __future__ import annotations

import errno
import pickle
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any

from dask_memdash.boundary import boundary
from dask_memdash.plugins.keys import key_text, prefix_of
from dask_memdash.plugins.shims import TOPIC
from dask_memdash.text import KEY_KEPT

if TYPE_CHECKING:
    from distributed.worker import Worker

#: What the messages are called.
MEMORY_ERROR = "memory-error"
SPILL_FAILED = "spill-failed"

#: Least time between two messages about spilling that fails for the same reason, in
#: seconds; those in between are counted.
SPACING = 2.0

#: Causes of an error that are gone back through.
MAX_CAUSES = 10

#: Characters of an error's text.
MAX_TEXT = 500


class ErrorWatch:
    """Listens for troubles on one worker, from now until :meth:`remove`.

    Parameters
    ----------
    worker
        Whose tasks may raise, and whose spill buffer, if it has Dask's own, may fail.
    clock
        Monotonic, in seconds.
    """

    def __init__(
        self, worker: Worker, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._worker = worker
        self._clock = clock
        # Reason → (when it was last told, failures since).
        self._told: dict[str, tuple[float, int]] = {}
        self._watching: Any = None
        self._data: Any = worker.data
        self._note = boundary.guarded(self._spill_failed, "noting a failure to spill")
        handle_errors = getattr(self._data, "_handle_errors", None)
        if callable(handle_errors):
            self._watch(handle_errors)

    def remove(self) -> None:
        """Take everything away; harmless when repeated."""
        watching, self._watching = self._watching, None
        if watching and vars(self._data).get("_handle_errors") is watching:
            del self._data._handle_errors  # so that the class's shows again

    # -- tasks -----------------------------------------------------------------

    def task_erred(self, key: Any) -> None:
        """Look whether a task that has failed raised ``MemoryError``."""
        task = self._worker.state.tasks.get(key)
        text = str(getattr(task, "exception_text", None) or "")
        if "MemoryError" not in text.partition("(")[0]:
            return
        self._send(
            MEMORY_ERROR,
            key,
            {"text": _printed(getattr(task, "exception", None)) or text[:MAX_TEXT]},
        )

    # -- spilling --------------------------------------------------------------

    def _watch(
        self, handle_errors: Callable[[Any], AbstractContextManager[Any]]
    ) -> None:
        """See errors before the spill buffer handles them, and change nothing."""

        @contextmanager
        def watching(key: Any) -> Iterator[None]:
            with handle_errors(key):
                try:
                    yield
                except Exception as error:
                    self._note(key, error)
                    raise

        self._watching = watching
        self._data._handle_errors = watching

    def _spill_failed(self, inserted: Any, error: Exception) -> None:
        reason, key = _reason(error), _key_of(error, inserted)
        if reason is None or self._watching is None:
            return
        now = self._clock()
        last, count = self._told.get(reason, (now - SPACING, 0))
        if now < last + SPACING:
            self._told[reason] = (last, count + 1)
            return
        self._told[reason] = (now, 0)
        weights = getattr(getattr(self._data, "fast", None), "weights", {})
        size = weights.get(key)
        self._send(
            SPILL_FAILED,
            key,
            {
                "reason": reason,
                "size": None if size is None else int(size),
                "text": "" if reason == "max-spill" else _text(_root(error)),
                "count": count + 1,
            },
        )

    def _send(self, action: str, key: Any, values: dict[str, Any]) -> None:
        text = "" if key is None else key_text(key)[:KEY_KEPT]
        prefix = "" if key is None else prefix_of(key)
        self._worker.log_event(
            TOPIC, {"action": action, "key": text, "prefix": prefix, **values}
        )


def _reason(error: Exception) -> str | None:
    """Name why spilling failed; None for what is no failure to spill."""
    name = type(error).__name__
    if name == "MaxSpillExceeded":
        return "max-spill"
    if name == "PickleError":
        return "unpicklable"
    if isinstance(error, OSError):
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        return "disk-full" if full else "disk-error"
    return None


def _key_of(error: Exception, inserted: Any) -> Any:
    """Find the key that could not be spilled, which need not be the one inserted.

    Two of the three errors say so; an error of the disk went through the frame of the
    buffer's slow part, which knows.
    """
    if not isinstance(error, OSError):
        return error.args[0] if error.args else inserted
    traceback: TracebackType | None = error.__traceback__
    while traceback is not None:
        frame = traceback.tb_frame
        if type(frame.f_locals.get("self")).__name__ == "Slow":
            return frame.f_locals.get("key", inserted)
        traceback = traceback.tb_next
    return inserted


def _printed(serialized: Any) -> str:
    """Print a task's error in its own words; empty where it cannot be read again."""
    data = getattr(serialized, "data", None)
    if not isinstance(data, bytes):
        return ""
    error = _unpickled(data)
    return _text(error) if isinstance(error, MemoryError) else ""


def _root(error: BaseException) -> BaseException:
    """Return what an error was raised for in the first place."""
    for _ in range(MAX_CAUSES):
        if error.__cause__ is None:
            break
        error = error.__cause__
    return error


def _text(error: BaseException) -> str:
    text = f"{type(error).__name__}: {_words(error)}"
    return " ".join(text[: 2 * MAX_TEXT].split())[:MAX_TEXT].removesuffix(":")


# An error is made by the user, and so is what happens when it is read or printed.
_unpickled = boundary.guarded(pickle.loads, "reading a task's error")
_words = boundary.guarded(str, "printing a task's error", "")
