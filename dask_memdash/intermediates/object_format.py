r"""Stored objects: their byte layout, a writer and a reader.

An object holds one value of one key, as :func:`distributed.protocol.serialize` takes it
apart.  All numbers are little endian.

====================  ==========================================================
offset                content
====================  ==========================================================
0                     magic, ``DMS1``
4                     length of the header in bytes, 4 bytes
8                     CRC-32 of the header, 4 bytes
12                    header, a msgpack map
12 + length           frames, one after the other; nothing follows the last one
====================  ==========================================================

The header's entries:

``key``      text of the key (``repr``), by which a swapped object is noticed
``type``     class of the value, for people
``how``      what ``serialize`` says of the frames; ``deserialize`` needs it
``frames``   how many there are
``sizes``    of each, in bytes
``crc32``    of each
``pad``      zeros, so that the first frame begins at a multiple of 64 bytes

Reading needs nothing but msgpack and distributed, and may run code: a value that Dask
does not know is a pickle.  See SECURITY.md.

Checks find what was flipped, cut or swapped by accident, not what somebody forged.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import msgpack
from distributed.protocol.serialize import deserialize, serialize

from dask_memdash.errors import CorruptError
from dask_memdash.intermediates.checksum import crc32
from dask_memdash.intermediates.memory import Buffer, key_text
from dask_memdash.text import short

MAGIC = b"DMS1"
PREAMBLE = struct.Struct("<4sII")

#: The first frame begins at a multiple of so many bytes: an array that is read in place
#: is aligned then, as NumPy and others want it.
ALIGNED = 64

#: Longest header that is read, in bytes.
MAX_HEADER = 256 * 2**20

_UNPACK = {
    "use_list": False,
    "strict_map_key": False,
    "raw": False,
    "max_bin_len": MAX_HEADER,
    "max_str_len": MAX_HEADER,
    "max_array_len": MAX_HEADER,
    "max_map_len": MAX_HEADER,
}


def encode(key: object, value: Any) -> list[Buffer]:
    """Return the frames of an object, of which the first is preamble and header."""
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    how, frames = serialize(value, on_error="raise")
    try:
        return pack(key_text(key), kind, how, frames)
    except (TypeError, ValueError, OverflowError):
        # msgpack cannot hold what this serializer says of its frames: pickle can
        how, frames = serialize(value, serializers=("pickle",), on_error="raise")
        return pack(key_text(key), kind, how, frames)


def pack(key: str, kind: str, how: Any, frames: Sequence[Any]) -> list[Buffer]:
    """Return frames with preamble and header before them; see the module's layout."""
    buffers = [_bytes_of(frame) for frame in frames]
    header = {
        "key": key,
        "type": kind,
        "how": how,
        "frames": len(buffers),
        "sizes": [len(frame) for frame in buffers],
        "crc32": [crc32(frame) for frame in buffers],
        "pad": b"",
    }
    length = PREAMBLE.size + len(_packed(header))
    header["pad"] = bytes(-length % ALIGNED)
    packed = _packed(header)
    preamble = PREAMBLE.pack(MAGIC, len(packed), crc32(packed))
    return [preamble + packed, *buffers]


def _packed(header: dict[str, Any]) -> bytes:
    packed: bytes = msgpack.packb(
        header, use_bin_type=True, unicode_errors="surrogatepass"
    )
    return packed


def _bytes_of(frame: Any) -> Buffer:
    """Return a frame as single bytes; an empty one cannot be cast."""
    view = memoryview(frame)
    if view.nbytes == 0:
        return b""
    if not view.contiguous:
        return view.tobytes()
    return view if view.format == "B" and view.ndim == 1 else view.cast("B")


def decode(buffer: Buffer, key: object, name: str, place: str) -> Any:
    """Return the value of an object, after all checks.

    Parameters
    ----------
    key
        Whose value it must be.
    name, place
        Of the object and of its store, for messages.

    Raises
    ------
    CorruptError
        The object is not what was written, or is another key's.
    """
    header, frames = check(buffer, name, place)
    if header["key"] != key_text(key):
        raise CorruptError(
            f"{name} in {place} is the object of {short(header['key'])}, not of "
            f"{short(key_text(key))}: somebody moved or replaced it. {_what_to_do()}"
        )
    return deserialize(header["how"], frames)


def check(
    buffer: Buffer, name: str, place: str
) -> tuple[dict[str, Any], list[memoryview]]:
    """Return the header and the frames of an object whose checksums hold.

    No code of the object's is run.

    Raises
    ------
    CorruptError
        A checksum, a length or the magic is wrong.
    """
    view = memoryview(buffer)
    if view.nbytes < PREAMBLE.size:
        raise _corrupt(name, place, f"it ends after {view.nbytes} bytes")
    magic, length, crc = PREAMBLE.unpack_from(view)
    if magic != MAGIC:
        raise _corrupt(name, place, "it does not begin with DMS1")
    packed = view[PREAMBLE.size : PREAMBLE.size + length]
    if packed.nbytes < length:
        raise _corrupt(name, place, "it ends within its header")
    if crc32(packed) != crc:
        raise _corrupt(name, place, "the checksum of its header is wrong")
    header = _read_header(packed)
    if header is None:
        raise _corrupt(name, place, "its header cannot be read")
    sizes, sums = header["sizes"], header["crc32"]
    start = PREAMBLE.size + length
    if start + sum(sizes) != view.nbytes:
        what = f"it has {view.nbytes:,} bytes and should have {start + sum(sizes):,}"
        raise _corrupt(name, place, what, header["key"])
    frames = []
    for number, (size, expected) in enumerate(zip(sizes, sums, strict=True)):
        frame = view[start : start + size]
        if crc32(frame) != expected:
            what = f"the checksum of frame {number + 1} of {len(sizes)} is wrong"
            raise _corrupt(name, place, what, header["key"])
        frames.append(frame)
        start += size
    return header, frames


def _read_header(packed: memoryview) -> dict[str, Any] | None:
    """Return a header whose entries are of the right types, else None."""
    try:
        header = msgpack.unpackb(packed, unicode_errors="surrogatepass", **_UNPACK)
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException):
        return None
    if not isinstance(header, dict) or not isinstance(header.get("key"), str):
        return None
    sizes, sums = header.get("sizes"), header.get("crc32")
    if not isinstance(sizes, tuple) or not isinstance(sums, tuple):
        return None
    if not all(isinstance(n, int) and n >= 0 for n in (*sizes, *sums)):
        return None
    return header if len(sizes) == len(sums) and "how" in header else None


def _corrupt(name: str, place: str, what: str, key: str | None = None) -> CorruptError:
    whose = f", the value of {short(key)}," if key else ""
    return CorruptError(f"{name} in {place}{whose} is damaged: {what}. {_what_to_do()}")


def _what_to_do() -> str:
    return (
        "Delete the object and persist the collection again: only what is not stored "
        "is computed."
    )
