"""Readers of a memory's arguments: sizes, shares, lifetimes and versions."""

from __future__ import annotations

import re

from dask.utils import parse_bytes, parse_timedelta

from dask_memdash.errors import StorageError

#: Characters of a version.
MAX_VERSION = 100


def ram_share(value: str | float | None) -> float | int | None:
    """Read "25%" or 0.25 as a share (a float), "2 GiB" as a size in bytes (an int)."""
    if value is None:
        return None
    wrong = StorageError(
        f"ram={value!r}: write a share like '25%' or a size like '2GiB'"
    )
    if isinstance(value, int | float):
        if not 0 <= value <= 1:
            raise wrong
        return float(value)
    try:
        if value.strip().endswith("%"):
            share = float(value.strip().removesuffix("%")) / 100
            if 0 <= share <= 1:
                return share
            raise wrong
        return int(parse_bytes(value))
    except ValueError:
        raise wrong from None


def lifetime(value: str | float | None) -> float | None:
    """Read a lifetime such as "7d", "36h" or "90s" in seconds; None stays None."""
    if value is None:
        return None
    wrong = StorageError(f"{value!r} is no age; write it like 7d, 36h or 90s")
    try:
        # Dask knows "days" and "d", minutes as "m", and no weeks
        seconds = float(parse_timedelta(re.sub(r"min$", "m", str(value).strip()), "s"))
    except (KeyError, TypeError, ValueError):
        raise wrong from None
    if seconds < 0:
        raise wrong
    return seconds


def version_text(value: str | None) -> str | None:
    """Read a version of the user's own: a short text."""
    if value is None:
        return None
    text = str(value)
    if not text or len(text) > MAX_VERSION or not text.isprintable():
        raise StorageError(
            f"version={text[:120]!r}: write a short text, at most {MAX_VERSION} "
            "characters"
        )
    return text
