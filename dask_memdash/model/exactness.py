"""Whether a count may be called exact: only while the process agrees with it.

Imports the standard library only.
"""

from __future__ import annotations

EXACT = "exact"
#: Counted, while the process holds more or less than all counts explain.
COUNTED = "counted"

#: By how much an exact figure may be off: so many bytes (the kernel hands out huge
#: pages of 2 MiB), and one part in so many.
TOLERANCE = 2**21
PART = 20


def method_shown(method: str, size: int | None, error: int | None) -> str:
    """Return the method of a figure as it is shown: exact only while that holds.

    Parameters
    ----------
    size, error
        The figure, and by how much it may be wrong, in bytes; None where not known.
    """
    if method != EXACT or error is None:
        return method
    return EXACT if error <= TOLERANCE + (size or 0) // PART else COUNTED
