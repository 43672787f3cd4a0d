"""The rule: which of the tasks that are ready may start now, and why.

A task starts if what the process has, what running tasks are still expected to take,
what is on its way here and what it needs itself fit under the pause threshold.
Whatever the figures say:

- *alone*: where no task counts as running, the first starts, as Dask would start it (up
  to two seconds later, if the worker is spilling just now, or if what is stored here
  may go: *hopes*); before it, one behind it that frees memory, if it fits or needs no
  more than the first (*frees*);
- *room is made*: what is stored may go to disk, and what is being sent or received
  ends: for ten seconds at most, the first waits for that, and for outputs that other
  workers have asked for in vain;
- one that fits passes a held one a bounded number of times;
- *progress*: where those that run have not got on for a while, one more starts: they
  may wait for it;
- *light*: a task of next to nothing is held only by what is there, never by what others
  may still take;
- *unknown*: of a prefix of which nothing is known yet, the next task waits until the
  one before has ended, or has run long enough to be looked at;
- *drain*: on a worker that is paused for its memory, one task at a time runs on if that
  frees memory and fits; where none does and nothing has moved for a while, any that
  fits; and in the end the smallest of those that free memory, else of all.  The same
  where the worker is about to be paused.

So it delays, and never forbids: whatever ends without it ends with it.

A pure function of a :class:`Snapshot`.  Imports the standard library only; sizes are
integers in bytes, times are seconds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

#: A task that is expected to take at most this share of the limit is light.
LIGHT = 0.01

#: Seconds for which a task runs before what it holds says something of its prefix.
SETTLED = 0.25

#: Share of what ends the worker up to which a paused one is drained; and the seconds
#: after which it starts what does not fit even there: Dask would stand still for ever.
DRAINED = 0.96
STANDS_STILL = 30.0

#: Seconds for which a task that does not fit waits although nothing runs, since room is
#: made for it.
MAKING_ROOM = 10.0

#: Tasks behind a held one that are looked at; on a paused worker, those in all.
LOOKED_AT = 16
LOOKED_AT_PAUSED = 64
#: As many more that free memory, wherever they stand.
FREEING = 16

# Why a task starts.
FITS, ALONE, PROGRESS, LIGHTLY = "fits", "alone", "progress", "light"
FREES, DRAINS = "frees", "drains"
# Why it does not.
NO_ROOM, UNKNOWN, SPILLING, PAUSED = "no-room", "unknown", "spilling", "paused"
HOPES = "hopes"
MAKES_ROOM, MOVING = "makes-room", "moving"
NOTHING_READY = "nothing-ready"


@dataclass(frozen=True, slots=True)
class Running:
    """A task that runs, or has ended and whose output is not stored yet."""

    prefix: str
    #: What it holds now and has held at most, in bytes; 0 where it is not measured.
    held: int
    peak: int
    #: What it is expected to take, in bytes; None where nothing is known.
    expected: int | None
    #: For how long it has run; 0 where it has not begun yet.
    seconds: float
    ended: bool = False
    #: What it has asked for and is filling just now, beside what it holds, in bytes.
    filling: int = 0
    #: What of its inputs is still to be read back from disk before it begins, in bytes.
    read_back: int = 0

    @property
    def most(self) -> int:
        """The most that it has come to, with what it is filling."""
        return max(self.peak, self.held + self.filling)

    @property
    def growth(self) -> int:
        """What it is expected to take beyond what it holds."""
        if self.ended:
            return 0
        own = max(0, max(self.expected or 0, self.most) - self.held)
        return own + self.read_back


@dataclass(frozen=True, slots=True)
class Candidate:
    """A task that is ready."""

    prefix: str
    #: What it is expected to take, in bytes; None where nothing is known.
    expected: int | None
    #: Its inputs: all of them, what of them must be read back from disk, and what goes
    #: once it is done, in bytes.
    inputs: int = 0
    read_back: int = 0
    frees: int = 0
    #: Whether one of its prefix has ended on this worker.
    tried: bool = True

    @property
    def here(self) -> int:
        """What of its inputs is in memory, in bytes."""
        return max(0, self.inputs - self.read_back)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A worker at one instant."""

    #: RSS of its process.
    process: int
    #: Its memory limit, its pause threshold, and where it ends (terminate threshold,
    #: else the limit).
    limit: int
    pause: int
    end: int
    #: Whatever takes memory: those that count as running, seceded and ended ones.
    running: tuple[Running, ...]
    #: How many of them count as running.
    executing: int
    #: For how long none of them has got on, and for how long that may be.
    still: float
    patience: float
    #: Whether the worker is paused for its memory.
    paused: bool = False
    #: Whether it is spilling, and has been for no more than a moment.
    spilling: bool = False
    #: What is stored in memory where nothing is spilled, in bytes; and for how many
    #: seconds without progress it is hoped that some of it goes.
    stored: int = 0
    hope: float = 0.0
    #: What is on its way here, and what is being sent to others, in bytes.  The latter
    #: is in memory, and cannot go before it is sent.
    incoming: int = 0
    outgoing: int = 0
    #: What others have asked for in vain and ask for again, and must be read back from
    #: disk for them, in bytes.
    owed: int = 0
    #: What is stored in memory and may go to disk, in bytes: nothing that runs uses it,
    #: and it is not being sent.
    evictable: int = 0
    #: For how many seconds the first has waited for room to be made.
    making_room: float = 0.0
    #: Whether a held task may be passed once more by one that fits; and, where nothing
    #: runs, by one that frees memory.
    may_pass: bool = True
    may_free: bool = True

    @property
    def growth(self) -> int:
        """What running tasks are expected to take beyond what they hold."""
        return sum(task.growth for task in self.running)

    @property
    def coming(self) -> int:
        """What will be taken beside what is there, whatever starts now."""
        return self.growth + self.incoming + self.owed

    @property
    def room(self) -> int:
        """What there is up to the pause threshold; may be negative."""
        return self.pause - self.process - self.coming

    @property
    def gets_on(self) -> bool:
        """Whether something runs that gets on."""
        return bool(self.executing) and self.still < self.patience


