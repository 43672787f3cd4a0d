"""The names of the ways in which a task's memory is measured.

What they mean to a reader is said in :mod:`dask_memdash.terms`.
"""

from __future__ import annotations

from collections.abc import Iterable

#: Counted by the tally, byte for byte.
EXACT = "exact"
#: The kernel's high-water mark, for a task that runs alone.
HWM = "hwm"
#: Shared out from the RSS of the process.
ESTIMATED = "estimated"
#: Not measured at all: only when it ran is known.
UNMEASURED = "unmeasured"

BEST_FIRST = (EXACT, HWM, ESTIMATED, UNMEASURED)


def least_exact(methods: Iterable[str]) -> str:
    """Return the least exact of some methods; `UNMEASURED` where there are none.

    What stands for several tasks must not look better than the worst of them.
    """
    return max(methods, key=BEST_FIRST.index, default=UNMEASURED)
