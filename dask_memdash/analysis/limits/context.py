"""What the rules on memory limits look at, what they give, and their words.

The rules are in :mod:`dask_memdash.analysis.limits.rules` (caps and budgets) and
:mod:`dask_memdash.analysis.limits.underused` and :mod:`dask_memdash.analysis.limits.limit_environment`
(spilling, swap, allocator).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from dask_memdash.text import format_bytes
from dask_memdash.model.events import Thresholds
from dask_memdash.model.incidents import Incident
from dask_memdash.model.limit_facts import Cap, LimitFacts, LiveFigures
from dask_memdash.model.memory_pools import AVAILABLE, Machine, MiB, Room, Seat

#: Severities, worst first.
SEVERITIES = ("bad", "warning", "hint")

#: What is known before the first report.
NOTHING = LimitFacts()

#: Swapped-out memory that counts, in bytes.
SUBSTANTIAL = 64 * MiB


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one rule found."""

    verdict: str
    severity: str
    text: str
    advice: str
    #: The numbers in the text, in bytes unless the name says otherwise.
    numbers: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Bench:
    """What the rules look at: one worker process on its machine; sizes in bytes."""

    seat: Seat
    machine: Machine
    #: Its rooms, the tightest first.
    rooms: tuple[Room, ...]
    now: float
    #: Recent incidents of this machine in which memory ran out, newest first.
    incidents: tuple[Incident, ...] = ()

    @property
    def name(self) -> str:
        """The worker's name."""
        return self.seat.worker.info.name

    @property
    def limit(self) -> int | None:
        """Its limit; None without one."""
        return self.seat.limit

    @property
    def facts(self) -> LimitFacts:
        """What was read of its limit."""
        return NOTHING if self.seat.facts is None else self.seat.facts

    @property
    def live(self) -> LiveFigures:
        """What was read of it last."""
        return self.seat.worker.live

    @property
    def thresholds(self) -> Thresholds:
        """Its thresholds."""
        return self.seat.worker.thresholds

    @property
    def recommended(self) -> int | None:
        """A limit that fits beside the others; None where no cap is known."""
        return self.rooms[0].share_of(self.seat) if self.rooms else None

    @property
    def least(self) -> Cap | None:
        """The least cap."""
        return self.facts.least()

    @property
    def stops_at(self) -> int | None:
        """Where Dask ends the worker, or where its limit is without a nanny."""
        return self.seat.stops_at or self.limit


# -- words ---------------------------------------------------------------------


def meets(cap: Cap) -> str:
    """Say what happens at a cap."""
    return {
        "kills": "the kernel kills it",
        "throttles": "the kernel slows it down to a crawl",
        "fails": "its allocations fail with MemoryError",
        "declared": "the batch system may end it",
    }.get(cap.effect, "it is stopped")


def whose(cap: Cap, *, capital: bool = False) -> str:
    """Name what a cap belongs to."""
    text = {
        "host": "the machine",
        "cgroup": "its cgroup",
        "batch": "its batch job",
        "rlimit": "its rlimit",
    }.get(cap.kind, "its surroundings")
    return text[:1].upper() + text[1:] if capital else text


def within(room: Room) -> str:
    """Say where the workers of a room are."""
    return {
        "host": "on this machine",
        AVAILABLE: "on this machine",
        "cgroup": f"in {room.cap.where.rpartition('/')[0]}",
        "batch": "of this batch job",
    }.get(room.cap.kind, "there")


def offer(room: Room) -> str:
    """Say what a room has for its workers."""
    if room.cap.kind != AVAILABLE:
        return f"{whose(room.cap)} has {format_bytes(room.cap.bytes)} ({room.cap.name})"
    they, their = ("they were", "their") if room.shared else ("it was", "its")
    return (
        f"{format_bytes(room.budget)} were available when {they} first looked at, "
        f"{their} own memory included"
    )


def option(size: int) -> str:
    """Write a size as Dask's options take it."""
    return f"{size // MiB}MiB"


def set_limit(bench: Bench) -> str:
    """Say which limit to start the worker with."""
    size = bench.recommended
    if not size:
        return "Leave less to other programs there, or run fewer workers."
    each = "each worker here" if len(bench.machine.seats) > 1 else "the worker"
    if len({seat.nthreads for seat in bench.machine.seats.values()}) > 1:
        each = f"worker {bench.name}"
    return f"Start {each} with --memory-limit {option(size)}."


def lower_first(text: str) -> str:
    """Begin with a small letter."""
    return text[:1].lower() + text[1:]
