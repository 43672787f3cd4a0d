"""Arrow's default memory pool: what it holds and has held.

The pool keeps what is freed, so that the RSS does not show when it is used again.
pyarrow is never imported here: it is looked at if the process has it already.
"""

from __future__ import annotations

import sys
from typing import NamedTuple

from dask_memdash.measure.tally import current


class ArrowPool(NamedTuple):
    """Arrow's default memory pool at an instant; sizes in bytes."""

    held: int
    #: The most that it has ever held.
    most: int
    #: All that was ever allocated from it; None where this pyarrow does not say.
    ever: int | None


def arrow_pool() -> ArrowPool | None:
    """Read Arrow's default memory pool; None where pyarrow has not been imported."""
    default = getattr(sys.modules.get("pyarrow"), "default_memory_pool", None)
    if default is None:
        return None
    pool = default()
    ever = getattr(pool, "total_bytes_allocated", None)
    most = pool.max_memory()
    return ArrowPool(
        pool.bytes_allocated(), most or 0, None if ever is None else ever()
    )


def uncounted_pool() -> ArrowPool | None:
    """Read Arrow's pool if it is here and no tally counts what comes from it."""
    tally = current()
    return None if tally is not None and tally.counts_arrow else arrow_pool()


def taken_between(before: ArrowPool | None, after: ArrowPool | None) -> tuple[int, int]:
    """Return the least and the most that was taken from the pool between two looks.

    In bytes.  `before` is None where pyarrow was imported in between.
    """
    if after is None:
        return 0, 0
    if before is None:
        before = ArrowPool(0, 0, 0)
    more = max(0, after.held - before.held)
    peak = max(0, after.most - before.held)
    least = max(more, peak) if after.most > before.most else more
    if after.ever is None or before.ever is None:
        return least, least
    return least, max(least, min(peak, after.ever - before.ever))
