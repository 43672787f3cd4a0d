"""The flight recorder's file format: pure functions over a buffer.

Covers the byte layout, writing into it and reading it back from a file that may
be torn, truncated or random.  Does not cover creating, finding and mapping files:
see :mod:`dask_memdash.flight.writer` and :mod:`dask_memdash.flight.reader`.

Layout, version 3, little-endian::

    header, 4096 bytes
       0   8s   magic, b"MEMDASH\n"
       8   u32  version
      12   u32  size of the header in bytes
      16   u32  number of slots
      20   u32  size of a slot in bytes
      24   u64  pid of the worker
      32   f64  Unix time of creation, in seconds
      40   u32  who writes the slots' counters: 0 samples of the RSS, 1 a tally of what
                is allocated, 2 a tally of what of that is resident
      44   u32  flags: 1 the worker is closing in good order
      48   f64  share of a core that the sampler costs (0: not known)
      56   f64  seconds between two samples now (0: not known)
      64   u16  length of the worker's address, then 250 bytes of it (UTF-8)
     320   u16  length of the reason for closing, then 190 bytes of it (UTF-8)
     512   u64  sequence of the reading (odd while it is being written)
     520  17f64 the reading (READING_FIELDS, NaN where not known)
     656   3f64 what the sampler saw of the task that runs alone: its begin, the most of
                files' pages and the most of heap, in bytes (begin 0: nothing)
    1024   u16  length of what the sampler tells of child processes, its u32 CRC, then
                at most 2,042 bytes of JSON
    3072  128u64 threads that have run tasks: identifier and the kernel's number, by
                turns (0: no more)
    slots, from the end of the header on
       0   i64  bytes that the task holds now          } written by native code,
       8   i64  most bytes that it held at any instant } or from samples
      16   i64  most by which the former two may be wrong, in bytes
      24   i64  bytes that the task may hold beside the first by now: of blocks that
                it has just made, or was seen filling (0 where none is looked at)
      32   u64  sequence of the rest (odd while it is being written)
      40   u32  state: 0 free, 1 running, 2 pending (output not stored yet)
      44   u32  flags: 1 not measured, 2 about to begin: inputs are read from disk
      48   u64  identifier of the task's thread, 0 where it has none of its own
      56   f64  Unix time of begin, in seconds
      64   i64  RSS of the worker at begin, in bytes
      72   16s  blake2b digest of the whole key's text, 0 where the key is whole
      88   u16  length of the stored key, then at most 422 bytes of it (UTF-8)
     512        the task's largest block, and the line that allocated it: see
                :mod:`dask_memdash.flight.block_format`

Versions 1 and 2 had slots of 512 bytes, without blocks.  A nanny and its worker are of
the same installation: another version is refused, in words.

A slot serves one task that is running or pending; a running task has the slot to
itself, and native code writes its counters.  Whoever
writes the rest makes the sequence odd, writes the payload and then makes the
sequence even again; whoever reads takes a slot only if the sequence is even and
the same before and after.

Imports the standard library only.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace

from dask_memdash.errors import RecorderError
from dask_memdash.flight.block_format import (
    BLOCK_OFFSET,
    BLOCK_SIZE,
    Block,
    clear_block,
    read_block,
)
from dask_memdash.flight.sampler_fields import NONSENSE, Writable

MAGIC = b"MEMDASH\n"
VERSION = 3
HEADER_SIZE = 4096
SLOT_SIZE = BLOCK_OFFSET + BLOCK_SIZE
MAX_SLOTS = 4096

COUNTERS_FROM_RSS = 0
COUNTERS_FROM_TALLY = 1
COUNTERS_RESIDENT = 2
FLAG_CLOSING = 1

FREE, RUNNING, PENDING = 0, 1, 2
_STATES = tuple(state.to_bytes(4, "little") for state in (FREE, RUNNING, PENDING))
FLAG_UNMEASURED = 1
FLAG_GATHERING = 2

_HEADER = struct.Struct("<8sIIIIQdII")
_ADDRESS = (64, 250)
_REASON = (320, 190)
_READING = 512
_U16 = struct.Struct("<H")
_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")
_I64 = struct.Struct("<q")
_F64 = struct.Struct("<d")
_COUNTERS = struct.Struct("<qqq")
_FILLING = 24
_PAYLOAD = struct.Struct("<IIQdq16sH")
_SEQUENCE = 32
_STATE = 40
_NOTHING = bytes(_SEQUENCE)
_KEY = _STATE + _PAYLOAD.size
KEY_CAPACITY = BLOCK_OFFSET - _KEY

#: The worker's latest reading, in the order of the file; sizes in bytes.
READING_FIELDS = (
    "time",
    "rss",
    "managed_claimed",
    "incoming",
    "outgoing",
    "shuffle",
    "free",
    "base",
    "spilled",
    "spilled_disk",
    "last_rest",
    "inputs",
    "graph",
    "actors",
    "file",
    "base_file",
    "loaded",
)
_READING_VALUES = struct.Struct(f"<{len(READING_FIELDS)}d")


def file_size(slots: int) -> int:
    """Return the size in bytes of a recorder of so many slots."""
    return HEADER_SIZE + slots * SLOT_SIZE


def slot_offset(index: int) -> int:
    """Return the offset in bytes of a slot, which is where its counters stand."""
    return HEADER_SIZE + index * SLOT_SIZE


def key_digest(text: str) -> bytes:
    """Return the 16 bytes that identify a key whose text does not fit into a slot.

    Of a very long text only the beginning, the end and the length count, so that
    a key of 10 MB costs no more than others.
    """
    if len(text) > 65_536:
        text = f"{text[:32_768]}{len(text)}{text[-32_768:]}"
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=16).digest()


def is_cut(text: str) -> bool:
    """Tell whether a key's text does not fit into a slot as it is."""
    if len(text) > KEY_CAPACITY or text.isascii():
        return len(text) > KEY_CAPACITY
    try:
        return len(text.encode()) > KEY_CAPACITY
    except UnicodeEncodeError:
        return True


