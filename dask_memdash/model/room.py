"""What empty workers have room for: one task, and the outputs of a whole graph.

Dask's limits are not room.  An idle process takes part of each; a worker that cannot
spill starts no task above its pause threshold; and a nanny ends it at its terminate
threshold.  What is left is what a graph's *need* is compared with.

Imports the standard library only.  All sizes are integers in bytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from dask_memdash.model.processes import Processes, ProcessState

#: Why there is no figure for the room, beside the empty text.
NO_WORKERS = "no-workers"
NO_LIMIT = "no-limit"
YOUNG = "young"


@dataclass(frozen=True, slots=True)
class Room:
    """What a cluster's workers have for work, were they empty."""

    #: Worker processes.
    processes: int = 0
    #: What all of them can store together; None where not known.
    storage: int | None = None
    #: What the roomiest has for one task, its inputs among it; None where not known.
    task: int | None = None
    #: Processes of which it is not known what they take when idle, and which are
    #: taken to be like the others.
    guessed: int = 0
    #: Processes that cannot spill.
    unspilling: int = 0
    #: Why `storage` and `task` are None; empty where they are not.
    unknown: str = NO_WORKERS
    #: What the process that has least for each of its threads has for tasks, and its
    #: threads; None and 0 where not known.
    least: int | None = None
    threads: int = 0


@dataclass(frozen=True, slots=True)
class ProcessRoom:
    """What one worker process may use, and what of it is gone when it is idle."""

    limit: int | None
    pause: int | None
    terminate: int | None
    #: Whether it spills; None before its first report.
    spills: bool | None
    #: What it takes when idle; None before its first quiet moment.
    idle: int | None
    #: Tasks that it runs at once; 0 where not known.
    threads: int = 0

    @property
    def for_task(self) -> int | None:
        """Where one task's memory ends: the terminate threshold, else the limit."""
        return self.limit if self.terminate is None else self.terminate

    @property
    def for_storage(self) -> int | None:
        """Where storage ends: the limit, or the pause threshold if nothing spills."""
        if self.spills or self.pause is None:
            return self.limit
        return self.pause


def room_of(processes: Processes) -> Room:
    """Return the room of all workers together."""
    return joined(map(process_room, processes.by_key.values()))


def process_room(process: ProcessState) -> ProcessRoom:
    """Return what one process may use; workers that share it apply the least."""
    members = process.members.values()
    read = [member for member in members if member.reading is not None]
    thresholds = [member.thresholds for member in read]
    idle = [m.idle for m in members if m.idle is not None]
    return ProcessRoom(
        limit=process.limit,
        pause=_least(t.pause for t in thresholds),
        terminate=_least(t.terminate for t in thresholds),
        spills=all(t.target is not None or t.spill is not None for t in thresholds)
        if read
        else None,
        idle=min(idle, default=None),
        threads=sum(member.info.nthreads for member in members),
    )


def joined(parts: Iterable[ProcessRoom]) -> Room:
    """Sum up what several processes have.

    A process whose idle memory is not known is taken to need as much as the largest
    whose is; where none is known, nothing is said.
    """
    rooms = list(parts)
    idle = max((room.idle for room in rooms if room.idle is not None), default=None)
    made = Room(
        processes=len(rooms),
        guessed=sum(room.idle is None for room in rooms),
        unspilling=sum(room.spills is False for room in rooms),
    )
    if not rooms:
        return made
    if any(room.limit is None for room in rooms):
        return _unknown(made, NO_LIMIT)
    if idle is None or all(room.spills is None for room in rooms):
        return _unknown(made, YOUNG)
    known = [idle if room.idle is None else room.idle for room in rooms]
    tasks = [
        max(0, (room.for_task or 0) - own)
        for room, own in zip(rooms, known, strict=True)
    ]
    least, threads = min(
        ((left, room.threads) for left, room in zip(tasks, rooms, strict=True)),
        key=lambda one: one[0] / max(1, one[1]),
    )
    return Room(
        processes=made.processes,
        storage=sum(
            max(0, (room.for_storage or 0) - own)
            for room, own in zip(rooms, known, strict=True)
        ),
        task=max(tasks),
        guessed=made.guessed,
        unspilling=made.unspilling,
        unknown="",
        least=least if threads else None,
        threads=threads,
    )


def _unknown(made: Room, why: str) -> Room:
    return Room(
        processes=made.processes,
        guessed=made.guessed,
        unspilling=made.unspilling,
        unknown=why,
    )


def _least(sizes: Iterable[int | None]) -> int | None:
    return min((size for size in sizes if size is not None), default=None)
