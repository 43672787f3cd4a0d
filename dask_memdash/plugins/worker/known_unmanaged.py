"""Memory of a worker that Dask does not manage and that can be named all the same.

Joins what the graph weighs (:mod:`.graph_bytes`), what actors hold
(:mod:`.actor_state`), what else has a name (:mod:`.named_memory`) and how much more can
be spilled (:mod:`.spill_room`), decides when to look, and keeps the flight recorder's
figure of the graph true.  Belongs to the worker's event loop.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dask_memdash.boundary import boundary
from dask_memdash.flight.writer import FlightRecorder
from dask_memdash.model.event_readers import to_dict
from dask_memdash.plugins.worker.actor_state import ActorState
from dask_memdash.plugins.worker.graph_bytes import GraphBytes, is_data_node
from dask_memdash.plugins.worker.named_memory import NamedMemoryWatch
from dask_memdash.plugins.worker.recorder_figures import WRITE_STEP
from dask_memdash.plugins.worker.spill_room import SpillRoomWatch

if TYPE_CHECKING:
    from distributed.worker import Worker

#: Seconds from the arrival of tasks until they are weighed, how long that may take,
#: and how many times longer nothing is weighed after it.
WEIGHED_AFTER = 0.05
WEIGHING = 0.005
REST = 100

#: Seconds that weighing at once, as a prefix's first task arrives, may take altogether;
#: they come back at the same duty.
AT_ONCE = 0.05

#: States of a task that has arrived and has not begun to run.
NOT_BEGUN = frozenset({"waiting", "constrained", "ready"})


class KnownUnmanaged:
    """What one worker knows of its unmanaged memory.

    Parameters
    ----------
    worker, recorder
        The worker, and its flight recorder.
    metered
        Wraps what runs by itself, so that its cost is counted.
    """

    def __init__(
        self,
        worker: Worker,
        recorder: FlightRecorder,
        metered: Callable[[Callable[..., Any]], Callable[..., Any]],
    ) -> None:
        self._worker = worker
        self._recorder = recorder
        self._graph = GraphBytes(self._run_spec_of, self._has_begun)
        self._actors = ActorState(worker.state)
        self._spill_room = SpillRoomWatch(worker)
        self._written = 0
        self._rests_until = 0.0
        self._at_once, self._at_once_since = AT_ONCE, time.perf_counter()
        self._up = True
        self._weigh = metered(
            boundary.guarded(self._weigh_graph, "weighing arguments of tasks")
        )
        watch = boundary.guarded(NamedMemoryWatch, "naming memory of the baseline")
        self._named: NamedMemoryWatch | None = watch(worker)
        self._look_for_names: Callable[..., Any] = boundary.guarded(
            self._named.look if self._named is not None else _nothing,
            "naming memory of the baseline",
        )

    def meet_tasks(self) -> None:
        """Take note of the tasks that had arrived before."""
        for key in self._worker.state.tasks:
            self.arrived(key)

    def close(self) -> None:
        """Weigh nothing more."""
        self._up = False
        if self._named is not None:
            self._named.close()

    def arrived(self, key: Any) -> None:
        """Take note of a task that has arrived, to be weighed soon.

        The first of its prefix is weighed at once where time is left for it: it may run
        before the next look, and may gather things in what it was sent with.
        """
        if self._graph.is_unmet(key) and not self._has_begun(key):
            if self._named is not None:
                self._named.called(getattr(self._run_spec_of(key), "func", None))
            self._weigh_at_once(key)
        if self._graph.arrived(key):
            self._weigh_later()

    def task_begins(self) -> None:
        """Take note that a task is about to begin."""
        if self._named is not None:
            self._named.begun += 1

    def all_weighed(self) -> bool:
        """Weigh what has arrived, within the time left for it; whether that was all."""
        now = self._earn()
        if self._at_once > 0:
            seconds = min(WEIGHING, self._at_once)
            self._graph.weigh(time.perf_counter, seconds)
            self._at_once -= time.perf_counter() - now
        return self._graph.is_done

    def stored(self, key: Any) -> None:
        """Take note that a task's output has been stored."""
        task = self._worker.state.tasks.get(key)
        if task is not None and is_data_node(task.run_spec):
            self._graph.stored(key)

    def forgotten(self, key: Any) -> None:
        """Take note that a task is gone."""
        if self._graph.forgotten(key):
            self._weigh_later()

    def prefix_of(self, prefix: str) -> str:
        """Return the actor's own prefix for that of a call of its method."""
        return self._actors.prefix_of(prefix) if self._worker.state.actors else prefix

    def heartbeat(self, *, may_wait: bool = False) -> dict[str, Any]:
        """Return what travels with a heartbeat, as plain data.

        Parameters
        ----------
        may_wait
            Whether what is in few of them may be told later.
        """
        room = {"spill_room": to_dict(self._spill_room.look(time.monotonic()))}
        if may_wait:
            return room
        return {
            "graph": to_dict(self._graph.new_rows()),
            "actors": to_dict(self._actors.look(time.perf_counter)),
            "named": to_dict(self._look_for_names(time.perf_counter)),
            **room,
        }

    @property
    def bytes(self) -> int:
        """What the graph and the actors weigh, as last seen."""
        return self._graph.total + (self._actors.total or 0)

    def read(self) -> tuple[int | None, int]:
        """Return what actors and graph weigh, as last seen, for a reading; in bytes."""
        self._written = self._graph.total
        return self._actors.total, self._graph.total

    def _weigh_at_once(self, key: Any) -> None:
        now = self._earn()
        if self._at_once > 0:
            self._graph.weigh_first(key)
            self._at_once -= time.perf_counter() - now

    def _earn(self) -> float:
        """Give back the time for weighing at once that is due; return the time."""
        now = time.perf_counter()
        earned = (now - self._at_once_since) / REST
        self._at_once, self._at_once_since = min(AT_ONCE, self._at_once + earned), now
        return now

    def _weigh_graph(self) -> None:
        """Weigh tasks that have arrived: at a duty of one percent, whatever comes."""
        if not self._up:
            return
        begun = time.perf_counter()
        done = self._graph.weigh(time.perf_counter, WEIGHING)
        total = self._graph.total
        if abs(total - self._written) > WRITE_STEP:
            self._written = total
            self._recorder.write_field("graph", total)
        now = time.perf_counter()
        self._rests_until = now + REST * (now - begun)
        if not done:
            self._weigh_later()

    def _weigh_later(self) -> None:
        rest = self._rests_until - time.perf_counter()
        self._worker.loop.call_later(max(WEIGHED_AFTER, rest), self._weigh)

    def _run_spec_of(self, key: Any) -> Any:
        task = self._worker.state.tasks.get(key)
        if task is None:
            return None
        if task.state == "memory" and is_data_node(task.run_spec):
            return ()  # its value is an output, which storage counts
        return task.run_spec

    def _has_begun(self, key: Any) -> bool:
        task = self._worker.state.tasks.get(key)
        return task is not None and task.state not in NOT_BEGUN


def _nothing(clock: Callable[[], float]) -> None:
    """Find nothing."""
