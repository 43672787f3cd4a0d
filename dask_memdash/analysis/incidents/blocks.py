"""What is said of a task's largest block, and of the line that allocated it."""

from __future__ import annotations

from dask_memdash.model.event_parts import LargestBlock
from dask_memdash.model.incidents import Suspect
from dask_memdash.text import format_bytes, format_line

#: Share of the worker's limit from which a block is worth a sentence.
LEAST = 0.1


def worth_telling(suspect: Suspect, limit: int | None) -> LargestBlock | None:
    """Return a task's largest block where it says something; else None.

    Parameters
    ----------
    limit
        The worker's, in bytes; None where it has none.
    """
    block = suspect.block
    if block is None or (limit and block.size < LEAST * limit):
        return None
    return block


def where(block: LargestBlock) -> str:
    """Say which line allocated a block."""
    place = format_line(block.file, block.line, block.function, block.called)
    return place if not block.file else f"at {place}"


def in_one_block(suspect: Suspect, limit: int | None) -> str:
    """Say how much a task held in one block, and whose line that was; or nothing.

    A block that is larger than what the task held is one that was asked for, and not
    filled to its end.
    """
    block = worth_telling(suspect, limit)
    if block is None:
        return ""
    size = format_bytes(block.size)
    if block.size > (suspect.bytes or 0) * 1.01:
        return f"a block of {size} not filled yet, allocated {where(block)}"
    return f"{size} of it in one block, allocated {where(block)}"
