"""Taking from the scheduler what the order analysis needs: :class:`GraphWatch`.

A graph's dependencies leave with its tasks, so they are copied when it arrives: small
graphs at once, large ones a slice at a time, while the names that the hook handed over
are held.  Single tasks (``submit``) are gathered until no more come.  Then the moves of
outputs are passed on: the transition hook only appends to :attr:`GraphWatch.moves`,
and the tick makes an event of it.

Runs on the scheduler's event loop; what can be done elsewhere is done in a thread.
"""

from __future__ import annotations

import asyncio
import threading
import time
from array import array
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from dask_memdash.boundary import boundary
from dask_memdash.model.events import Event, GraphArrived, GraphChecked, OutputsMoved
from dask_memdash.model.graph_columns import LEFT
from dask_memdash.model.graph_index import MAX_GROUPS
from dask_memdash.model.order_log import MAX_TASKS
from dask_memdash.plugins.scheduler.graph_copy import Copy, Packed, name_of, packed
from dask_memdash.plugins.scheduler.root_tasks import root_groups

if TYPE_CHECKING:
    from distributed.scheduler import Scheduler, TaskGroup, TaskState

#: Tasks that are copied without a look at the clock.
CHUNK = 2_000

#: Most time of the event loop taken for one slice, and the pause after it, in seconds.
BUDGET = 0.005
PAUSE = 0.015

#: Numbers in a column of moves that are handled in one go: two for each move.
SLICE = 4_000

#: Single tasks are gathered into one graph until none has come for so many seconds,
#: the first is so old, or there are so many.
GATHER_IDLE = 2.0
GATHER_LONG = 10.0
GATHER_MANY = 10_000

#: A single task is a graph of its own if its stored inputs are at least this share of
#: a worker's limit.
LARGE_INPUTS = 0.5

#: Seconds between two looks at whether a graph is still there.
CHECK = 2.0

#: Graphs that are looked at; older ones are forgotten by the model as well.
MAX_OPEN = 100

#: Moves kept for a graph that is being copied.
MAX_KEPT = 2_000_000

#: Said of a graph that could not be copied; the fault is noted at the boundary.
UNREADABLE = "Its tasks could not be read."


