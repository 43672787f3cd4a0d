"""What the graph itself weighs on a worker: arguments, closures and records of tasks.

A task's arguments, and what its function was sent with, stay on the worker from its
arrival until it is forgotten: also while it waits, and as long as its output is kept.
Dask does not count them.  Tasks are noted down as they arrive and weighed soon after,
in bounded time: the function of a prefix is looked into once, the arguments of every
task that has data among them, of others a sample.

Belongs to the worker's event loop.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Mapping
from heapq import nlargest
from typing import Any

from dask_memdash.measure.deep_size import deep_size
from dask_memdash.model.event_parts import GraphRow
from dask_memdash.plugins.keys import prefix_of

#: What Dask's own records of a task take on a worker that has run it, in bytes:
#: state, log, place in its books.  Measured with 15,000 tiny tasks of functions of the
#: standard library (3,567 bytes a task) and of the user's own (5,059), of which the
#: look into a task sees 629 and 1,396.
RECORD = 3_000

#: Objects and seconds that the first task of a prefix may take, and others.
FIRST = (5_000, 0.005)
OTHERS = (200, 0.001)

#: Tasks of a prefix that are weighed, after which small ones are weighed now and then.
WEIGHED = 4
SELDOM = 64

#: From which difference of two tasks on the next one is weighed too, in bytes.
DIFFERENCE = 65_536

#: Arguments of a task that are looked at for their type.
MAX_ARGUMENTS = 8

#: Items of an argument that are looked at, and length of a text that is no trifle.
MAX_ITEMS = 32
MAX_TEXT = 1_000

#: What most small tasks are called with: never data.
NUMBERS = frozenset({int, float, bool, type(None)})

#: Prefixes of which a heartbeat tells, the largest, and of which something is kept.
MAX_TOLD = 20
MAX_PREFIXES = 1_000

#: Change of the sum that is told, in bytes.
STEP = 2**20


class GraphBytes:
    """The arguments, closures and records of one worker's tasks.

    Parameters
    ----------
    run_spec
        Returns what a task runs, by its key; None where that is not known (any more).
    begun
        Says whether a task has begun to run, by its key: what it was sent with may have
        grown since, as a mutable default argument does.
    """

    def __init__(
        self,
        run_spec: Callable[[Any], Any],
        begun: Callable[[Any], bool] = lambda key: False,
    ) -> None:
        self._run_spec = run_spec
        self._begun = begun
        self._sizes: dict[Any, int] = {}
        self._prefixes: dict[str, _Prefix] = {}
        self._news: deque[tuple[bool, Any]] = deque()
        self._told = -1
        #: Sum over all tasks, in bytes, of those that have been weighed.
        self.total = 0

    def is_unmet(self, key: Any) -> bool:
        """Whether no task of this one's prefix has been weighed."""
        return prefix_of(key) not in self._prefixes

    @property
    def is_done(self) -> bool:
        """Whether all that has arrived has been weighed."""
        return not self._news

    def weigh_first(self, key: Any) -> None:
        """Weigh a task at its arrival, before it can run: what its prefix is sent with.

        Later looks may find what runs have gathered in globals or defaults.
        """
        if key not in self._sizes:
            self._add(key)

    def arrived(self, key: Any) -> bool:
        """Note down a task that has arrived; True if nothing was noted before it."""
        self._news.append((True, key))
        return len(self._news) == 1

    def stored(self, key: Any) -> None:
        """Note that a node that is data has become an output: storage counts it."""
        size = self._sizes.get(key)
        if size:
            self._sizes[key] = 0
            self._prefixes[prefix_of(key)].alone -= size
            self.total -= size

    def forgotten(self, key: Any) -> bool:
        """Note down that a task is gone; True if nothing was noted before it."""
        self._news.append((False, key))
        return len(self._news) == 1

    def weigh(self, clock: Callable[[], float], seconds: float) -> bool:
        """Weigh what has arrived since; False if that was not all.

        Parameters
        ----------
        clock
            Returns the time in seconds.
        seconds
            How long that may take.
        """
        deadline = clock() + seconds
        news = self._news
        looked = 0
        while news:
            arrived, key = news.popleft()
            if not arrived:
                self._subtract(key)
            elif key not in self._sizes:
                self._add(key)
                looked += 1
                if looked % 8 == 0 and clock() > deadline:
                    break
        return not news

    def rows(self) -> dict[str, GraphRow]:
        """Return the sums of the largest prefixes."""
        return {
            name: GraphRow(prefix.tasks, prefix.size, prefix.tasks * RECORD)
            for name, prefix in nlargest(
                MAX_TOLD, self._prefixes.items(), key=lambda item: item[1].total
            )
            if prefix.tasks
        }

    def new_rows(self) -> dict[str, GraphRow] | None:
        """Return the sums of the largest prefixes; None where they hardly changed."""
        if self._told >= 0 and abs(self.total - self._told) < STEP:
            return None
        self._told = self.total
        return self.rows()

    def _add(self, key: Any) -> None:
        spec = self._run_spec(key)
        if spec is None:
            return
        name = prefix_of(key)
        prefix = self._prefixes.get(name)
        if prefix is None:
            self._make_room()
            prefix = self._prefixes[name] = _Prefix()
        tasks, common = prefix.tasks, prefix.common
        begun = not prefix.sure and self._begun(key)
        self._sizes[key] = alone = prefix.weigh(spec, begun=begun)
        prefix.tasks = tasks + 1
        prefix.alone += alone
        self.total += alone + prefix.common + RECORD + tasks * (prefix.common - common)

    def _subtract(self, key: Any) -> None:
        alone = self._sizes.pop(key, None)
        prefix = self._prefixes.get(prefix_of(key))
        if alone is None or prefix is None:
            return
        prefix.tasks -= 1
        prefix.alone -= alone
        self.total -= alone + prefix.common + RECORD

    def _make_room(self) -> None:
        if len(self._prefixes) >= MAX_PREFIXES:
            for name in [n for n, prefix in self._prefixes.items() if not prefix.tasks]:
                del self._prefixes[name]


