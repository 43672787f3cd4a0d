"""Tells outputs that borrow their memory: views and memory maps.

Dask weighs such an output as if it held all of its bytes by itself.  Nothing is
imported here: a value can only be a NumPy array if NumPy is there already.
"""

from __future__ import annotations

import mmap
import sys

#: What an output is that keeps more alive than Dask's sizeof sees.
HOLDS_MORE = "holds more than its own size"


def memory_owner(value: object) -> str:
    """Say whose memory a value borrows: 'memory maps', 'views of other arrays' or ''.

    Looks at NumPy arrays, and at the first column of what has columns of them.
    """
    numpy = sys.modules.get("numpy")
    array = getattr(numpy, "ndarray", None)
    if numpy is None or not isinstance(array, type):
        return ""
    blocks = getattr(getattr(value, "_mgr", None), "arrays", None)
    if blocks:  # a pandas frame or series
        value = blocks[0]
    if not isinstance(value, array):
        return ""
    if isinstance(value, numpy.memmap):
        return "memory maps"
    base = getattr(value, "base", None)
    if base is None:
        return ""
    while isinstance(base, array):
        if isinstance(base, numpy.memmap):
            return "memory maps"
        base = getattr(base, "base", None)
    return "memory maps" if isinstance(base, mmap.mmap) else "views of other arrays"