def _clip(text: str, capacity: int) -> bytes:
    raw = text[:capacity].encode("utf-8", "replace")
    return raw[:capacity].decode("utf-8", "ignore").encode()


# -- writing -------------------------------------------------------------------


def write_header(
    buffer: memoryview,
    *,
    slots: int,
    pid: int,
    created: float,
    address: str,
    tallied: bool = False,
) -> None:
    """Lay out an empty recorder; the magic goes last, as it is what publishes it."""
    source = COUNTERS_FROM_TALLY if tallied else COUNTERS_FROM_RSS
    header = _HEADER.pack(
        b"", VERSION, HEADER_SIZE, slots, SLOT_SIZE, pid, created, source, 0
    )
    buffer[len(MAGIC) : _HEADER.size] = header[len(MAGIC) :]
    _write_text(buffer, _ADDRESS, address)
    buffer[_READING + 8 : _READING + 8 + _READING_VALUES.size] = _READING_VALUES.pack(
        *[math.nan] * len(READING_FIELDS)
    )
    buffer[: len(MAGIC)] = MAGIC


def write_closing(buffer: memoryview, reason: str) -> None:
    """Mark that the worker is closing in good order, and why."""
    _write_text(buffer, _REASON, reason)
    buffer[44:48] = _U32.pack(FLAG_CLOSING)


def write_resident(buffer: memoryview) -> None:
    """Say that native code counts what is resident, and not what was reserved."""
    buffer[40:44] = _U32.pack(COUNTERS_RESIDENT)


def write_reading(buffer: memoryview, values: dict[str, float | None]) -> None:
    """Store the worker's latest reading (`READING_FIELDS`; ``None``: not known)."""
    numbers = [values.get(name) for name in READING_FIELDS]
    packed = _READING_VALUES.pack(*(math.nan if n is None else n for n in numbers))
    _publish(buffer, _READING, packed)


def write_field(buffer: memoryview, name: str, value: float) -> None:
    """Set one field of the reading alone; eight aligned bytes, so never torn."""
    start = _READING + 8 + 8 * READING_FIELDS.index(name)
    buffer[start : start + 8] = _F64.pack(value)


def write_task(
    buffer: memoryview,
    index: int,
    *,
    state: int,
    flags: int,
    thread: int,
    begin: float,
    rss: int,
    key: str,
) -> None:
    """Put a task into a slot, with its counters at 0 and no block.

    Parameters
    ----------
    begin
        Unix time in seconds.
    rss
        RSS of the worker at begin, in bytes.
    key
        Text of the key; what does not fit is cut, and the digest identifies it.
    """
    if is_cut(key):
        raw, digest = _clip(key, KEY_CAPACITY), key_digest(key)
    else:
        raw, digest = key.encode(), b""
    payload = _PAYLOAD.pack(state, flags, thread, begin, rss, digest, len(raw)) + raw
    start = slot_offset(index)
    rest = start + _STATE
    (sequence,) = _U64.unpack_from(buffer, start + _SEQUENCE)
    odd, even = sequence | 1, ((sequence | 1) + 1) & 0xFFFFFFFFFFFFFFFF
    buffer[start:rest] = _NOTHING + _U64.pack(odd)
    clear_block(buffer, start)
    buffer[rest : rest + len(payload)] = payload
    buffer[rest - 8 : rest] = _U64.pack(even)


