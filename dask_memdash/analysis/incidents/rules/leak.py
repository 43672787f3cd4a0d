"""Memory that tasks have left behind, by their own counts."""

from __future__ import annotations

from collections.abc import Iterator

from dask_memdash.analysis.incidents.case import Case
from dask_memdash.analysis.incidents.finding import Finding
from dask_memdash.analysis.incidents.growth_attribution import give_out, left_by_each
from dask_memdash.model.evidence import largest
from dask_memdash.text import code, count, format_bytes


def leak(case: Case) -> Iterator[Finding]:
    """Yield memory that stays after the tasks that took it."""
    leaked = give_out(case).leaked
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
        advice=(
            f"Look in {code(prefix)} for what keeps {format_bytes(each)} a task alive: "
            "globals, caches, mutable default arguments, reference cycles, handles of "
            "native libraries. Until that is found, let workers restart in turn: "
            "`--lifetime 1h --lifetime-stagger 5m --lifetime-restart`.",
        ),
    )
