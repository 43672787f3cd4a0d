"""A graph's tasks as columns: what the order analysis needs, in a few bytes a task.

Tasks are numbered by *rank*: 0 is the task with the best priority.  Columns are
bytes of native integers, so that a graph of a million tasks is a dozen objects.
They are made by :mod:`dask_memdash.plugins.scheduler.graph_watch` and kept by
:mod:`dask_memdash.model.order_log`.

Imports the standard library only.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

#: A client wants the task's output, so that it stays when nothing waits for it.
PINNED = 1
#: Its output was stored before the graph arrived: it is not run for this graph.
GIVEN = 2

#: The size of an output that has left, in a column of moves.
LEFT = -1

#: Most prefixes that a graph can have: they are numbered in 16 bits.
MAX_PREFIXES = 2**16


@dataclass(frozen=True, slots=True)
class GraphColumns:
    """The tasks of one graph by rank."""

    #: Hashes of the keys, ascending, and the rank of the task behind each
    #: (``q``, ``i``).
    hashes: bytes = field(repr=False)
    ranks: bytes = field(repr=False)
    #: Names of the prefixes, and each task's (``H``).
    prefixes: tuple[str, ...]
    prefix: bytes = field(repr=False)
    #: Where each task's dependencies begin, with the end of the last one (``I``), and
    #: the ranks of the dependencies (``I``).
    offsets: bytes = field(repr=False)
    dependencies: bytes = field(repr=False)
    #: `PINNED` and `GIVEN` (``B``).
    flags: bytes = field(repr=False)
    #: Priority without its last number → how many tasks have it, best first.
    heads: dict[str, int]
    #: Last numbers of the priorities by rank (``i``, or ``d`` where they are none of
    #: 32 bits); empty where they go up from `first` by one.
    orders: bytes = field(repr=False)
    first: float = 0.0

    @property
    def nbytes(self) -> int:
        """Size of all columns, in bytes."""
        columns = (self.hashes, self.ranks, self.prefix, self.offsets)
        more = (self.dependencies, self.flags, self.orders)
        return sum(map(len, columns + more))

    @property
    def n_given(self) -> int:
        """Number of tasks whose output was there before."""
        return sum(self.flags.count(flag) for flag in (GIVEN, GIVEN | PINNED))

    def priorities(self) -> dict[tuple[float, ...], Sequence[float]]:
        """Return the last numbers of the priorities, sorted, by the numbers before."""
        made: dict[tuple[float, ...], Sequence[float]] = {}
        begin = 0
        short = len(self.orders) == array("i").itemsize * len(self.flags)
        numbers = read("i" if short else "d", self.orders)
        for text, count in self.heads.items():
            head = tuple(float(number) for number in text.split(",") if number)
            if self.orders:
                made[head] = numbers[begin : begin + count]
                begin += count
            else:
                made[head] = range(int(self.first), int(self.first) + count)
        return made


@dataclass(frozen=True, slots=True)
class RootGroup:
    """How the scheduler takes a group of tasks at the graph's roots."""

    prefix: str
    #: Tasks of the group, and threads of the cluster, when this was looked up.
    tasks: int
    threads: int
    #: What the scheduler's own rule says of it.
    rootish: bool
    #: Whether such tasks wait on the scheduler: it is root-ish and may be queued.
    queued: bool
    #: ``worker-saturation``; None where it is infinite.
    saturation: float | None
    #: Groups it depends on, and the tasks in them.
    groups: int
    group_tasks: int
    #: Whether it is bound to workers, hosts or resources.
    restricted: bool = False
    #: Whether its tasks are marked as producers of data.
    producer: bool = False


def read(typecode: str, data: bytes) -> array[float]:
    """Return a column's numbers."""
    numbers: array[float] = array(typecode)
    numbers.frombytes(data)
    return numbers
