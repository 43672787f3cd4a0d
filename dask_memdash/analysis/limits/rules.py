"""Whether workers' memory limits are right: a list of small rules, and their verdicts.

Each rule takes one worker process and its machine
(:class:`~dask_memdash.analysis.limits.context.LimitContext`) and gives a verdict with
its numbers and the change to make, or nothing.  No rule speaks of a number that was not
read.  What pools and budgets are, and how they are measured, is
:mod:`dask_memdash.model.memory_pools`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from dask_memdash.analysis.limits.context import (
    SEVERITIES,
    LimitContext,
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
from dask_memdash.analysis.time_to_limit import full_in
from dask_memdash.model.incidents import Incident
from dask_memdash.model.memory_pools import (
    AVAILABLE,
    MemoryPool,
    danger_of,
    machines,
    slope,
)
from dask_memdash.model.processes import Processes, ProcessKey, WorkerState
from dask_memdash.text import format_bytes

#: Sum of limits above what was available that is taken for noise: what is available
#: wobbles with caches.
NOISE = 1.02

#: Incidents in which memory ran out on one worker.
RAN_OUT = frozenset({"terminated", "oom-killed", "memory-error", "stuck"})

#: Newest incidents looked at for what neighbours had free.
LOOKED_AT = 50


# -- rules ---------------------------------------------------------------------


def no_limit(context: LimitContext) -> Verdict | None:
    """Say that nothing makes this worker spill, pause or restart."""
    if context.limit is not None or context.least is None:
        return None
    least = context.least
    return Verdict(
        "no-limit",
        "warning",
        f"{context.subject} has no memory limit: Dask never spills, pauses or "
        f"restarts it, and {meets(least)} at {format_bytes(least.bytes)} "
        f"({least.name}).",
        set_limit(context),
        {"effective": least.bytes},
    )


def not_seen(context: LimitContext) -> Verdict | None:
    """Say that a cap which Dask did not find is below the limit."""
    limit = context.limit
    caps = [cap for cap in context.facts.caps if cap.kind != "host"]
    below = [cap for cap in caps if limit is not None and cap.bytes < limit]
    if limit is None or not below:
        return None
    cap = min(below, key=lambda c: c.bytes)
    severity = "warning" if cap.effect == "declared" else "bad"
    thinks = ""
    if context.facts.dask is not None and context.facts.dask > cap.bytes:
        thinks = f" Dask assumes {format_bytes(context.facts.dask)} for this machine."
    return Verdict(
        "not-seen",
        severity,
        f"{context.subject} has a limit of {format_bytes(limit)}, but {whose(cap)} "
        f"allows only {format_bytes(cap.bytes)} ({cap.name} in {cap.where}): "
        f"{meets(cap)} before Dask acts.{thinks}",
        set_limit(context),
        {"limit": limit, "cap": cap.bytes},
    )


def too_high(context: LimitContext) -> Verdict | None:
    """Say that the limits of workers which share a cap sum to more than it."""
    crowded = [
        pool
        for pool in context.pools
        if (pool.shared or _binds(pool, context)) and _ceiling(pool) < pool.limits
    ]
    if context.limit is None or not crowded:
        return None
    pool = max(crowded, key=lambda r: (r.limits / max(1, r.budget), r.cap.name))
    there = pool.budget if pool.cap.kind == AVAILABLE else pool.cap.bytes
    if pool.stops <= there:
        before = f"Dask ends no worker below {format_bytes(pool.stops)}"
    elif pool.spills > there:
        before = "the kernel kills before Dask spills"
    else:
        before = "the kernel kills before Dask terminates"
    who = (
        f"The limits of the {len(pool.members)} workers {within(pool)} sum to"
        if pool.shared
        else f"The limit of {context.who} is"
    )
    return Verdict(
        "too-high",
        "bad" if pool.stops > there else "warning",
        f"{who} {format_bytes(pool.limits)}, and {offer(pool)}: {before}.",
        set_limit(context),
        {
            "limits": pool.limits,
            "budget": pool.budget,
            "terminate": pool.stops,
            "workers": len(pool.members),
        },
    )


def kernel_first(context: LimitContext) -> Verdict | None:
    """Say that the kernel is about to act, while Dask is far from its limit."""
    danger = danger_of(context.process.worker, context.process.process)
    if danger is None:
        return None
    whole = "Its cgroup" if danger.kind == "cgroup" else "Its machine"
    of = f" of its limit of {format_bytes(context.limit)}" if context.limit else ""
    return Verdict(
        "kernel-first",
        "bad",
        f"{context.subject} may be killed by the kernel any moment. {whole} uses "
        f"{format_bytes(danger.used)} of {format_bytes(danger.of)}, and the worker "
        f"itself {format_bytes(danger.process)}{of}, so Dask does not act.",
        "See what else runs there (other workers, the nanny, files in a tmpfs). "
        + set_limit(context),
        {"used": danger.used, "of": danger.of, "process": danger.process},
    )


def thresholds_late(context: LimitContext) -> Verdict | None:
    """Say that the limit fits, but a cap is reached before Dask terminates."""
    limit, stops = context.limit, context.stops_at
    if limit is None or stops is None:
        return None
    for pool in context.pools:
        if pool.cap.kind == AVAILABLE or pool.limits > pool.cap.bytes:
            continue
        if pool.stops <= pool.budget or pool.cap.effect == "declared":
            continue
        what = "its terminate threshold" if context.process.stops_at else "its limit"
        if pool.shared:
            what = f"what the {len(pool.members)} workers there may reach"
        return Verdict(
            "thresholds",
            "warning" if pool.shared else "bad",
            f"{whose(pool.cap, capital=True)} allows {format_bytes(pool.cap.bytes)}, "
            f"others than the workers use {format_bytes(pool.others)} of it (nanny, "
            f"file buffers), and {what} is {format_bytes(pool.stops)}: "
            f"{meets(pool.cap)} first.",
            set_limit(context),
            {
                "cap": pool.cap.bytes,
                "others": pool.others,
                "terminate": pool.stops,
                "budget": pool.budget,
            },
        )
    return None


Rule = Callable[[LimitContext], Verdict | None]

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


def judge(context: LimitContext, rules: Sequence[Rule] = RULES) -> list[Verdict]:
    """Return what the rules find, worst first; nothing before the first report."""
    if context.process.facts is None:
        return []
    found = [verdict for rule in rules if (verdict := rule(context)) is not None]
    return sorted(found, key=lambda verdict: SEVERITIES.index(verdict.severity))


def recommended(context: LimitContext, found: Sequence[Verdict]) -> int | None:
    """Return the limit that the findings say to set, in bytes.

    None where they ask for no other: a limit that fits is not to be changed.
    """
    advice = set_limit(context)
    asked = any(advice in verdict.advice for verdict in found)
    return context.recommended if asked else None


@dataclass(frozen=True, slots=True)
class Headroom:
    """How long a limit lasts at the present rate."""

    #: Limit less the process, in bytes.
    bytes: int | None
    #: Bytes a second.
    slope: int | None
    #: Seconds until the limit; None where nothing grows steadily towards it.
    seconds: float | None


def headroom(context: LimitContext) -> Headroom:
    """Work out how long the limit lasts if the process goes on as it does."""
    rate = slope(context.process.process, context.now)
    if context.limit is None or context.process.used is None:
        return Headroom(None, rate, None)
    left = context.limit - context.process.used
    full = full_in(context.process.process, context.now, [("limit", context.limit)])
    return Headroom(left, rate, None if full is None else full.seconds)


def contexts(
    processes: Processes, incidents: Iterable[Incident], now: float
) -> list[tuple[WorkerState, LimitContext]]:
    """Return every worker with what the rules look at."""
    recent = [i for i in islice(incidents, LOOKED_AT) if i.kind in RAN_OUT and i.limit]
    found = machines(processes)
    laid: dict[ProcessKey, LimitContext] = {}
    result = []
    for address, worker in processes.workers.items():
        context = laid.get(worker.key)
        if context is None:
            machine = found[address]
            process = machine.members[worker.key]
            hosts = {host for host, _ in machine.members} if recent else ()
            context = laid[worker.key] = LimitContext(
                process=process,
                machine=machine,
                pools=tuple(machine.pools_of(process)),
                now=now,
                incidents=tuple(i for i in recent if i.worker.host in hosts),
            )
        result.append((worker, context))
    return result


# -- parts ---------------------------------------------------------------------


def _binds(pool: MemoryPool, context: LimitContext) -> bool:
    """Whether the machine limits more than a cap on this worker alone.

    Of such a cap `not_seen` speaks.
    """
    if pool.cap.kind not in ("host", AVAILABLE):
        return False
    inner = context.facts.least("cgroup", "batch", "rlimit")
    return inner is None or pool.budget < inner.bytes


def _ceiling(pool: MemoryPool) -> float:
    """Return what a pool's limits may sum to; what is available wobbles a little."""
    return pool.budget * NOISE if pool.cap.kind == AVAILABLE else pool.cap.bytes
