"""Memory that nobody counted: threads, plugins, caches."""

from __future__ import annotations

from collections.abc import Iterator

from dask_memdash.analysis.incidents.case import Case
from dask_memdash.analysis.incidents.finding import Finding
from dask_memdash.analysis.incidents.growth_attribution import give_out
from dask_memdash.text import code, format_bytes, join

#: Share of what nobody counted from which on it is told that some came while tasks ran.
WORTH_A_WORD = 0.02


def unaccounted(case: Case) -> Iterator[Finding]:
    """Yield growth that no count explains, with its size."""
    growth = give_out(case)
    # What came after the last look may be of tasks that began since.
    size = growth.nobodys - min(growth.unaccounted, case.unseen)
    if size <= 0:
        return
    counted = f"The counts of running tasks add up to {format_bytes(case.counted)}. "
    if not case.suspects:
        counted = ""
    perhaps = ""
    whole = size
    if growth.running > WORTH_A_WORD * size and growth.belief < 1:
        whole = growth.unaccounted + growth.running
        names = list(dict.fromkeys(s.prefix for s in case.suspects))[:3]
        named = join([code(name) for name in names])
        perhaps = (
            f" Up to {format_bytes(growth.running)} of it came while {named} ran, and "
            "may be native memory of these tasks, or a file that they map."
        )
    yield Finding(
        cause="unaccounted",
        weight=size / case.above,
        text=f"{format_bytes(whole)} belong to no stored output and no task's count. "
        f"{counted}A thread, a plugin, a cache or a library of the worker may keep "
        f"it.{perhaps}",
    )
