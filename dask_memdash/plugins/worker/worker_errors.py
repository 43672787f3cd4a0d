"""Errors on a worker that no death tells of: ``MemoryError``, and failing to spill.

Covers tasks that run out of memory, inputs that a worker has no memory to receive, and
outputs that cannot be spilled.  All are sent at once, as events of the scheduler's
topic `memdash`: the next heartbeat may never come.  A task's error gets a note and a
mark, by which ``dask_memdash.explain`` finds its incident.

Must stay light to import.  Runs on the worker's event loop.
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
from dask_memdash.plugins.error_chain import MAX_TOLD, TASK_MARK, memory_error_in, told
from dask_memdash.plugins.keys import key_text, prefix_of
from dask_memdash.plugins.shims import TOPIC
from dask_memdash.text import KEY_IN_SENTENCE, KEY_KEPT, format_bytes, plain, short

if TYPE_CHECKING:
    from distributed.worker import Worker

#: What the messages are called.
MEMORY_ERROR = "memory-error"

#: What an error says of a process that the task had started and that was ended by
#: SIGKILL, as the kernel does where memory is short: in the words of `subprocess` (137
#: is a shell's), and of joblib.
CHILD_KILLED = (
    *("CalledProcessError(-9,", "CalledProcessError(137,", "Signals.SIGKILL: 9"),
    *("exit status 137", "SIGKILL(-9)"),
)
SPILL_FAILED = "spill-failed"

#: Least time between two messages about spilling that fails for the same reason, in
#: seconds; those in between are counted.
SPACING = 2.0

#: Causes of an error that are gone back through.
MAX_CAUSES = 10

#: Bytes of a pickled error that are looked through for a sign of memory.
MAX_PICKLED = 1_000_000

#: What is in the pickle of an error that speaks of memory.
SIGNS = (b"MemoryError", b"lloc", b"memory", b"array is too big", b"Maximum allowed")


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
        self._marked = boundary.guarded(self._mark, "putting a note on a MemoryError")
        handle_errors = getattr(self._data, "_handle_errors", None)
        if callable(handle_errors):
            self._watch(handle_errors)

    def remove(self) -> None:
        """Take everything away; harmless when repeated."""
        watching, self._watching = self._watching, None
        if watching and vars(self._data).get("_handle_errors") is watching:
            del self._data._handle_errors  # so that the class's shows again

    # -- tasks -----------------------------------------------------------------

    def task_erred(self, key: Any, start: str = "executing") -> None:
        """Look whether a task has failed for want of memory, and tell of it.

        Parameters
        ----------
        start
            The state that it failed in: 'flight' for an input on its way here.
        """
        task = self._worker.state.tasks.get(key)
        if task is None:
            return
        said = str(getattr(task, "exception_text", None) or "")[:MAX_TOLD]
        if start != "flight" and any(sign in said for sign in CHILD_KILLED):
            self._send(MEMORY_ERROR, key, {"text": said, "stage": "child"})
            return
        if not _may_be_memory(task):
            return
        serialized: Any = getattr(task, "exception", None)
        data = getattr(serialized, "data", None)
        error = _unpickled(data) if isinstance(data, bytes) else None
        text = str(getattr(task, "exception_text", None) or "")[:MAX_TOLD]
        if isinstance(error, BaseException):
            cause = memory_error_in(error)
            if cause is None:
                return
            text = told(cause) or text
        elif "MemoryError" not in text.partition("(")[0]:
            return
        if start == "flight":
            self._receiving_failed(key, task, text)
            return
        self._send(MEMORY_ERROR, key, {"text": text, "stage": "running"})
        if isinstance(error, BaseException):
            marked = self._marked(key, error)
            if marked is not None and getattr(serialized, "data", None) is data:
                # The message to the scheduler holds the same object, not sent yet.
                serialized.data = marked

    def _receiving_failed(self, key: Any, task: Any, text: str) -> None:
        """Tell that an input did not fit; it is the waiting tasks that need it."""
        waiting = list(getattr(task, "waiters", None) or ())
        size = getattr(task, "nbytes", None)
        what = short(key_text(key))
        if isinstance(size, int) and size > 0:
            what += f" of {format_bytes(size)}"
        self._send(
            MEMORY_ERROR,
            waiting[0].key if waiting else key,
            {"text": f"{text}, for input {what}", "stage": "receiving"},
        )

    def _mark(self, key: Any, error: BaseException) -> bytes:
        """Return a task's error with a note and a mark, pickled."""
        from distributed.protocol.pickle import dumps  # knows classes of a notebook

        limit = self._worker.memory_manager.memory_limit
        used = self._worker.monitor.get_process_memory()
        of = f" of its limit of {format_bytes(limit)}" if limit else ""
        name = plain(str(self._worker.name), KEY_IN_SENTENCE)
        error.add_note(
            f"MemDash: worker {name} used {format_bytes(used)}{of} then. "
            "dask_memdash.explain(error) says what was asked for and what to change."
        )
        setattr(error, TASK_MARK, (key_text(key)[:KEY_KEPT], self._worker.address))
        return bytes(dumps(error))

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
                "text": "" if reason == "max-spill" else told(_root(error)),
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


def _may_be_memory(task: Any) -> bool:
    """Whether it is worth while to read a task's error."""
    if "MemoryError" in str(getattr(task, "exception_text", None) or "")[:MAX_TOLD]:
        return True
    data = getattr(getattr(task, "exception", None), "data", None)
    if not isinstance(data, bytes) or len(data) > MAX_PICKLED:
        return False
    return any(sign in data for sign in SIGNS)


def _root(error: BaseException) -> BaseException:
    """Return what an error was raised for in the first place."""
    for _ in range(MAX_CAUSES):
        if error.__cause__ is None:
            break
        error = error.__cause__
    return error


# An error is made by the user, and so is what happens when it is read.
_unpickled = boundary.guarded(pickle.loads, "reading a task's error")
