"""Whether workers' memory limits are right: a list of small rules, and their verdicts.

Each rule takes one worker process and its machine
(:class:`~dask_memdash.analysis.limits.context.Bench`) and gives a verdict with its numbers and
the change to make, or nothing.  No rule speaks of a number that was not read.  What
rooms and budgets are, and how they are measured, is :mod:`dask_memdash.model.memory_pools`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from dask_memdash.analysis.limits.context import (
    SEVERITIES,
    Bench,
    Verdict,
    meets,
    offer,
    set_limit,
    whose,
    within,
)
from dask_memdash.analysis.limits.limit_environment import (
    allocator,
    pressure,
    scratch,
    spill_off,
    swap,
    thresholds_out_of_order,
)
from dask_memdash.analysis.limits.underused import too_low, unbalanced, underrated
from dask_memdash.text import format_bytes
from dask_memdash.model.incidents import Incident
from dask_memdash.model.processes import Processes, ProcessKey, WorkerState
from dask_memdash.model.memory_pools import AVAILABLE, Room, danger_of, machines, slope

#: Sum of limits above what was available that is taken for noise: what is available
#: wobbles with caches.
NOISE = 1.02

#: Incidents in which memory ran out on one worker.
RAN_OUT = frozenset({"terminated", "oom-killed", "memory-error", "paused"})

#: A limit that is reached later than this is not spoken of, in seconds.
FORESEEABLE = 3600.0

#: Newest incidents looked at for what neighbours had free.
LOOKED_AT = 50


# -- rules ---------------------------------------------------------------------


def no_limit(bench: Bench) -> Verdict | None:
    """Say that nothing makes this worker spill, pause or restart."""
    if bench.limit is not None or bench.least is None:
        return None
    least = bench.least
    return Verdict(
        "no-limit",
        "warning",
        f"Worker {bench.name} has no memory limit: Dask never spills, pauses or "
        f"restarts it, and {meets(least)} at {format_bytes(least.bytes)} "
        f"({least.name}).",
        set_limit(bench),
        {"effective": least.bytes},
    )


def not_seen(bench: Bench) -> Verdict | None:
    """Say that a cap which Dask did not find is below the limit."""
    limit = bench.limit
    caps = [cap for cap in bench.facts.caps if cap.kind != "host"]
    below = [cap for cap in caps if limit is not None and cap.bytes < limit]
    if limit is None or not below:
        return None
    cap = min(below, key=lambda c: c.bytes)
    severity = "warning" if cap.effect == "declared" else "bad"
    thinks = ""
    if bench.facts.dask is not None and bench.facts.dask > cap.bytes:
        thinks = f" Dask takes this machine for {format_bytes(bench.facts.dask)}."
    return Verdict(
        "not-seen",
        severity,
        f"Worker {bench.name} may use {format_bytes(limit)} by its limit, and "
        f"{whose(cap)} allows {format_bytes(cap.bytes)} ({cap.name} in {cap.where}): "
        f"{meets(cap)} first.{thinks}",
        set_limit(bench),
        {"limit": limit, "cap": cap.bytes},
    )


def too_high(bench: Bench) -> Verdict | None:
    """Say that the limits of workers which share a cap sum to more than it."""
    crowded = [
        room
        for room in bench.rooms
        if (room.shared or _binds(room, bench)) and _ceiling(room) < room.limits
    ]
    if bench.limit is None or not crowded:
        return None
    room = max(crowded, key=lambda r: (r.limits / max(1, r.budget), r.cap.name))
    there = room.budget if room.cap.kind == AVAILABLE else room.cap.bytes
    if room.stops <= there:
        before = f"Dask ends nothing before {format_bytes(room.stops)} are used"
    elif room.spills > there:
        before = "the kernel kills before Dask spills"
    else:
        before = "the kernel kills before Dask terminates"
    who = (
        f"The limits of the {len(room.seats)} workers {within(room)} sum to"
        if room.shared
        else f"The limit of worker {bench.name} is"
    )
    return Verdict(
        "too-high",
        "bad" if room.stops > there else "warning",
        f"{who} {format_bytes(room.limits)}, and {offer(room)}: {before}.",
        set_limit(bench),
        {
            "limits": room.limits,
            "budget": room.budget,
            "terminate": room.stops,
            "workers": len(room.seats),
        },
    )


def kernel_first(bench: Bench) -> Verdict | None:
    """Say that the kernel is about to act, while Dask is far from its limit."""
    danger = danger_of(bench.seat.worker, bench.seat.process)
    if danger is None:
        return None
    whole = "Its cgroup" if danger.kind == "cgroup" else "Its machine"
    of = f" of its limit of {format_bytes(bench.limit)}" if bench.limit else ""
    return Verdict(
        "kernel-first",
        "bad",
        f"Worker {bench.name} may be killed by the kernel any moment. {whole} uses "
        f"{format_bytes(danger.used)} of {format_bytes(danger.of)}, and the worker "
        f"itself {format_bytes(danger.process)}{of}, so that Dask does nothing about "
        "it.",
        "See what else runs there (other workers, the nanny, files in a tmpfs). "
        + set_limit(bench),
        {"used": danger.used, "of": danger.of, "process": danger.process},
    )


def thresholds_late(bench: Bench) -> Verdict | None:
    """Say that the limit fits, but a cap is reached before Dask terminates."""
    limit, stops = bench.limit, bench.stops_at
    if limit is None or stops is None:
        return None
    for room in bench.rooms:
        if room.cap.kind == AVAILABLE or room.limits > room.cap.bytes:
            continue
        if room.stops <= room.budget or room.cap.effect == "declared":
            continue
        what = "its terminate threshold" if bench.seat.stops_at else "its limit"
        if room.shared:
            what = f"what the {len(room.seats)} workers there may reach"
        return Verdict(
            "thresholds",
            "warning" if room.shared else "bad",
            f"{whose(room.cap, capital=True)} allows {format_bytes(room.cap.bytes)}, "
            f"{format_bytes(room.others)} of it are held by others than the workers "
            f"(nanny, file buffers), and {what} is {format_bytes(room.stops)}: "
            f"{meets(room.cap)} first.",
            set_limit(bench),
            {
                "cap": room.cap.bytes,
                "others": room.others,
                "terminate": room.stops,
                "budget": room.budget,
            },
        )
    return None


Rule = Callable[[Bench], Verdict | None]

#: Every rule; of the same severity, the first one names the worker's verdict.
RULES: tuple[Rule, ...] = (
    kernel_first,
    not_seen,
    too_high,
    thresholds_late,
    no_limit,
    spill_off,
    scratch,
    unbalanced,
    too_low,
    underrated,
    swap,
    pressure,
    thresholds_out_of_order,
    allocator,
)


def judge(bench: Bench, rules: Sequence[Rule] = RULES) -> list[Verdict]:
    """Give what the rules find, worst first; nothing before the first report."""
    if bench.seat.facts is None:
        return []
    found = [verdict for rule in rules if (verdict := rule(bench)) is not None]
    return sorted(found, key=lambda verdict: SEVERITIES.index(verdict.severity))


@dataclass(frozen=True, slots=True)
class Headroom:
    """How long a limit lasts at the present rate."""

    #: Limit less the process, in bytes.
    bytes: int | None
    #: Bytes a second.
    slope: int | None
    #: Seconds until the limit; None where it is not reached within an hour.
    seconds: float | None


def headroom(bench: Bench) -> Headroom:
    """Work out how long the limit lasts if the process goes on as it does."""
    rate = slope(bench.seat.process, bench.now)
    if bench.limit is None or bench.seat.used is None:
        return Headroom(None, rate, None)
    left = bench.limit - bench.seat.used
    if rate is None or rate <= 0:
        return Headroom(left, rate, None)
    seconds = round(max(0, left) / rate, 1)
    return Headroom(left, rate, seconds if seconds <= FORESEEABLE else None)


def benches(
    processes: Processes, incidents: Iterable[Incident], now: float
) -> list[tuple[WorkerState, Bench]]:
    """Give every worker with what the rules look at."""
    recent = [i for i in islice(incidents, LOOKED_AT) if i.kind in RAN_OUT and i.limit]
    found = machines(processes)
    laid: dict[ProcessKey, Bench] = {}
    result = []
    for address, worker in processes.workers.items():
        bench = laid.get(worker.key)
        if bench is None:
            machine = found[address]
            seat = machine.seats[worker.key]
            hosts = {host for host, _ in machine.seats} if recent else ()
            bench = laid[worker.key] = Bench(
                seat=seat,
                machine=machine,
                rooms=tuple(machine.rooms_of(seat)),
                now=now,
                incidents=tuple(i for i in recent if i.worker.host in hosts),
            )
        result.append((worker, bench))
    return result


# -- parts ---------------------------------------------------------------------


def _binds(room: Room, bench: Bench) -> bool:
    """Whether the machine limits more than a cap on this worker alone.

    Of such a cap `not_seen` speaks.
    """
    if room.cap.kind not in ("host", AVAILABLE):
        return False
    inner = bench.facts.least("cgroup", "batch", "rlimit")
    return inner is None or room.budget < inner.bytes


def _ceiling(room: Room) -> float:
    """Give what a room's limits may sum to; what is available wobbles a little."""
    return room.budget * NOISE if room.cap.kind == AVAILABLE else room.cap.bytes
