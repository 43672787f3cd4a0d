"""The tasks of one worker, from begin to the moment their output is stored.

Covers taking and giving back the flight recorder's slots, and what has finished
since the last heartbeat.  Begin and end are called in the task's thread; the rest
belongs to the worker's event loop.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from dask.utils import key_split

from dask_memdash.border import border
from dask_memdash.model.events import Executing, Finished
from dask_memdash.model.quantiles import QuantileSketch
from dask_memdash.recorder.attribution import (
    ESTIMATED,
    EXACT,
    UNMEASURED,
    error_of_finished,
)
from dask_memdash.recorder.flight import FlightRecorder
from dask_memdash.recorder.format import is_cut, key_digest
from dask_memdash.recorder.meter import Mark, Meter

#: Methods, the most exact first.
METHODS = (EXACT, ESTIMATED, UNMEASURED)

#: Characters of a key that travel with heartbeats.
KEY_SHOWN = 1000


def key_text(key: object) -> str:
    """Give a key as Dask prints it; never raises, whatever the key is made of."""
    return key if isinstance(key, str) else str(_printed(key))


def prefix_of(key: object) -> str:
    """Give the name of a key's task prefix; never raises."""
    return str(_split(key))[:KEY_SHOWN]


# A key is made by the user, and so is what happens when it is printed.
_printed = border.guarded(str, "printing a key", "<a key that cannot be printed>")
_split = border.guarded(key_split, "splitting a key", "Other")


class _Done(NamedTuple):
    """A task that has finished, as it is noted down: its meaning comes later."""

    prefix: str
    method: str
    #: None where it was not measured.
    peak: int | None
    error: int
    #: Size of the output; None where none was stored.
    output: int | None


