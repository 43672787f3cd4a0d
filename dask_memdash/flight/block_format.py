"""The part of a slot that tells the task's largest block and where it was allocated.

Covers its byte layout, and reading it from memory that may be torn, truncated or
random.  It is written by native code alone (``measure/frames/blocks.c``), at any
instant and under a sequence number of its own; the rest of a slot is
:mod:`dask_memdash.flight.format`'s.

Layout, little-endian, `BLOCK_SIZE` bytes from `BLOCK_OFFSET` of the slot on::

       0   u64  sequence (odd while it is being written)
       8   i64  size of the block in bytes (0: there is none)
      16   u32  number of the line (0: not known)
      20   u32  flags: 1 the thread that allocated has no Python frame
      24   u8   length of the file's name, of the function's and of what it called
      32        these three, one after the other: at most 96, 64 and 64 bytes of UTF-8

Imports the standard library only.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

BLOCK_OFFSET = 512
BLOCK_SIZE = 256

FLAG_OUTSIDE_PYTHON = 1

_HEAD = struct.Struct("<QqIIBBB")
_TEXT = 32
_MOST = (96, 64, 64)

#: No block is as large, in bytes.
_BEYOND = 2**56

#: No file has as many lines.
_MOST_LINES = 2**31


@dataclass(frozen=True, slots=True)
class Block:
    """A task's largest block, and the line that allocated it."""

    #: In bytes.
    size: int
    #: Last two parts of the file's name, or the module of code that was sent by value;
    #: empty where it is not known.
    file: str
    #: Number of the line; None where it is not known.
    line: int | None
    #: Name of the function that the line is in.
    function: str
    #: What the line called, as far as known: else empty.
    called: str


_NONE = bytes(16)


def clear_block(buffer: memoryview, start: int) -> None:
    """Take out what stands in the slot that begins at `start`, in bytes."""
    place = start + BLOCK_OFFSET
    buffer[place : place + 16] = _NONE


def read_block(buffer: memoryview, start: int) -> Block | None:
    """Read the largest block of the slot that begins at `start`, in bytes.

    Returns
    -------
    Block or None
        None where there is none, it is torn or makes no sense.
    """
    place = start + BLOCK_OFFSET
    raw = bytes(buffer[place : place + BLOCK_SIZE])
    after = bytes(buffer[place : place + 8])
    if len(raw) < BLOCK_SIZE or raw[:8] != after:
        return None
    sequence, size, line, flags, *lengths = _HEAD.unpack_from(raw)
    if (
        sequence & 1
        or sequence == 0
        or not 0 < size < _BEYOND
        or line >= _MOST_LINES
        or flags not in (0, FLAG_OUTSIDE_PYTHON)
        or any(length > most for length, most in zip(lengths, _MOST, strict=True))
    ):
        return None
    texts, at = [], _TEXT
    for length in lengths:
        try:
            texts.append(raw[at : at + length].decode())
        except UnicodeDecodeError:
            return None
        at += length
    return Block(size, texts[0], line or None, texts[1], texts[2])


def same_block(before: memoryview, now: memoryview, start: int) -> bool:
    """Tell whether two copies of a file agree on a slot's largest block."""
    place, end = start + BLOCK_OFFSET, start + BLOCK_OFFSET + BLOCK_SIZE
    return len(now) >= end and before[place:end] == now[place:end]
