"""Advice on P2P shuffles: to disk, through buffers that fit into the worker."""

from __future__ import annotations

from collections.abc import Iterator

from dask_memdash.analysis.incidents import advice as advise
from dask_memdash.analysis.incidents.case import Case
from dask_memdash.analysis.incidents.growth_attribution import (
    COPIES,
    shuffles_in_memory,
)
from dask_memdash.text import count, format_bytes

#: Share of a worker's room for each of the two buffers of its shuffles.
BUFFER = 0.05

#: Share of a worker's room for messages on their way, their copies not counted; size of
#: one in bytes, and how many there are at a time unless configured otherwise.
UNDER_WAY = 0.025
MESSAGE = 2 * 2**20
USUAL_MESSAGES = 10


def to_disk(case: Case, size: int) -> Iterator[str]:
    """Yield how to let a shuffle write to disk, where it keeps all in memory.

    Parameters
    ----------
    size
        What was in its buffers, in bytes.
    """
    if shuffles_in_memory(case):
        yield from through_buffers(case, size)


def through_buffers(case: Case, size: int) -> Iterator[str]:
    """Yield how to let a shuffle go through smaller buffers, to disk."""
    room = case.room
    if room is None:
        return
    buffer = advise.chunk_below(BUFFER * room)
    each = advise.paste(buffer)
    messages = max(1, min(USUAL_MESSAGES, int(UNDER_WAY * room / MESSAGE)))
    disk = '"distributed.p2p.storage.disk": True, '
    what, none = "write to disk, through", ", and none of the shuffle on disk"
    if case.parts.shuffle_disk or case.facts.spill_room.shuffles_on_disk:
        disk, what, none = "", "go through", ""
    yield (
        f"Let P2P shuffles {what} smaller buffers, before the workers start: "
        f'`dask.config.set({{{disk}"distributed.p2p.comm.buffer": '
        f'"{each}", "distributed.p2p.storage.buffer": "{each}", '
        f'"distributed.p2p.comm.concurrency": {messages}}})`. '
        f"{format_bytes(size)} were in buffers{none}. A worker has room for "
        f"{format_bytes(room)}; two buffers of {format_bytes(buffer)} and "
        f"{count(messages, 'message')} of {format_bytes(MESSAGE)} on their way will "
        f"take about {format_bytes(2 * buffer + COPIES * messages * MESSAGE)}."
    )
