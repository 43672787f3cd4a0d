"""What the workers of one machine share: the caps on them, and what is left for them.

A *member* is one worker process; workers that share a process have one member.  A
*pool* is a cap with all members that it applies to.  What the members may have
together, its *budget*, is the cap less what others in it hold, which is measured: what
counts against the cap less the RSS of the members, at the instant at which that was
least.

Imports the standard library only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from dask_memdash.model.events import SchedulerLooked
from dask_memdash.model.evidence import HostFacts
from dask_memdash.model.limit_facts import Cap, LimitFacts, MiB, runs_out
from dask_memdash.model.processes import (
    Processes,
    ProcessKey,
    ProcessState,
    WorkerState,
    same_machine,
)

#: Kind of the pool that is no cap: what the machine had available.
AVAILABLE = "available"

#: Length of history that the slope is taken from, in seconds, and points it needs.
SLOPE_SECONDS = 15.0
SLOPE_POINTS = 5


#: Share of a cap that a scheduler's own process must have to be what fills it.
SCHEDULERS_SHARE = 0.25
#: Dask has not noticed that the kernel is about to act if the worker is below this
#: share of its limit.
UNAWARE = 0.8


@dataclass(frozen=True, slots=True)
class WorkerProcess:
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
class MemoryPool:
    """A cap and the worker processes under it; sizes in bytes."""

    cap: Cap
    members: tuple[WorkerProcess, ...]
    #: What the members may have together.
    budget: int
    #: Sum of the limits of its members, of those that have one.
    limits: int
    #: Sum of where Dask ends its members, or of their limits where it does not.
    stops: int
    #: Sum of the thresholds at which its members spill, of those that have one.
    spills: int
    #: Sum of their threads, at least 1.
    threads: int

    @classmethod
    def of(
        cls, cap: Cap, members: tuple[WorkerProcess, ...], budget: int
    ) -> MemoryPool:
        """Make a pool, with its sums."""
        return cls(
            cap=cap,
            members=members,
            budget=budget,
            limits=sum(member.limit or 0 for member in members),
            stops=sum(member.stops_at or member.limit or 0 for member in members),
            spills=sum(member.worker.thresholds.spill or 0 for member in members),
            threads=max(1, sum(member.nthreads for member in members)),
        )

    @property
    def shared(self) -> bool:
        """Whether more than one process is in it."""
        return len(self.members) > 1

    @property
    def others(self) -> int:
        """What is held in it by others than the members."""
        return self.cap.bytes - self.budget

    def share_of(self, member: WorkerProcess) -> int:
        """Return a member's part of the budget by its threads, in whole MiB."""
        return self.budget * member.nthreads // self.threads // MiB * MiB


@dataclass(frozen=True, slots=True)
class Machine:
    """One machine with its worker processes and the pools that they are in."""

    members: Mapping[ProcessKey, WorkerProcess]
    pools: Mapping[ProcessKey, tuple[MemoryPool, ...]]
    #: Sum of the limits of all its members; None when any has none.
    limits: int | None

    @classmethod
    def of(cls, members: Sequence[WorkerProcess]) -> Machine:
        """Make a machine of its members."""
        pools: dict[ProcessKey, list[MemoryPool]] = {
            member.key: [] for member in members
        }
        for pool in _pools(members):
            for member in pool.members:
                pools[member.key].append(pool)
        known = [member.limit for member in members if member.limit is not None]
        return cls(
            members={member.key: member for member in members},
            pools={key: tuple(own) for key, own in pools.items()},
            limits=sum(known) if len(known) == len(members) else None,
        )

    def pools_of(self, member: WorkerProcess) -> list[MemoryPool]:
        """Return the pools that a member is in, the tightest for it first."""
        return sorted(self.pools[member.key], key=lambda pool: pool.share_of(member))


def machines(processes: Processes) -> dict[str, Machine]:
    """Return the machine of every worker, by the worker's address."""
    names = _names(processes.workers.values())
    by_machine: dict[str, list[WorkerProcess]] = {}
    for process in processes.by_key.values():
        member = _worker_process(process)
        by_machine.setdefault(_machine_name(member.worker, names), []).append(member)
    found = {}
    for members in by_machine.values():
        machine = Machine.of(members)
        for member in members:
            for address in member.process.members:
                found[address] = machine
    return found


