"""What the workers of one machine share: the caps on them, and what is left for them.

A *seat* is one worker process; workers that share a process have one seat.  A *room*
is a cap with all seats that it applies to.  What the seats may have together, its
*budget*, is the cap less what others in it hold, which is measured: what counts
against the cap less the RSS of the seats, at the instant at which that was least.

Imports the standard library only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from dask_memdash.model.evidence import HostFacts
from dask_memdash.model.limit_facts import Cap, LimitFacts
from dask_memdash.model.processes import (
    Processes,
    ProcessKey,
    ProcessState,
    WorkerState,
    same_machine,
)

MiB = 2**20

#: Kind of the room that is no cap: what the machine had available.
AVAILABLE = "available"

#: Length of history that the slope is taken from, in seconds, and points it needs.
SLOPE_SECONDS = 15.0
SLOPE_POINTS = 5


#: What is left of a cgroup, and of a machine, when the kernel is about to act: these
#: shares of it, and at most so many bytes …
CGROUP_LEFT, HOST_LEFT = 0.1, 0.05
MOST_LEFT = 1024 * MiB
#: … and Dask will not have noticed if the worker is below this share of its limit.
UNAWARE = 0.8


@dataclass(frozen=True, slots=True)
class Seat:
    """One worker process, with what is known of its limit; sizes in bytes."""

    key: ProcessKey
    #: The worker that speaks for it: the one with the least limit.
    worker: WorkerState
    process: ProcessState
    limit: int | None
    nthreads: int

    @property
    def facts(self) -> LimitFacts | None:
        """What was read where it runs; None before its first report."""
        return self.worker.facts

    @property
    def used(self) -> int | None:
        """Its RSS, None before the first reading."""
        breakdown = self.process.breakdown
        return None if breakdown is None else breakdown.process

    @property
    def stops_at(self) -> int | None:
        """Where Dask itself ends it: the terminate threshold, else nowhere."""
        return self.worker.thresholds.terminate


@dataclass(frozen=True, slots=True)
class Room:
    """A cap and the worker processes under it; sizes in bytes."""

    cap: Cap
    seats: tuple[Seat, ...]
    #: What the seats may have together.
    budget: int
    #: Sum of the limits of its seats, of those that have one.
    limits: int
    #: Sum of where Dask ends its seats, or of their limits where it does not.
    stops: int
    #: Sum of the thresholds at which its seats spill, of those that have one.
    spills: int
    #: Sum of their threads, at least 1.
    threads: int

    @classmethod
    def of(cls, cap: Cap, seats: tuple[Seat, ...], budget: int) -> Room:
        """Make a room, with its sums."""
        return cls(
            cap=cap,
            seats=seats,
            budget=budget,
            limits=sum(seat.limit or 0 for seat in seats),
            stops=sum(seat.stops_at or seat.limit or 0 for seat in seats),
            spills=sum(seat.worker.thresholds.spill or 0 for seat in seats),
            threads=max(1, sum(seat.nthreads for seat in seats)),
        )

    @property
    def shared(self) -> bool:
        """Whether more than one process is in it."""
        return len(self.seats) > 1

    @property
    def others(self) -> int:
        """What is held in it by others than the seats."""
        return self.cap.bytes - self.budget

    def share_of(self, seat: Seat) -> int:
        """Give a seat's part of the budget by its threads, in whole MiB."""
        return self.budget * seat.nthreads // self.threads // MiB * MiB


@dataclass(frozen=True, slots=True)
class Machine:
    """One machine with its worker processes and the rooms that they are in."""

    seats: Mapping[ProcessKey, Seat]
    rooms: Mapping[ProcessKey, tuple[Room, ...]]
    #: Sum of the limits of all its seats; None when any has none.
    limits: int | None

    @classmethod
    def of(cls, seats: Sequence[Seat]) -> Machine:
        """Make a machine of its seats."""
        rooms: dict[ProcessKey, list[Room]] = {seat.key: [] for seat in seats}
        for room in _rooms(seats):
            for seat in room.seats:
                rooms[seat.key].append(room)
        known = [seat.limit for seat in seats if seat.limit is not None]
        return cls(
            seats={seat.key: seat for seat in seats},
            rooms={key: tuple(own) for key, own in rooms.items()},
            limits=sum(known) if len(known) == len(seats) else None,
        )

    def rooms_of(self, seat: Seat) -> list[Room]:
        """Give the rooms that a seat is in, the tightest for it first."""
        return sorted(self.rooms[seat.key], key=lambda room: room.share_of(seat))


def machines(processes: Processes) -> dict[str, Machine]:
    """Give the machine of every worker, by the worker's address."""
    names = _names(processes.workers.values())
    by_machine: dict[str, list[Seat]] = {}
    for process in processes.by_key.values():
        seat = _seat(process)
        by_machine.setdefault(_machine_name(seat.worker, names), []).append(seat)
    found = {}
    for seats in by_machine.values():
        machine = Machine.of(seats)
        for seat in seats:
            for address in seat.process.members:
                found[address] = machine
    return found


def machine_of(processes: Processes, worker: WorkerState) -> Machine:
    """Give the machine of one worker; cheaper than all of them."""
    near = [
        _seat(process)
        for process in processes.by_key.values()
        if same_machine(next(iter(process.members.values())), worker)
    ]
    return Machine.of(near)


