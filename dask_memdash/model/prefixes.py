"""Task prefixes: running totals of their storage and execution over the cluster.

Imports the standard library only.  All sizes are integers in bytes.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice

from dask_memdash.model.event_parts import (
    NOT_SEEN,
    NOT_WEIGHED,
    ChildRow,
    Executing,
    Finished,
    GraphRow,
    Held,
    StorageRow,
    Unseen,
    Weighed,
)
from dask_memdash.model.exactness import method_shown, weakest
from dask_memdash.model.quantiles import QuantileSketch
from dask_memdash.model.quick_making import quickly

#: Idle prefixes are forgotten where there are more than so many, the oldest first.
MAX_PREFIXES = 10_000

#: Old prefixes looked at for each new one beyond that: one that is idle goes, one that
#: is not is looked at again only after all others.
LOOKED_AT = 4

NOTHING_SENT = GraphRow(0, 0, 0)
make_weighed = quickly(Weighed)

NOTHING_STORED = StorageRow(0, 0, 0, 0)


@dataclass(slots=True)
class PrefixState:
    """One task prefix."""

    #: Keys stored on workers, copies counted each time.
    count: int = 0
    managed: int = 0
    claimed: int = 0
    spilled: int = 0
    spilled_disk: int = 0
    pinned: int = 0
    awaited: int = 0
    awaited_by: dict[str, int] = field(default_factory=dict)
    #: Copies beyond the first: bytes, and number of keys.
    replicas: int = 0
    n_replicas: int = 0
    #: What lies in the cluster's memory of intermediates too, and what is to.
    stored: int = 0
    stored_pending: int = 0
    #: Tasks running or pending now, those that are measured, and what they hold: at
    #: most what is executing in their processes.
    running: int = 0
    measured: int = 0
    executing: int = 0
    #: How the figures of those are known → how many of them.
    methods: Counter[str] = field(default_factory=Counter)
    finished: int = 0
    #: How peaks of finished tasks were measured: as the least exact of them.
    method: str = "none"
    peaks: QuantileSketch = field(default_factory=QuantileSketch)
    #: The most that one of its tasks held when its worker died: tasks of it need at
    #: least that, in bytes; None where none has died with its worker.
    at_least: int | None = None
    errors: QuantileSketch = field(default_factory=QuantileSketch)
    outputs: QuantileSketch = field(default_factory=QuantileSketch)
    #: What its tasks weigh on workers as they were sent: tasks, and bytes.
    graph: GraphRow = NOTHING_SENT
    #: Processes that its tasks started: how many there are, what they have now, and the
    #: most that those of one task had, in bytes.
    children: int = 0
    children_rss: int = 0
    children_peak: int = 0
    #: Sums over all counted tasks, and the most that one of them had beside its count.
    weighed: Weighed = field(default_factory=Weighed)
    unseen: Unseen = field(default_factory=Unseen)

    @property
    def idle(self) -> bool:
        """Whether nothing of it is stored or running."""
        return not (
            self.count
            or self.running
            or self.managed
            or self.executing
            or self.pinned
            or self.awaited
            or self.n_replicas
            or self.children
            or self.graph.tasks
        )

    @property
    def method_shown(self) -> str:
        """How its figures are known: as the least exact of all that are in them."""
        peaks = method_shown(
            self.method, self.peaks.quantile(0.95), self.errors.quantile(0.9)
        )
        return weakest((peaks, *(+self.methods)))

    @property
    def weight(self) -> int:
        """Storage and execution together, to rank prefixes by."""
        return self.managed + self.spilled + self.executing


class Prefixes:
    """All prefixes, each a sum over workers that is kept up to date."""

    def __init__(self) -> None:
        self.by_name: OrderedDict[str, PrefixState] = OrderedDict()

    def of(self, name: str) -> PrefixState:
        """Return a prefix, made if it is new."""
        state = self.by_name.get(name)
        if state is None:
            if len(self.by_name) >= MAX_PREFIXES:
                self._make_room()
            state = self.by_name[name] = PrefixState()
        return state

    def learn(self, name: str, size: int) -> None:
        """Note what a task of a prefix held when its worker died, in bytes."""
        state = self.of(name)
        state.at_least = max(size, state.at_least or 0)

    def move_managed(self, changes: Mapping[str, int]) -> None:
        """Add changes of managed bytes."""
        for name, change in changes.items():
            self.of(name).managed += change

    def move_executing(self, changes: Mapping[str, int]) -> None:
        """Add changes of what running tasks hold."""
        for name, change in changes.items():
            self.of(name).executing += change

    def replace_rows(
        self, old: Mapping[str, StorageRow], new: Mapping[str, StorageRow]
    ) -> None:
        """Put a worker's new storage in the place of its old."""
        for name, row in new.items():
            before = old.get(name, NOTHING_STORED)
            if before != row:
                self._change_row(name, before, row)
        for name in old.keys() - new.keys():
            self._change_row(name, old[name], NOTHING_STORED)

    def _change_row(self, name: str, old: StorageRow, new: StorageRow) -> None:
        state = self.of(name)
        state.count += new.keys - old.keys
        state.claimed += new.claimed - old.claimed
        if new.spilled or old.spilled or new.spilled_disk or old.spilled_disk:
            state.spilled += new.spilled - old.spilled
            state.spilled_disk += new.spilled_disk - old.spilled_disk

    def replace_held(self, old: Mapping[str, Held], new: Mapping[str, Held]) -> None:
        """Put why a worker's outputs are held in the place of what was known."""
        for held, sign in ((old, -1), (new, 1)):
            for name, why in held.items():
                state = self.of(name)
                state.pinned += sign * why.pinned
                state.awaited += sign * why.awaited
                state.replicas += sign * why.replicas
                state.n_replicas += sign * why.n_replicas
                state.stored += sign * why.stored
                state.stored_pending += sign * why.stored_pending
                for waiter, size in why.awaited_by.items():
                    total = state.awaited_by.get(waiter, 0) + sign * size
                    if total:
                        state.awaited_by[waiter] = total
                    else:
                        state.awaited_by.pop(waiter, None)

    def replace_executing(
        self, old: Iterable[Executing], new: Iterable[Executing]
    ) -> None:
        """Put the tasks that a worker executes in the place of those it did."""
        changes: dict[tuple[str, bool, str], int] = {}
        for tasks, sign in ((old, -1), (new, 1)):
            for task in tasks:
                method = method_shown(task.method, task.peak, task.error)
                what = task.prefix, task.bytes is not None, method
                changes[what] = changes.get(what, 0) + sign
        for (prefix, measured, method), change in changes.items():
            if change:
                state = self.of(prefix)
                state.running += change
                if measured:
                    state.measured += change
                state.methods[method] += change

    def replace_graph(
        self, old: Mapping[str, GraphRow], new: Mapping[str, GraphRow]
    ) -> None:
        """Put what a worker was sent in the place of what was known of it."""
        for rows, sign in ((old, -1), (new, 1)):
            for name, row in rows.items():
                state = self.of(name)
                state.graph = GraphRow(
                    state.graph.tasks + sign * row.tasks,
                    state.graph.arguments + sign * row.arguments,
                    state.graph.records + sign * row.records,
                )

    def replace_children(
        self, old: Iterable[ChildRow], new: Iterable[ChildRow]
    ) -> None:
        """Put the processes that a worker's tasks started in the place of the old."""
        for rows, sign in ((old, -1), (new, 1)):
            for row in rows:
                if row.prefix:
                    state = self.of(row.prefix)
                    state.children += sign * row.processes
                    state.children_rss += sign * row.rss
                    state.children_peak = max(state.children_peak, row.peak)

    def finish(self, finished: Mapping[str, Finished]) -> None:
        """Add tasks that have finished."""
        for name, tasks in finished.items():
            state = self.of(name)
            state.finished += tasks.count
            if state.method != tasks.method and (
                tasks.peaks.count or state.method == "none"
            ):
                state.method = weakest((state.method, tasks.method))
            state.peaks.merge(tasks.peaks)
            state.errors.merge(tasks.errors)
            state.outputs.merge(tasks.outputs)
            if tasks.weighed is not NOT_WEIGHED:
                state.weighed = _add(state.weighed, tasks.weighed)
            if tasks.unseen is not NOT_SEEN:
                state.unseen = _most(state.unseen, tasks.unseen)

    def _make_room(self) -> None:
        """Forget idle prefixes, at a cost that does not grow with their number."""
        for name in list(islice(self.by_name, LOOKED_AT)):
            if self.by_name[name].idle:
                del self.by_name[name]
            else:
                self.by_name.move_to_end(name)


def _add(total: Weighed, more: Weighed) -> Weighed:
    return make_weighed(
        count=total.count + more.count,
        believed=total.believed + more.believed,
        left=total.left + more.left,
        because=more.because or total.because,
    )


def _most(so_far: Unseen, now: Unseen) -> Unseen:
    return Unseen(
        native=max(so_far.native, now.native),
        arrow=max(so_far.arrow, now.arrow),
        untouched=max(so_far.untouched, now.untouched),
        small=max(so_far.small, now.small),
    )
