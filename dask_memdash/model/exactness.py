"""Whether a count may be called exact: only while the process agrees with it.

Imports the standard library only.
"""

from __future__ import annotations

from collections.abc import Iterable

EXACT = "exact"
#: Counted, while the process holds more or less than all counts explain.
COUNTED = "counted"

#: By how much an exact figure may be off: so many bytes (the kernel hands out huge
#: pages of 2 MiB), and one part in so many.
TOLERANCE = 2**21
PART = 20

#: Methods of figures, the most exact first; the last two measure nothing.
BEST_FIRST = (EXACT, "hwm", COUNTED, "estimated", "unmeasured", "none")
MEASURE_NOTHING = ("unmeasured", "none")


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


def weakest(methods: Iterable[str]) -> str:
    """Return the method of a figure that is made of several: the least exact of theirs.

    What was not measured is in no figure, and says nothing of those that were.  A
    method that is not known here is taken for the least exact.
    """
    found = set(methods)
    measured = found.difference(MEASURE_NOTHING)
    if not measured:
        return "unmeasured" if "unmeasured" in found else "none"
    return max(measured, key=lambda m: (_rank(m), m))


def _rank(method: str) -> int:
    return BEST_FIRST.index(method) if method in BEST_FIRST else len(BEST_FIRST)
