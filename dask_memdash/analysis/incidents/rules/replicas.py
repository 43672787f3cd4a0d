"""Copies of outputs that were fetched from other workers as inputs."""

from __future__ import annotations

from collections.abc import Iterator

from dask_memdash.analysis.incidents.advice import paste
from dask_memdash.analysis.incidents.case import Case
from dask_memdash.analysis.incidents.finding import Finding
from dask_memdash.analysis.incidents.phrases import by_prefix
from dask_memdash.analysis.incidents.retention_reasons import blamed
from dask_memdash.model.evidence import largest
from dask_memdash.text import code, count, format_bytes

#: Workers that are to become one, where it is not known how many a machine has.
PAIR = 2


def replicas(case: Case) -> Iterator[Finding]:
    """Yield copies of outputs that other workers hold too."""
    held = blamed(case, "replica")
    if not held:
        return
    prefix = largest(held)[0]
    total = sum(held.values())
    known = case.facts.held.get(prefix)
    copies = ""
    if known is not None and known.max_copies > 1:
        copies = f" {count(known.max_copies, 'worker')} hold one of them at a time."
    yield Finding(
        cause="replicas",
        weight=total / case.above,
        text=f"{by_prefix(held)} were copies, fetched from other workers as "
        f"inputs.{copies}",
        prefix=prefix,
        advice=_advice(case, prefix, total),
    )


def _advice(case: Case, prefix: str, total: int) -> tuple[str, ...]:
    """Advise to share one copy, where the worker is not alone on its machine."""
    host, limit = case.facts.host, case.limit
    workers = PAIR
    if host is not None and host.siblings and host.limit:
        workers = max(1, round(host.siblings / host.limit))
    if workers < 2 or not limit:
        return ()
    options = (
        f"--nworkers 1 --nthreads {workers * max(1, case.facts.nthreads)} "
        f"--memory-limit {paste(workers * limit)}"
    )
    return (
        "Share one copy among more threads, with the memory of all workers of a "
        f"machine in one: `{options}`. Each of {workers} workers holds its own "
        f"{format_bytes(total)} of {code(prefix)} in {format_bytes(limit)}; then there "
        f"is one copy in {format_bytes(workers * limit)}.",
    )
