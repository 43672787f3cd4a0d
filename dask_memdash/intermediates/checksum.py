"""The CRC-32 of stored objects: isal's where it is installed, else zlib's.

Both give the same numbers.  Each object is summed once when it is written and each time
when it is read, so that this is a tenth of the time of reading from a disk's cache:
*measured*, 4 MB take 0.13 ms by isal and 0.88 ms by zlib.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

__all__ = ["crc32"]


def _fastest() -> Callable[..., int]:
    try:
        from isal import isal_zlib
    except Exception:  # noqa: BLE001 - a broken package must not take the store with it
        return zlib.crc32
    crc: Any = isal_zlib.crc32
    try:
        # one that answers otherwise would make every object look damaged
        right = crc(b"DMS1" * 100) == zlib.crc32(b"DMS1" * 100)
    except Exception:  # noqa: BLE001
        return zlib.crc32
    return crc if right else zlib.crc32


#: CRC-32 of bytes-like data.
crc32: Callable[..., int] = _fastest()
