"""Stored outputs that the order itself needs at this point."""

from __future__ import annotations

from collections.abc import Iterator

from dask_memdash.analysis.incidents.advice import (
    on_joining,
    on_large_chunks,
    paste,
)
from dask_memdash.analysis.incidents.case import Case
from dask_memdash.analysis.incidents.finding import Finding
from dask_memdash.analysis.incidents.phrases import by_prefix, waiters
from dask_memdash.analysis.incidents.retention_reasons import blamed, waiting_for
from dask_memdash.model.evidence import OrderFacts, largest
from dask_memdash.text import format_bytes


def awaited(case: Case) -> Iterator[Finding]:
    """Yield outputs that tasks still to run wait for."""
    held = blamed(case, "awaited")
    if not held:
        return
    prefix = largest(held)[0]
    order = case.facts.order
    thin = _thin(order, prefix, case)
    yield Finding(
        cause="awaited",
        weight=sum(held.values()) / case.above,
        text=f"{by_prefix(held)} were in memory, because {waiters(case, prefix)} "
        f"needed them and had not run.{_needs(order, thin=bool(thin))}",
        prefix=prefix,
        thin=thin,
        advice=(
            *on_joining(case, waiting_for(case, prefix)),
            *on_large_chunks(case, prefix),
            *_advice(case),
        ),
    )


def _needs(order: OrderFacts | None, *, thin: bool) -> str:
    """Say what the order needs: here where that is not sure, else at its peak."""
    if order is None:
        return ""
    if thin:
        least = max(order.ideal, order.near)
        return (
            f" At this point the order needs {format_bytes(least)} to "
            f"{format_bytes(order.needed)} of storage on the cluster; "
            f"{format_bytes(order.held)} were held."
        )
    return (
        f" The order of this graph needs {'about ' if order.doubt else ''}"
        f"{format_bytes(order.minimum)} of storage at its peak, however it is run."
    )


def _thin(order: OrderFacts | None, prefix: str, case: Case) -> str:
    """Say so where they may have been produced too early all the same."""
    if order is None or not order.doubt or prefix not in order.run_ahead:
        return ""
    if order.held <= max(order.ideal, order.near):
        return ""
    return (
        f"how large the outputs of {waiters(case, prefix)} are is not known, so that "
        "they may have been produced too early"
    )


def _advice(case: Case) -> Iterator[str]:
    """Yield what would hold the storage that the order itself needs."""
    order, limit = case.facts.order, case.limit
    if order is None or not order.capacity or not limit:
        return
    if order.minimum <= order.capacity:
        return
    workers = max(1, round(order.capacity / limit))
    enough = -(-order.minimum * 4 // 3 // limit)
    yield (
        f"Use {max(enough, workers + 1)} workers of `--memory-limit {paste(limit)}`. "
        f"The graph needs {format_bytes(order.minimum)} of storage in any order, and "
        f"the workers have {format_bytes(order.capacity)} now."
    )