class GraphWatch:
    """Copies graphs as they come, and passes the moves of their outputs on.

    Parameters
    ----------
    scheduler
        The scheduler.
    handle
        Takes the events.
    """

    def __init__(self, scheduler: Scheduler, handle: Callable[[Event], None]) -> None:
        self._scheduler = scheduler
        self._handle = handle
        #: Keys and sizes by turns, appended by the transition hook.
        self.moves: list[Any] = []
        #: Whether anybody wants to know of moves.
        self.active = False
        self._count = 0
        self._copies: list[Copy] = []
        self._gathered: Copy | None = None
        self._gathered_last = 0.0
        self._gathered_keys: set[Any] = set()
        # Graphs that are still there, with a key of each group.
        self._open: dict[str, dict[TaskGroup, Any]] = {}
        self._checked = 0.0
        self._threads = scheduler.total_nthreads
        # Events that wait for their turn: handling many moves at once takes long.
        self._backlog: deque[Event] = deque()
        self._pumping = False
        self._closed = False

    def close(self) -> None:
        """Let everything go; what is under way comes to nothing."""
        self._closed = True
        self.active = False
        self.moves.clear()
        self._copies.clear()
        self._open.clear()
        self._gathered = None
        self._backlog.clear()

    # -- graphs ----------------------------------------------------------------

    def arrived(
        self, priorities: Mapping[Any, Any], keys: Collection[Any], now: float
    ) -> None:
        """Take note of a graph.

        Parameters
        ----------
        priorities, keys
            The priority of each of its tasks, and the keys that the client wants, as
            the hook hands them over.
        now
            Unix time in seconds.
        """
        self._drain(now)
        if len(priorities) > MAX_TASKS:
            n = len(priorities)
            why = f"It has {n:,} tasks; more than {MAX_TASKS:,} are not kept."
            self._refuse(self._begin(now, keys), n, why)
        elif len(priorities) > CHUNK:
            copy = self._begin(now, keys)
            self._copies.append(copy)
            self._slice(copy, iter(priorities.items()))
        else:
            self._take(priorities, keys, now)

    def step(self, now: float) -> None:
        """Pass on what has moved, and what has been gathered; look after graphs."""
        self._drain(now)
        gathered = self._gathered
        if gathered is not None and (
            now - self._gathered_last > GATHER_IDLE
            or now - gathered.time > GATHER_LONG
            or len(gathered.raw) >= GATHER_MANY
        ):
            self._gathered = None
            self._gathered_keys.clear()
            if len(gathered.raw) > 1:
                self._end(gathered, packed(gathered), now, submits=True)
        if now - self._checked >= CHECK:
            self._checked = now
            self._check(now)

    # -- copying ---------------------------------------------------------------

    def _begin(self, now: float, keys: Collection[Any] = ()) -> Copy:
        self.active = True
        self._count += 1
        return Copy(f"graph-{self._count}", now, keys)

    def _take(
        self, priorities: Mapping[Any, Any], keys: Collection[Any], now: float
    ) -> None:
        """Copy a small graph at once."""
        tasks = self._scheduler.tasks
        known = [tasks[key] for key in priorities if key in tasks]
        new = [task for task in known if task.state == "released"]
        if len(new) > 1:
            copy = self._begin(now, keys)
            copy.add(known, [priorities[task.key] for task in known])
            self._end(copy, packed(copy), now)
        elif new and (inputs := self._large_inputs(new[0])):
            # It may fit into no worker, and then is gone before others are gathered.
            copy, own = self._begin(now, keys), [*inputs, new[0]]
            copy.add(own, [task.priority for task in own])
            self._end(copy, packed(copy), now)
        elif new:
            self._gather(new[0], priorities[new[0].key], now)

    def _large_inputs(self, task: TaskState) -> list[TaskState]:
        """Return the stored inputs of a task if they would fill much of a worker."""
        if len(task.dependencies) > CHUNK:
            return []
        inputs = [need for need in task.dependencies if need.state == "memory"]
        if not inputs:
            return []
        # One worker stands for all: this runs for every single task.
        worker = next(iter(self._scheduler.workers.values()), None)
        limit = 0 if worker is None else worker.memory_limit or 0
        size = sum(max(0, need.nbytes) for need in inputs)
        return inputs if size >= LARGE_INPUTS * limit > 0 else []

    def _slice(self, copy: Copy, items: Iterator[tuple[Any, Any]]) -> None:
        """Copy a slice; whatever goes wrong, the graph is only not covered."""

        def fail() -> None:
            self._end(copy, UNREADABLE, time.time())

        boundary.guarded(self._go_on, "copying a graph", fail)(copy, items)

    def _go_on(self, copy: Copy, items: Iterator[tuple[Any, Any]]) -> None:
        """Copy for `BUDGET` seconds, then go on later; pack in a thread at the end."""
        if self._closed:
            return
        deadline = time.perf_counter() + BUDGET
        known = self._scheduler.tasks
        loop = asyncio.get_running_loop()
        while time.perf_counter() < deadline:
            chunk = list(islice(items, CHUNK))
            if not chunk:
                self._drain(time.time())
                self._pack_elsewhere(copy, loop)
                return
            pairs = [(known[key], p) for key, p in chunk if key in known]
            if pairs:
                copy.add([task for task, _ in pairs], [p for _, p in pairs])
        loop.call_later(PAUSE, self._slice, copy, items)

    def _pack_elsewhere(self, copy: Copy, loop: asyncio.AbstractEventLoop) -> None:
        frozen = replace(copy, moved=copy.moved[:])
        take = boundary.guarded(self._end, "taking in a graph")

        def work() -> None:
            loop.call_soon_threadsafe(take, copy, packed(frozen), time.time())

        def fail() -> None:
            loop.call_soon_threadsafe(take, copy, UNREADABLE, time.time())

        threading.Thread(
            target=boundary.guarded(work, "packing a graph", fail),
            name="MemDash packs a graph",
            daemon=True,
        ).start()

    def _end(
        self, copy: Copy, packed: Packed | str, now: float, *, submits: bool = False
    ) -> None:
        """Hand a graph to the model, or say why it is not covered."""
        if self._closed:
            return
        self._drain(now)
        if copy in self._copies:
            self._copies.remove(copy)
        if isinstance(packed, str):
            self._refuse(copy, len(copy.raw), packed)
            return
        columns, given = packed
        groups = dict(islice(copy.groups.items(), MAX_GROUPS + 1))
        self._open[copy.name] = groups
        while len(self._open) > MAX_OPEN:
            del self._open[next(iter(self._open))]
        moved = given + copy.moved
        self._send(
            GraphArrived(
                time=copy.time,
                graph=copy.name,
                groups=tuple(str(group.name) for group in groups),
                priorities={},
                name=name_of(copy),
                tasks=len(columns.flags) - columns.n_given,
                columns=columns,
                roots=root_groups(self._scheduler, groups),
                moved=moved[:SLICE].tobytes(),
                submits=submits,
            ),
            *_slices(moved[SLICE:], now, copy.name),
        )

    def _refuse(self, copy: Copy, tasks: int, why: str) -> None:
        self._send(
            GraphArrived(
                time=copy.time,
                graph=copy.name,
                groups=(),
                priorities={},
                name=name_of(copy),
                tasks=tasks,
                uncovered=why,
            )
        )

    def _gather(self, task: TaskState, priority: Any, now: float) -> None:
        """Put a single task to those that came before it."""
        if self._gathered is None:
            self._gathered = self._begin(now)
        self._gathered_last = now
        if task.key not in self._gathered_keys:
            self._gathered_keys.add(task.key)
            self._gathered.add([task], [priority])

    # -- sending ---------------------------------------------------------------

    def _send(self, *events: Event) -> None:
        """Hand events over in their order, `BUDGET` seconds at a time."""
        self._backlog.extend(events)
        if not self._pumping:
            self._pump()

    def _pump(self) -> None:
        self._pumping = False
        deadline = time.perf_counter() + BUDGET
        while self._backlog and time.perf_counter() < deadline:
            self._handle(self._backlog.popleft())
        if self._backlog:
            self._pumping = True
            pump = boundary.guarded(self._pump, "passing moves on")
            asyncio.get_running_loop().call_later(PAUSE, pump)

    # -- afterwards ------------------------------------------------------------

    def _drain(self, now: float) -> None:
        """Make an event of the moves so far."""
        if not self.moves:
            return
        taken, self.moves = self.moves, []
        moves = array("q", bytes(8 * len(taken)))
        moves[::2] = array("q", map(hash, taken[::2]))
        moves[1::2] = array(
            "q", [LEFT if n is None else max(0, n) for n in taken[1::2]]
        )
        copies = [*self._copies, *([self._gathered] if self._gathered else ())]
        for copy in copies:
            if len(copy.moved) < MAX_KEPT:
                copy.moved.extend(moves)
        self._send(*_slices(moves, now))

    def _check(self, now: float) -> None:
        """Look which graphs the scheduler has forgotten.

        How it takes roots is looked up again when there are more threads than ever; not
        when there are fewer, since workers that die come back.
        """
        groups, threads = self._scheduler.task_groups, self._scheduler.total_nthreads
        grown, self._threads = threads > self._threads, max(threads, self._threads)
        for name, own in list(self._open.items()):
            ended = not any(groups.get(group.name) is group for group in own)
            if ended:
                del self._open[name]
            if ended or grown:
                roots = () if ended else root_groups(self._scheduler, own)
                self._send(GraphChecked(now, name, roots, ended))
        self.active = bool(self._open or self._copies or self._gathered)


def _slices(moves: array[int], now: float, graph: str = "") -> Iterator[OutputsMoved]:
    """Make events of moves that each take little time to handle."""
    for begin in range(0, len(moves), SLICE):
        part = moves[begin : begin + SLICE].tobytes()
        yield OutputsMoved(now, part, graph)
