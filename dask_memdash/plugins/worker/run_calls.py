"""What functions that ``client.run`` called have left behind on a worker.

They run on the worker's event loop, beside all tasks and in no books of Dask.  By how
much the process has grown after each call, as far as nothing else explains it, is
theirs where nothing ran meanwhile; else it is counted as not measured.  What a call
returns is on its way, and not left behind.  What goes before something else gets under
way is taken off, what a later call lets go again, and what variables of modules hold
after a call that they did not before, where there was time to look: they are named
themselves.

Not seen: what a function both returns and keeps, but in a variable of a module; and
what a function that was not waited for (``wait=False``) leaves behind later.

Belongs to the worker's event loop.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from dask_memdash.boundary import boundary
from dask_memdash.measure.deep_size import deep_size

if TYPE_CHECKING:
    from distributed.worker import Worker

#: Operations by which clients run functions.
OPERATIONS = ("run", "run_coroutine")

#: Objects and seconds that a look into a result may take.
MAX_OBJECTS = 2_000
SECONDS = 0.002


class Instant(NamedTuple):
    """The process as it is before or after a call."""

    #: What nothing explains of what no file backs, in bytes; None where not known.
    own: int | None
    #: Whether nothing runs.
    quiet: bool
    #: How many tasks have begun so far.
    begun: int
    #: What variables of modules hold, in bytes; None where that was not looked at.
    held: int | None = None


class _Last(NamedTuple):
    """The last call that was measured, until something else gets under way."""

    #: `own` before it, without the message that asked for it, and with what variables
    #: hold since; in bytes.
    before: int
    #: What the calls before it left, and what this one can have left at most, in bytes.
    earlier: int
    most: int
    #: Tasks that had begun.
    begun: int


class RunCalls:
    """Measures the calls of one worker, by wrapping its handlers on the instance.

    Parameters
    ----------
    worker
        Whose handlers are wrapped.
    look
        Returns the instant; given whether to look into variables too.

    Raises
    ------
    LookupError
        The worker has no handlers of these names.
    """

    def __init__(self, worker: Worker, look: Callable[[bool], Instant]) -> None:
        handlers = getattr(worker, "handlers", None) or {}
        known = [name for name in OPERATIONS if callable(handlers.get(name))]
        if not known:
            raise LookupError("this worker has no handler of client.run")
        self._handlers: dict[str, Any] = handlers
        self._before = boundary.guarded(look, "looking before client.run")
        self._after = boundary.guarded(self._note, "looking after client.run")
        self._look = look
        self._up = True
        self._under_way = self._so_far = 0
        self._last: _Last | None = None
        #: What is left of all calls, in bytes, at least 0.
        self.bytes = 0
        #: Calls that ran beside others or beside tasks.
        self.unmeasured = 0
        self._wrapped = {
            name: (handlers[name], self._wrap(handlers[name])) for name in known
        }
        for name, (_, ours) in self._wrapped.items():
            handlers[name] = ours

    def close(self) -> None:
        """Put the handlers back, if they are still ours; measure nothing more."""
        self._up = False
        for name, (before, ours) in self._wrapped.items():
            if self._handlers.get(name) is ours:
                self._handlers[name] = before

    def settle(self) -> None:
        """Look again at what the last call left, as long as nothing else ran since."""
        last = self._last
        if last is None or self._under_way:
            return
        now = self._look(False)
        if now.begun != last.begun or not now.quiet or now.own is None:
            self._last = None
            return
        most = min(last.most, now.own - last.before)
        self._last = last._replace(most=most)
        self.bytes = max(0, last.earlier + most)

    def _wrap(self, handler: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(handler)
        async def run(comm: Any, *args: Any, **kwargs: Any) -> Any:
            if not self._up:
                result = handler(comm, *args, **kwargs)
                return await result if inspect.isawaitable(result) else result
            before = self._before(True)
            alone = self._under_way == 0
            self._under_way += 1
            self._so_far += 1
            number, result = self._so_far, None
            try:
                result = handler(comm, *args, **kwargs)
                if inspect.isawaitable(result):
                    result = await result
                return result
            finally:
                self._under_way -= 1
                alone = alone and number == self._so_far
                self._after(before, alone, kwargs, result)

        return run

    def _note(
        self, before: Instant | None, alone: bool, asked: dict[str, Any], result: Any
    ) -> None:
        self._last = None
        after = self._look(before is not None and before.held is not None)
        if (
            before is None
            or before.own is None
            or after.own is None
            or not (alone and before.quiet and after.quiet)
            or before.begun != after.begun
        ):
            self.unmeasured += 1
            return
        named = 0
        if before.held is not None and after.held is not None:
            named = after.held - before.held
        most = after.own - before.own - named - _returned(result)
        message = sum(len(x) for x in asked.values() if isinstance(x, bytes))
        base = before.own + named - message
        self._last = _Last(base, self.bytes, most, after.begun)
        self.bytes = max(0, self.bytes + most)


def _returned(result: Any) -> int:
    """Return what an answer holds of a function's result, in bytes."""
    if type(result) is not dict:
        return 0
    value = getattr(result.get("result"), "data", None)
    if value is None:
        return 0
    return deep_size([value], most=MAX_OBJECTS, seconds=SECONDS).bytes