def write_state(buffer: memoryview, index: int, state: int) -> None:
    """Change a slot's state; four aligned bytes, so never torn."""
    start = slot_offset(index) + _STATE
    buffer[start : start + 4] = _STATES[state]


def write_counters(
    buffer: Writable, index: int, now: int, peak: int, error: int
) -> None:
    """Set what the task in a slot holds now and held at most, and the error."""
    start = slot_offset(index)
    buffer[start : start + _COUNTERS.size] = _COUNTERS.pack(now, peak, error)


def write_error(buffer: Writable, index: int, error: int) -> None:
    """Set a slot's error alone, where native code writes the other counters."""
    start = slot_offset(index) + 16
    buffer[start : start + 8] = _I64.pack(error)


def raw_counters(buffer: memoryview, index: int) -> tuple[int, int, int]:
    """Return a slot's bytes now (negative: freed more), at most, and their error."""
    return _COUNTERS.unpack_from(buffer, slot_offset(index))


def read_counters(buffer: memoryview, index: int) -> tuple[int, int, int]:
    """Return a slot's bytes now, at most, and their error; each at least 0."""
    now, peak, error = raw_counters(buffer, index)
    if 0 <= now <= peak and error >= 0:  # the usual case
        return now, peak, error
    return max(now, 0), max(peak, now, 0), max(error, 0)


def read_filling(buffer: memoryview, index: int) -> int:
    """Return the bytes that a slot's task may hold beside its counter by now."""
    (filling,) = _I64.unpack_from(buffer, slot_offset(index) + _FILLING)
    return max(int(filling), 0)


def _publish(buffer: memoryview, offset: int, payload: bytes) -> None:
    (sequence,) = _U64.unpack_from(buffer, offset)
    sequence &= ~1 & 0xFFFFFFFFFFFFFFFF
    odd, even = sequence | 1, (sequence + 2) & 0xFFFFFFFFFFFFFFFF
    buffer[offset : offset + 8] = _U64.pack(odd)
    buffer[offset + 8 : offset + 8 + len(payload)] = payload
    buffer[offset : offset + 8] = _U64.pack(even)


def _write_text(buffer: memoryview, place: tuple[int, int], text: str) -> None:
    offset, capacity = place
    raw = _clip(text, capacity)
    buffer[offset + 2 : offset + 2 + len(raw)] = raw
    buffer[offset : offset + 2] = _U16.pack(len(raw))


# -- reading -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Header:
    """What a recorder says of itself."""

    slots: int
    pid: int
    #: Unix time in seconds.
    created: float
    #: Whether native code writes the counters.
    tallied: bool
    #: Whether that is what is resident.
    resident: bool
    closing: bool
    address: str
    #: Why the worker closes; empty while it does not.
    reason: str


@dataclass(frozen=True, slots=True)
class Slot:
    """A task found in a recorder."""

    index: int
    #: Bytes the task holds now, held at most, and by how much that may be wrong.
    now: int
    peak: int
    error: int
    #: RUNNING or PENDING.
    state: int
    measured: bool
    thread: int
    #: Unix time in seconds.
    begin: float
    #: RSS of the worker at begin, in bytes.
    rss: int
    #: Text of the key, cut at `KEY_CAPACITY` bytes.
    key: str
    #: Digest of the whole text in hexadecimal, empty where `key` is whole.
    digest: str
    #: Whether it has not begun: its worker reads inputs of it back from disk.
    gathering: bool = False
    #: Bytes that it may hold beside `now`: of blocks that it has just made, or was seen
    #: filling.
    filling: int = 0
    #: Its largest block; None where none is large, or lines are not known.
    block: Block | None = None


