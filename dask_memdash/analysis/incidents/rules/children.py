"""Processes that tasks start: beside the worker, and in nobody's limit."""

from __future__ import annotations

from collections.abc import Iterator

from dask_memdash.analysis.incidents.case import Case
from dask_memdash.analysis.incidents.finding import Finding
from dask_memdash.model.event_parts import ChildRow
from dask_memdash.text import count, format_bytes, plain, short

#: What is no trifle beside a worker, as a share of what is to be explained.
LEAST_SHARE = 0.1

#: Weight where such a process was killed itself: the kernel may have been asked to by
#: somebody else.
KILLED_ITSELF = 0.8

#: Characters of a program's name that are told.
MAX_COMMAND = 60


def children(case: Case) -> Iterator[Finding]:
    """Yield child processes that took memory which Dask does not count."""
    rows = [row for row in case.facts.children if row.peak]
    if not rows or case.kind not in ("oom-killed", "memory-error", "kernel-near"):
        return
    if case.kind == "memory-error":
        own = _of_the_task(case, rows) if case.stage == "child" else []
        if own:
            killed = [row for row in own if row.killed] or own
            yield _finding(max(killed, key=lambda row: row.peak), KILLED_ITSELF)
        return
    held = sum(map(_held, rows))
    share = held / (held + case.above)
    if share >= LEAST_SHARE:
        yield _finding(max(rows, key=_held), share)


def _of_the_task(case: Case, rows: list[ChildRow]) -> list[ChildRow]:
    """Return the rows of the tasks that an incident names, by key, else by prefix."""
    keys = {task.key for task in case.tasks}
    prefixes = {task.prefix for task in case.tasks}
    by_key = [row for row in rows if row.key in keys]
    return by_key or [row for row in rows if row.prefix in prefixes]


def _held(row: ChildRow) -> int:
    """Return what processes held at the instant: nothing, if they had ended before."""
    if row.rss:
        return row.rss
    return row.peak if row.processes or row.killed else 0


def _finding(row: ChildRow, weight: float) -> Finding:
    whose = f"task {short(row.key)}" if row.key else "a task"
    program = plain(row.command, MAX_COMMAND) or "unknown program"
    return Finding(
        cause="overcommitted",
        weight=weight,
        text=f"{count(row.started, 'process', 'processes')} that {whose} started "
        f"({program}) had {format_bytes(row.peak)}. The "
        "kernel counts them with the worker, and Dask's limit does not.",
        prefix=row.prefix or None,
        key=row.key or None,
        advice=(
            f"Let each task start fewer or smaller processes, or lower memory_limit by "
            f"{format_bytes(row.peak)} for each task that runs at a time, so that the "
            "host has room for them.",
        ),
    )
