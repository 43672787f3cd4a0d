"""The guard of one worker: looks, asks :mod:`~dask_memdash.guard.decision`, and acts.

*Wake*: tasks are held while others run, and nothing in distributed asks again when
memory falls.  So it looks every tenth of a second, and every fiftieth while something
is held; an event is sent only if a task would start then.

Runs on the worker's event loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from dask._task_spec import Task
from distributed.core import Status

from dask_memdash.boundary import boundary
from dask_memdash.guard.actions import (
    BRAKED,
    OPENED,
    PASSED,
    RAN_ON,
    REFUSED,
    WAITED,
    WOULD_WAIT,
    Actions,
)
from dask_memdash.guard.braking import Braking
from dask_memdash.guard.decision import (
    ALONE,
    DRAINS,
    MAKES_ROOM,
    MOVING,
    PROGRESS,
    STANDS_STILL,
    Decision,
    Snapshot,
    decide,
)
from dask_memdash.guard.expectation import Expectations
from dask_memdash.guard.gate import (
    FAILED,
    MemDashWake,
    base_of,
    stand_in,
)
from dask_memdash.guard.holding import Holding
from dask_memdash.guard.making_room import RoomMaker
from dask_memdash.guard.moves import Moves
from dask_memdash.guard.protocol import EXPECT
from dask_memdash.guard.reading import Reading, text_of
from dask_memdash.guard.snapshots import PATIENCE, Snapshots
from dask_memdash.guard.stillness import Stillness
from dask_memdash.guard.thresholds import Thresholds, read_thresholds
from dask_memdash.guard.too_large import refuse
from dask_memdash.model.event_readers import to_dict
from dask_memdash.plugins.keys import prefix_of

if TYPE_CHECKING:
    from distributed.worker import Worker
    from distributed.worker_state_machine import (
        StateMachineEvent,
        TaskState,
        WorkerState,
    )

    from dask_memdash.flight.writer import FlightRecorder
    from dask_memdash.measure.shared_process import SharedProcess
    from dask_memdash.plugins.worker.tasks import RunningTasks

#: Seconds between two looks: at rest, and while tasks are held.
AT_REST = 0.1
WHILE_HELD = 0.02

#: Seconds for which a task that does not fit waits although nothing runs, since some of
#: what is stored may go.
HOPE = 2.0

#: What is noted of a task that starts for one of these reasons.
STARTED = {PROGRESS: OPENED, DRAINS: RAN_ON}


class WorkerGuard:
    """Lets tasks of one worker start when they fit.

    Parameters
    ----------
    tasks
        Those that run, as they are measured.
    recorder
        What they hold, and are filling.
    process
        What the worker lives in.
    acts
        Whether it acts; otherwise it only notes what it would do.
    learnt
        What the scheduler knew when this worker came: ``{"prefixes", "keys",
        "refused", "spared"}``.
    """

    def __init__(
        self,
        worker: Worker,
        tasks: RunningTasks,
        recorder: FlightRecorder,
        process: SharedProcess,
        *,
        acts: bool,
        learnt: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self._worker = worker
        self._tasks = tasks
        self._process = process
        self._acts = acts
        self.expectations = Expectations()
        self._reading = Reading(worker, tasks, recorder, self.expectations)
        # Key → why it is not run any more: no worker has room for it.
        self._refused: dict[str, str] = {}
        self._braking = Braking(worker, tasks, process)
        if learnt:
            self._take(**learnt)
        self.holding = Holding()
        self._stillness = Stillness()
        room = RoomMaker(worker, process)
        self._snapshots = Snapshots(
            worker, process, self._reading, self._stillness, self.holding, room
        )
        self._moves = Moves(worker, self._reading, self._snapshots, room, self._see)
        self._look_now = boundary.guarded(
            self._look, "the guard's look at the worker", self.failed
        )
        # Whether the worker is paused, and stands still for so long that it would for
        # ever.
        self._stands_still = False
        self._stopped = False
        self._timer: Any = None
        # Seconds for which a task that does not fit waits although nothing runs.
        self._hope = HOPE
        # Where the worker is paused and ends, or why the guard is off.
        self._lines: Thresholds | str = ""
        self._actions = Actions()

    # -- coming and going ------------------------------------------------------

    def install(self) -> None:
        """Take the place of what starts tasks."""
        worker, state = self._worker, self._worker.state
        self._lines = read_thresholds(worker, self._process)
        if base_of(state) is None:
            state.__class__ = stand_in(type(state), self)
        worker.stream_handlers[EXPECT] = boundary.guarded(
            self._take, "taking in what the guard is to expect"
        )
        self._tasks.heard = self.expectations.learn
        if self._acts:
            self._braking.set(self._lines)
            self._moves.install()
        self._again()

    def remove(self) -> None:
        """Leave the worker as it was; what was held starts."""
        worker, state = self._worker, self._worker.state
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
        self._tasks.heard = None
        worker.stream_handlers[EXPECT] = _ignore
        self._moves.remove()
        self._braking.remove()
        base = base_of(state)
        try:
            if worker.status == Status.running:
                self._wake()
        finally:
            if base is not None:
                state.__class__ = base

    # -- asked by the gate -----------------------------------------------------

    @property
    def active(self) -> bool:
        """Whether there is anything to decide by."""
        return not isinstance(self._lines, str) and not self._stopped

    @property
    def acts(self) -> bool:
        """Whether what is decided is done."""
        return self._acts

    def next_task(self, state: WorkerState) -> TaskState | None:
        """Return which ready task starts now; None: none."""
        return self._next(state, paused=False)

    def next_drained(self, state: WorkerState) -> TaskState | None:
        """Return which ready task runs on although the worker is paused; None: none."""
        if not self._paused_for_memory():
            return None
        return self._next(state, paused=True)

    def may_fetch(self, state: WorkerState) -> bool:
        """Whether the next input is fetched now."""
        return self._moves.may_fetch(state)

    def may_fetch_paused(self, state: WorkerState) -> bool:
        """Whether inputs are fetched, one at a time, although the worker is paused."""
        return self._stands_still and not state.executing

    @property
    def stopped(self) -> bool:
        """Whether a task was stopped whose outcome is to come."""
        return bool(self._braking.stopped)

    def outcome(self, event: StateMachineEvent) -> StateMachineEvent:
        """Return what becomes of an event: that of a stopped task is discarded."""
        found = self._braking.outcome(event)
        if found is not None:
            key, needs = found.key, found.needs
            self.expectations.take({}, {text_of(key): needs})
            self._actions.note(BRAKED, key, now=time.time(), need=needs)
            return found.event
        return event

    def failed(self) -> object:
        """Take note that a decision has raised: Dask's own is taken."""
        self.holding.failed += 1
        return FAILED

    # -- said in heartbeats ----------------------------------------------------

    def figures(self) -> dict[str, Any]:
        """Return what it holds, and has done so far."""
        off = isinstance(self._lines, str)
        mode = "off" if off else "on" if self._acts else "dry-run"
        lowered = self._moves.fetch_limited
        return self.holding.figures(time.monotonic(), mode, fetch_limited=lowered)

    def heartbeat(self) -> dict[str, Any]:
        """Return what is sent of it."""
        return {"guard": self.figures(), "guard_actions": to_dict(self._actions.take())}

    def notices(self) -> list[str]:
        """Say why it can do nothing here, if so."""
        return [self._lines] if isinstance(self._lines, str) else []

    # -- deciding --------------------------------------------------------------

    def _next(self, state: WorkerState, *, paused: bool) -> TaskState | None:
        if not (state.ready or state.constrained):
            return None
        decision, looked_at = self._decide(state, paused=paused)
        if not looked_at:  # what is ready waits for a resource
            return None
        now = time.monotonic()
        chosen = None if decision.start is None else looked_at[decision.start]
        passes = bool(decision.start) and decision.reason != DRAINS
        if chosen is None or passes:
            first = looked_at[0]
            prefix = prefix_of(first.key)
            if self.holding.hold(first.key, prefix, decision, now) and not self._acts:
                self._note(WOULD_WAIT, first, decision)
        if chosen is not None:
            self._snapshots.waits_for_room(None)
            waited = self.holding.start(chosen.key, decision.reason, now)
            if passes:
                self.holding.passed(looked_at[0].key, decision.need)
            kind = STARTED.get(decision.reason) or (PASSED if passes else WAITED)
            if self._acts and (kind != WAITED or waited):
                self._note(kind, chosen, decision, waited or 0.0)
            if self._refused and self._acts and self._refuse(chosen):
                self._note(REFUSED, chosen, decision)
            if decision.reason in (PROGRESS, DRAINS):
                self._stillness.begin_anew(now)
            # each time in vain, the next waits half as long
            in_vain = decision.reason == ALONE and decision.need > decision.room
            self._hope = self._hope / 2 if in_vain else HOPE
        return chosen

    def _refuse(self, task: TaskState) -> bool:
        """Let a task that no worker has room for raise that, rather than run."""
        text = self._refused.pop(text_of(task.key), None)
        if text is None or task.run_spec is None:
            return False
        task.run_spec = Task(task.key, refuse, text)
        return True

    def _note(
        self, kind: str, task: TaskState, decision: Decision, seconds: float = 0.0
    ) -> None:
        self._actions.note(
            kind,
            task.key,
            now=time.time(),
            need=decision.need,
            room=decision.room,
            seconds=seconds,
        )

    def _decide(
        self, state: WorkerState, *, paused: bool
    ) -> tuple[Decision, list[TaskState]]:
        looked_at: list[TaskState] = []
        candidates = self._snapshots.candidates(state, looked_at, paused=paused)
        decision = decide(self._snapshot(state, paused=paused), candidates)
        # Whoever only looks whether a task would start ends no wait: its start does.
        if decision.start is None:
            waits = decision.reason in (MAKES_ROOM, MOVING)
            self._snapshots.waits_for_room(time.monotonic() if waits else None)
        return decision, looked_at

    def _snapshot(self, state: WorkerState, *, paused: bool) -> Snapshot:
        assert not isinstance(self._lines, str)
        return self._snapshots.take(state, self._lines, paused=paused, hope=self._hope)

    # -- looking ---------------------------------------------------------------

    def _again(self) -> None:
        delay = WHILE_HELD if self.holding.oldest is not None else AT_REST
        self._timer = asyncio.get_running_loop().call_later(delay, self._tick)

    def _tick(self) -> None:
        if not self._stopped:
            self._look_now()
            self._again()

    def _look(self) -> None:
        """See what has changed, and ask again if a task would start now."""
        state, now = self._worker.state, time.monotonic()
        self._lines = read_thresholds(self._worker, self._process)
        self.holding.keep(lambda task: _is_ready(state, task), now, dry=not self._acts)
        if not self._acts:
            return
        self._braking.set(self._lines)
        self._braking.keep()
        if not self.active:
            return
        waiting = bool(state.ready or state.constrained)
        if not waiting:
            self._snapshots.waits_for_room(None)
        paused = not state.running
        if waiting or (paused and state.data_needed) or self._moves.waits:
            self._stillness.look(now, state.executed_count, self._reading.doing())
        fetches = self._moves.step(state)
        if paused and state.data_needed and not state.in_flight_workers:
            still = self._stillness.lasts(now)
            fits = self._snapshots.inputs_fit(state, self._snapshot(state, paused=True))
            late = still >= STANDS_STILL or (still >= PATIENCE and fits)
            self._stands_still = late and self._paused_for_memory()
            fetches |= self.may_fetch_paused(state)
        elif not paused:
            self._stands_still = False
        starts = False
        free = len(state.executing) < state.nthreads
        if waiting and free and (not paused or self._paused_for_memory()):
            decision, looked_at = self._decide(state, paused=paused)
            if decision.reason == MAKES_ROOM:
                lacks = decision.need - decision.room
                self._moves.make_room(state, lacks, looked_at[0])
                decision, _ = self._decide(state, paused=paused)
            starts = decision.start is not None
        if starts or fetches:
            self._wake()

    def _wake(self) -> None:
        stimulus = f"memdash-guard-{time.time()}"
        self._worker.handle_stimulus(MemDashWake(stimulus_id=stimulus))

    def _see(self) -> Snapshot | None:
        """Return what there is now; None where there is nothing to decide by."""
        if not self.active:
            return None
        return self._snapshot(self._worker.state, paused=False)

    def _paused_for_memory(self) -> bool:
        lines = self._lines
        return not isinstance(lines, str) and self._snapshots.paused_for_memory(lines)

    def _take(
        self,
        prefixes: Mapping[str, int] | None = None,
        keys: Mapping[str, int] | None = None,
        refused: Mapping[str, str] | None = None,
        spared: Iterable[str] | None = None,
        **_: Any,
    ) -> None:
        self.expectations.take(prefixes or {}, keys or {})
        self._refused.update(refused or {})
        self._braking.spare(spared or ())


def _ignore(**_: Any) -> None:
    """Stay behind where the guard was: an unknown operation would end the stream."""


def _is_ready(state: WorkerState, key: Any) -> bool:
    task = state.tasks.get(key)
    return task is not None and task.state in ("ready", "constrained")
