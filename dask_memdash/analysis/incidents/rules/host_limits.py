"""Limits that promise more than host or container have."""

from __future__ import annotations

from collections.abc import Iterator

from dask_memdash.analysis.incidents.case import Case
from dask_memdash.analysis.incidents.finding import Finding
from dask_memdash.analysis.incidents.rules.outside import ramp
from dask_memdash.text import format_bytes, format_share

#: Shares of the limit between which the kernel's kill is less and less its fault.
FAR_BELOW, AT_IT = 0.85, 1.0

#: Weight where nothing but the kernel's kill speaks for it.
BY_KILL_ALONE = 0.85


def limit_too_high(case: Case) -> Iterator[Finding]:
    """Yield a limit above what the kernel lets the worker have."""
    if case.kind == "kernel-near":
        yield Finding(
            cause="limit-too-high",
            weight=1.0,
            text=f"{case.detail[:1].upper()}{case.detail[1:]}, and the worker had "
            "reached none of its own thresholds.",
            advice=(
                "See what else runs there (other workers, the nanny, files in a "
                "tmpfs), and give the workers smaller limits: `dask memdash limits` "
                "says which.",
            ),
        )
        return
    if case.limit is None or case.kind not in ("oom-killed", "killed", "memory-error"):
        return
    host, pressure = case.facts.host, case.pressure
    effective = host.effective if host is not None else None
    used = case.parts.process
    if case.kind != "oom-killed" and not (effective and used >= 0.85 * effective):
        return
    if host is not None and effective is not None and effective < case.limit:
        yield Finding(
            cause="limit-too-high",
            weight=1.0,
            text=f"The worker's limit is {format_bytes(case.limit)}, and its "
            f"{host.source} allows {format_bytes(effective)}: at {format_bytes(used)} "
            "it was ended before Dask could spill, pause or terminate it.",
            advice=(_advice(effective),),
        )
        return
    if case.kind != "oom-killed" or pressure is None:
        return
    weight = BY_KILL_ALONE * (1 - ramp(pressure, FAR_BELOW, AT_IT))
    if weight <= 0:
        return
    yield Finding(
        cause="limit-too-high",
        weight=weight,
        text=f"The kernel ended the worker at {format_bytes(used)}, "
        f"{format_share(pressure)} of its limit of {format_bytes(case.limit)}: the "
        "host or its container has less than the limits of its workers promise.",
        advice=(_advice(used),),
        thin="what host and container allow is not known",
    )


def _advice(effective: int) -> str:
    return (
        f"Start workers with `--memory-limit` of {format_bytes(0.95 * effective)} at "
        "most, or give host or container more."
    )
