"""What could have been different about a run, and how that is said.

Pure.  A :class:`Change` is what was asked; how it is worked out stands in
:mod:`dask_memdash.counterfactual.estimate`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from dask_memdash.errors import MemDashError
from dask_memdash.text import count, join


class ChangeError(MemDashError, ValueError):
    """A change that makes no sense."""


@dataclass(frozen=True, slots=True)
class Change:
    """What is different; what is not named stays as it was.

    Raises
    ------
    ChangeError
        It makes no sense.
    """

    #: Each worker's limit, as a multiple of what it was.
    limit: float = 1.0
    #: Threads of each worker; None as it was.
    threads: int | None = None
    #: Size of chunks, as a multiple of what it was: 0.5 is half as large, twice as many
    #: of them.
    chunks: float = 1.0
    #: Whether outputs are spilled; None as it was.
    spilling: bool | None = None
    #: Workers more (or, below 0, fewer) than there were.
    workers: int = 0

    def __post_init__(self) -> None:
        for name, factor in (("limit", self.limit), ("chunks", self.chunks)):
            if not (math.isfinite(factor) and 0 < factor <= 1e6):
                raise ChangeError(f"{name} must be a multiple above 0, not {factor!r}")
        if self.threads is not None and self.threads < 1:
            raise ChangeError(f"threads must be at least 1, not {self.threads!r}")

    def in_words(self) -> str:
        """Say it: 'with 2 times the limit and 1 thread per worker'."""
        parts = []
        if self.limit != 1.0:
            parts.append(f"{self.limit:g} times the limit")
        if self.threads is not None:
            parts.append(f"{count(self.threads, 'thread')} per worker")
        if self.chunks != 1.0:
            parts.append(f"chunks {self.chunks:g} times as large")
        if self.workers:
            more = "more" if self.workers > 0 else "fewer"
            parts.append(f"{count(abs(self.workers), 'worker')} {more}")
        if self.spilling is not None:
            parts.append("spilling " + ("on" if self.spilling else "off"))
        return f"with {join(parts)}" if parts else "with nothing changed"
