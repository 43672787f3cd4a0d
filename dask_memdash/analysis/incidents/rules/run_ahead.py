"""Stored outputs that were produced earlier than the order needed them."""

from __future__ import annotations

from collections.abc import Iterator

from dask_memdash.analysis.incidents import advice as advise
from dask_memdash.analysis.incidents.case import Case
from dask_memdash.analysis.incidents.finding import Finding
from dask_memdash.analysis.incidents.phrases import by_prefix, waiters
from dask_memdash.analysis.incidents.retention_reasons import blamed
from dask_memdash.model.evidence import largest
from dask_memdash.text import code, count, format_bytes


def run_ahead(case: Case) -> Iterator[Finding]:
    """Yield outputs that were produced earlier than the order needed them."""
    order = case.facts.order
    held = blamed(case, "run-ahead")
    if order is None or not held:
        return
    prefix = largest(held)[0]
    total = sum(held.values())
    yield Finding(
        cause="run-ahead",
        weight=total / case.above,
        text=f"{by_prefix(held)} on this worker had been produced too early. At "
        f"{order.done:,} of {count(order.total, 'task')}, the order needs "
        f"{format_bytes(order.ideal)} of storage on the cluster; "
        f"{format_bytes(order.held)} were held.",
        prefix=prefix,
        advice=(
            "Let the scheduler hold back tasks that only produce, before it starts: "
            f"{advise.HOLD_BACK}. {format_bytes(order.held)} were stored, and the "
            f"order needs {format_bytes(order.ideal)}.",
            f"Let {code(prefix)} and {waiters(case, prefix)} be one task, so that "
            f"{format_bytes(total)} of outputs are not stored on this worker.",
        ),
    )
