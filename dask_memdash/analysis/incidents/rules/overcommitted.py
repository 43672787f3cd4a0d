"""A kernel's kill below the worker's own threshold: limits above what there is."""

from __future__ import annotations

from collections.abc import Iterator

from dask_memdash.analysis.incidents.case import Case
from dask_memdash.analysis.incidents.finding import Finding
from dask_memdash.analysis.incidents.need import ramp
from dask_memdash.analysis.incidents.relief import limit_above_memory
from dask_memdash.analysis.incidents.rules.children import children
from dask_memdash.text import format_bytes, format_share, with_capital

#: Shares of the terminate threshold between which the kernel's kill is less and less
#: the limit's fault.
FAR_BELOW, AT_IT = 0.85, 1.0

#: Weight where nothing but the kernel's kill speaks for it.
BY_KILL_ALONE = 0.85


def overcommitted(case: Case) -> Iterator[Finding]:
    """Yield a limit that promised more than the kernel lets the worker have."""
    if case.kind == "kernel-near":
        yield Finding(
            cause="overcommitted",
            weight=1.0,
            text=f"{with_capital(case.detail)}. The worker had reached "
            "none of its own thresholds.",
        )
        yield from children(case)
        return
    yield from children(case)
    ceiling, used = case.ceiling, case.parts.process
    if not limit_above_memory(case) or not ceiling or used >= ceiling:
        return
    host = case.facts.host
    effective = host.effective if host is not None else None
    told = (
        f"The kernel ended the worker at {format_bytes(used)}, below its own terminate "
        f"threshold of {format_bytes(ceiling)}."
    )
    if host is not None and effective is not None and effective < (case.limit or 0):
        yield Finding(
            cause="overcommitted",
            weight=1.0,
            text=f"{told} Its limit promises {format_bytes(case.limit)}, and its "
            f"{host.source} allows {format_bytes(effective)}.",
        )
        return
    weight = BY_KILL_ALONE * (1 - ramp(used / ceiling, FAR_BELOW, AT_IT))
    if weight <= 0 or case.breakdown is None:
        return
    yield Finding(
        cause="overcommitted",
        weight=weight,
        text=f"{told} That is {format_share(case.pressure)} of its limit: host or "
        "container have less than the limits of all workers promise.",
        thin="what host and container allow is not known",
    )
