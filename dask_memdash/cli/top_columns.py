"""The columns of ``dask memdash top`` and ``failures``: workers, prefixes, failures.

Takes the dicts of the JSON API.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dask_memdash import terms
from dask_memdash.cli.table_text import Column, Line, Piece, bar
from dask_memdash.text import (
    UNKNOWN,
    format_bytes,
    format_clock,
    format_duration,
    format_share,
    plain,
    shorten,
)

#: Cells of a worker's bar, and characters of a name.
BAR = 12
NAME = 40

#: Share of a limit from which a worker is close to it, and too close.
CLOSE, TOO_CLOSE = 0.7, 0.9

Row = Mapping[str, Any]


def families(breakdown: Row) -> dict[str, int]:
    """Return the bytes of storage, execution and overhead; nothing if not known."""
    sums: dict[str, int] = {}
    for name, part in terms.PARTS.items():
        size = breakdown.get(name)
        if size is not None:
            sums[part.family] = sums.get(part.family, 0) + size
    return sums


def fullness(worker: Row) -> float:
    """Return the share of its limit that a worker has; -1 where it is not known."""
    process, limit = worker["breakdown"]["process"], worker["limit"]
    return process / limit if process is not None and limit else -1.0


def _family(name: str) -> Any:
    return lambda worker: format_bytes(families(worker["breakdown"]).get(name))


def _share(worker: Row) -> Line:
    share = fullness(worker)
    if share < 0:
        return ((UNKNOWN, "dim"),)
    tone = "alarm" if share >= TOO_CLOSE else "caution" if share >= CLOSE else ""
    return ((format_share(share), tone),)


def _bar(worker: Row) -> Line:
    parts = list(families(worker["breakdown"]).items())
    return bar(parts, worker["limit"], BAR)


def _state(worker: Row) -> Line:
    status, silent = str(worker["status"]), worker["stale_for"]
    if silent is not None:
        return ((f"silent for {format_duration(silent)}", "caution"),)
    if worker["shares_process_with"]:
        status += ", shares its process"
    return ((plain(status), "caution" if status == "paused" else ""),)


def _full_in(worker: Row) -> Line:
    told = worker["time_to_limit"]
    if told is None:
        return (("", ""),)
    return ((f"{told['line']} in {format_duration(told['seconds'])}", "alarm"),)


def _tasks(worker: Row) -> str:
    return f"{len(worker['executing_tasks'])}/{worker['nthreads']}"


def largest_task(worker: Row) -> str:
    """Name the running task that has most, and what it has."""
    known = [t for t in worker["executing_tasks"] if t["bytes"] is not None]
    if not known:
        return ""
    task = max(known, key=lambda t: t["bytes"])
    return f"{shorten(task['prefix'])} {format_bytes(task['bytes'])}"


WORKERS = (
    Column("worker", lambda w: shorten(str(w["name"]), NAME), least=10),
    Column("of limit", _share, right=True, rank=1),
    Column("", _bar, rank=5),
    Column(
        "memory", lambda w: format_bytes(w["breakdown"]["process"]), right=True, rank=2
    ),
    Column("storage", _family("storage"), right=True, rank=4),
    Column("execution", _family("execution"), right=True, rank=4),
    Column("overhead", _family("overhead"), right=True, rank=8),
    Column(
        "spilled", lambda w: format_bytes(w["breakdown"]["spilled"]), right=True, rank=7
    ),
    Column("tasks", _tasks, right=True, rank=6),
    Column("state", _state, rank=3, least=8),
    Column("full", _full_in, rank=5),
    Column("largest running task", largest_task, rank=9, least=16),
)


def peak(prefix: Row) -> int | None:
    """Return the most that tasks of a prefix were seen to need; None if not known."""
    told = prefix["execution"]["peak"]
    known = [told[n] for n in ("max", "at_least") if told[n] is not None]
    return max(known) if known else None


def _peak(prefix: Row) -> Line:
    most, least = peak(prefix), prefix["execution"]["peak"]["at_least"]
    if least is not None and most == least:
        return ((f"≥ {format_bytes(most)}", "alarm"),)
    return ((format_bytes(most), ""),)


def _prefix(prefix: Row) -> Line:
    tone = "" if prefix["kind"] == "task" else "dim"
    return ((shorten(str(prefix["prefix"]), NAME), tone),)


def _tasks_of(prefix: Row, which: str) -> str:
    """Write how many tasks of a prefix run or are done; nothing of what has none."""
    return _count(prefix["execution"][which]) if prefix["kind"] == "task" else ""


def _count(number: int | None) -> str:
    return UNKNOWN if number is None else f"{number:,}"


def _awaited(prefix: Row) -> str:
    waiters = prefix["storage"]["awaited_by"]
    return ", ".join(shorten(str(waiter["prefix"])) for waiter in waiters)


PREFIXES = (
    Column("task prefix", _prefix, least=12),
    Column("memory", lambda p: format_bytes(p["bytes"]), right=True, rank=1),
    Column(
        "storage", lambda p: format_bytes(p["storage"]["managed"]), right=True, rank=3
    ),
    Column(
        "execution",
        lambda p: format_bytes(p["execution"]["executing"]),
        right=True,
        rank=3,
    ),
    Column("peak of a task", _peak, right=True, rank=2),
    Column(
        "spilled", lambda p: format_bytes(p["storage"]["spilled"]), right=True, rank=6
    ),
    Column("running", lambda p: _tasks_of(p, "running"), right=True, rank=4),
    Column("done", lambda p: _tasks_of(p, "finished"), right=True, rank=5),
    Column("outputs", lambda p: _count(p["storage"]["count"]), right=True, rank=7),
    Column(
        "median output",
        lambda p: format_bytes(p["storage"]["output_bytes"]["p50"]),
        right=True,
        rank=8,
    ),
    Column("awaited by", _awaited, rank=9, least=12),
)


def _failure(failure: Row) -> Line:
    tone = "alarm" if failure["closed"] is None else ""
    return ((f"failure-{plain(str(failure['id']))}", tone),)


def _over(failure: Row) -> Line:
    closed = failure["closed"]
    piece: Piece = ("open", "alarm") if closed is None else (format_clock(closed), "")
    return (piece,)


def responsible(failure: Row) -> str:
    """Name the prefix that is responsible for a failure; a dash where none is."""
    prefix = failure["responsible"]["prefix"]
    return shorten(str(prefix), NAME) if prefix else UNKNOWN


def _stored(failure: Row) -> str:
    return format_bytes(failure["cost"].get("bytes_stored"))


FAILURES = (
    Column("failure", _failure),
    Column("began", lambda f: format_clock(f["opened"]), rank=3),
    Column("over", _over, rank=2),
    Column("kind", lambda f: terms.label(terms.KINDS, f["kind"]), rank=6, least=12),
    Column(
        "cause",
        lambda f: terms.label(terms.CAUSES, f["diagnosis"]["cause"]),
        rank=1,
        least=16,
    ),
    Column("responsible", responsible, rank=1, least=12),
    Column("deaths", lambda f: _count(f["deaths"]), right=True, rank=4),
    Column("lost", lambda f: format_bytes(f["cost"]["bytes_lost"]), right=True, rank=5),
)

#: The same, where some of what was lost is stored elsewhere.
FAILURES_STORED = (*FAILURES, Column("of it stored", _stored, right=True, rank=7))


def failure_columns(failures: Any) -> tuple[Column, ...]:
    """Return the columns for these failures."""
    stored = any(failure["cost"].get("bytes_stored") for failure in failures)
    return FAILURES_STORED if stored else FAILURES