def machine_of(processes: Processes, worker: WorkerState) -> Machine:
    """Return the machine of one worker; cheaper than all of them."""
    near = [
        _worker_process(process)
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
    member = machine.members[worker.key]
    limit = member.limit
    allowed = [(cap.bytes, cap.kind) for cap in facts.caps]
    crowded = False
    for pool in machine.pools_of(member):
        if limit and pool.limits > pool.budget:
            kind = "host" if pool.cap.kind == AVAILABLE else pool.cap.kind
            allowed.append((pool.budget * limit // pool.limits, kind))
            crowded = crowded or pool.limits > pool.cap.bytes
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
        machine=min((c.bytes for c in facts.caps if c.kind == "host"), default=None),
    )


@dataclass(frozen=True, slots=True)
class Danger:
    """The kernel is about to kill, while the worker itself is far from its limit."""

    #: Whose memory runs out: 'cgroup' or 'host'; 'rlimit' where it is the process's
    #: address space (a scheduler's).
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
    if (
        kills
        and cap
        and used is not None
        and runs_out("cgroup", cap.bytes, cap.bytes - used)
    ):
        return Danger("cgroup", used, cap.bytes, own)
    total, free = facts.least("host"), live.available
    if total is not None and free is not None and runs_out("host", total.bytes, free):
        return Danger("host", total.bytes - free, total.bytes, own)
    return None


def scheduler_danger(seen: SchedulerLooked) -> Danger | None:
    """Tell whether the scheduler is about to run out of memory, by its own use.

    Where others fill its machine that is told of them.  Nobody else can fill what an
    rlimit leaves it: at that, the next allocation fails.
    """
    for kind, of, used in (
        ("rlimit", seen.rlimit, seen.rlimit_used),
        ("cgroup", seen.cgroup, seen.cgroup_used),
        (
            "host",
            seen.host,
            None
            if seen.host is None or seen.available is None
            else seen.host - seen.available,
        ),
    ):
        if of is None or used is None:
            continue
        if kind != "rlimit" and seen.rss < SCHEDULERS_SHARE * of:
            continue
        if runs_out(kind, of, of - used):
            return Danger(kind, used, of, seen.rss)
    return None


def slope(process: ProcessState, now: float) -> int | None:
    """Return how fast a process grows, in bytes a second, by least squares.

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


def _names(workers: Iterable[WorkerState]) -> dict[str, str]:
    """Return a name for the machine behind each host whose workers know none."""
    return {
        worker.info.host: worker.facts.machine
        for worker in workers
        if worker.facts is not None and worker.facts.machine is not None
    }


def _machine_name(worker: WorkerState, names: Mapping[str, str]) -> str:
    if worker.facts is not None and worker.facts.machine is not None:
        return worker.facts.machine
    return names.get(worker.info.host, worker.info.host)


def _worker_process(process: ProcessState) -> WorkerProcess:
    sharers = sorted(
        process.members.values(),
        key=lambda w: (w.facts is None, w.info.limit or 2**63, w.info.address),
    )
    first = sharers[0]
    threads = sum(sharer.info.nthreads for sharer in sharers)
    return WorkerProcess(first.key, first, process, process.limit, threads)


def _pools(members: Sequence[WorkerProcess]) -> list[MemoryPool]:
    pools = []
    by_scope: dict[tuple[str, str], list[tuple[WorkerProcess, Cap]]] = {}
    for member in members:
        if member.facts is not None:
            for cap in member.facts.caps:
                by_scope.setdefault((cap.scope, cap.name), []).append((member, cap))
    for entries in by_scope.values():
        sharers = tuple(member for member, _ in entries)
        if entries[0][1].kind == "host":
            sharers = tuple(members)  # also those that have not reported yet
        least = min((cap for _, cap in entries), key=lambda cap: cap.bytes)
        others = _others(entries, sharers)
        pools.append(MemoryPool.of(least, sharers, max(0, least.bytes - others)))
    available = _available(members)
    return pools if available is None else [*pools, available]


def _others(
    entries: Sequence[tuple[WorkerProcess, Cap]], sharers: Sequence[WorkerProcess]
) -> int:
    """Return what others than the members hold of a cap: the least ever seen."""
    seen = [
        cap.used - _held(member, sharers)
        for member, cap in entries
        if cap.used is not None and member.worker.beside
    ]
    return max(0, min(seen, default=0))


def _available(members: Sequence[WorkerProcess]) -> MemoryPool | None:
    """Return the pool that the machine had left for its workers.

    What was available when one of them was first looked at, and what they held by
    then: the most that this ever came to.
    """
    offers = [
        (member.facts.first.available + _held(member, members), member)
        for member in members
        if member.facts is not None and member.facts.first.available is not None
    ]
    if not offers:
        return None
    budget, member = max(offers, key=lambda offer: offer[0])
    scope = (member.facts.machine if member.facts else None) or member.worker.info.host
    cap = Cap(AVAILABLE, "MemAvailable", "/proc/meminfo", budget, "kills", scope)
    return MemoryPool.of(cap, tuple(members), budget)


def _held(member: WorkerProcess, sharers: Sequence[WorkerProcess]) -> int:
    """Return what some members held when the facts of one of them were read."""
    return sum(member.worker.beside.get(sharer.key, 0) for sharer in sharers)