def host_facts(processes: Processes, worker: WorkerState) -> HostFacts | None:
    """Sum up what a worker's surroundings really allow it; None before its report.

    Where a cap is shared and the limits under it sum to more than it has, what it
    allows the worker is its part by limits.
    """
    facts = worker.facts
    if facts is None:
        return None
    machine = machine_of(processes, worker)
    seat = machine.seats[worker.key]
    limit = seat.limit
    allowed = [(cap.bytes, cap.kind) for cap in facts.caps]
    crowded = False
    for room in machine.rooms_of(seat):
        if limit and room.limits > room.budget:
            kind = "host" if room.cap.kind == AVAILABLE else room.cap.kind
            allowed.append((room.budget * limit // room.limits, kind))
            crowded = crowded or room.limits > room.cap.bytes
    effective, source = min(allowed, default=(None, "unknown"))
    least = facts.least("cgroup", "batch", "rlimit")
    verdict = "ok" if limit else "no-limit"
    if limit and least is not None and least.bytes < limit:
        verdict = "not-seen"
    elif crowded:
        verdict = "too-high"
    return HostFacts(
        limit=limit,
        effective=effective,
        source=source,
        available=facts.first.available,
        siblings=machine.limits,
        verdict=verdict,
    )


@dataclass(frozen=True, slots=True)
class Danger:
    """The kernel is about to kill, while the worker itself is far from its limit."""

    #: Whose memory runs out: 'cgroup' or 'host'.
    kind: str
    #: What of it is used, of how much, in bytes.
    used: int
    of: int
    #: What the worker's process uses of that.
    process: int


def danger_of(worker: WorkerState, process: ProcessState) -> Danger | None:
    """Tell whether the kernel is about to kill a worker that Dask leaves alone."""
    facts, live, breakdown = worker.facts, worker.live, process.breakdown
    if facts is None or breakdown is None:
        return None
    own, limit = breakdown.process, process.limit
    if limit is not None and own >= UNAWARE * limit:
        return None  # Dask sees it coming
    cap, used = facts.least("cgroup"), live.cgroup_used
    kills = cap is not None and cap.effect == "kills"
    if kills and cap and used is not None and _runs_out(cap, cap.bytes - used):
        return Danger("cgroup", used, cap.bytes, own)
    total, free = facts.least("host"), live.available
    if total is not None and free is not None and _runs_out(total, free):
        return Danger("host", total.bytes - free, total.bytes, own)
    return None


def slope(process: ProcessState, now: float) -> int | None:
    """Give how fast a process grows, in bytes a second, by least squares.

    None with fewer than :data:`SLOPE_POINTS` points in the last
    :data:`SLOPE_SECONDS`.
    """
    points = process.history.recent(now - SLOPE_SECONDS)
    if len(points) < SLOPE_POINTS:
        return None
    middle = sum(time for time, _ in points) / len(points)
    mean = sum(size for _, size in points) / len(points)
    spread = sum((time - middle) ** 2 for time, _ in points)
    if spread <= 0:
        return None
    return round(sum((t - middle) * (size - mean) for t, size in points) / spread)


# -- parts ---------------------------------------------------------------------


def _runs_out(cap: Cap, left: int) -> bool:
    share = CGROUP_LEFT if cap.kind == "cgroup" else HOST_LEFT
    return left <= min(share * cap.bytes, MOST_LEFT)


def _names(workers: Iterable[WorkerState]) -> dict[str, str]:
    """Give a name to the machine behind each host, for workers that do not know it."""
    return {
        worker.info.host: worker.facts.machine
        for worker in workers
        if worker.facts is not None and worker.facts.machine is not None
    }


def _machine_name(worker: WorkerState, names: Mapping[str, str]) -> str:
    if worker.facts is not None and worker.facts.machine is not None:
        return worker.facts.machine
    return names.get(worker.info.host, worker.info.host)


def _seat(process: ProcessState) -> Seat:
    members = sorted(
        process.members.values(),
        key=lambda w: (w.facts is None, w.info.limit or 2**63, w.info.address),
    )
    first = members[0]
    threads = sum(member.info.nthreads for member in members)
    return Seat(first.key, first, process, process.limit, threads)


def _rooms(seats: Sequence[Seat]) -> list[Room]:
    rooms = []
    by_scope: dict[tuple[str, str], list[tuple[Seat, Cap]]] = {}
    for seat in seats:
        if seat.facts is not None:
            for cap in seat.facts.caps:
                by_scope.setdefault((cap.scope, cap.name), []).append((seat, cap))
    for entries in by_scope.values():
        members = tuple(seat for seat, _ in entries)
        if entries[0][1].kind == "host":
            members = tuple(seats)  # also those that have not reported yet
        least = min((cap for _, cap in entries), key=lambda cap: cap.bytes)
        others = _others(entries, members)
        rooms.append(Room.of(least, members, max(0, least.bytes - others)))
    available = _available(seats)
    return rooms if available is None else [*rooms, available]


def _others(entries: Sequence[tuple[Seat, Cap]], members: Sequence[Seat]) -> int:
    """Give what others than the seats hold of a cap: the least that was ever seen."""
    seen = [
        cap.used - _held(seat, members)
        for seat, cap in entries
        if cap.used is not None and seat.worker.beside
    ]
    return max(0, min(seen, default=0))


def _available(seats: Sequence[Seat]) -> Room | None:
    """Give the room that the machine had left for its workers.

    What was available when one of them was first looked at, and what they held by
    then: the most that this ever came to.
    """
    offers = [
        (seat.facts.first.available + _held(seat, seats), seat)
        for seat in seats
        if seat.facts is not None and seat.facts.first.available is not None
    ]
    if not offers:
        return None
    budget, seat = max(offers, key=lambda offer: offer[0])
    scope = (seat.facts.machine if seat.facts else None) or seat.worker.info.host
    cap = Cap(AVAILABLE, "MemAvailable", "/proc/meminfo", budget, "kills", scope)
    return Room.of(cap, tuple(seats), budget)


def _held(seat: Seat, members: Sequence[Seat]) -> int:
    """Give what some seats held when the facts of one of them were read."""
    return sum(seat.worker.beside.get(member.key, 0) for member in members)
