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
    """Say how much a task held in one block, and whose line that was; or nothing."""
    block = worth_telling(suspect, limit)
    if block is None:
        return ""
    size = format_bytes(block.size)
    if _part_of_it(suspect, block):
        return f"{size} of it in one block, allocated {where(block)}"
    return f"its largest block of {size} allocated {where(block)}"


def block_sentence(suspect: Suspect, limit: int | None, whose: str = "") -> str:
    """Say the same as a sentence; `whose` it is where that is not "its"."""
    block = worth_telling(suspect, limit)
    if block is None:
        return ""
    size = format_bytes(block.size)
    if _part_of_it(suspect, block):
        of = f"Of {whose}, {size}" if whose else f"{size} of it"
        return f"{of} was one block, allocated {where(block)}."
    whose = f"The largest block of {whose}" if whose else "Its largest block"
    return f"{whose}, {size}, was allocated {where(block)}."


def _part_of_it(suspect: Suspect, block: LargestBlock) -> bool:
    """Whether a block is part of what a task is said to have held.

    One that is larger was asked for, and not filled at that instant.
    """
    return block.size <= (suspect.bytes or 0) * 1.01
