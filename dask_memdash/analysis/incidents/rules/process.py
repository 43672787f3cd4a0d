"""The process itself: buffers on the move, what tasks leave behind, the allocator."""

from __future__ import annotations

from collections.abc import Iterator

from dask_memdash.analysis.incidents.case import Case
from dask_memdash.analysis.incidents.finding import Finding
from dask_memdash.analysis.incidents.growth_attribution import (
    give_out,
    hands_over,
    left_by_each,
)
from dask_memdash.model.evidence import largest
from dask_memdash.text import code, count, format_bytes


def transfer(case: Case) -> Iterator[Finding]:
    """Yield buffers of shuffles and transfers."""
    moved = give_out(case).moved
    size = case.parts.transfer + sum(moved.values())
    if size <= 0:
        return
    names = [*largest(moved), *(s.prefix for s in case.suspects), *case.facts.expected]
    prefix = next((name for name in names if hands_over(name)), None)
    yield Finding(
        cause="transfer",
        weight=size / case.above,
        text=f"{format_bytes(size)} were on the move: buffers of shuffles, and outputs "
        "being sent and received.",
        prefix=prefix,
        advice=(
            f"Make partitions smaller, or workers fewer and larger: "
            f"{format_bytes(size)} of buffers take their share of each worker.",
        ),
    )


def leak(case: Case) -> Iterator[Finding]:
    """Yield memory that stays after the tasks that took it."""
    left = give_out(case)
    total = sum(left.leaked.values()) + left.nameless
    if total <= 0:
        return
    prefix = largest(left.leaked)[0] if left.leaked else _only_prefix(case)
    thin = "" if left.leaked else "which tasks left it behind was not counted"
    if left.leaked and prefix is not None:
        expected = case.facts.expected[prefix]
        each = left_by_each(expected)
        how = (
            f" {count(expected.weighed.count, 'task')} of {code(prefix)} ended holding "
            f"{format_bytes(each)} more than their outputs, on average."
        )
        advice: tuple[str, ...] = (
            f"Look in {code(prefix)} for what keeps {format_bytes(each)} a task alive: "
            "globals, caches, reference cycles, handles of native libraries. Until "
            "then, restart workers now and then (`--lifetime`).",
        )
    else:
        how = ""
        advice = ()
    yield Finding(
        cause="leak",
        weight=total / case.above,
        text=f"{format_bytes(total)} belong to no stored output and to no running "
        f"task: the process has grown by that since it was idle.{how}",
        prefix=prefix,
        advice=advice,
        thin=thin,
    )


def _only_prefix(case: Case) -> str | None:
    """Return the prefix of all tasks that have finished, None if there are several."""
    ran = [name for name, usual in case.facts.expected.items() if usual.finished]
    return ran[0] if len(ran) == 1 else None


def retained(case: Case) -> Iterator[Finding]:
    """Yield memory that was freed and that the allocator has kept."""
    size = case.parts.retained
    if size <= 0:
        return
    churn = {
        name: (expected.p50 or 0) * expected.finished
        for name, expected in case.facts.expected.items()
        if expected.p50
    }
    prefix = largest(churn)[0] if churn else None
    whose = ""
    if prefix is not None:
        expected = case.facts.expected[prefix]
        whose = (
            f" Most was allocated and freed by {code(prefix)}: "
            f"{count(expected.finished, 'task')} with peaks of "
            f"{format_bytes(expected.p50 or 0)} (median)."
        )
    yield Finding(
        cause="retained",
        weight=size / case.above,
        text=f"Up to {format_bytes(size)} had been freed and were kept by the "
        f"allocator.{whose}",
        prefix=prefix,
        advice=(
            f"Give up to {format_bytes(size)} back with `malloc_trim` after each step, "
            "start workers with MALLOC_ARENA_MAX=2, or use another allocator (jemalloc "
            "with LD_PRELOAD).",
        ),
        thin="what the allocator keeps is an upper bound",
    )
