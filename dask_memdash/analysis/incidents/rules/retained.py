"""Memory that was freed and that the allocator has kept."""

from __future__ import annotations

from collections.abc import Iterator

from dask_memdash.analysis.incidents.case import Case
from dask_memdash.analysis.incidents.finding import Finding
from dask_memdash.model.evidence import largest
from dask_memdash.text import code, count, format_bytes


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
            f" {code(prefix)} allocated and freed most: "
            f"{count(expected.finished, 'task')} with peaks of "
            f"{format_bytes(expected.p50)} (median)."
        )
    yield Finding(
        cause="retained",
        weight=size / case.above,
        text=f"Up to {format_bytes(size)} had been freed and were kept by the "
        f"allocator.{whose}",
        prefix=prefix,
        advice=(
            "Give freed memory back after each step: `client.run(lambda: "
            '__import__("ctypes").CDLL("libc.so.6").malloc_trim(0))`. Up to '
            f"{format_bytes(size)} of this worker's "
            f"{format_bytes(case.parts.process)} would go back.",
            "Where DataFrames use Arrow, its pool keeps most: start workers with "
            "`ARROW_DEFAULT_MEMORY_POOL=system`. On workers that run, "
            '`client.run(lambda: __import__("pyarrow").default_memory_pool()'
            ".release_unused())` may return some of it.",
            "Let the allocator keep less: start workers with `MALLOC_ARENA_MAX=2`.",
        ),
        thin="what the allocator keeps is an upper bound",
    )
