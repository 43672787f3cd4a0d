"""What ``dask memdash top`` tells of one worker, prefix or failure, in sentences."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from dask_memdash import terms
from dask_memdash.cli.top_choice import ONLY_FAILURES, ONLY_WORKERS
from dask_memdash.text import format_bytes, format_duration, plain

#: Cells of a line of prose where nothing limits it, and at most on a wide screen.
PROSE = 96
MOST_PROSE = 120

Row = Mapping[str, Any]


def details(view: str, row: Row) -> list[str]:
    """Tell of the row that is chosen in a view."""
    if view == ONLY_FAILURES:
        return told(row)
    if view == ONLY_WORKERS:
        return _worker_details(row)
    return _prefix_details(row)


def told_first(failures: Sequence[Row]) -> list[str]:
    """Say what happened in the newest failure that is open; nothing without one."""
    return next((told(f) for f in failures if f["closed"] is None), [])


def told(failure: Row) -> list[str]:
    """Say what happened, why, and what to change."""
    diagnosis = failure["diagnosis"]
    advice = [f"What to change: {plain(str(text))}" for text in diagnosis["advice"]]
    what = f"failure-{failure['id']}: {failure['text']}"
    return [plain(what), plain(str(diagnosis["text"])), *advice]


def _worker_details(worker: Row) -> list[str]:
    thresholds = worker["thresholds"]
    names = ("spill", "pause", "terminate")
    lines = [
        f"{plain(str(worker['name']))} at {plain(str(worker['address']))}, "
        f"pid {worker['pid']}; limit {format_bytes(worker['limit'])}, "
        + ", ".join(f"{name} {format_bytes(thresholds[name])}" for name in names)
    ]
    for task in worker["executing_tasks"]:
        block = task["largest_block"]
        at = f"; largest block {plain(str(block['text']))}" if block else ""
        lines.append(
            f"runs {plain(str(task['key']), 60)}: {format_bytes(task['bytes'])} "
            f"({task['method']}), for {format_duration(task['seconds'])}{at}"
        )
    if not worker["executing_tasks"]:
        lines.append("runs no task")
    return [*lines, *(plain(str(text)) for text in worker["degraded"])]


def _prefix_details(prefix: Row) -> list[str]:
    storage, execution = prefix["storage"], prefix["execution"]
    lines = [plain(str(prefix["prefix"]))]
    if prefix["kind"] == "task":
        told = execution["peak"]
        lines.append(
            f"a task's peak: half {format_bytes(told['p50'])}, 95 % "
            f"{format_bytes(told['p95'])}, most {format_bytes(told['max'])}, at least "
            f"{format_bytes(told['at_least'])} ({execution['method']})"
        )
        lines.append(
            f"stored: {format_bytes(storage['managed'])}, pinned by clients "
            f"{format_bytes(storage['pinned'])}, awaited "
            f"{format_bytes(storage['awaited'])}, copies "
            f"{format_bytes(storage['replicas'])}"
        )
    elif prefix["part"]:
        part = terms.label(terms.PARTS, str(prefix["part"]))
        lines.append(f"belongs to no task; counted as {part}")
    return [*lines, *([plain(str(prefix["advice"]))] if prefix["advice"] else [])]


def wrapped(texts: Sequence[str], width: int, most: int) -> list[str]:
    """Break texts into at most so many lines; the last says where something is cut."""
    lines = [
        line
        for text in texts
        for line in textwrap.wrap(text, min(width, MOST_PROSE), subsequent_indent="  ")
    ]
    if len(lines) > most > 0:
        lines = lines[:most]
        lines[-1] = f"{lines[-1][: width - 2]} …"
    return lines
