"""What stands in for the methods of a worker's state machine that start tasks.

``worker.state.__class__`` is replaced by a subclass of the class that it had, with
``__slots__ = ()``, and put back when the guard goes.  It overrides

- ``_next_ready_task``: peeks at what is ready, and takes a task out only when that one
  is to start.  What is held stays where it is, so that it is stolen, cancelled and
  released as ever;
- ``_ensure_computing``, which returns at once on a paused worker: one task at a time
  may start there;
- ``_ensure_communicating``, which fetches an input whatever its size while nothing else
  is on its way: one that does not fit waits; and fetches nothing on a paused worker:
  where that has stood still for long, one input at a time;
- ``_handle_event``, for an event of our own: nothing in distributed asks again when
  memory falls.  (``UnpauseEvent`` would set ``running`` while the worker's status stays
  paused.)  And for what a task did that was stopped: it is to run again.

Whatever fails in what is asked here is noted, counted and answered as Dask would.
Nothing here decides: see :mod:`dask_memdash.guard.on_worker`.

Runs on the worker's event loop.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

from distributed.worker_state_machine import StateMachineEvent

from dask_memdash.boundary import boundary

if TYPE_CHECKING:
    from distributed.worker_state_machine import RecsInstrs, TaskState, WorkerState


#: What is returned in the place of a decision that has raised.
FAILED: Any = object()

#: Stored outputs that are looked at for what uses them, and users of each.
STORED_LOOKED_AT = 1_000
USERS_LOOKED_AT = 20

#: Where it has, for the log.
DECIDING = "the guard's decision (Dask's own was taken)"


@dataclass
class MemDashWake(StateMachineEvent):
    """Look again at what may start, and at what may be fetched."""

    __slots__ = ()


class Gatekeeper(Protocol):
    """What decides."""

    @property
    def active(self) -> bool:
        """Whether it decides anything now; where not, all is as Dask has it."""

    @property
    def acts(self) -> bool:
        """Whether what it decides is done, rather than only noted."""

    def next_task(self, state: WorkerState) -> TaskState | None:
        """Return which ready task starts now; None: none."""

    def next_drained(self, state: WorkerState) -> TaskState | None:
        """Return which ready task runs on although the worker is paused; None: none."""

    def may_fetch(self, state: WorkerState) -> bool:
        """Whether the next input is fetched now."""

    def may_fetch_paused(self, state: WorkerState) -> bool:
        """Whether inputs are fetched although the worker is paused."""

    @property
    def stopped(self) -> bool:
        """Whether a task was stopped whose outcome is to come."""

    def outcome(self, event: StateMachineEvent) -> StateMachineEvent:
        """Return what becomes of an event: that of a stopped task is discarded."""

    def failed(self) -> object:
        """Take note that one of these has raised; return `FAILED`."""


def stand_in(base: type[WorkerState], keeper: Gatekeeper) -> type[WorkerState]:
    """Make the class that a worker's state gets in the place of `base`."""
    next_task = boundary.guarded(keeper.next_task, DECIDING, keeper.failed)
    next_drained = boundary.guarded(keeper.next_drained, DECIDING, keeper.failed)

    outcome = boundary.guarded(keeper.outcome, "discarding what a stopped task did")
    may_fetch = boundary.guarded(keeper.may_fetch, DECIDING, True)
    may_fetch_paused = boundary.guarded(keeper.may_fetch_paused, DECIDING, False)

    def _next_ready_task(self: WorkerState) -> TaskState | None:
        if keeper.active:
            task = next_task(self)
            if keeper.acts and task is not FAILED:
                return _taken(self, task)
        return base._next_ready_task(self)

    def _ensure_computing(self: WorkerState) -> RecsInstrs:
        if not self.running and keeper.active and keeper.acts:
            task = next_drained(self)
            if task is not None and task is not FAILED:
                # as the host does for each task that it starts
                _taken(self, task)
                self._acquire_resources(task)
                self.executing.add(task)
                return {task: "executing"}, []
        return base._ensure_computing(self)

    def _ensure_communicating(self: WorkerState, *, stimulus_id: str) -> RecsInstrs:
        acts = bool(self.data_needed) and keeper.active and keeper.acts
        if acts and self.running and not may_fetch(self):
            return {}, []
        if self.running or not (acts and may_fetch_paused(self)):
            return base._ensure_communicating(self, stimulus_id=stimulus_id)
        self.running = True
        try:
            return base._ensure_communicating(self, stimulus_id=stimulus_id)
        finally:
            self.running = False

    def _handle_event(self: WorkerState, event: StateMachineEvent) -> RecsInstrs:
        if type(event) is MemDashWake:
            return self._ensure_computing()
        if keeper.stopped:
            event = outcome(event) or event
        handled: RecsInstrs = bound(self)(event)
        return handled

    bound = _binder(base)
    made: type[WorkerState] = type(
        base.__name__,
        (base,),
        {
            "__slots__": (),
            "__module__": base.__module__,
            "__doc__": base.__doc__,
            "_next_ready_task": _next_ready_task,
            "_ensure_computing": _ensure_computing,
            "_ensure_communicating": _ensure_communicating,
            "_handle_event": _handle_event,
            "_memdash_base": base,
        },
    )
    return made


