"""Tasks of the scheduler's in whose place stands a load, and the tasks before them.

A stored key that has lost its last holder, or that was found stored when its graph
arrived, has a *stand-in*: a task that loads its value and needs no other.  The tasks
before it are kept here, apart from the scheduler's own, and come back when the load
fails: then the value is computed as if nothing had been stored.

Runs on the scheduler's event loop, and calls the scheduler's own methods in the order
that its transitions need (DESIGN.md, section on the shared storage).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from dask._task_spec import GraphNode
from dask.order import order

from dask_memdash.boundary import boundary
from dask_memdash.intermediates.shared.resume import load_task
from dask_memdash.intermediates.stored import Stored

if TYPE_CHECKING:
    from distributed.scheduler import Scheduler, TaskState

#: Tasks before a lost key that are looked at; with more it is computed as ever.
MOST_BEFORE = 200_000

#: States of a task whose load is not, and is, still to come.
AT_REST = ("memory", "released")
UNDER_WAY = ("processing", "queued", "no-worker", "waiting")


class StandIns:
    """The stand-ins of one scheduler."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        # Key → the stand-in, and tasks among which those before it are.
        self._kept: dict[Any, tuple[GraphNode, Mapping[Any, GraphNode]]] = {}
        self._let_go: set[Any] = set()

    def __len__(self) -> int:
        return len(self._kept)

    def __contains__(self, key: Any) -> bool:
        return key in self._kept

    def task(self, key: Any) -> GraphNode | None:
        """Return the stand-in of a key, if it has one."""
        found = self._kept.get(key)
        return None if found is None else found[0]

    def tasks_before(self, key: Any) -> Mapping[Any, GraphNode]:
        """Return tasks among which the real ones up to a key are; maybe none."""
        found = self._kept.get(key)
        return {} if found is None else found[1]

    def arrived(
        self, loads: Iterable[tuple[Any, GraphNode]], tasks: Mapping[Any, GraphNode]
    ) -> None:
        """Take note of loads that came with a graph, and of the graph as it was."""
        for key, task in loads:
            self._kept[key] = task, tasks

    def forget(self, key: Any) -> None:
        """Forget a key that the scheduler has forgotten."""
        self._kept.pop(key, None)

    # -- a key has lost its last holder -----------------------------------------

    def take_place(self, ts: TaskState, stored: Stored) -> bool:
        """Let a released task be loaded; return whether a load stands there now."""
        if ts.key in self._kept:
            return True
        if ts.actor or ts.run_spec is None:
            return False
        before = {} if ts.has_lost_dependencies else self._before(ts)
        if before is None or not self._may_wait(ts):
            return False
        stand_in = load_task(stored)
        self._kept[ts.key] = stand_in, before
        ts.run_spec = stand_in
        for dependency in list(ts.dependencies):
            dependency.dependents.discard(ts)
            if dependency.waiters:
                dependency.waiters.discard(ts)
            if not dependency.dependents or not dependency.waiters:
                self._let_go.add(dependency.key)
        ts.dependencies.clear()
        if self._let_go:
            loop: Any = self._scheduler.loop
            loop.add_callback(
                boundary.guarded(self._release_unneeded, "releasing earlier tasks")
            )
        return True

    def _may_wait(self, ts: TaskState) -> bool:
        """Let a task be loaded that Dask is about to forget, with the data it rests on.

        The transition that is under way recommends it in the very dict that it logs.
        """
        if not ts.has_lost_dependencies:
            return True
        last = self._scheduler.transition_log[-1]
        if last.key != ts.key or last.recommendations.get(ts.key) != "forgotten":
            return False
        ts.has_lost_dependencies = False
        if ts.who_wants or ts.waiters:
            last.recommendations[ts.key] = "waiting"
        elif ts.dependents:
            del last.recommendations[ts.key]
        return True

    def _before(self, ts: TaskState) -> dict[Any, GraphNode] | None:
        """Return the tasks up to one, without data that nobody can compute.

        None where there is an actor, or too much to look at: then the task is computed.
        """
        found: dict[Any, GraphNode] = {}
        stack: list[TaskState] = [ts]
        while stack:
            task = stack.pop()
            if task.key in found:
                continue
            if task.key in self._kept:
                found |= self.tasks_before(task.key)
                continue
            if task.actor or len(found) > MOST_BEFORE:
                return None
            if task.run_spec is None:
                continue
            found[task.key] = task.run_spec
            stack.extend(task.dependencies)
        return found

    def _release_unneeded(self) -> None:
        """Let go of the tasks that were needed by stand-ins alone."""
        keys, self._let_go = self._let_go, set()
        moves: dict[Any, Any] = {}
        for key in keys:
            ts = self._scheduler.tasks.get(key)
            if ts is None or ts.who_wants or ts.waiters:
                continue
            if not ts.dependents:
                moves[key] = "forgotten"
            elif ts.state not in ("erred", "released"):
                moves[key] = "released"
        if moves:
            self._scheduler.transitions(moves, stimulus_id="memdash-stand-in")

    # -- a load has failed --------------------------------------------------------

    def give_back(self, ts: TaskState) -> bool:
        """Put the real task and those before it back; return whether that was done.

        False where they are not known, or rest on data that is gone.
        """
        scheduler = self._scheduler
        _, tasks = self._kept.get(ts.key, (None, {}))
        if ts.key not in tasks:
            return False
        needed: dict[Any, GraphNode] = {}
        stack = [ts.key]
        while stack:
            key = stack.pop()
            if key in needed:
                continue
            known = scheduler.tasks.get(key) if key != ts.key else None
            if known is not None:
                if known.state == "erred":
                    return False
                continue
            if key not in tasks:
                return False
            needed[key] = tasks[key]
            stack.extend(tasks[key].dependencies)
        del self._kept[ts.key]
        ts.run_spec = needed[ts.key]
        self._add(ts, needed)
        return True

    def _add(self, ts: TaskState, needed: dict[Any, GraphNode]) -> None:
        """Make the scheduler know the tasks before one."""
        scheduler = self._scheduler
        made = []
        for key, task in needed.items():
            if key != ts.key:
                made.append(scheduler.new_task(key, task, "released"))
        first, *middle, last = ts.priority or (0, 0, 0)
        ranks = order(needed) if made else {}
        for other in made:
            # before what waits for them, after all that came earlier
            share = ranks.get(other.key, 0) / (len(needed) + 1)
            other.priority = (first, *middle, last - 1 + share)
        for key, task in needed.items():
            for dependency in task.dependencies:
                scheduler.tasks[key].add_dependency(scheduler.tasks[dependency])
        spans: Any = scheduler.extensions.get("spans")
        if spans is not None and made:
            spans.observe_tasks(made, code=(), span_metadata={"collections": []})

    def give_all_back(self) -> None:
        """Put all real tasks back, as the plugin leaves: nobody hears of loads then.

        A load that is under way is called off, and its value computed.
        """
        for key in list(self._kept):
            ts = self._scheduler.tasks.get(key)
            if ts is not None and ts.state in AT_REST:
                self.give_back(ts)
        self.call_off(lambda key: None)
        self._kept.clear()

    def call_off(self, noted: Callable[[Any], object]) -> None:
        """Have computed what is being loaded, where that can be.

        Parameters
        ----------
        noted
            Called with each key before its load is called off.
        """
        again: dict[Any, Any] = {}
        for key in list(self._kept):
            ts = self._scheduler.tasks.get(key)
            if ts is None or ts.state not in UNDER_WAY:
                continue
            if self.give_back(ts):
                noted(key)
                again[key] = "released"
        if again:
            self._scheduler.transitions(again, stimulus_id="memdash-called-off")
