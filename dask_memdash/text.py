"""Words that several parts of the analysis use: sizes, counts, lists, keys."""

from __future__ import annotations

from collections.abc import Sequence

#: Binary units, their sizes in bytes, and the places after the point.
UNITS = (("TiB", 2**40, 2), ("GiB", 2**30, 2), ("MiB", 2**20, 0), ("kiB", 2**10, 0))


def format_bytes(size: float) -> str:
    """Format a size for reading, in binary units."""
    for unit, factor, places in UNITS:
        if abs(size) >= factor * 0.9:
            return f"{size / factor:.{places}f} {unit}"
    return f"{size:.0f} B"


def count(number: int, thing: str) -> str:
    """Count things: '1 task', '1,234 tasks'."""
    return f"{number:,} {thing}" + ("" if number == 1 else "s")


def percent(share: float) -> str:
    """Return a share as a whole number of percent."""
    return f"{100 * share:.0f} %"


def join(parts: Sequence[str]) -> str:
    """Join parts of a sentence: 'a', 'a and b', 'a, b and c'."""
    if len(parts) < 2:
        return "".join(parts)
    return f"{', '.join(parts[:-1])} and {parts[-1]}"


def short(key: str, length: int = 70) -> str:
    """Cut a key that is too long to be read."""
    return key if len(key) <= length else f"{key[: length - 1]}…"


def code(prefix: str) -> str:
    """Set a prefix off from the words around it."""
    return f"`{short(prefix)}`"
