"""A task's largest block as the store gives it."""

from __future__ import annotations

from dask_memdash.model import event_parts
from dask_memdash.store.worker_shapes import LargestBlock
from dask_memdash.text import MOST_OF_A_FILE, MOST_OF_A_NAME, format_line, plain


def block_shape(block: event_parts.LargestBlock | None) -> LargestBlock | None:
    """Return what is said of a block; names of files and functions made harmless."""
    if block is None:
        return None
    return {
        "bytes": block.size,
        "file": plain(block.file, MOST_OF_A_FILE) or None,
        "line": block.line,
        "function": plain(block.function, MOST_OF_A_NAME) or None,
        "called": plain(block.called, MOST_OF_A_NAME) or None,
        "text": format_line(block.file, block.line, block.function, block.called),
    }
