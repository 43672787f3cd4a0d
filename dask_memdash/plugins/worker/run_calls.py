"""What functions that ``client.run`` called have left behind on a worker.

They run on the worker's event loop, beside all tasks and in no books of Dask.  By how
much the process has grown after each call, as far as nothing else explains it, is
theirs where nothing ran meanwhile; else it is counted as not measured.  What a later
call lets go again is taken off.

Not seen: what a function that was not waited for (``wait=False``) leaves behind later.

Belongs to the worker's event loop.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from dask_memdash.boundary import boundary

if TYPE_CHECKING:
    from distributed.worker import Worker

#: Operations by which clients run functions.
OPERATIONS = ("run", "run_coroutine")


class Instant(NamedTuple):
    """The process as it is before or after a call."""

    #: What nothing explains of what no file backs, in bytes; None where not known.
    own: int | None
    #: Whether nothing runs.
    quiet: bool
    #: How many tasks have begun so far.
    begun: int


class RunCalls:
    """Measures the calls of one worker, by wrapping its handlers on the instance.

    Parameters
    ----------
    worker
        Whose handlers are wrapped.
    look
        Returns the instant.
    """

    def __init__(self, worker: Worker, look: Callable[[], Instant]) -> None:
        self._handlers: dict[str, Any] = worker.handlers
        self._before = boundary.guarded(look, "looking before client.run", None)
        self._after = boundary.guarded(self._note, "looking after client.run")
        self._look = look
        self._under_way = 0
        #: What is left of all calls, in bytes, at least 0.
        self.bytes = 0
        #: Calls that ran beside others or beside tasks.
        self.unmeasured = 0
        self._wrapped = {
            name: (self._handlers[name], self._wrap(self._handlers[name]))
            for name in OPERATIONS
            if name in self._handlers
        }
        for name, (_, ours) in self._wrapped.items():
            self._handlers[name] = ours

    def close(self) -> None:
        """Put the handlers back, if they are still ours."""
        for name, (before, ours) in self._wrapped.items():
            if self._handlers.get(name) is ours:
                self._handlers[name] = before

    def _wrap(self, handler: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(handler)
        async def run(comm: Any, *args: Any, **kwargs: Any) -> Any:
            before = self._before()
            alone = self._under_way == 0
            self._under_way += 1
            try:
                return await handler(comm, *args, **kwargs)
            finally:
                self._under_way -= 1
                self._after(before, alone)

        return run

    def _note(self, before: Instant | None, alone: bool) -> None:
        after = self._look()
        if (
            before is None
            or before.own is None
            or after.own is None
            or not (alone and before.quiet and after.quiet)
            or before.begun != after.begun
            or self._under_way
        ):
            self.unmeasured += 1
        else:
            self.bytes = max(0, self.bytes + after.own - before.own)
