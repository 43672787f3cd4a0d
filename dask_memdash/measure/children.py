"""Processes that a worker's tasks start: what they use, and whose they are.

The kernel counts them against the same container as the worker, and Dask does not
count them at all.  A child belongs to the task whose thread started it; where a thread
of the task's own did, to the only task that ran then; else its task is not known.

Belongs to the sampler's thread, which looks from outside: a worker that is busy need
not help.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from dask_memdash.flight.format import RUNNING, Slot
from dask_memdash.model.event_parts import ChildRow
from dask_memdash.system import child_processes as system

#: Least seconds between two searches for new children while tasks run or children
#: live, and while neither is so; and how many times longer than a search none is made.
SEARCHED_EVERY = 0.2
SEARCHED_IDLE = 1.0
REST = 400

#: Seconds between two searches of threads that run no task.
LISTED_EVERY = 1.0

#: Least seconds between two looks at what a forked child shares.
SHARED_EVERY = 1.0

#: Processes that are followed at most, children of children too.
MOST = 64

#: Seconds for which a task is told whose children have ended, the most tasks told.
TOLD_FOR = 20.0
MOST_TOLD = 16

#: A child that began so many seconds before its task did may still be its: clocks of
#: the kernel tick slowly.
TICK = 0.03

#: Characters of a key that are told.
KEY_TOLD = 100


@dataclass(slots=True)
class Child:
    """A process that the worker started, or one that such a process did."""

    pid: int
    #: Prefix and key of its task; both empty where that is not known.
    owner: tuple[str, str]
    command: str
    #: In bytes: resident now, without what is its parent's.
    own: int = 0
    #: Pages that it shares with its parent, as last seen, and when that was.
    shared: int = 0
    shared_at: float = 0.0
    forked: bool = False


@dataclass(slots=True)
class Family:
    """The children of one task."""

    prefix: str
    key: str
    children: dict[int, Child] = field(default_factory=dict)
    command: str = ""
    started: int = 0
    peak: int = 0
    killed: int = 0
    #: Monotonic time at which one was last seen, in seconds.
    seen: float = 0.0

    def row(self) -> ChildRow:
        """Return what is told of them."""
        return ChildRow(
            prefix=self.prefix,
            key=self.key,
            command=self.command,
            processes=len(self.children),
            started=self.started,
            rss=sum(child.own for child in self.children.values()),
            peak=self.peak,
            killed=self.killed,
        )


class ChildWatch:
    """Follows the children of one process.

    Parameters
    ----------
    pid
        The worker's process.
    prefix_of
        Returns the prefix of a key's text.
    oom
        Whether the kernel has killed for memory here within a second or two.
    clock
        In seconds, only ever forward.
    """

    def __init__(
        self,
        pid: int,
        prefix_of: Callable[[str], str] = str,
        oom: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
        root: str = "/proc",
    ) -> None:
        self._pid = pid
        self._prefix_of = prefix_of
        self.oom = oom
        self._clock = clock
        self._root = root
        # Task (prefix, key; both empty: not known) → its children.
        self._families: dict[tuple[str, str], Family] = {}
        self._known: dict[int, Child] = {}
        self._list_from = self._search_from = 0.0

    def look(
        self, tasks: Sequence[Slot], threads: Callable[[], Mapping[int, int]]
    ) -> None:
        """Look at the children, and now and then for new ones.

        Parameters
        ----------
        tasks
            The worker's tasks, as its flight recorder has them.
        threads
            Returns identifier of a task's thread → the kernel's number of it.
        """
        now = self._clock()
        for child in list(self._known.values()):
            self._measure(child, now)
        if now >= self._search_from:
            self._search(now, tasks, threads())
            active = bool(self._known) or any(t.state == RUNNING for t in tasks)
            took = self._clock() - now
            every = SEARCHED_EVERY if active else SEARCHED_IDLE
            self._search_from = now + max(every, REST * took)
        for family in list(self._families.values()):
            if family.children:
                family.seen = now
                held = sum(child.own for child in family.children.values())
                family.peak = max(family.peak, held)
            elif now > family.seen + TOLD_FOR:
                del self._families[family.prefix, family.key]

    def rows(self) -> tuple[ChildRow, ...]:
        """Return the tasks that have children, or had some just now; largest first."""
        rows = [family.row() for family in self._families.values()]
        rows.sort(key=lambda row: (-row.rss, -row.peak, row.key))
        return tuple(rows[:MOST_TOLD])

    def _search(
        self, now: float, tasks: Sequence[Slot], threads: Mapping[int, int]
    ) -> None:
        starters = {self._pid, *threads.values()}
        if now >= self._list_from:
            starters.update(system.threads_of(self._pid, self._root))
            self._list_from = now + LISTED_EVERY
        found = system.children_of(self._pid, starters, self._root)
        idents = {native: ident for ident, native in threads.items()}
        for pid, thread in found.items():
            if pid not in self._known:
                begun = system.started(pid, self._root)
                owner = _owner(tasks, idents.get(thread), begun)
                self._take_in(pid, self._named(owner), now)
        for child in list(self._known.values()):
            for pid in system.children_of(child.pid, [child.pid], self._root):
                if pid not in self._known:
                    self._take_in(pid, child.owner, now)

    def _named(self, key: str) -> tuple[str, str]:
        return (self._prefix_of(key) if key else "", key[:KEY_TOLD])

    def _take_in(self, pid: int, name: tuple[str, str], now: float) -> None:
        if len(self._known) >= MOST or system.sizes_of(pid, self._root) is None:
            return  # it has ended, and nobody has reaped it yet
        family = self._families.get(name)
        if family is None:
            family = self._families[name] = Family(*name)
        command = system.command_of(pid, self._root)
        child = self._known[pid] = family.children[pid] = Child(pid, name, command)
        child.forked = system.same_program(pid, self._pid, self._root)
        family.command = family.command or command
        family.started += 1
        self._measure(child, now)

    def _measure(self, child: Child, now: float) -> None:
        family = self._families[child.owner]
        sizes = system.sizes_of(child.pid, self._root)
        if sizes is None:
            self._ended(child, family)
            return
        if child.forked and now >= child.shared_at + SHARED_EVERY:
            child.shared_at = now
            own = system.proportional(child.pid, self._root)
            child.shared = 0 if own is None else max(0, sizes.rss - own)
            # It may have become another program meanwhile.
            child.forked = system.same_program(child.pid, self._pid, self._root)
        child.own = max(0, sizes.rss - child.shared)
        family.peak = max(family.peak, sizes.high_water - child.shared)

    def _ended(self, child: Child, family: Family) -> None:
        """Let a child go; one that the kernel, or a signal, has killed is counted."""
        if self.oom() or system.killed(child.pid, self._root):
            family.killed += 1
        family.children.pop(child.pid, None)
        self._known.pop(child.pid, None)


def _owner(tasks: Sequence[Slot], ident: int | None, begun: float | None) -> str:
    """Return the key of the task that started a child; empty where not known."""
    there = [
        task
        for task in tasks
        if task.state == RUNNING and (begun is None or task.begin <= begun + TICK)
    ]
    mine = [task for task in there if task.thread == ident]
    if ident is not None and mine:
        return mine[0].key
    if ident is None and len(there) == 1:
        return there[0].key
    return ""
