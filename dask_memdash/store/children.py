"""Processes that tasks start, as the JSON API has them."""

from __future__ import annotations

from collections.abc import Iterable

from dask_memdash.model.event_parts import ChildRow
from dask_memdash.store.worker_shapes import Children, TaskChildren


def children_of(rows: tuple[ChildRow, ...]) -> Children:
    """Return all processes that a worker's tasks started."""
    return {
        "processes": sum(row.processes for row in rows),
        "rss": sum(row.rss for row in rows),
        "tasks": children_of_tasks(rows),
    }


def children_of_tasks(rows: Iterable[ChildRow]) -> list[TaskChildren]:
    """Return them by task, in the same order."""
    return [
        {
            "prefix": row.prefix or None,
            "key": row.key or None,
            "command": row.command,
            "processes": row.processes,
            "started": row.started,
            "rss": row.rss,
            "peak": row.peak,
            "killed": row.killed,
        }
        for row in rows
    ]
