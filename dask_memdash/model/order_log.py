"""What graphs hold as they run: :class:`OrderLog`.

For each graph its tasks as columns, and for each task the size of its output and the
number of finished tasks at which the output was stored and left.  From that, what
was held at any point can be told afterwards, and nothing is worked out meanwhile.
The order itself is judged by :mod:`dask_memdash.analysis.order.comparison`.

What it takes, in bytes a task: hash 8, its rank 4, prefix 2, dependencies 4 and 4
for each of them, flags 1, size 4, stored and left 8; the priority's 4 (0 where
they count up, 8 where they are no integers) are the
:class:`~dask_memdash.model.graph_index.GraphIndex`'s.

Sizes are kept as 32-bit floats: off by at most one part in 16 million.

Imports the standard library only.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from dask_memdash.model.events import GraphArrived, GraphChecked, OutputsMoved
from dask_memdash.model.graph_columns import GIVEN, GraphColumns, RootGroup, read
from dask_memdash.model.room import Room

#: Graphs listed at most; the oldest go first.
MAX_GRAPHS = 100

#: Graphs that moves are looked up in at most; older ones are no longer followed.
MAX_FOLLOWED = 16

#: Tasks of a graph that is followed at most, and of all graphs together.
MAX_TASKS = 2_000_000
MAX_ALL_TASKS = 4_000_000

#: Bytes a task that a graph may take, all in; small graphs may take `FREE` more.
BYTES_PER_TASK = 48
FREE = 2**20

#: Bytes a task that are added to the columns while a graph is followed.
FOLLOWING = 12

#: Bytes that finished graphs may keep; the newest one stays whatever its size.
FINISHED_BYTES = 48 * 2**20

#: Points of progress kept for each graph.
MAX_PROGRESS = 1000


@dataclass(slots=True, eq=False)
class GraphTasks:
    """The tasks of a graph that is covered, by rank, and what became of them."""

    hashes: array[int]
    ranks: array[int]
    prefix: array[int]
    offsets: array[int]
    dependencies: array[int]
    flags: bytes
    #: Size of each output in bytes; negative where it is not known.
    sizes: array[float]
    #: Number of finished tasks, itself included, when it was first stored; 0 before.
    stored_at: array[int]
    #: Number of finished tasks when it left for good; 0 before.
    left_at: array[int]

    @classmethod
    def of(cls, columns: GraphColumns) -> GraphTasks:
        """Begin to follow the tasks of a graph."""
        n = len(columns.flags)
        return cls(
            _integers("q", columns.hashes),
            _integers("i", columns.ranks),
            _integers("H", columns.prefix),
            _integers("I", columns.offsets),
            _integers("I", columns.dependencies),
            columns.flags,
            array("f", [-1.0]) * n,
            array("I", [0]) * n,
            array("I", [0]) * n,
        )

    @property
    def nbytes(self) -> int:
        """What it takes, in bytes."""
        return len(self.flags) + sum(
            column.itemsize * len(column)
            for column in (
                *(self.hashes, self.ranks, self.prefix, self.offsets),
                *(self.dependencies, self.sizes, self.stored_at, self.left_at),
            )
        )


@dataclass(slots=True, eq=False)
class GraphRecord:
    """One graph and how far it has come.  All sizes in bytes."""

    id: str
    name: str
    #: Unix time of its arrival, in seconds.
    time: float
    #: Tasks that are to run for it.
    total: int
    prefixes: tuple[str, ...] = ()
    #: None where it is not covered, or not kept any more.
    tasks: GraphTasks | None = None
    #: Why it is not covered, in a sentence; empty where it is.
    uncovered: str = ""
    roots: tuple[RootGroup, ...] = ()
    #: Tasks that have finished, and when: (Unix time, number), thinned out.
    done: int = 0
    progress: list[tuple[float, int]] = field(default_factory=list)
    #: What is held now, by number of prefix, and altogether.
    held_by: list[int] = field(default_factory=list)
    held: int = 0
    #: Most that was held.
    peak: int = 0
    #: Threads of the cluster, and what its workers have room for, when it had most
    #: threads while this ran: a worker that dies comes back.
    threads: int = 0
    room: Room = field(default_factory=Room)
    #: Whether the scheduler has forgotten its tasks; when, in Unix seconds.
    ended: float | None = None
    #: Whether it is no graph but single submits that came one after another.
    submits: bool = False
    #: Grows with every change.
    version: int = 0

    @property
    def capacity(self) -> int | None:
        """What the workers can store together; None where not known."""
        return self.room.storage

    @property
    def finished(self) -> bool:
        """Whether nothing of it is left to run."""
        return self.ended is not None or self.done >= self.total

    @property
    def settled(self) -> bool:
        """Whether nothing of it will change any more."""
        return self.ended is not None or (self.finished and self.held == 0)

    def done_at(self, time: float) -> int | None:
        """Return number of finished tasks at a Unix time; None before it arrived."""
        if time < self.time:
            return None
        done = 0
        for moment, number in self.progress:
            if moment > time:
                break
            done = number
        return done

    def move(self, moves: Sequence[int]) -> None:
        """Take note of outputs that were stored or have left; others are ignored.

        One loop over plain columns: it runs twice for every task of the cluster.

        Parameters
        ----------
        moves
            Hash of a key and size of its output, or `LEFT`, by turns.
        """
        tasks = self.tasks
        if tasks is None:
            return
        hashes, ranks, flags = tasks.hashes, tasks.ranks, tasks.flags
        sizes, stored_at, left_at = tasks.sizes, tasks.stored_at, tasks.left_at
        prefix, held_by, n = tasks.prefix, self.held_by, len(hashes)
        for key_hash, size in zip(moves[::2], moves[1::2], strict=True):
            place = bisect_left(hashes, key_hash)
            if place == n or hashes[place] != key_hash:
                continue
            rank = ranks[place]
            given = flags[rank] & GIVEN
            here = not left_at[rank] and (
                stored_at[rank] or (given and sizes[rank] >= 0)
            )
            change = -int(sizes[rank]) if here else 0
            if size >= 0:
                sizes[rank] = size
                change += int(sizes[rank])  # as it is kept, so that sums stay exact
                left_at[rank] = 0
                if not given and not stored_at[rank]:
                    self.done += 1
                    stored_at[rank] = self.done
            elif here:
                left_at[rank] = self.done or 1
            held_by[prefix[rank]] += change
            self.held += change
            if self.held > self.peak:
                self.peak = self.held
            self.version += 1

    def note_progress(self, time: float) -> None:
        """Remember how many tasks have finished by now."""
        if self.progress and self.progress[-1][1] == self.done:
            return
        self.progress.append((time, self.done))
        if len(self.progress) > MAX_PROGRESS:
            del self.progress[1:-1:2]


class OrderLog:
    """All graphs that are listed, oldest first."""

    def __init__(self) -> None:
        self.graphs: OrderedDict[str, GraphRecord] = OrderedDict()
        # Those whose outputs still move, newest first.
        self._followed: list[GraphRecord] = []

    def add(self, event: GraphArrived, threads: int, room: Room) -> None:
        """List a graph; follow it where it came with its tasks.

        Parameters
        ----------
        threads, room
            Of the cluster, as in :class:`GraphRecord`.
        """
        columns = event.columns
        total = event.tasks or sum(map(len, event.priorities.values()))
        record = GraphRecord(event.graph, event.name, event.time, total)
        record.roots, record.submits = event.roots, event.submits
        record.threads, record.room = threads, room
        record.uncovered = event.uncovered or ("" if columns else NO_COLUMNS)
        if columns is not None:
            record.uncovered = self._refusal(columns)
        if columns is not None and not record.uncovered:
            record.prefixes = columns.prefixes
            record.held_by = [0] * len(columns.prefixes)
            record.tasks = GraphTasks.of(columns)
            record.move(_integers("q", event.moved))
            record.note_progress(event.time)
            self._followed.insert(0, record)
        self.graphs[event.graph] = record
        self._make_room()

    def move(self, event: OutputsMoved, threads: int, room: Room) -> None:
        """Take note of outputs that were stored or have left.

        A key that several graphs share counts in each of them.
        """
        followed = self._followed
        for record in followed:
            if not record.finished and threads >= record.threads:
                record.threads, record.room = threads, room
        moves = _integers("q", event.moves)
        for record in followed:
            if event.graph in ("", record.id):
                record.move(moves)
            record.note_progress(event.time)
        if any(record.settled for record in followed):
            self._followed = [record for record in followed if not record.settled]
            self._make_room()

    def check(self, event: GraphChecked) -> None:
        """Take note of how the scheduler sees a graph now."""
        record = self.graphs.get(event.graph)
        if record is None:
            return
        if event.roots and event.roots != record.roots:
            record.roots = event.roots
            record.version += 1
        if event.ended and record.ended is None:
            record.ended = event.time
            record.version += 1
            self._followed = [known for known in self._followed if known is not record]
            self._make_room()

    @property
    def nbytes(self) -> int:
        """What the graphs' tasks take, in bytes."""
        return sum(g.tasks.nbytes for g in self.graphs.values() if g.tasks is not None)

    def _refusal(self, columns: GraphColumns) -> str:
        n = len(columns.flags)
        kept = sum(
            len(known.tasks.flags)
            for known in self._followed
            if known.tasks is not None
        )
        size = columns.nbytes + FOLLOWING * n
        if n > MAX_TASKS:
            return (
                f"It has {n:,} tasks; graphs of more than {MAX_TASKS:,} are left out."
            )
        if n + kept > MAX_ALL_TASKS:
            return f"{kept:,} tasks of other graphs are followed, and no more fit."
        if size > BYTES_PER_TASK * n + FREE:
            edges = len(columns.dependencies) / 4 / n
            return (
                f"Its tasks have {edges:.1f} dependencies each, which would take "
                f"{size / n:.0f} bytes a task; at most {BYTES_PER_TASK} are kept."
            )
        return ""

    def _make_room(self) -> None:
        while len(self.graphs) > MAX_GRAPHS:
            _, oldest = self.graphs.popitem(last=False)
            self._followed = [known for known in self._followed if known is not oldest]
        for record in self._followed[MAX_FOLLOWED:]:
            record.uncovered = record.uncovered or NOT_FOLLOWED
        del self._followed[MAX_FOLLOWED:]
        finished = [
            g for g in self.graphs.values() if g.finished and g.tasks is not None
        ]
        size = sum(g.tasks.nbytes for g in finished if g.tasks is not None)
        for record in finished[:-1]:
            if size <= FINISHED_BYTES:
                return
            if record.tasks is not None:
                size -= record.tasks.nbytes
                record.tasks = None
                record.uncovered = NOT_KEPT
                self._followed = [g for g in self._followed if g is not record]


#: Said of graphs that came without their tasks, and of those given up for newer ones.
NO_COLUMNS = "Only the priorities of its tasks are known."
NOT_FOLLOWED = "It is no longer followed, since many newer graphs are."
NOT_KEPT = "It finished long ago, and its tasks were given up for newer graphs."


def _integers(typecode: str, data: bytes) -> array[int]:
    return read(typecode, data)  # type: ignore[return-value]