class _Prefix:
    """The tasks of one prefix on a worker, and what was learnt of them."""

    __slots__ = ("_differ", "_met", "_typical", "alone", "common", "sure", "tasks")

    def __init__(self) -> None:
        self.tasks = 0
        #: Arguments of the weighed ones, summed, and what each was sent with beside
        #: them, in bytes.
        self.alone = 0
        self.common = 0
        self._met = 0
        #: Whether the latter was seen in a task that had not begun.
        self.sure = False
        # What the arguments of the task looked at last weigh, in bytes, and whether
        # that was something else than of the one before.
        self._typical = 0
        self._differ = False

    @property
    def size(self) -> int:
        """Arguments and what was sent beside them of all tasks, in bytes."""
        return self.alone + self.tasks * self.common

    @property
    def total(self) -> int:
        """The same with the records of the tasks."""
        return self.size + self.tasks * RECORD

    def weigh(self, spec: Any, *, begun: bool = False) -> int:
        """Return the bytes that a task's arguments weigh, about."""
        self._met += 1
        arguments = arguments_of(spec)
        if not self.sure and self._met <= WEIGHED:
            alone = deep_size(arguments, most=FIRST[0], seconds=FIRST[1]).bytes
            whole = deep_size([spec], most=FIRST[0], seconds=FIRST[1]).bytes
            common = max(0, whole - alone)
            known = self._met > 1 and begun
            self.common = min(common, self.common) if known else common
            self.sure = not begun
            self._differ = self._met > 1 and abs(alone - self._typical) > DIFFERENCE
            self._typical = alone
        elif (
            has_data(arguments)
            or self._met < WEIGHED
            or self._differ
            or not self._met % SELDOM
        ):
            alone = deep_size(arguments, most=OTHERS[0], seconds=OTHERS[1]).bytes
            self._differ = abs(alone - self._typical) > DIFFERENCE
            self._typical = alone
        else:
            alone = self._typical
        return alone


class SentTasks:
    """Weighs tasks as they were sent, in bounded time, on the side that sent them.

    Parameters
    ----------
    clock
        Returns the time in seconds.
    deadline
        Until when tasks are looked into; those that come later weigh as the others of
        their prefix do.
    """

    def __init__(self, clock: Callable[[], float], deadline: float) -> None:
        self._clock = clock
        self._deadline = deadline
        self._prefixes: dict[str, _Prefix] = {}
        self._weighed: dict[str, int] = {}

    def add(self, name: str, spec: Any) -> int | None:
        """Add a task of a prefix; return what it weighs in bytes, None if not known.

        What was not computed (`spec` is None) was not sent.
        """
        if spec is None:
            return None
        prefix = self._prefixes.setdefault(name, _Prefix())
        prefix.tasks += 1
        if name in self._weighed and self._clock() >= self._deadline:
            return None
        alone = prefix.weigh(spec)
        prefix.alone += alone
        self._weighed[name] = self._weighed.get(name, 0) + 1
        return prefix.common + alone

    def rows(self, scale: float = 1.0) -> dict[str, GraphRow]:
        """Return the sums of the largest prefixes, times `scale`."""
        rows = {}
        for name, prefix in self._prefixes.items():
            tasks = round(prefix.tasks * scale)
            each = prefix.alone // self._weighed[name] + prefix.common
            size = each * tasks
            rows[name] = GraphRow(tasks, size, tasks * RECORD)
        return dict(nlargest(MAX_TOLD, rows.items(), key=lambda item: item[1].size))


def arguments_of(spec: Any) -> list[Any]:
    """Return what a task is called with, without the names of other tasks."""
    arguments = list(getattr(spec, "args", None) or ())
    keywords = getattr(spec, "kwargs", None)
    if keywords and isinstance(keywords, Mapping):
        arguments += keywords.values()
    value = getattr(spec, "value", None)  # of a node that is data
    return arguments if value is None else [*arguments, value]


def is_data_node(spec: Any) -> bool:
    """Whether what a task runs is data: its output is the very same object."""
    return getattr(spec, "value", None) is not None


def has_data(arguments: list[Any]) -> bool:
    """Whether one of a task's first arguments is data: an array, a table, a text."""
    for argument in arguments[:MAX_ARGUMENTS]:
        if type(argument) in (tuple, list):
            if any(map(_is_data, argument[:MAX_ITEMS])):
                return True
        elif _is_data(argument):
            return True
    return False


def _is_data(argument: Any) -> bool:
    kind: Any = type(argument)
    if kind in NUMBERS:
        return False
    if kind in (str, bytes, bytearray):
        return len(argument) > MAX_TEXT
    return _is_of_data(kind)


@functools.lru_cache(maxsize=256)
def _is_of_data(kind: Any) -> bool:
    return hasattr(kind, "nbytes") or hasattr(kind, "memory_usage")
