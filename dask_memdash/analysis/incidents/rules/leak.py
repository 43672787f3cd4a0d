"""Memory that tasks have left behind, by their own counts."""

from __future__ import annotations

from collections.abc import Iterator

from dask_memdash.analysis.incidents import advice as advise
from dask_memdash.analysis.incidents.case import Case
from dask_memdash.analysis.incidents.finding import Finding
from dask_memdash.analysis.incidents.growth_attribution import give_out, left_by_each
from dask_memdash.model.evidence import largest
from dask_memdash.text import code, count, format_bytes, format_duration

#: Share of a worker's room that a leak may fill before the worker is to restart.
FILLED = 0.5

#: Room for what a graph leaves, as times of it: workers do not share it evenly.
EXTRA = 1.25

#: Restarting more often than this costs more than it saves, in seconds.
SHORTEST = 5.0


def leak(case: Case) -> Iterator[Finding]:
    """Yield memory that stays after the tasks that took it."""
    growth = give_out(case)
    leaked = growth.leaked
    if growth.ended:
        yield _ended(case, growth.ended)
    if not leaked:
        return
    total = sum(leaked.values())
    prefix = largest(leaked)[0]
    expected = case.facts.expected[prefix]
    each = left_by_each(expected)
    ran = count(expected.weighed.count, "task")
    yield Finding(
        cause="leak",
        weight=total / case.above,
        text=f"{format_bytes(total)} belong to no stored output and to no running "
        f"task. {ran} of {code(prefix)} ended holding {format_bytes(each)} more than "
        "their outputs, on average.",
        prefix=prefix,
        advice=tuple(_advice(case, prefix, total, each)),
    )


def _ended(case: Case, ended: dict[str, int]) -> Finding:
    """Return what tasks have left that ended after the last report, and how sure."""
    (prefix,) = ended
    size = ended[prefix]
    ran = count(sum(row.count for row in case.storage if row.prefix == prefix), "task")
    return Finding(
        cause="leak",
        weight=size / case.above,
        text=f"{format_bytes(size)} belong to no stored output and to no running task, "
        f"and came while {ran} of {code(prefix)} ran and ended, none of any other "
        "prefix.",
        prefix=prefix,
        advice=(
            f"Look in {code(prefix)} for what keeps its memory alive: globals, caches, "
            "mutable default arguments, reference cycles, handles of native libraries.",
        ),
        thin="the worker died before it had told what these tasks left",
    )


def _advice(case: Case, prefix: str, total: int, each: float) -> Iterator[str]:
    yield from _room_for_all(case, prefix, total, each)
    seconds = _lifetime(case, total)
    if seconds is not None and case.usable is not None:
        grown = round(total * seconds / _seconds(case))
        yield (
            "Let workers restart in turn until the leak is found: "
            f"`--lifetime {_time(seconds)} --lifetime-stagger {_time(seconds / 4)} "
            f"--lifetime-restart`. {format_bytes(total)} gathered in "
            f"{format_duration(_seconds(case))}; a worker will restart at about "
            f"{format_bytes(grown)} of the {format_bytes(case.usable)} that it has."
        )
    yield (
        f"Look in {code(prefix)} for what keeps {format_bytes(each)} a task alive: "
        "globals, caches, mutable default arguments, reference cycles, handles of "
        "native libraries."
    )


def _room_for_all(case: Case, prefix: str, total: int, each: float) -> Iterator[str]:
    """Yield a limit that has room for what all of the graph will leave.

    None where the machine has not that much, or the graph's end is not known.
    """
    order, room, host = case.facts.order, case.usable, case.facts.host
    if order is None or room is None or host is None or not each:
        return
    if order.done >= order.total or total <= 0 or not case.limit:
        return
    workers = 1
    if host.siblings and host.limit:
        workers = max(1, round(host.siblings / host.limit))
    tasks = -(-order.total // workers)
    left = round(tasks * each)
    beside = max(0, case.above - total)
    limit = advise.limit_for(case, EXTRA * left + beside)
    if limit is None or left + beside <= room:
        return
    spread = f", {tasks:,} on each of {workers} workers" if workers > 1 else ""
    yield (
        "Give each worker room for what the whole graph leaves, until the leak is "
        f"found: `--memory-limit {advise.paste(limit)}`. {code(prefix)} leaves "
        f"{format_bytes(each)} a task. There are {count(order.total, 'task')}{spread}: "
        f"{format_bytes(left)} on a worker, and an empty one has room for "
        f"{format_bytes(room)}; it will have room for "
        f"{format_bytes(EXTRA * left + beside)}."
    )


def _seconds(case: Case) -> float:
    """Return in how many seconds the baseline grew, 0 where that is not known."""
    began = case.facts.baseline[0][0] if case.facts.baseline else None
    if began is None or case.instant is None:
        return 0.0
    return max(0.0, case.instant - began)


def _lifetime(case: Case, total: int) -> float | None:
    """Return after how many seconds half a worker's room is full of what is left."""
    seconds = _seconds(case)
    if not seconds or not total or case.usable is None:
        return None
    life = FILLED * case.usable / total * seconds
    return life if life >= SHORTEST else None


def _time(seconds: float) -> str:
    """Write a time as Dask's options take it, rounded down: "90s", "15m", "6h"."""
    for unit, factor in (("h", 3600), ("m", 60)):
        if seconds >= 5 * factor:
            return f"{seconds // factor:.0f}{unit}"
    return f"{max(1, seconds // 1):.0f}s"
