"""Buffers of P2P shuffles and of network connections."""

from __future__ import annotations

from collections.abc import Iterator

from dask_memdash.analysis.incidents import advice as advise
from dask_memdash.analysis.incidents.case import Case
from dask_memdash.analysis.incidents.finding import Finding
from dask_memdash.analysis.incidents.growth_attribution import give_out, hands_over
from dask_memdash.analysis.incidents.need import largest_task
from dask_memdash.model.evidence import largest
from dask_memdash.text import format_bytes


def transfer(case: Case) -> Iterator[Finding]:
    """Yield buffers of shuffles and transfers."""
    moved = give_out(case).moved
    size = case.parts.transfer + sum(moved.values())
    if size <= 0:
        return
    names = [*largest(moved), *(s.prefix for s in case.suspects), *case.facts.expected]
    prefix = next((name for name in names if hands_over(name)), None)
    yield Finding(
        cause="transfer",
        weight=size / case.above,
        text=f"{format_bytes(size)} were on the move: buffers of shuffles, and outputs "
        "being sent and received.",
        prefix=prefix,
        advice=tuple(_advice(case, size, prefix)),
    )


def _advice(case: Case, size: int, prefix: str | None) -> Iterator[str]:
    if prefix is None:
        return
    top = largest_task(case)
    if top is not None and top.prefix == prefix:
        smaller = tuple(advise.on_pieces(case, top))
        if smaller:
            yield from smaller
            return
    if not case.parts.shuffle_disk:
        yield (
            "Let P2P shuffles write to disk, before the workers start: "
            '`dask.config.set({"distributed.p2p.storage.disk": True})`. '
            f"{format_bytes(size)} were in buffers, and none of the shuffle on disk."
        )
