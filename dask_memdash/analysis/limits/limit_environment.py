"""Rules on what surrounds a memory limit: thresholds, spilling, swap, the allocator.

Each is a rule of :data:`dask_memdash.analysis.limits.rules.RULES`.
"""

from __future__ import annotations

from dask_memdash.analysis.limits.context import (
    SUBSTANTIAL,
    LimitContext,
    Verdict,
    lower_first,
    set_limit,
)
from dask_memdash.text import format_bytes

#: Share of time waiting for memory that counts, in percent.
PRESSURE = 10.0

#: Free scratch space as a share of the limit: little, and next to nothing.
SCRATCH_LITTLE, SCRATCH_NONE = 0.5, 0.1

#: Stored share of the limit at which a graph is taken to need spilling.
NEEDS_SPILLING = 0.5

#: Filesystems that are memory.
IN_MEMORY = ("tmpfs", "ramfs")

#: Memory kept by the allocator, as a share of the process, that counts.
KEPT = 0.1


def thresholds_out_of_order(context: LimitContext) -> Verdict | None:
    """Say that thresholds keep each other from working."""
    if context.limit is None:
        return None
    t = context.thresholds
    for lower, upper, below, above, result in (
        (t.pause, t.spill, "pause", "spill", "it stops computing before it spills"),
        (t.terminate, t.pause, "terminate", "pause", "it is ended before it pauses"),
        (t.terminate, t.spill, "terminate", "spill", "it is ended before it spills"),
        (
            t.spill,
            t.target,
            "spill",
            "target",
            "nothing is spilled at the spill threshold",
        ),
    ):
        if lower is not None and upper is not None and lower < upper:
            return Verdict(
                "thresholds",
                "hint" if below == "spill" else "warning",
                f"{context.subject} has its {below} threshold "
                f"({format_bytes(lower)}) below {above} ({format_bytes(upper)}): "
                f"{result}.",
                "Set distributed.worker.memory.target, spill, pause and terminate in "
                "rising order; Dask's own are 0.60, 0.70, 0.80 and 0.95.",
                {below: lower, above: upper},
            )
    if t.target is None and t.spill is not None:
        return Verdict(
            "thresholds",
            "hint",
            f"{context.subject} has target off: nothing spills until the whole "
            f"process reaches {format_bytes(t.spill)}.",
            "Set distributed.worker.memory.target to 0.60.",
            {"spill": t.spill},
        )
    if t.terminate is None and context.process.worker.info.nanny:
        return Verdict(
            "thresholds",
            "hint",
            f"{context.subject} has terminate off: only the kernel ends "
            "it, and may end other workers with it.",
            "Set distributed.worker.memory.terminate to 0.95.",
        )
    return None


def spill_off(context: LimitContext) -> Verdict | None:
    """Say that spilling is off, and so much is stored that it is needed."""
    limit, breakdown = context.limit, context.process.process.breakdown
    t = context.thresholds
    off = context.facts.spills is False or (t.target is None and t.spill is None)
    if limit is None or breakdown is None or not off or context.process.facts is None:
        return None
    if breakdown.managed < NEEDS_SPILLING * limit:
        return None
    return Verdict(
        "spill-off",
        "bad",
        f"{context.subject} stores {format_bytes(breakdown.managed)} of outputs in "
        f"a limit of {format_bytes(limit)}, and spilling is off.",
        "Set distributed.worker.memory.target to 0.60 and "
        "distributed.worker.memory.spill to 0.70.",
        {"managed": breakdown.managed, "limit": limit},
    )


def scratch(context: LimitContext) -> Verdict | None:
    """Say that spilled outputs go to memory, or to a disk that is nearly full."""
    place, limit = context.facts.scratch, context.limit
    if place is None or limit is None or context.facts.spills is False:
        return None
    elsewhere = (
        "Start the workers with --local-directory on a disk "
        "(temporary-directory in Dask's configuration)"
    )
    if place.filesystem in IN_MEMORY:
        return Verdict(
            "scratch",
            "bad",
            f"{context.subject} spills to {place.path}, which is a "
            f"{place.filesystem}: what it spills there stays in memory.",
            f"{elsewhere}.",
        )
    free = context.live.scratch_free
    free = place.free if free is None else free
    if free is None or free >= SCRATCH_LITTLE * limit:
        return None
    return Verdict(
        "scratch",
        "bad" if free < SCRATCH_NONE * limit else "warning",
        f"The file system of {place.path}, where {context.who} spills to, has "
        f"{format_bytes(free)} left, for a limit of {format_bytes(limit)}.",
        f"Free space there, or: {lower_first(elsewhere)} with more space.",
        {"free": free, "limit": limit},
    )


def swap(context: LimitContext) -> Verdict | None:
    """Say that part of the worker is swapped out, where Dask does not count it."""
    swapped, used = context.live.swapped, context.process.used
    if swapped is None or swapped < max(SUBSTANTIAL, (used or 0) // 50):
        return None
    return Verdict(
        "swap",
        "warning",
        f"{format_bytes(swapped)} of {context.who} are swapped out. Dask does "
        "not count them, and each access to them waits for the disk.",
        f"{set_limit(context)} Or turn swap off for the workers (memory.swap.max=0, "
        "docker --memory-swap equal to --memory).",
        {"swapped": swapped},
    )


def pressure(context: LimitContext) -> Verdict | None:
    """Say that processes stand still for want of memory."""
    share = context.live.pressure
    if share is None or share < PRESSURE:
        return None
    return Verdict(
        "pressure",
        "warning",
        f"Processes beside {context.who} spent {share:.0f} % of the last ten "
        "seconds waiting for memory (PSI).",
        set_limit(context),
        {"percent": round(share)},
    )


def allocator(context: LimitContext) -> Verdict | None:
    """Say that the allocator keeps what the program frees."""
    settings, breakdown = context.facts.allocator, context.process.process.breakdown
    if settings.name != "glibc" or settings.trim_threshold is not None:
        return None
    kept = 0 if breakdown is None else breakdown.retained
    much = breakdown is not None and kept >= max(SUBSTANTIAL, KEPT * breakdown.process)
    now = f", and keeps up to {format_bytes(kept)} now" if much else ""
    return Verdict(
        "allocator",
        "warning" if much else "hint",
        f"{context.subject} was started without MALLOC_TRIM_THRESHOLD_: glibc "
        f"keeps freed memory for itself{now}.",
        "Start the worker with MALLOC_TRIM_THRESHOLD_=65536 in its environment; under "
        "a nanny Dask does so by itself (distributed.nanny.pre-spawn-environ).",
        {"retained": kept} if much else {},
    )
