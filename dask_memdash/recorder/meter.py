"""How a running task is measured: one interface, and the ways there are.

A meter is told of begin and end in the task's own thread and leaves what it found in
the task's slot of the flight recorder.  :class:`TallyMeter` counts (``exact``),
:class:`RssMeter` shares the process's growth out (``estimated``).

Every figure has an error.  For a task that ran alone in its process it is the
*remainder*: by how much the process grew and the tally did not count it, or the
other way round (native libraries, memory that was reserved and never touched, small
objects in arenas already there, what the allocator kept).  For a task that had
company the remainder is the process's, and its error is its share of that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from dask_memdash.recorder.attribution import (
    ESTIMATED,
    EXACT,
    UNMEASURED,
    share_out,
)
from dask_memdash.recorder.flight import FlightRecorder
from dask_memdash.recorder.format import slot_offset
from dask_memdash.recorder.tally import Tally


@dataclass(slots=True)
class Mark:
    """A task between its begin and the moment its output is stored."""

    key: Any
    text: str
    prefix: str
    #: Slot in the flight recorder; None when all were taken.
    slot: int | None
    #: Unix time in seconds, and RSS of the process in bytes.
    begin: float
    rss: int
    #: Identifier of its thread, 0 where it has none of its own.
    thread: int
    #: How it is measured: one of the methods' names.
    method: str
    #: Whether no other task has run in this process since it began.
    alone: bool = True

    @property
    def measured(self) -> bool:
        """Whether its slot says what it holds."""
        return self.slot is not None and self.method != UNMEASURED


class Meter(Protocol):
    """Measures tasks, each from begin to end in its own thread.  Never raises."""

    #: What it is called where a figure is shown.
    method: str

    def begin(self, mark: Mark, slot: int) -> None:
        """Start measuring the task in `slot`."""

    def end(self, mark: Mark, slot: int, rss: int, running: Sequence[Mark]) -> None:
        """Stop measuring it, and leave what it holds and held in its slot.

        Parameters
        ----------
        rss
            RSS of the process now, in bytes.
        running
            All measured tasks that run in this process now, this one among them.
        """


class RssMeter:
    """Shares the growth of the process's RSS out (see ``attribution``)."""

    method = ESTIMATED

    def __init__(self, recorder: FlightRecorder) -> None:
        self._recorder = recorder

    def begin(self, mark: Mark, slot: int) -> None:
        """Start measuring: nothing to do, as the sampler looks at the slots."""

    def end(self, mark: Mark, slot: int, rss: int, running: Sequence[Mark]) -> None:
        """Stop measuring."""
        shares = share_out(rss, [other.rss for other in running])
        share = next(s for s, m in zip(shares, running, strict=True) if m is mark)
        _, peak, error = self._recorder.counters(slot)
        self._recorder.write_counters(
            slot, share.now, max(peak, share.now), max(error, share.error)
        )


class TallyMeter:
    """Counts what the task's thread allocates and frees (see ``tally``).

    Parameters
    ----------
    remainder
        Gives the process's remainder as last read, in bytes.
    """

    method = EXACT

    def __init__(
        self, tally: Tally, recorder: FlightRecorder, remainder: Callable[[], int]
    ) -> None:
        self._tally = tally
        self._recorder = recorder
        self._mapping = recorder.mapping
        self._remainder = remainder
        self._otherwise = RssMeter(recorder)

    def begin(self, mark: Mark, slot: int) -> None:
        """Start counting, or leave the task to the other meter where that fails."""
        if not self._tally.begin(self._mapping, slot_offset(slot)):
            mark.method = ESTIMATED

    def end(self, mark: Mark, slot: int, rss: int, running: Sequence[Mark]) -> None:
        """Stop counting; say by how much the count may be wrong."""
        if mark.method != EXACT:
            self._otherwise.end(mark, slot, rss, running)
            return
        missed = self._tally.end()
        held, peak, seen = self._recorder.counters(slot)
        grown = rss - mark.rss
        if mark.alone:
            error = max(seen, abs(grown - held))  # `seen` by the sampler meanwhile
        else:
            error = self._remainder() // max(1, len(running))
        if missed:
            mark.method = ESTIMATED
            held = max(held, grown, 0)
            error = max(error, held)
        self._recorder.write_counters(slot, held, max(peak, held), error)
