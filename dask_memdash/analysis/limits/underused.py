"""Rules on memory that nobody may use: on a neighbour, or on the machine.

Each is a rule of :data:`dask_memdash.analysis.limits.rules.RULES`.
"""

from __future__ import annotations

from dask_memdash.analysis.limits.context import Bench, Verdict, option, set_limit, whose
from dask_memdash.text import count, format_bytes

#: Share of a limit that unused memory must come to beside a worker that spills.
UNUSED = 0.25


def unbalanced(bench: Bench) -> Verdict | None:
    """Say that a worker ran out while its neighbours had memory to spare."""
    for incident in bench.incidents:
        limit = incident.limit
        if limit is None:
            continue
        spare = 0
        neighbours = 0
        for seat in bench.machine.seats.values():
            if seat.worker.info.pid == incident.worker.pid or seat.limit is None:
                continue
            then = seat.process.history.at(incident.time)
            if then is not None:
                neighbours += 1
                spare += max(0, seat.limit - then)
        if spare >= limit:
            seats = bench.machine.seats.values()
            threads = sum(seat.nthreads for seat in seats)
            together = sum(seat.limit or 0 for seat in seats)
            return Verdict(
                "unbalanced",
                "warning",
                f"When worker {incident.worker.name} ran out of its "
                f"{format_bytes(limit)} (incident #{incident.id}), "
                f"{count(neighbours, 'neighbour')} on the machine had "
                f"{format_bytes(spare)} unused: workers cannot share memory, threads "
                "can.",
                f"Run fewer workers with more threads there, at most --nworkers 1 "
                f"--nthreads {threads} --memory-limit {option(together)}, if the "
                "tasks release the GIL.",
                {"spare": spare, "limit": limit, "neighbours": neighbours},
            )
    return None


def too_low(bench: Bench) -> Verdict | None:
    """Say that the worker spills beside memory that nobody may use."""
    limit, breakdown = bench.limit, bench.seat.process.breakdown
    if limit is None or breakdown is None or not breakdown.spilled or not bench.rooms:
        return None
    spare = min(
        (room.budget - room.limits) * bench.seat.nthreads // room.threads
        for room in bench.rooms
    )
    free = bench.live.available
    if free is None or min(spare, free) < UNUSED * limit:
        return None
    spare = min(spare, free)
    return Verdict(
        "too-low",
        "warning",
        f"Worker {bench.name} has spilled {format_bytes(breakdown.spilled)} while "
        f"{format_bytes(spare)} more could be its own: {format_bytes(free)} of the "
        "machine are available, and no worker may use them.",
        f"Start the worker with --memory-limit {option(limit + spare)}.",
        {"spilled": breakdown.spilled, "spare": spare, "available": free},
    )


def underrated(bench: Bench) -> Verdict | None:
    """Say that Dask took for a limit what is none."""
    limit, took, least = bench.limit, bench.facts.dask, bench.least
    own_choice = bench.facts.set_by not in ("auto", "fraction", "clamped")
    if limit is None or took is None or least is None or own_choice:
        return None
    if took >= (1 - UNUSED) * least.bytes:
        return None
    return Verdict(
        "too-low",
        "warning",
        f"Dask takes this machine for {format_bytes(took)} and gave worker "
        f"{bench.name} {format_bytes(limit)} of it, though {whose(least)} allows "
        f"{format_bytes(least.bytes)} ({least.name}). Dask also reads memory.low and "
        "memory.soft_limit_in_bytes, which are no limits.",
        set_limit(bench),
        {"dask": took, "effective": least.bytes, "limit": limit},
    )
