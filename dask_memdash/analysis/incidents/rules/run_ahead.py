"""Stored outputs that were produced earlier than the order needed them."""

from __future__ import annotations

import math
from collections.abc import Iterator

from dask_memdash.analysis.incidents import advice as advise
from dask_memdash.analysis.incidents.case import Case
from dask_memdash.analysis.incidents.finding import Finding
from dask_memdash.analysis.incidents.phrases import by_prefix, waiters
from dask_memdash.analysis.incidents.retention_reasons import blamed
from dask_memdash.model.evidence import OrderFacts, largest
from dask_memdash.text import code, count, format_bytes

#: Share of what ran ahead from which it is worth holding back.
WORTHWHILE = 0.5


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
        f"{_at_most(order)}{format_bytes(order.needed)} of storage on the cluster; "
        f"{format_bytes(order.held)} were held.",
        prefix=prefix,
        advice=tuple(_advice(case, order, prefix, total)),
    )


def _at_most(order: OrderFacts) -> str:
    return "at most " if order.needed > order.ideal else ""


def _advice(case: Case, order: OrderFacts, prefix: str, total: int) -> Iterator[str]:
    """Yield how to hold back what runs ahead, as far as that is not done already."""
    if _held_back_helps(case, order, prefix, total):
        yield (
            "Let the scheduler hold back tasks that only produce, before it starts: "
            f"{advise.HOLD_BACK}. {format_bytes(order.held)} were stored, and the "
            f"order needs {format_bytes(order.needed)}."
        )
    yield (
        f"Let {code(prefix)} and {waiters(case, prefix)} be one task, so that "
        f"{format_bytes(total)} of outputs are not stored on this worker."
    )


def _held_back_helps(case: Case, order: OrderFacts, prefix: str, total: int) -> bool:
    """Say whether the scheduler sends a worker much more than it has threads.

    Only root tasks are held back, and by default nearly all of them are.
    """
    if prefix not in order.saturation:
        return False
    saturation = order.saturation[prefix]
    if saturation is None:
        return True
    threads, usual = max(1, case.facts.nthreads), case.expected(prefix)
    each = 0 if usual is None else usual.output_p50 or 0
    more = math.ceil(saturation * threads) - threads
    return more * each >= WORTHWHILE * total
