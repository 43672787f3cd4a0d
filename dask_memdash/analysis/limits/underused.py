"""Rules on memory that nobody may use: on a neighbour, or on the machine.

Each is a rule of :data:`dask_memdash.analysis.limits.rules.RULES`.
"""

from __future__ import annotations

from dask_memdash.analysis.limits.context import (
    LimitContext,
    Verdict,
    option,
    set_limit,
    whose,
)
from dask_memdash.model.breakdown import Breakdown
from dask_memdash.text import count, format_bytes

#: Share of a limit that unused memory must come to beside a worker that spills.
UNUSED = 0.25

#: Share of its limit up to which a worker that spills fills it, as Dask has it; and how
#: much larger than needed a limit is made.
TARGET, HEADROOM = 0.6, 1.1


def unbalanced(context: LimitContext) -> Verdict | None:
    """Say that a worker ran out while its neighbours had memory to spare."""
    for incident in context.incidents:
        limit = incident.limit
        if limit is None:
            continue
        spare = 0
        neighbours = 0
        for process in context.machine.members.values():
            if process.worker.info.pid == incident.worker.pid or process.limit is None:
                continue
            then = process.process.history.at(incident.time)
            if then is not None:
                neighbours += 1
                spare += max(0, process.limit - then)
        if spare >= limit:
            members = context.machine.members.values()
            threads = sum(process.nthreads for process in members)
            together = sum(process.limit or 0 for process in members)
            return Verdict(
                "unbalanced",
                "warning",
                f"When worker {incident.worker.name} ran out of its "
                f"{format_bytes(limit)} (incident #{incident.id}), "
                f"{count(neighbours, 'neighbour')} on the machine had "
                f"{format_bytes(spare)} unused. Workers cannot share memory; threads "
                "of one worker do.",
                f"Run fewer workers with more threads there, at most --nworkers 1 "
                f"--nthreads {threads} --memory-limit {option(together)}, if the "
                "tasks release the GIL.",
                {"spare": spare, "limit": limit, "neighbours": neighbours},
            )
    return None


def too_low(context: LimitContext) -> Verdict | None:
    """Say that the worker spills beside memory that nobody may use."""
    limit, breakdown = context.limit, context.process.process.breakdown
    if limit is None or breakdown is None or not breakdown.spilled or not context.pools:
        return None
    spare = min(
        (pool.budget - pool.limits) * context.process.nthreads // pool.threads
        for pool in context.pools
    )
    free = context.live.available
    if free is None or min(spare, free) < UNUSED * limit:
        return None
    spare = min(spare, free)
    more = min(limit + spare, _enough(limit, breakdown, context.thresholds.target))
    if more <= limit:
        return None  # there is room for it now: it stays on disk until it is used
    return Verdict(
        "too-low",
        "warning",
        f"{context.subject} has spilled {format_bytes(breakdown.spilled)} while "
        f"it could have {format_bytes(spare)} more: {format_bytes(free)} of the "
        "machine are available, and no worker may use them.",
        f"Start the worker with --memory-limit {option(more)}.",
        {"spilled": breakdown.spilled, "spare": spare, "available": free},
    )


def _enough(limit: int, breakdown: Breakdown, target: int | None) -> int:
    """Return a limit under which what is spilled now would stay in memory, in bytes."""
    share = target / limit if target else TARGET
    return round(HEADROOM * (breakdown.process + (breakdown.spilled or 0)) / share)


def underrated(context: LimitContext) -> Verdict | None:
    """Say that Dask took for a limit what is none."""
    limit, took, least = context.limit, context.facts.dask, context.least
    own_choice = context.facts.set_by not in ("auto", "fraction", "clamped")
    if limit is None or took is None or least is None or own_choice:
        return None
    if took >= (1 - UNUSED) * least.bytes:
        return None
    return Verdict(
        "too-low",
        "warning",
        f"Dask takes this machine for {format_bytes(took)} and gave "
        f"{context.who} {format_bytes(limit)} of it, though {whose(least)} allows "
        f"{format_bytes(least.bytes)} ({least.name}). Dask also reads memory.low and "
        "memory.soft_limit_in_bytes, which are no limits.",
        set_limit(context),
        {"dask": took, "effective": least.bytes, "limit": limit},
    )
