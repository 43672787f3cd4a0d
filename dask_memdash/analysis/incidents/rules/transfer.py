"""Buffers of P2P shuffles and of network connections."""

from __future__ import annotations

from collections.abc import Iterator

from dask_memdash.analysis.incidents import advice as advise
from dask_memdash.analysis.incidents.case import Case
from dask_memdash.analysis.incidents.finding import Finding
from dask_memdash.analysis.incidents.growth_attribution import (
    COPIES,
    give_out,
    shuffling,
)
from dask_memdash.analysis.incidents.need import largest_task
from dask_memdash.model.evidence import largest
from dask_memdash.text import count, format_bytes

#: Share of a worker's room for each of the two buffers of its shuffles.
BUFFER = 0.05

#: Share of a worker's room for messages on their way, their copies not counted; size of
#: one in bytes, and how many there are at a time unless configured otherwise.
UNDER_WAY = 0.025
MESSAGE = 2 * 2**20
USUAL_MESSAGES = 10


def transfer(case: Case) -> Iterator[Finding]:
    """Yield buffers of shuffles and transfers."""
    moved = give_out(case).moved
    size = case.parts.transfer + sum(moved.values())
    if size <= 0:
        return
    prefix = next(iter([*largest(moved), *shuffling(case)]), None)
    yield Finding(
        cause="transfer",
        weight=size / case.above,
        text=f"{format_bytes(size)} were on the move: buffers of shuffles, and outputs "
        "being sent and received.",
        prefix=prefix,
        advice=tuple(_advice(case, size, prefix)),
    )


def _advice(case: Case, size: int, prefix: str | None) -> Iterator[str]:
    """Yield how to let a shuffle go through smaller buffers, to disk."""
    room = case.room
    if prefix is None or room is None:
        return
    top = largest_task(case)
    if top is not None and top.prefix == prefix:
        smaller = tuple(advise.on_pieces(case, top))
        if smaller:
            yield from smaller
            return
    buffer = advise.chunk_below(BUFFER * room)
    each = advise.paste(buffer)
    messages = max(1, min(USUAL_MESSAGES, int(UNDER_WAY * room / MESSAGE)))
    to_disk = '"distributed.p2p.storage.disk": True, '
    what, none = "write to disk, through", ", and none of the shuffle on disk"
    if case.parts.shuffle_disk:
        to_disk, what, none = "", "go through", ""
    yield (
        f"Let P2P shuffles {what} smaller buffers, before the workers start: "
        f'`dask.config.set({{{to_disk}"distributed.p2p.comm.buffer": '
        f'"{each}", "distributed.p2p.storage.buffer": "{each}", '
        f'"distributed.p2p.comm.concurrency": {messages}}})`. '
        f"{format_bytes(size)} were in buffers{none}. A worker has room for "
        f"{format_bytes(room)}; two buffers of {format_bytes(buffer)} and "
        f"{count(messages, 'message')} of {format_bytes(MESSAGE)} on their way will "
        f"take about {format_bytes(2 * buffer + COPIES * messages * MESSAGE)}."
    )
