"""The order of names as people count: worker-2 before worker-10."""

from __future__ import annotations

import re
from functools import lru_cache

#: Digits of a number at most; longer ones are compared as text.
LONGEST = 18


@lru_cache(4096)
def natural(name: str) -> tuple[tuple[int, int, str], ...]:
    """Return what names are sorted by: their numbers count, numbers before text."""
    return tuple(
        (0, int(part), part)
        if part[0] in "0123456789" and len(part) <= LONGEST
        else (1, 0, part)
        for part in re.split(r"([0-9]+)", name)
        if part
    )
