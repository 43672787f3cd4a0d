"""Buffers of P2P shuffles and of network connections."""

from __future__ import annotations

from collections.abc import Iterator

from dask_memdash.analysis.incidents import advice as advise
from dask_memdash.analysis.incidents.case import Case
from dask_memdash.analysis.incidents.finding import Finding
from dask_memdash.analysis.incidents.growth_attribution import (
    give_out,
    shuffles_in_memory,
    shuffling,
)
from dask_memdash.analysis.incidents.need import largest_task, not_received
from dask_memdash.analysis.incidents.shuffle_advice import through_buffers
from dask_memdash.model.evidence import largest
from dask_memdash.text import format_bytes


def transfer(case: Case) -> Iterator[Finding]:
    """Yield buffers of shuffles and transfers."""
    moved = give_out(case).moved
    # buffers of the inputs that did not fit are what their task needs
    size = case.parts.transfer + sum(moved.values()) - not_received(case)
    if size <= 0:
        return
    prefix = next(iter([*largest(moved), *shuffling(case)]), None)
    text = (
        f"{format_bytes(size)} were on the move: buffers of shuffles, and outputs "
        "being sent and received."
    )
    handed = min(size, sum(moved.values()))
    if 2 * handed > size:  # it shows as executing, for no task, in the breakdown
        text += (
            f" {format_bytes(handed)} of it are in no buffer that Dask tells of: pieces"
            " that tasks had handed over, or copies of them."
        )
    yield Finding(
        cause="transfer",
        weight=size / case.above,
        text=text,
        prefix=prefix,
        advice=tuple(_advice(case, size, prefix)),
    )


def _advice(case: Case, size: int, prefix: str | None) -> Iterator[str]:
    """Yield how to let a shuffle write to disk, in small pieces or through buffers."""
    if prefix is None or case.room is None:
        return
    top = largest_task(case)
    if top is not None and top.prefix == prefix and not shuffles_in_memory(case):
        smaller = tuple(advise.on_pieces(case, top))
        if smaller:
            yield from smaller
            return
    yield from through_buffers(case, size)
