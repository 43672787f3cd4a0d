"""What sampler and worker leave for each other in the flight recorder's header.

The sampler tells what it costs, what it saw of a task alone and of child processes; the
worker, which threads run tasks.  Where it stands: the layout in
:mod:`dask_memdash.flight.format`.

Imports the standard library only.
"""

from __future__ import annotations

import math
import struct
import zlib
from typing import Protocol

_U16 = struct.Struct("<H")
_U32 = struct.Struct("<I")
_F64 = struct.Struct("<d")
_TOLD = (1024, 2042)
_THREADS = 3072
_THREAD = struct.Struct("<QQ")
MAX_THREADS = 64
_SEEN = 656
_SEEN_VALUES = struct.Struct("<3d")

#: No size in bytes and no time is as large: whoever wrote it was going mad.
NONSENSE = 2.0**60


class Writable(Protocol):
    """What takes bytes by slices: a buffer, or an open file of another process."""

    def __setitem__(self, place: slice, data: bytes, /) -> None:
        """Put bytes in a place."""


def write_sampler(buffer: Writable, cost: float, interval: float) -> None:
    """Store what the sampler costs, as a share of a core, and its interval."""
    buffer[48:56] = _F64.pack(cost)
    buffer[56:64] = _F64.pack(interval)


def read_sampler(buffer: memoryview) -> tuple[float | None, float | None]:
    """Read what the sampler costs and its interval; None where not known (yet)."""
    numbers = (_F64.unpack_from(buffer, place)[0] for place in (48, 56))
    cost, interval = (n if math.isfinite(n) and n > 0 else None for n in numbers)
    return cost, interval


def write_seen(buffer: Writable, begin: float, file: int, anon: int) -> None:
    """Store what was seen at most while the task that began then ran alone, in bytes.

    Parameters
    ----------
    file, anon
        RSS that is pages of files, and RSS that is not.
    """
    values = _SEEN_VALUES.pack(begin, file, anon)
    buffer[_SEEN : _SEEN + _SEEN_VALUES.size] = values


def read_seen(buffer: memoryview, begin: float) -> tuple[int, int] | None:
    """Read what was seen at most of files and of heap while a task ran, in bytes.

    Parameters
    ----------
    begin
        When it began, to the digit.

    Returns
    -------
    tuple of int or None
        None where nothing was seen of it.
    """
    whose, file, anon = _SEEN_VALUES.unpack_from(buffer, _SEEN)
    if whose != begin or not (0 <= file < NONSENSE and 0 <= anon < NONSENSE):
        return None
    return int(file), int(anon)


def write_told(buffer: Writable, raw: bytes) -> bool:
    """Store what the sampler tells the worker; False where it is too long for that."""
    offset, capacity = _TOLD
    if len(raw) > capacity:
        return False
    head = _U16.pack(len(raw)) + _U32.pack(zlib.crc32(raw))
    buffer[offset : offset + len(head) + len(raw)] = head + raw
    return True


def read_told(buffer: memoryview) -> bytes:
    """Read what the sampler tells the worker; empty where there is nothing whole."""
    offset, capacity = _TOLD
    (length,) = _U16.unpack_from(buffer, offset)
    if not length:
        return b""
    (checksum,) = _U32.unpack_from(buffer, offset + 2)
    raw = bytes(buffer[offset + 6 : offset + 6 + min(length, capacity)])
    return raw if zlib.crc32(raw) == checksum else b""


def write_thread(buffer: memoryview, number: int, ident: int, native: int) -> None:
    """Note a thread that runs tasks; more than `MAX_THREADS` are not noted."""
    if number < MAX_THREADS:
        start = _THREADS + number * _THREAD.size
        buffer[start : start + _THREAD.size] = _THREAD.pack(ident, native)


def read_threads(buffer: memoryview) -> dict[int, int]:
    """Read the threads that have run tasks: identifier → the kernel's number."""
    pairs = _THREAD.iter_unpack(
        bytes(buffer[_THREADS : _THREADS + MAX_THREADS * _THREAD.size])
    )
    return {ident: native for ident, native in pairs if ident and native}