def read_header(buffer: memoryview, size: int | None = None) -> Header:
    """Read a recorder's header.

    Parameters
    ----------
    size
        Size of the whole file in bytes, where the buffer is its beginning only.

    Raises
    ------
    RecorderError
        It is no recorder, one of another version, or cut short.
    """
    if len(buffer) < HEADER_SIZE:
        raise RecorderError(f"the recorder is cut short at {len(buffer)} bytes")
    magic, version, header_size, slots, slot_size, pid, created, source, flags = (
        _HEADER.unpack_from(buffer, 0)
    )
    if magic != MAGIC:
        raise RecorderError("this is not a flight recorder")
    if version != VERSION or header_size != HEADER_SIZE or slot_size != SLOT_SIZE:
        raise RecorderError(
            f"the recorder has format {version}; this MemDash reads {VERSION}"
        )
    if not 0 < slots <= MAX_SLOTS:
        raise RecorderError(f"the recorder claims {slots} slots")
    return Header(
        slots=min(slots, ((size or len(buffer)) - HEADER_SIZE) // SLOT_SIZE),
        pid=pid,
        created=created,
        tallied=source in (COUNTERS_FROM_TALLY, COUNTERS_RESIDENT),
        resident=source == COUNTERS_RESIDENT,
        closing=bool(flags & FLAG_CLOSING),
        address=_read_text(buffer, _ADDRESS),
        reason=_read_text(buffer, _REASON),
    )


def read_reading(buffer: memoryview) -> dict[str, float | None] | None:
    """Read the worker's latest reading; None before the first or if it is torn."""
    (before,) = _U64.unpack_from(buffer, _READING)
    values = _READING_VALUES.unpack_from(buffer, _READING + 8)
    (after,) = _U64.unpack_from(buffer, _READING)
    if before != after or before & 1 or before == 0:
        return None
    numbers = [v if 0 <= v < NONSENSE else None for v in values]
    return dict(zip(READING_FIELDS, numbers, strict=False))


def read_slots(buffer: memoryview, slots: int) -> Iterator[Slot]:
    """Yield the tasks of a recorder; what is torn or makes no sense is left out."""
    for index in range(min(slots, (len(buffer) - HEADER_SIZE) // SLOT_SIZE)):
        start = slot_offset(index)
        state = buffer[start + _STATE]
        if state not in (RUNNING, PENDING):
            continue
        (before,) = _U64.unpack_from(buffer, start + _SEQUENCE)
        raw = bytes(buffer[start : start + BLOCK_OFFSET])
        (after,) = _U64.unpack_from(buffer, start + _SEQUENCE)
        if before != after or before & 1 or before == 0:
            continue
        slot = _parse_slot(index, raw)
        if slot is not None:
            block = read_block(buffer, start)
            yield slot if block is None else replace(slot, block=block)


def same_reading(before: memoryview, now: memoryview) -> bool:
    """Tell whether two copies of a file, one after the other, agree on the reading.

    A copy is not taken at one instant; where two agree, no write was under way.
    """
    end = _READING + 8 + _READING_VALUES.size
    return len(now) >= HEADER_SIZE and before[_READING:end] == now[_READING:end]


def same_task(before: memoryview, now: memoryview, index: int) -> bool:
    """Tell whether two copies of a file agree on a slot's task.

    Its counters and its largest block may change while it runs.
    """
    start, end = slot_offset(index) + _SEQUENCE, slot_offset(index) + BLOCK_OFFSET
    return len(now) >= end and before[start:end] == now[start:end]


def _parse_slot(index: int, raw: bytes) -> Slot | None:
    now, peak, error = _COUNTERS.unpack_from(raw, 0)
    (filling,) = _I64.unpack_from(raw, _FILLING)
    state, flags, thread, begin, rss, digest, length = _PAYLOAD.unpack_from(raw, _STATE)
    if (
        state not in (RUNNING, PENDING)
        or flags not in (0, FLAG_UNMEASURED, FLAG_GATHERING)
        or not 0 < length <= KEY_CAPACITY
        or not math.isfinite(begin)
        or begin <= 0
        or rss < 0
    ):
        return None
    try:
        key = raw[_KEY : _KEY + length].decode("utf-8")
    except UnicodeDecodeError:
        return None
    return Slot(
        index=index,
        now=max(now, 0),
        peak=max(peak, now, 0),
        error=max(error, 0),
        state=state,
        measured=not flags & FLAG_UNMEASURED,
        gathering=bool(flags & FLAG_GATHERING),
        filling=max(filling, 0),
        thread=thread,
        begin=begin,
        rss=rss,
        key=key,
        digest="" if digest == bytes(16) else digest.hex(),
    )


def _read_text(buffer: memoryview, place: tuple[int, int]) -> str:
    offset, capacity = place
    (length,) = _U16.unpack_from(buffer, offset)
    raw = bytes(buffer[offset + 2 : offset + 2 + min(length, capacity)])
    return raw.decode("utf-8", "replace")
