"""A worker's figures, for the page of metrics that its own server has.

Runs on the worker's event loop, once a scrape.
"""

from __future__ import annotations

from dask_memdash.metrics.family import Family, gauge, gauges
from dask_memdash.model.breakdown import PARTS, Breakdown
from dask_memdash.model.event_parts import SelfCost


def worker_families(
    breakdown: Breakdown, limit: int | None, tasks: int, cost: SelfCost
) -> list[Family]:
    """Return the metrics of one worker.

    Parameters
    ----------
    breakdown
        Of its process.
    limit
        The worker's memory limit in bytes; None without one.
    tasks
        Tasks that run or whose output is not stored yet.
    cost
        What MemDash costs there.
    """
    parts: dict[str, float | None] = {part: getattr(breakdown, part) for part in PARTS}
    return [
        gauges(
            "memdash_memory_bytes",
            "Where the worker's memory is; the types add up to its process (RSS).",
            "type",
            parts,
        ),
        gauge(
            "memdash_memory_error_bytes",
            "By how much the type executing may be wrong.",
            breakdown.error,
        ),
        gauge(
            "memdash_managed_claimed_bytes",
            "Stored outputs as Dask's sizeof has them, which may exceed what is "
            "resident.",
            breakdown.managed_claimed,
        ),
        gauge(
            "memdash_spilled_bytes",
            "Outputs that are spilled, at their size in memory.",
            breakdown.spilled,
        ),
        gauge(
            "memdash_limit_bytes", "The worker's memory limit; none without one.", limit
        ),
        gauge(
            "memdash_executing_tasks",
            "Tasks that run now, or whose output is not stored yet.",
            tasks,
        ),
        gauge(
            "memdash_self_cpu_cores",
            "Processor time of MemDash on this worker, in seconds a second.",
            cost.cpu,
        ),
        gauge(
            "memdash_self_memory_bytes",
            "What MemDash's own data weighs on this worker, about.",
            cost.bytes,
        ),
    ]
