"""A task's largest block, from its recorder's words to those of events."""

from __future__ import annotations

from dask_memdash.flight.block_format import Block
from dask_memdash.model.event_parts import LargestBlock


def as_block(block: Block | None) -> LargestBlock | None:
    """Describe the largest block that was found in a slot; None where none was."""
    if block is None:
        return None
    return LargestBlock(
        block.size, block.file, block.line, block.function, block.called
    )
