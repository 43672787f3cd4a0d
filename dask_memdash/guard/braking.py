"""Tasks that are stopped before they end their worker, and run again.

An allocation that would take the process beyond `BRAKED` of the limit fails in the task
that asks for it (:mod:`dask_memdash.measure.brake`).  Whatever that task then does,
return included, is discarded: the scheduler sends it to a worker again, and has heard
before what it needed, so that it starts only where it fits.  How often, and when no
more, is :mod:`~dask_memdash.guard.too_large`'s.

Never stopped are tasks of P2P shuffles and methods of actors, since what they have done
already cannot be done again.  (Tasks that run on the event loop, and threads that a
task starts, are never asked.)

Begin and end are called in the task's thread, the rest on the worker's event loop.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, NamedTuple

from distributed.worker_state_machine import (
    ExecuteFailureEvent,
    ExecuteSuccessEvent,
    RescheduleEvent,
    StateMachineEvent,
)

from dask_memdash.boundary import boundary
from dask_memdash.guard.leftovers import Leftovers
from dask_memdash.guard.protocol import BRAKED as OPERATION
from dask_memdash.guard.thresholds import Thresholds
from dask_memdash.measure.brake import Brake, Refused, brake
from dask_memdash.model.event_parts import Braked
from dask_memdash.model.event_readers import to_dict
from dask_memdash.plugins.keys import key_text, prefix_of
from dask_memdash.text import KEY_KEPT, format_line

if TYPE_CHECKING:
    from distributed.worker import Worker

    from dask_memdash.measure.running_task import RunningTask
    from dask_memdash.measure.shared_process import SharedProcess
    from dask_memdash.plugins.worker.tasks import RunningTasks

#: Share of the limit that no allocation may pass; and of where the worker ends, if that
#: is lower.
BRAKED = 0.94
BEFORE_END = 0.99

#: Prefixes of tasks that hand data over to a P2P shuffle, and what comes after them.
P2P = ("rechunk-transfer", "shuffle-transfer", "hash-join-transfer", "shuffle-barrier")

#: Tasks that are remembered as spared.
MOST_SPARED = 500

#: A frame of a traceback as text.
FRAME = re.compile(r'File "([^"\n]+)", line (\d+), in (.+)')


class Stopped(NamedTuple):
    """A task that was stopped, and has ended."""

    key: Any
    #: What it had and asked for, in bytes.
    needs: int
    #: What the worker is told in the place of its outcome.
    event: RescheduleEvent


class Braking:
    """Stops tasks of one worker, and has them run again."""

    def __init__(
        self, worker: Worker, tasks: RunningTasks, process: SharedProcess
    ) -> None:
        self._worker = worker
        self._tasks = tasks
        self._process = process
        self._brake: Brake | None = None
        self._line = 0
        # Keys of tasks that are stopped no more, the newest last.
        self._spared: dict[str, None] = {}
        #: Key → what a task was refused that has ended and whose outcome is to come.
        self.stopped: dict[Any, Refused] = {}
        # Whatever becomes of it: what a stopped task did is discarded.
        self.tell = boundary.guarded(self._tell, "telling that a task was stopped")
        self.collect = boundary.guarded(
            Leftovers().collect_soon, "collecting what a stopped task left behind"
        )
        self.begins = boundary.guarded(self._begins, "the brake at a task's begin")
        self.ends = boundary.guarded(self._ends, "the brake at a task's end")

    def set(self, lines: Thresholds | str) -> None:
        """Stop what would pass a worker's thresholds; nothing where it has none."""
        line = 0
        if not isinstance(lines, str):
            line = int(min(BRAKED * lines.limit, BEFORE_END * lines.end))
        if line == self._line:
            return
        self._line = line
        if self._brake is None:
            self._brake = brake()
        if self._brake is not None and self._brake.set(line):
            self._tasks.brake = self

    def remove(self) -> None:
        """Stop nothing any more."""
        self._tasks.brake = None
        if self._brake is not None:
            self._brake.set(0)

    def outcome(self, event: StateMachineEvent) -> Stopped | None:
        """Return what becomes of a stopped task that has ended; None: it was not."""
        if not isinstance(event, ExecuteSuccessEvent | ExecuteFailureEvent):
            return None
        refused = self.stopped.pop(event.key, None)
        if refused is None:
            return None
        needs = max(0, refused.held) + refused.asked
        traceback = getattr(event, "traceback_text", "") or ""
        self.tell(event.key, needs, traceback)
        self.collect()
        again = RescheduleEvent(key=event.key, stimulus_id=event.stimulus_id)
        return Stopped(event.key, needs, again)

    def spare(self, keys: Iterable[str]) -> None:
        """Stop these tasks no more."""
        self._spared.update(dict.fromkeys(keys))
        while len(self._spared) > MOST_SPARED:
            del self._spared[next(iter(self._spared))]

    def keep(self) -> None:
        """Let go of tasks that the worker has forgotten meanwhile."""
        for key in [k for k in self.stopped if k not in self._worker.state.tasks]:
            self.stopped.pop(key, None)

    # -- in the task's thread --------------------------------------------------

    def _begins(self, task: RunningTask) -> None:
        if self._brake is not None:
            self._brake.begin(may=self._may_be_stopped(task.key))

    def _ends(self, task: RunningTask) -> None:
        refused = None if self._brake is None else self._brake.end()
        if refused is not None:
            self.stopped[task.key] = refused

    def _may_be_stopped(self, key: Any) -> bool:
        state = self._worker.state
        task = state.tasks.get(key)
        if task is None or key in state.actors:
            return False
        text = key_text(key)
        if text[:KEY_KEPT] in self._spared or text.lstrip("('\"").startswith(P2P):
            return False
        needed = (key_text(other.key) for other in tuple(task.dependencies))
        return not any(text.startswith("shuffle-barrier") for text in needed)

    # -- on the event loop -----------------------------------------------------

    def _tell(self, key: Any, needs: int, traceback: str) -> None:
        """Tell the scheduler, which hears this before it hears of the rescheduling."""
        task = self._worker.state.tasks.get(key)
        inputs = sum(other.nbytes or 0 for other in task.dependencies) if task else 0
        told = Braked(
            key_text(key)[:KEY_KEPT],
            prefix_of(key),
            needs,
            inputs,
            # not what earlier tasks have left here: an empty worker has none of it
            self._process.baseline.bytes or 0,
            where(traceback),
        )
        self._worker.batched_send({"op": OPERATION, "task": to_dict(told)})


def where(traceback: str) -> str:
    """Return the innermost line of a traceback as text; empty without one.

    Of the user's own code where there is any, with the function that it called.
    """
    found = FRAME.findall(traceback)
    if not found:
        return ""
    own = [frame for frame in found if "-packages/" not in frame[0]] or found
    file, line, function = own[-1]
    called = "" if own[-1] is found[-1] else found[-1][2].strip()
    end = "/".join(PurePath(file).parts[-2:])
    return format_line(end, int(line), function.strip(), called)
