"""The scheduler's own memory, as the JSON API has it."""

from __future__ import annotations

from dask_memdash.model.event_parts import ClientRow
from dask_memdash.model.events import SchedulerLooked
from dask_memdash.store.cluster_shapes import ClientMemory, SchedulerMemory
from dask_memdash.text import format_bytes


def scheduler_memory(seen: SchedulerLooked | None) -> SchedulerMemory | None:
    """Return what was seen of the scheduler's process; None before it was."""
    if seen is None:
        return None
    caps = []
    if seen.cgroup is not None:
        left = None if seen.cgroup_used is None else seen.cgroup - seen.cgroup_used
        caps.append((seen.cgroup, left))
    if seen.host is not None:
        caps.append((seen.host, seen.available))
    if seen.rlimit is not None:
        left = None if seen.rlimit_used is None else seen.rlimit - seen.rlimit_used
        caps.append((seen.rlimit, left))
    limit, _ = min(caps, default=(None, None), key=lambda cap: cap[0] or 0)
    lefts = [left for _, left in caps if left is not None]
    rows = sorted(seen.graph.items(), key=lambda item: -item[1].arguments)
    return {
        "pid": seen.pid,
        "rss": seen.rss,
        "limit": limit,
        "available": max(0, min(lefts)) if lefts else None,
        "tasks": seen.tasks,
        "graph_bytes": sum(row.arguments for row in seen.graph.values()),
        "graph": [
            {"prefix": name, "tasks": row.tasks, "bytes": row.arguments}
            for name, row in rows
        ],
        "largest": {
            "key": seen.largest_key,
            "prefix": seen.largest_prefix,
            "bytes": seen.largest,
        }
        if seen.largest_key
        else None,
        "clients": [
            _client(name, row, seen.warns_above) for name, row in seen.clients.items()
        ],
        "warns_above": seen.warns_above,
    }


def _client(name: str, row: ClientRow, warns_above: int | None) -> ClientMemory:
    advice = None
    if warns_above is not None and row.largest > warns_above:
        advice = (
            f"Its largest graph came with {format_bytes(row.largest)}; Dask warns "
            f"above {format_bytes(warns_above)}. Scatter what is large, "
            "`x = client.scatter(x)`, or let the workers load it."
        )
    return {
        "client": name,
        "graphs": row.graphs,
        "bytes": row.sent,
        "largest": row.largest,
        "largest_prefix": row.largest_prefix or None,
        "rss": row.rss,
        "limit": row.limit,
        "in_scheduler": row.in_scheduler,
        "advice": advice,
    }