@dataclass(frozen=True, slots=True)
class Decision:
    """What may start."""

    #: Which of the candidates, counted from 0; None: none of them.
    start: int | None
    #: Why that one starts, or why the first does not.
    reason: str
    #: What that one needs and what there was for it, in bytes (room may be negative).
    need: int = 0
    room: int = 0


def decide(now: Snapshot, candidates: Iterable[Candidate]) -> Decision:
    """Choose one of the candidates, which come in the order of their priority."""
    about_to_be = now.process > now.pause and now.stored and now.still < now.hope
    if now.paused or about_to_be:
        return _drain(now, candidates)
    first: Decision | None = None
    coming = now.coming
    for index, candidate in enumerate(candidates):
        found = _judge(now, candidate, coming, index)
        if first is None:
            if found.start is not None:
                return found
            first, held = _first(now, found, candidate), found
            if not (now.may_pass if now.executing else now.may_free):
                break
        elif index > LOOKED_AT and not candidate.frees:
            continue
        elif now.executing:
            if found.start is not None and candidate.tried:
                return found
        elif candidate.frees:
            waits = first.reason in (MAKES_ROOM, MOVING)
            if found.need <= (found.room if waits else max(found.room, held.need)):
                return replace(found, start=index, reason=FREES)
    return first or Decision(None, NOTHING_READY)


def _judge(now: Snapshot, candidate: Candidate, coming: int, index: int) -> Decision:
    """Say whether a task fits, whatever else."""
    room = now.pause - now.process - coming
    need = need_of(candidate, now.running)
    if need is None:
        return Decision(None, UNKNOWN, 0, room)
    if need <= room:
        return Decision(index, FITS if now.executing else ALONE, need, room)
    if need <= LIGHT * now.limit and need <= now.pause - now.process:
        return Decision(index, LIGHTLY, need, room)
    return Decision(None, NO_ROOM, need, room)


def _first(now: Snapshot, held: Decision, first: Candidate) -> Decision:
    """Say whether the first of all starts without fitting."""
    frees = first.frees
    if not now.executing:
        if held.need > held.room and now.making_room < MAKING_ROOM:
            if now.evictable > first.here:
                return replace(held, reason=MAKES_ROOM)
            if now.incoming or now.outgoing or now.owed:
                return replace(held, reason=MOVING)
        if now.spilling and held.need > held.room + now.end - now.pause:
            return replace(held, reason=SPILLING)
        lacks = held.need - held.room
        if not frees and 0 < lacks <= now.stored and now.still < now.hope:
            return replace(held, reason=HOPES)
        return replace(held, start=0, reason=ALONE)
    if now.still >= now.patience:
        return replace(held, start=0, reason=PROGRESS)
    return held


def need_of(candidate: Candidate, running: Iterable[Running]) -> int | None:
    """Return what a task needs, in bytes; None where that is about to be known.

    Where nothing is known of its prefix: what those of it that run have taken, and at
    least as much again as its inputs, which many tasks copy or join.
    """
    if candidate.expected is not None:
        return candidate.expected + candidate.read_back
    least = candidate.inputs
    for task in running:
        if task.prefix == candidate.prefix:
            if not task.ended and task.seconds < SETTLED:
                return None
            least = max(least, task.most)
    return least + candidate.read_back


def _drain(now: Snapshot, candidates: Iterable[Candidate]) -> Decision:
    """Choose what runs on a paused worker: what frees most, else what is smallest."""
    room = int(DRAINED * now.end) - now.process - now.coming
    if now.executing and now.still < now.patience:
        return Decision(None, PAUSED, 0, room)
    best: Decision | None = None
    rank: tuple[int, int] | None = None
    for index, candidate in enumerate(candidates):
        need = need_of(candidate, now.running)
        if candidate.expected is None and candidate.frees and now.still >= now.patience:
            need = candidate.read_back  # one shows what the others take
        if need is None or (need > room and now.still < STANDS_STILL):
            continue
        if candidate.frees or now.still >= now.patience:
            fits = need <= room
            mine = (candidate.frees if fits else bool(candidate.frees) - 2, -need)
            if rank is None or mine > rank:
                best, rank = Decision(index, DRAINS, need, room), mine
    return best or Decision(None, PAUSED, 0, room)
