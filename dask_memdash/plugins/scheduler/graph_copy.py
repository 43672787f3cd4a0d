"""A graph as it is copied off the scheduler, on its way to the model."""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeAlias

from dask_memdash.analysis.order.pack import PackError, RawTasks, pack
from dask_memdash.model.graph_columns import GIVEN, LEFT, PINNED, GraphColumns
from dask_memdash.model.graph_index import MAX_GROUPS
from dask_memdash.text import KEY_KEPT

if TYPE_CHECKING:
    from distributed.scheduler import TaskGroup, TaskState

#: A graph's columns, and hash and size by turns of what was there before it.
Packed: TypeAlias = "tuple[GraphColumns, array[int]]"

_dependencies = attrgetter("dependencies")
_key = attrgetter("key")


@dataclass(slots=True, eq=False)
class Copy:
    """One graph on its way to the model."""

    name: str
    time: float
    #: Keys that the client wants of it; of gathered tasks, those of any client.
    keys: Collection[Any] = ()
    raw: RawTasks = field(default_factory=RawTasks)
    #: Task groups, each with the key of one of its tasks; not all if there are many.
    groups: dict[TaskGroup, Any] = field(default_factory=dict)
    #: Name of a prefix → its number in `raw`.
    numbers: dict[str, int] = field(default_factory=dict)
    #: Outputs that were there before, and all moves since: hash and size by turns.
    given: array[int] = field(default_factory=lambda: array("q"))
    moved: array[int] = field(default_factory=lambda: array("q"))
    #: Prefixes of what a client wants: they give the graph its name.
    wanted: dict[str, int] = field(default_factory=dict)

    def add(self, tasks: list[TaskState], priorities: Iterable[Any]) -> None:
        """Copy some tasks.

        Lists are made first: an array takes them several times faster than iterators.
        """
        raw, numbers = self.raw, self.numbers
        raw.hashes.extend(array("q", list(map(hash, map(_key, tasks)))))
        for column, values in zip(
            (raw.users, raw.generations, raw.orders), _columns(priorities), strict=True
        ):
            column.extend(array("d", values))
        prefixes = [task.prefix.name for task in tasks]
        for name in dict.fromkeys(prefixes):
            if name not in numbers:
                numbers[name] = len(numbers)
                raw.prefixes.append(str(name)[:KEY_KEPT])
        raw.prefix.extend(array("I", [numbers[name] for name in prefixes]))
        dependencies = list(map(_dependencies, tasks))
        raw.degrees.extend(array("I", list(map(len, dependencies))))
        needed = map(_key, chain.from_iterable(dependencies))
        raw.dependencies.extend(array("q", list(map(hash, needed))))
        flags = bytes(
            [
                (PINNED if task.who_wants else 0)
                | (GIVEN if task.state == "memory" else 0)
                for task in tasks
            ]
        )
        raw.flags.extend(flags)
        if len(self.groups) <= MAX_GROUPS:
            self.groups.update({task.group: task.key for task in tasks})
        if any(flags):
            self._add_flagged(tasks, flags)

    def _add_flagged(self, tasks: list[TaskState], flags: bytes) -> None:
        for task, flag in zip(tasks, flags, strict=True):
            if flag & GIVEN:
                self.given.extend((hash(task.key), max(0, task.nbytes)))
            if flag & PINNED and (not self.keys or task.key in self.keys):
                name = str(task.prefix.name)
                self.wanted[name] = self.wanted.get(name, 0) + 1


def _columns(priorities: Iterable[Any]) -> Iterator[tuple[float, ...]]:
    """Return the three numbers of priorities as columns; those without one go first."""
    kept = list(priorities)
    try:
        columns = list(zip(*kept, strict=True))
        if len(columns) == 3:
            yield from columns
            return
    except TypeError:
        pass
    whole = [p if p and len(p) == 3 else (-1e300, 0.0, 0.0) for p in kept]
    yield from zip(*whole, strict=True)


def packed(copy: Copy) -> Packed | str:
    """Make columns of a copy; a sentence where that cannot be."""
    try:
        columns = pack(copy.raw, copy.moved)
    except PackError as error:
        return str(error)
    if not copy.moved:
        return columns, copy.given
    moves = zip(copy.moved[::2], copy.moved[1::2], strict=True)
    stored = {key_hash for key_hash, size in moves if size != LEFT}
    given = array("q")
    for key_hash, size in zip(copy.given[::2], copy.given[1::2], strict=True):
        if key_hash not in stored:
            given.extend((key_hash, size))
    return columns, given


def name_of(copy: Copy) -> str:
    """Name a graph by what clients want of it, at most three prefixes.

    What only puts parts together for the client names nothing; the first prefix that
    was met after it does.
    """
    wanted = sorted(copy.wanted, key=lambda name: (-copy.wanted[name], name))
    telling = [name for name in wanted if not name.startswith("finalize")]
    others = [n for n in copy.raw.prefixes if not n.startswith("finalize")][:1]
    names = telling or others or wanted
    return ", ".join(name[:60] for name in names[:3]) + (" …" if names[3:] else "")
