"""What the query of a request to the JSON API says, or what is wrong with it."""

from __future__ import annotations

import math
from collections.abc import Mapping

from dask_memdash.text import plain

#: Most rows of a list that one request gets, and how many it gets without a `limit`.
MAX_ROWS = 10_000

#: Digits of the largest integer that a query may hold; all larger ones mean it.
_MAX_DIGITS = 15


class BadRequestError(Exception):
    """A query that cannot be read; its text is for the person who sent it."""


class Query:
    """The arguments of one request, read with complaints that say what is wrong."""

    def __init__(self, arguments: Mapping[str, str]) -> None:
        self._arguments = arguments

    def accept(self, *names: str) -> None:
        """Refuse arguments of other names: a slip must not look like an answer."""
        for name in self._arguments:
            if name not in names:
                known = f"it takes {', '.join(names)}" if names else "it takes none"
                raise BadRequestError(
                    f"{plain(name, 40)!r} is no parameter of this path: {known}"
                )

    def text(self, name: str) -> str | None:
        """Return the argument as it is, ``None`` where it is missing."""
        return self._arguments.get(name)

    def natural(self, name: str, default: int | None = None) -> int | None:
        """Return the argument as an integer of at least 0."""
        text = self._arguments.get(name)
        if text is None:
            return default
        if not (text.isascii() and text.isdigit()):
            raise BadRequestError(
                f"{name} must be an integer of 0 or more, not {text[:40]!r}"
            )
        return int(text) if len(text) < _MAX_DIGITS else 10**_MAX_DIGITS

    def slice(self) -> tuple[int, int]:
        """Return the limit and the offset of a list, and nothing else may be given."""
        self.accept("limit", "offset")
        limit = self.natural("limit", MAX_ROWS)
        return min(limit or 0, MAX_ROWS), self.natural("offset", 0) or 0

    def instant(self, name: str) -> float | None:
        """Return the argument as seconds since the epoch."""
        return self.number(name, "seconds since the epoch")

    def number(self, name: str, what: str = "a number") -> float | None:
        """Return the argument as a finite number."""
        text = self._arguments.get(name)
        if text is None:
            return None
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise BadRequestError(f"{name} must be {what}, not {text[:40]!r}")
        return value

    def integer(self, name: str, default: int) -> int:
        """Return the argument as an integer of either sign."""
        text = self._arguments.get(name)
        if text is None:
            return default
        text = text.strip()  # a plus in an address is a blank
        digits = text.removeprefix("+").removeprefix("-")
        if not (digits.isascii() and digits.isdigit() and len(digits) < _MAX_DIGITS):
            raise BadRequestError(f"{name} must be an integer, not {text[:40]!r}")
        return int(text)

    def yes_or_no(self, name: str) -> bool | None:
        """Return the argument as a truth value: 'true' or 'false'."""
        text = self._arguments.get(name)
        if text not in (None, "true", "false"):
            raise BadRequestError(f"{name} must be true or false, not {text[:40]!r}")
        return None if text is None else text == "true"
