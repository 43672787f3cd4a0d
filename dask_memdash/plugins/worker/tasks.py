"""The tasks of one worker, from begin to the moment their output is stored.

Covers taking and giving back the flight recorder's slots, and what has finished
since the last heartbeat.  Begin and end are called in the task's thread; the rest
belongs to the worker's event loop.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from dask.utils import key_split

from dask_memdash.flight.format import is_cut, key_digest
from dask_memdash.flight.recorder import FlightRecorder
from dask_memdash.measure.attribution import (
    ESTIMATED,
    EXACT,
    UNMEASURED,
    error_of_finished,
)
from dask_memdash.measure.isolated import CloseLook, with_small_objects
from dask_memdash.measure.meter import Mark, Meter
from dask_memdash.measure.regression import PrefixRegression, Share
from dask_memdash.model.event_parts import Executing, Finished
from dask_memdash.plugins.keys import KEY_SHOWN, key_text, prefix_of
from dask_memdash.plugins.worker.finished import Done, summary

#: A task whose prefix has shown to take less is not looked at closely, in seconds:
#: where it is counted anyway, and where nothing else sees what it does.
BRIEF = 0.005
BRIEF_UNCOUNTED = 0.0002

#: How long a reading of the RSS serves, in seconds: for tasks that are counted (one
#: costs more than a tiny task does, whose growth is nothing to speak of), and where
#: MemDash holds back.
RECENT = 0.001
SELDOM = 1.0

#: Least time between two observations of what several tasks have together, in seconds.
OBSERVED_EVERY = 0.005

#: Prefixes of which something is remembered.
MAX_PREFIXES = 1000


class ProcessFigures(Protocol):
    """The process that tasks run in, as they need to see it."""

    def running(self) -> list[Mark]:
        """Return the tasks that run and are measured in it, of whatever worker."""

    def read_rss(self) -> int | None:
        """Read its RSS in bytes."""

    def recent_rss(self, age: float) -> int | None:
        """Return its RSS in bytes as it was at most `age` seconds ago."""

    def beyond(self, rss: int) -> int | None:
        """Return what it has beyond storage and baseline; None while not known."""

    def live(self) -> int:
        """Sum what running and pending tasks are thought to hold, in bytes."""

    def reusable(self) -> int:
        """Return what may be used again without growing, in bytes."""

    def behind(self) -> int:
        """Return what tasks have left beside their outputs since it was idle last."""

    def arrow(self) -> int:
        """Return what Arrow's pool holds beyond storage, in bytes; 0 without it."""

    @property
    def look(self) -> CloseLook:
        """How tasks that run alone in it are looked at."""


