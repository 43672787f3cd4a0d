"""Copies of outputs that were fetched from other workers as inputs."""

from __future__ import annotations

from collections.abc import Iterator

from dask_memdash.analysis.incidents.case import Case
from dask_memdash.analysis.incidents.finding import Finding
from dask_memdash.analysis.incidents.phrases import by_prefix
from dask_memdash.analysis.incidents.retention_reasons import blamed
from dask_memdash.model.evidence import largest
from dask_memdash.text import code, count, format_bytes


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
        text=f"{by_prefix(held)} were copies of what other workers hold too, fetched "
        f"as inputs.{copies}",
        prefix=prefix,
        advice=(
            "Share one copy among more threads: fewer workers, each with more threads "
            f"and memory, as in `--nworkers 1 --nthreads {_threads(case)}`. Each "
            f"worker holds its own {format_bytes(total)} of {code(prefix)}; then there "
            "is one copy on each machine.",
        ),
    )


def _threads(case: Case) -> int:
    workers = 1
    host = case.facts.host
    if host is not None and host.siblings and host.limit:
        workers = max(1, round(host.siblings / host.limit))
    return max(2, workers * max(1, case.facts.nthreads))
