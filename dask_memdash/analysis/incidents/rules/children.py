"""Processes that tasks start: beside the worker, and in nobody's limit."""

from __future__ import annotations

from collections.abc import Iterator

from dask_memdash.analysis.incidents.case import Case
from dask_memdash.analysis.incidents.finding import Finding
from dask_memdash.model.event_parts import ChildRow
from dask_memdash.text import count, format_bytes, short

#: What is no trifle beside a worker, as a share of what is to be explained.
LEAST_SHARE = 0.1

#: Weight where such a process was killed itself: the kernel may have been asked to by
#: somebody else.
KILLED_ITSELF = 0.8


def children(case: Case) -> Iterator[Finding]:
    """Yield child processes that took memory which Dask does not count."""
    rows = [row for row in case.facts.children if row.peak]
    if not rows or case.kind not in ("oom-killed", "memory-error", "kernel-near"):
        return
    if case.kind == "memory-error":
        if case.stage == "child":
            killed = [row for row in rows if row.killed] or rows
            yield _finding(max(killed, key=lambda row: row.peak), KILLED_ITSELF)
        return
    held = sum(row.rss or row.peak for row in rows)
    share = held / (held + case.above)
    if share >= LEAST_SHARE:
        yield _finding(max(rows, key=lambda row: row.rss or row.peak), share)


def _finding(row: ChildRow, weight: float) -> Finding:
    whose = f"task {short(row.key)}" if row.key else "a task"
    return Finding(
        cause="overcommitted",
        weight=weight,
        text=f"{count(row.started, 'process', 'processes')} that {whose} started "
        f"({row.command or 'unknown program'}) had {format_bytes(row.peak)}. The "
        "kernel counts them with the worker, and Dask's limit does not.",
        prefix=row.prefix or None,
        key=row.key or None,
        advice=(
            f"Let each task start fewer or smaller processes, or lower memory_limit by "
            f"{format_bytes(row.peak)} for each task that runs at a time, so that the "
            "host has room for them.",
        ),
    )