class RunningTasks:
    """The tasks of one worker that are running or pending.

    Parameters
    ----------
    recorder
        Where each of them gets a slot.
    meter
        What measures them.
    process
        The process they run in.
    shares
        What tasks of each prefix have that no count says: of what is not counted where
        tasks are, else of all.
    """

    def __init__(
        self,
        recorder: FlightRecorder,
        meter: Meter,
        process: ProcessFigures,
        shares: PrefixRegression,
    ) -> None:
        self._recorder = recorder
        self._meter = meter
        self._process = process
        self._shares = shares
        self._counted = meter.method == EXACT
        self._brief = BRIEF if self._counted else BRIEF_UNCOUNTED
        #: Running in a thread of their own, by thread.
        self.by_thread: dict[int, Mark] = {}
        #: Ended, output not stored yet, by key.
        self.pending: dict[Any, Mark] = {}
        #: Running where nothing marks their end: without a thread of their own (async,
        #: other executors), or since before the probe came.  By key.
        self.elsewhere: dict[Any, Mark] = {}
        #: Tasks that found no free slot, so far.
        self.without_slot = 0
        #: What the outputs of a prefix are that weigh much less than Dask believes.
        self.because: dict[str, str] = {}
        #: What counted tasks have left behind beside their outputs, in bytes, so far.
        self.left_behind = 0
        #: How far measuring holds back: 1 no close looks, 2 hardly any readings either.
        self.held_back = 0
        self._done: list[Done] = []
        self._durations: dict[str, float] = {}
        self._met: set[str] = set()
        self._observe_from = 0.0
        self._last_reusable = 0
        # What each of the tasks seen together last had beside its count, if all had
        # the same, in bytes.
        self._each = 0

    @property
    def busy(self) -> bool:
        """Whether any task is running or pending."""
        return bool(self.by_thread or self.pending or self.elsewhere)

    # -- in the task's thread --------------------------------------------------

    def begin(self, ident: int, key: Any) -> None:
        """Mark that a task begins in thread `ident`, which is the current one."""
        process, meter = self._process, self._meter
        mark = self._mark(key, ident, time.time(), meter.method)
        # Seen by others before it looks itself: of two that begin at the same time
        # one sees the other.
        self.by_thread[ident] = mark
        if self.elsewhere or len(self.by_thread) > 1:
            mark.alone = False
        for other in process.running():
            if other is not mark:
                other.alone = mark.alone = False
        slot = mark.slot
        if slot is not None and mark.method != UNMEASURED:
            if mark.alone and not self._is_brief(mark.prefix):
                mark.before = process.look.begin(process.read_rss())
            meter.begin(mark, slot)

    def end(self, ident: int, *, stored: Callable[[Any], bool]) -> None:
        """Mark that the task in thread `ident` has ended.

        `stored` says whether the worker will store an output for a key; a task
        without (a call of an actor's method) is finished at once.
        """
        mark = self.by_thread.get(ident)
        if mark is None:
            return
        slot = mark.slot
        try:
            if slot is not None and mark.method != UNMEASURED:
                running = self._process.running()
                rss = self._read_rss() or mark.rss
                if not mark.alone:
                    self._observe(rss, running)
                self._meter.end(mark, slot, rss, running)
                self._look_closely(mark, slot)
            pending = stored(mark.key)
            if pending:
                if slot is not None:
                    self._recorder.pend(slot)
                self.pending[mark.key] = mark
        finally:
            del self.by_thread[ident]
        if not pending:
            self._finish(mark, None)

    # -- on the event loop -----------------------------------------------------

    def adopt(self, ident: int, key: Any, begin: float) -> None:
        """Take in a task that was running already: it cannot be measured any more."""
        self._begin_elsewhere(self._mark(key, ident, begin, UNMEASURED))

    def begin_elsewhere(self, key: Any) -> None:
        """Mark a task that runs without a thread of its own: it is not measured."""
        self._begin_elsewhere(self._mark(key, 0, time.time(), UNMEASURED))

    def leave(self, key: Any, output: int | None) -> Mark | None:
        """Take note that a task is no longer executing; give it if it was known.

        Parameters
        ----------
        output
            Size of its output in bytes if it has been stored, else None.
        """
        mark = self.pending.pop(key, None) or self.elsewhere.pop(key, None)
        if mark is not None:
            self._finish(mark, output)
        return mark

    def drop_forgotten(self, known: Callable[[Any], bool]) -> None:
        """Let go of what the worker has forgotten without a word."""
        for marks in (self.pending, self.elsewhere):
            for key in [key for key in list(marks) if not known(key)]:
                mark = marks.pop(key, None)
                if mark is not None:
                    self._finish(mark, None)

    def executing(self, now: float) -> list[Executing]:
        """Return all tasks that are running or pending, as they are now.

        This is also when the shares of what is not counted are worked out again.
        """
        running = self._process.running()
        rss = self._process.read_rss()
        if rss is not None and len(running) > 1:
            self._observe(rss, running)
        self._shares.solve()
        return [self._executing(mark, now) for mark in self._marks()]

    def live(self) -> int:
        """Sum what running and pending tasks are thought to hold, in bytes."""
        return sum(
            self._recorder.counters(mark.slot)[0]
            for mark in self._marks()
            if mark.slot is not None and mark.measured
        )

    def take_finished(self) -> dict[str, Finished]:
        """Return what has finished since the last call, by prefix."""
        for remembered in (self._met, self.because):
            if len(remembered) > MAX_PREFIXES:
                remembered.clear()
        done, self._done = self._done, []
        # What is free only now was not there for these tasks.
        now = self._process.reusable()
        reusable, self._last_reusable = min(self._last_reusable, now), now
        by_prefix: dict[str, list[Done]] = {}
        for task in done:
            if self._counted and not task.alone:
                share = self._shares.of(task.prefix) or Share(0, self._each)
                task = task.with_share(share, reusable)
            by_prefix.setdefault(task.prefix, []).append(task)
        return {
            prefix: summary(tasks, self.because.get(prefix, ""))
            for prefix, tasks in by_prefix.items()
        }

    # -- helpers ---------------------------------------------------------------

    def _begin_elsewhere(self, mark: Mark) -> None:
        self.elsewhere[mark.key] = mark
        for other in self._process.running():
            other.alone = False

    def _read_rss(self) -> int | None:
        if self.held_back > 1:
            return self._process.recent_rss(SELDOM)
        return self._process.recent_rss(RECENT if self._counted else 0.0)

    def _marks(self) -> Iterator[Mark]:
        # A task that ends just now may be found in two places.
        marks = {
            id(mark): mark
            for place in (self.by_thread, self.pending, self.elsewhere)
            for mark in list(place.values())
        }
        return iter(marks.values())

    def _mark(self, key: Any, ident: int, begin: float, method: str) -> Mark:
        if type(key) is str:  # the usual case, in which nothing can go wrong
            text, prefix = key, key_split(key)[:KEY_SHOWN]
        else:
            text, prefix = key_text(key), prefix_of(key)
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
            prefix=prefix,
            slot=slot,
            begin=begin,
            rss=rss or 0,
            thread=ident,
            method=method if slot is not None else UNMEASURED,
        )

    def _is_brief(self, prefix: str) -> bool:
        """Whether tasks of a prefix are not to be looked at closely."""
        if self.held_back:
            return True
        return self._durations.get(prefix, self._brief) < self._brief

    def _look_closely(self, mark: Mark, slot: int) -> None:
        """Note how long a task took, and make the most of its having been alone."""
        if len(self._durations) >= MAX_PREFIXES:
            self._durations.clear()
        self._durations[mark.prefix] = time.time() - mark.begin
        if mark.before is None or not mark.alone:
            return
        held, peak, _ = self._recorder.counters(slot)
        counted = peak if mark.method == EXACT else None
        seen = self._process.look.end(mark.before, counted)
        if seen is None:
            return
        mark.found, mark.blocks = seen
        mark.method = mark.found.method
        if mark.found.untouched:
            held = min(held, mark.found.peak)
        elif mark.found.native or counted is None:
            rss = self._process.read_rss() or mark.before.rss
            held = min(max(held, rss - mark.before.rss), mark.found.peak)
        self._recorder.write_counters(slot, held, mark.found.peak, mark.found.error)

    def _observe(self, rss: int, running: list[Mark]) -> None:
        """Note what several tasks have together beside what is counted."""
        now = time.monotonic()
        if self.held_back or now < self._observe_from:
            return
        beyond = self._process.beyond(rss)
        if beyond is not None:
            if self._counted:
                # Less than was counted: pages that are about to be touched.
                beyond = max(0, beyond - self._process.live() - self._process.behind())
                beyond = max(beyond, self._process.arrow())
            self._shares.observe(beyond, [mark.prefix for mark in running])
            self._each = abs(beyond) // max(1, len(running))
        took = time.monotonic() - now  # a heap in pieces is slow to ask
        self._observe_from = now + max(OBSERVED_EVERY, 50 * took)

    def _finish(self, mark: Mark, output: int | None) -> None:
        peak, error, found = None, 0, mark.found
        if mark.slot is not None:
            if mark.measured:
                held, peak, error = self._recorder.counters(mark.slot)
                if found is not None:
                    found = with_small_objects(found, mark.blocks, output)
                    peak, error = found.peak, found.error
                elif mark.method == ESTIMATED:
                    # A task held at least its own output, even where that went into
                    # memory that the allocator had kept.
                    peak = max(peak, output or 0)
                    error = error_of_finished(held, output or 0, error)
                elif output is not None:
                    # Small objects may have gone where no count sees them.
                    error = max(error, output - peak)
            self._recorder.release(mark.slot)
        self._done.append(
            Done(
                mark.prefix,
                mark.method,
                peak,
                error,
                output,
                mark.alone,
                self._durations.get(mark.prefix, 0.0) < BRIEF,
                # The first one of its prefix may have imported half a library.
                mark.left if mark.prefix in self._met else None,
                found,
            )
        )
        self._met.add(mark.prefix)
        if mark.left is not None:
            self.left_behind += mark.left - (output or 0)

    def _executing(self, mark: Mark, now: float) -> Executing:
        held: int | None = None
        peak: int | None = None
        error: int | None = None
        if mark.measured and mark.slot is not None:
            held, peak, error = self._recorder.counters(mark.slot)
            share = None if mark.alone else self._shares.of(mark.prefix)
            if share is not None and self._counted:
                error = max(error, abs(share.bytes) + share.error)
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