class RunningTasks:
    """The tasks of one worker that are running or pending.

    Parameters
    ----------
    recorder
        Where each of them gets a slot.
    meter
        What measures them.
    read_rss
        Gives the RSS of this process in bytes, or None.
    neighbours
        Gives the marks of all tasks that are running in this process, measured,
        this worker's and others', among which its growth is shared out.
    """

    def __init__(
        self,
        recorder: FlightRecorder,
        meter: Meter,
        read_rss: Callable[[], int | None],
        neighbours: Callable[[], list[Mark]],
    ) -> None:
        self._recorder = recorder
        self._meter = meter
        self._read_rss = read_rss
        self._neighbours = neighbours
        #: Running in a thread of their own, by thread.
        self.by_thread: dict[int, Mark] = {}
        #: Ended, output not stored yet, by key.
        self.pending: dict[Any, Mark] = {}
        #: Running where nothing marks their end: without a thread of their own (async,
        #: other executors), or since before the probe came.  By key.
        self.elsewhere: dict[Any, Mark] = {}
        #: Tasks that found no free slot, so far.
        self.without_slot = 0
        self._done: list[_Done] = []

    @property
    def busy(self) -> bool:
        """Whether any task is running or pending."""
        return bool(self.by_thread or self.pending or self.elsewhere)

    # -- in the task's thread --------------------------------------------------

    def begin(self, ident: int, key: Any) -> None:
        """Mark that a task begins in thread `ident`, which is the current one."""
        mark = self._mark(key, ident, time.time(), self._meter.method)
        for other in self._neighbours():
            other.alone = mark.alone = False
        self.by_thread[ident] = mark
        if mark.slot is not None and mark.measured:
            self._meter.begin(mark, mark.slot)

    def end(self, ident: int, *, stored: Callable[[Any], bool]) -> None:
        """Mark that the task in thread `ident` has ended.

        `stored` says whether the worker will store an output for a key; a task
        without (a call of an actor's method) is finished at once.
        """
        mark = self.by_thread.get(ident)
        if mark is None:
            return
        try:
            if mark.slot is not None and mark.measured:
                running = self._neighbours()
                rss = self._read_rss() or mark.rss
                self._meter.end(mark, mark.slot, rss, running)
            pending = stored(mark.key)
            if pending:
                if mark.slot is not None:
                    self._recorder.pend(mark.slot)
                self.pending[mark.key] = mark
        finally:
            del self.by_thread[ident]
        if not pending:
            self._finish(mark, None)

    # -- on the event loop -----------------------------------------------------

    def adopt(self, ident: int, key: Any, begin: float) -> None:
        """Take in a task that was running already: it cannot be measured any more."""
        self.elsewhere[key] = self._mark(key, ident, begin, UNMEASURED)

    def begin_elsewhere(self, key: Any) -> None:
        """Mark a task that runs without a thread of its own: it is not measured."""
        self.elsewhere[key] = self._mark(key, 0, time.time(), UNMEASURED)

    def leave(self, key: Any, output: int | None) -> None:
        """Take note that a task is no longer executing.

        Parameters
        ----------
        output
            Size of its output in bytes if it has been stored, else None.
        """
        mark = self.pending.pop(key, None) or self.elsewhere.pop(key, None)
        if mark is not None:
            self._finish(mark, output)

    def drop_forgotten(self, known: Callable[[Any], bool]) -> None:
        """Let go of what the worker has forgotten without a word."""
        for marks in (self.pending, self.elsewhere):
            for key in [key for key in list(marks) if not known(key)]:
                mark = marks.pop(key, None)
                if mark is not None:
                    self._finish(mark, None)

    def executing(self, now: float) -> list[Executing]:
        """Give all tasks that are running or pending, as they are now."""
        return [self._executing(mark, now) for mark in self._marks()]

    def live(self) -> int:
        """Sum what running and pending tasks are thought to hold, in bytes."""
        return sum(
            self._recorder.counters(mark.slot)[0]
            for mark in self._marks()
            if mark.slot is not None and mark.measured
        )

    def take_finished(self) -> dict[str, Finished]:
        """Give what has finished since the last call, by prefix."""
        done, self._done = self._done, []
        by_prefix: dict[str, list[_Done]] = {}
        for task in done:
            by_prefix.setdefault(task.prefix, []).append(task)
        return {prefix: _summary(tasks) for prefix, tasks in by_prefix.items()}

    # -- helpers ---------------------------------------------------------------

    def _marks(self) -> Iterator[Mark]:
        # A task that ends just now may be found in two places.
        marks = {
            id(mark): mark
            for place in (self.by_thread, self.pending, self.elsewhere)
            for mark in list(place.values())
        }
        return iter(marks.values())

    def _mark(self, key: Any, ident: int, begin: float, method: str) -> Mark:
        text = key_text(key)
        rss = self._read_rss()
        if rss is None:
            method = UNMEASURED
        slot = self._recorder.begin(
            text, ident, begin, rss or 0, measured=method != UNMEASURED
        )
        if slot is None:
            self.without_slot += 1
        return Mark(
            key=key,
            text=text,
            prefix=prefix_of(key),
            slot=slot,
            begin=begin,
            rss=rss or 0,
            thread=ident,
            method=method if slot is not None else UNMEASURED,
        )

    def _finish(self, mark: Mark, output: int | None) -> None:
        peak, error = None, 0
        if mark.slot is not None:
            if mark.measured:
                held, peak, error = self._recorder.counters(mark.slot)
                if mark.method == ESTIMATED:
                    # A task held at least its own output, even where that went into
                    # memory that the allocator had kept.
                    peak = max(peak, output or 0)
                    error = error_of_finished(held, output or 0, error)
            self._recorder.release(mark.slot)
        self._done.append(_Done(mark.prefix, mark.method, peak, error, output))

    def _executing(self, mark: Mark, now: float) -> Executing:
        held: int | None = None
        peak: int | None = None
        error: int | None = None
        if mark.measured and mark.slot is not None:
            held, peak, error = self._recorder.counters(mark.slot)
        return Executing(
            key=mark.text[:KEY_SHOWN],
            digest=key_digest(mark.text).hex() if is_cut(mark.text) else "",
            prefix=mark.prefix,
            thread=mark.thread or None,
            seconds=max(0.0, now - mark.begin),
            bytes=held,
            peak=peak,
            error=error,
            method=mark.method,
        )


def _summary(tasks: list[_Done]) -> Finished:
    """Sum up tasks of one prefix that have finished."""
    measured = [task for task in tasks if task.peak is not None]
    return Finished(
        count=len(tasks),
        # The least exact of them: a figure must not look better than it is.
        method=max((t.method for t in measured), key=METHODS.index, default=UNMEASURED),
        peaks=QuantileSketch.of(t.peak or 0 for t in measured),
        errors=QuantileSketch.of(t.error for t in measured),
        outputs=QuantileSketch.of(t.output for t in tasks if t.output is not None),
    )
