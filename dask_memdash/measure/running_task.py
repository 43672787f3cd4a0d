"""A task of which MemDash keeps the books: from its begin to its stored output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dask_memdash.measure.isolated import AtBegin, IsolatedPeak
from dask_memdash.measure.methods import UNMEASURED


@dataclass(slots=True)
class RunningTask:
    """A task that is running, or whose output is not stored yet."""

    key: Any
    text: str
    prefix: str
    #: Slot in the flight recorder; None when all were taken.
    slot: int | None
    #: Unix time in seconds, and RSS of the process in bytes, when it began.
    begin: float
    rss: int
    #: Identifier of its thread, 0 where it has none of its own.
    thread: int
    #: How it is measured: one of the methods' names.
    method: str
    #: Whether no other task has run in this process since it began.
    alone: bool = True
    #: What was read at its begin for a close look at its end, and what that showed.
    at_begin: AtBegin | None = None
    isolated: IsolatedPeak | None = None
    #: How many small objects the process had more at its end, if it was alone.
    blocks: int = 0
    #: What its thread had allocated and not freed at its end, in bytes; None where
    #: that was not counted.
    net: int | None = None
    #: By how much its peak may be too high, as nobody saw that all of what it allocated
    #: was touched, in bytes.
    doubt: int = 0
    #: By how much it may be too low, as looks at large blocks were left out or
    #: what it freed of others' is an estimate, in bytes.
    short_by: int = 0
    #: What it freed of others', in bytes: the process grew by less.
    others: int = 0
    #: What the process had at most while it ran with others that no count explains, in
    #: bytes: any of them may have had it.
    beyond: int = 0
    #: Whether its small objects were counted one by one, so that room in arenas hides
    #: nothing.  Known at its end.
    by_objects: bool = False

    @property
    def measured(self) -> bool:
        """Whether its slot says what it holds."""
        return self.slot is not None and self.method != UNMEASURED
