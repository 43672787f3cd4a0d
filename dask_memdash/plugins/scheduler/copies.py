"""Which outputs a worker has as copies, since it fetched them: `CopyWatch`.

The scheduler knows who holds an output, and forgets who computed it.  A worker that has
fetched one says so in a message of its own (``add-keys``), so the handler of that is
wrapped, on the instance.  What is kept are the keys of copies, a few times as many as
there are at most.

Runs on the scheduler's event loop.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Hashable
from typing import TYPE_CHECKING, Any

from dask_memdash.boundary import boundary

if TYPE_CHECKING:
    from distributed.scheduler import Scheduler, TaskState, WorkerState

#: The message of a worker that has fetched outputs.
MESSAGE = "add-keys"

#: Copies of a worker up to which nothing is looked through for those that are gone.
FEW = 1_000


class CopyWatch:
    """Remembers what each worker has fetched.

    Parameters
    ----------
    scheduler
        Whose workers.
    """

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._wrapped: Callable[..., Any] | None = None
        self._original: Callable[..., Any] | None = None
        # Address → keys that it has fetched, some of which are gone by now.
        self._fetched: dict[str, set[Hashable]] = {}
        # Address → how many keys there may be before those that are gone are dropped.
        self._most: dict[str, int] = {}

    def attach(self) -> None:
        """Begin to listen."""
        handlers = self._scheduler.stream_handlers
        add_keys = handlers.get(MESSAGE)
        if add_keys is None:
            return
        note = boundary.guarded(self._note, "noting what a worker has fetched")

        @functools.wraps(add_keys)
        def adding(*args: Any, **kwargs: Any) -> Any:
            if self._wrapped is not None:
                note(*args, **kwargs)
            return add_keys(*args, **kwargs)

        self._original, self._wrapped = add_keys, adding
        handlers[MESSAGE] = adding

    def detach(self) -> None:
        """Listen no more, and forget everything."""
        wrapped, self._wrapped = self._wrapped, None
        handlers = self._scheduler.stream_handlers
        if wrapped is not None and handlers.get(MESSAGE) is wrapped:
            handlers[MESSAGE] = self._original  # type: ignore[assignment]
        self._fetched.clear()
        self._most.clear()

    def has_fetched(self, worker: WorkerState, task: TaskState) -> bool:
        """Say whether a worker is known to hold an output as a copy."""
        return task.key in self._fetched.get(worker.address, ())

    def _note(
        self, worker: str, keys: Collection[Hashable] = (), *_: Any, **__: Any
    ) -> None:
        if worker not in self._fetched:
            self._forget_the_gone()
        known = self._fetched.setdefault(worker, set())
        known.update(keys)
        if len(known) <= self._most.get(worker, FEW):
            return
        state = self._scheduler.workers.get(worker)
        held = {task.key for task in state.has_what} if state is not None else set()
        known &= held | set(keys)
        self._most[worker] = max(FEW, 2 * len(known))

    def _forget_the_gone(self) -> None:
        for address in self._fetched.keys() - self._scheduler.workers.keys():
            del self._fetched[address]
            self._most.pop(address, None)