def base_of(state: WorkerState) -> type[WorkerState] | None:
    """Return the class that a state had before; None if it has its own."""
    return vars(type(state)).get("_memdash_base")


def ready_tasks(state: WorkerState, most: int) -> Iterator[TaskState]:
    """Iterate over what may start, in the order in which the host would start it.

    Of tasks with resources, the host looks at the first only.
    """
    constrained: TaskState | None = None
    if state.constrained:
        first = state.constrained.peek()
        if state._resource_restrictions_satisfied(first):
            constrained = first
    if not state.ready:
        if constrained is not None:
            yield constrained
        return
    # The first alone is cheap; with more, all that is ready is sorted.
    yield from _merged(state.ready.peek(), constrained)
    if constrained is not None and _before(constrained, state.ready.peek()):
        constrained = None
    for task in islice(state.ready.sorted(), 1, most):
        if constrained is not None and _before(constrained, task):
            yield constrained
            constrained = None
        yield task
    if constrained is not None:
        yield constrained


def freeing_tasks(state: WorkerState, most: int) -> list[TaskState]:
    """Return those of what is ready that use stored outputs, the first `most`.

    Found by what is stored: what is ready may be a long queue.
    """
    found: set[TaskState] = set()
    for key in islice(state.data, STORED_LOOKED_AT):
        task = state.tasks.get(key)
        if task is not None:
            users = islice(task.dependents, USERS_LOOKED_AT)
            # by the queue: one that was just taken from it says that it is ready, too
            found.update(user for user in users if user in state.ready)
    return heapq.nsmallest(most, found, key=lambda task: task.priority or ())


def _merged(ready: TaskState, constrained: TaskState | None) -> Iterator[TaskState]:
    if constrained is not None and _before(constrained, ready):
        yield constrained
    yield ready


def _before(one: TaskState, other: TaskState) -> bool:
    return (one.priority or ()) < (other.priority or ())


def _taken(state: WorkerState, task: TaskState | None) -> TaskState | None:
    """Take a task that is to start out of what is ready."""
    if task is not None:
        state.ready.discard(task)
        state.constrained.discard(task)
    return task


def _binder(base: type[WorkerState]) -> Callable[[Any], Callable[..., Any]]:
    """Return what binds the host's own dispatch of events, as ``super()`` would."""
    for cls in base.__mro__:
        found = vars(cls).get("_handle_event")
        if found is not None:
            return lambda self: found.__get__(self, type(self))
    raise AttributeError("_handle_event")
