"""A C heap without large holes, so that large blocks come from the kernel."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator

#: What tests take in one piece and expect to be new, in bytes: the C library maps
#: blocks of more than 32 MiB one by one where it has no hole for them.
SIZES = (80_000_000, 40_000_000, 34_000_000)

#: Most pieces that are held: a sanitizer's own allocator has no such word, and no end.
MOST = 50

#: In the word before a block: the C library has mapped it by itself.
MAPPED = 2


@contextlib.contextmanager
def full_heap() -> Iterator[None]:
    """Hold what other tests have freed in large pieces.

    Otherwise such a piece is given again, and its pages are there before anybody has
    touched it.
    """
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    libc.malloc.argtypes = [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    libc.malloc_trim(0)
    held = []
    for size in SIZES:
        for _ in range(MOST):
            block = libc.malloc(size)
            if not block:
                break
            if _is_mapped(block):
                libc.free(block)
                break
            held.append(block)
    try:
        yield
    finally:
        for block in held:
            libc.free(block)


def _is_mapped(block: int) -> bool:
    return bool(ctypes.c_size_t.from_address(block - 8).value & MAPPED)
