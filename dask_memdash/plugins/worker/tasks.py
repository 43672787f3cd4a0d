"""The tasks of one worker, from begin to the moment their output is stored.

Covers taking and giving back the flight recorder's slots, and what has finished
since the last heartbeat.  Begin and end are called in the task's thread; the rest
belongs to the worker's event loop.  How tasks are measured is
:mod:`dask_memdash.measure`'s.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from dask.utils import key_split

from dask_memdash.flight.format import is_cut, key_digest
from dask_memdash.flight.writer import FlightRecorder
from dask_memdash.measure.brief_tasks import (
    BRIEF,
    BRIEF_UNCOUNTED,
    MAX_PREFIXES,
    PrefixDurations,
)
from dask_memdash.measure.finished import FinishedTask, finished, summary
from dask_memdash.measure.high_marks import HighMarks
from dask_memdash.measure.largest_block import as_block
from dask_memdash.measure.meter import Meter
from dask_memdash.measure.methods import EXACT, UNMEASURED
from dask_memdash.measure.regression import PrefixRegression
from dask_memdash.measure.running_task import RunningTask
from dask_memdash.measure.shared_process import SharedProcess
from dask_memdash.measure.uncounted import Uncounted
from dask_memdash.model.event_parts import Executing, Finished, LargestBlock
from dask_memdash.plugins.keys import key_text, prefix_of
from dask_memdash.text import KEY_KEPT

#: How long a reading of the RSS serves, in seconds: for tasks that are counted (one
#: costs more than a tiny task does, whose growth is nothing to speak of), and where
#: MemDash holds back.
RECENT = 0.001
SELDOM = 1.0


class Brake(Protocol):
    """What may stop a task on its way."""

    def begins(self, task: RunningTask) -> None:
        """Take note that a task begins."""

    def ends(self, task: RunningTask) -> None:
        """Take note that it ends."""


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
        process: SharedProcess,
        shares: PrefixRegression,
    ) -> None:
        self._recorder = recorder
        self._meter = meter
        self._process = process
        counted = meter.method == EXACT
        self._uncounted = Uncounted(process, shares, counted=counted)
        # What nobody counts, of tasks that are counted.
        marks = HighMarks(process, recorder.counters) if counted else None
        self._high_marks = marks
        self._durations = PrefixDurations(BRIEF if counted else BRIEF_UNCOUNTED)
        self._rss_serves = RECENT if counted else 0.0
        #: Running in a thread of their own, by thread.
        self.by_thread: dict[int, RunningTask] = {}
        #: Ended, output not stored yet, by key.
        self.pending: dict[Any, RunningTask] = {}
        #: Running where nothing marks their end: without a thread of their own (async,
        #: other executors), or since before the probe came.  By key.
        self.elsewhere: dict[Any, RunningTask] = {}
        #: About to begin while their inputs are read from disk: slots, by key.
        self._gathering: dict[Any, int] = {}
        #: Tasks that found no free slot, so far.
        self.without_slot = 0
        #: When the last of them did, on the monotonic clock.
        self.slots_lacked_at = float("-inf")
        #: What the outputs of a prefix are that weigh much less than Dask believes.
        self.because: dict[str, str] = {}
        #: What counted tasks have left behind beside their outputs, in bytes, so far.
        self.left_behind = 0
        #: What hears of each task that has finished: its prefix, and peak if known.
        self.heard: Callable[[str, int | None], None] | None = None
        #: What hears of begin and end of each counted task in its own thread, once it
        #: is counted and while it still is; never raises.
        self.brake: Brake | None = None
        #: How far measuring holds back: 1 no close looks, 2 hardly any readings either.
        self.held_back = 0
        self._finished: list[FinishedTask] = []
        self._met: set[str] = set()
        # Threads that have run tasks.
        self._threads: set[int] = set()

    @property
    def busy(self) -> bool:
        """Whether any task is running or pending."""
        return bool(self.by_thread or self.pending or self.elsewhere)

    @property
    def count(self) -> int:
        """How many tasks are running or pending."""
        return len(self.by_thread) + len(self.pending) + len(self.elsewhere)

    # -- in the task's thread --------------------------------------------------

    def begin(self, ident: int, key: Any) -> None:
        """Mark that a task begins in thread `ident`, which is the current one."""
        if ident not in self._threads:
            self._threads.add(ident)
            native = threading.get_native_id()
            self._recorder.note_thread(len(self._threads) - 1, ident, native)
        if self._gathering:
            self._gathered(key)
        process, meter = self._process, self._meter
        task = self._new(key, ident, time.time(), meter.method)
        # Seen by others before it looks itself: of two that begin at the same time
        # one sees the other.
        self.by_thread[ident] = task
        if self.elsewhere or len(self.by_thread) > 1:
            task.alone = False
        for other in process.running():
            if other is not task:
                other.alone = task.alone = False
        slot = task.slot
        if slot is not None and task.method != UNMEASURED:
            if (
                task.alone
                and not self.held_back
                and not self._durations.is_brief(task.prefix)
            ):
                task.at_begin = process.close_look.begin(process.read_rss())
            if self._high_marks is not None and not self.held_back:
                self._high_marks.begin(task)
            meter.begin(task, slot)
            if self.brake is not None:
                self.brake.begins(task)

    def end(self, ident: int, *, stored: Callable[[Any], bool]) -> None:
        """Mark that the task in thread `ident` has ended.

        `stored` says whether the worker will store an output for a key; a task
        without (a call of an actor's method) is finished at once.
        """
        task = self.by_thread.get(ident)
        if task is None:
            return
        slot = task.slot
        if self.brake is not None:
            self.brake.ends(task)
        try:
            if slot is not None and task.method != UNMEASURED:
                running = self._process.running()
                rss = self._read_rss() or task.rss
                if not task.alone and not self.held_back:
                    self._uncounted.observe(rss, running)
                self._meter.end(task, slot, rss, running)
                self._durations.note(task.prefix, time.time() - task.begin)
                if task.alone:
                    self._look_closely(task, slot)
                else:
                    self._look_beyond(task, slot, running)
            pending = stored(task.key)
            if pending:
                if slot is not None:
                    self._recorder.pend(slot)
                self.pending[task.key] = task
        finally:
            del self.by_thread[ident]
        if not pending:
            self._finish(task, None)

    # -- on the event loop -----------------------------------------------------

    def adopt(self, ident: int, key: Any, begin: float) -> None:
        """Take in a task that was running already: it cannot be measured any more."""
        self._begin_elsewhere(self._new(key, ident, begin, UNMEASURED))

    def begin_elsewhere(self, key: Any) -> None:
        """Mark a task that runs without a thread of its own: it is not measured."""
        self._begin_elsewhere(self._new(key, 0, time.time(), UNMEASURED))

    def gather(self, key: Any) -> None:
        """Mark a task that begins once its inputs have been read back from disk.

        The worker reads all of them in one go, and says nothing meanwhile.
        """
        rss = self._process.read_rss()
        slot = self._recorder.begin(
            key_text(key), 0, time.time(), rss or 0, gathering=True
        )
        if slot is not None:
            self._gathering[key] = slot

    def leave(self, key: Any, output: int | None) -> RunningTask | None:
        """Take note that a task is no longer executing; return it if it was known.

        Parameters
        ----------
        output
            Size of its output in bytes if it has been stored, else None.
        """
        if self._gathering:
            self._gathered(key)
        task = self.pending.pop(key, None) or self.elsewhere.pop(key, None)
        if task is not None:
            self._finish(task, output)
        return task

    def drop_forgotten(self, known: Callable[[Any], bool]) -> None:
        """Let go of what the worker has forgotten without a word."""
        for key in [key for key in list(self._gathering) if not known(key)]:
            self._gathered(key)
        for tasks in (self.pending, self.elsewhere):
            for key in [key for key in list(tasks) if not known(key)]:
                task = tasks.pop(key, None)
                if task is not None:
                    self._finish(task, None)

    def executing(self, now: float) -> list[Executing]:
        """Return all tasks that are running or pending, as they are now.

        This is also when the shares of what is not counted are worked out again.
        """
        running = self._process.running()
        rss = self._process.read_rss()
        if rss is not None and len(running) > 1 and not self.held_back:
            self._uncounted.observe(rss, running)
        self._uncounted.solve()
        doubt = 0 if rss is None else self._uncounted.unexplained(rss, running)
        return [self._executing(task, now, doubt) for task in self._all()]

    def live(self) -> int:
        """Sum what running and pending tasks hold as far as measured, in bytes."""
        return sum(
            self._recorder.counters(task.slot)[0]
            for task in self._all()
            if task.slot is not None and task.measured
        )

    def take_finished(self) -> dict[str, Finished]:
        """Return what has finished since the last call, by prefix."""
        for remembered in (self._met, self.because):
            if len(remembered) > MAX_PREFIXES:
                remembered.clear()
        done, self._finished = self._finished, []
        by_prefix: dict[str, list[FinishedTask]] = {}
        for task in self._uncounted.added_to(done):
            by_prefix.setdefault(task.prefix, []).append(task)
        return {
            prefix: summary(tasks, self.because.get(prefix, ""))
            for prefix, tasks in by_prefix.items()
        }

    # -- helpers ---------------------------------------------------------------

    def _gathered(self, key: Any) -> None:
        """Give the slot back of a task that was about to begin, if it has one."""
        slot = self._gathering.pop(key, None)
        if slot is not None:
            self._recorder.release(slot)

    def _begin_elsewhere(self, task: RunningTask) -> None:
        self.elsewhere[task.key] = task
        for other in self._process.running():
            other.alone = False

    def _read_rss(self) -> int | None:
        serves = SELDOM if self.held_back > 1 else self._rss_serves
        return self._process.recent_rss(serves)

    def _all(self) -> Iterator[RunningTask]:
        # A task that ends just now may be found in two places.
        tasks = {
            id(task): task
            for place in (self.by_thread, self.pending, self.elsewhere)
            for task in list(place.values())
        }
        return iter(tasks.values())

    def _new(self, key: Any, ident: int, begin: float, method: str) -> RunningTask:
        """Take a slot for a task that begins."""
        if type(key) is str:  # the usual case, in which nothing can go wrong
            text, prefix = key, key_split(key)[:KEY_KEPT]
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
            self.slots_lacked_at = time.monotonic()
        return RunningTask(
            key=key,
            text=text,
            prefix=prefix,
            slot=slot,
            begin=begin,
            rss=rss or 0,
            thread=ident,
            method=method if slot is not None else UNMEASURED,
        )

    def _look_closely(self, task: RunningTask, slot: int) -> None:
        """Make the most of a task's having been alone from begin to end."""
        before = task.at_begin
        if before is None or not task.alone:
            return
        held, peak, _ = self._recorder.counters(slot)
        counted = peak if task.method == EXACT else None
        found_at_end = self._process.close_look.end(
            before,
            counted,
            self._recorder.seen(task.begin),
            by_objects=task.by_objects,
            doubt=task.doubt,
            short_by=task.short_by,
            others=task.others,
        )
        if found_at_end is None:
            return
        found, task.blocks = found_at_end
        task.isolated, task.method = found, found.method
        if found.untouched or found.mapped:
            held = min(held, found.peak)
        elif found.native or counted is None:
            rss = self._process.read_rss() or before.rss
            held = min(max(held, rss - before.rss), found.peak)
        self._recorder.write_counters(slot, held, found.peak, found.error)

    def _look_beyond(
        self, task: RunningTask, slot: int, running: list[RunningTask]
    ) -> None:
        """Hear what the process had at most while a task had company."""
        marks = self._high_marks
        if marks is None or self.held_back:
            return
        marks.end(task, running, brief=self._durations.is_brief(task.prefix))
        held, peak, error = self._recorder.counters(slot)
        if task.beyond > error:
            self._recorder.write_counters(slot, held, peak, task.beyond)

    def _finish(self, task: RunningTask, output: int | None) -> None:
        counters, slot, prefix = None, task.slot, task.prefix
        if slot is not None:
            if task.method != UNMEASURED:
                counters = self._recorder.counters(slot)
            self._recorder.release(slot)
        brief = self._durations.was_brief(prefix)
        first = prefix not in self._met
        done = finished(task, counters, output, brief=brief, first=first)
        self._finished.append(done)
        if self.heard is not None:
            self.heard(prefix, done.peak)
        if first:
            self._met.add(prefix)
        if task.net is not None:
            self.left_behind += task.net - (output or 0)

    def _executing(self, task: RunningTask, now: float, doubt: int) -> Executing:
        """Describe a task; `doubt`: what nothing explains of the process, in bytes."""
        held: int | None = None
        block: LargestBlock | None = None
        peak: int | None = None
        error: int | None = None
        if task.measured and task.slot is not None:
            held, peak, error = self._recorder.counters(task.slot)
            block = as_block(self._recorder.block(task.slot))
            error = max(error, self._uncounted.error_of(task))
            if self.by_thread.get(task.thread) is task:
                error = max(error, doubt)
        return Executing(
            key=task.text[:KEY_KEPT],
            digest=key_digest(task.text).hex() if is_cut(task.text) else "",
            prefix=task.prefix,
            thread=task.thread or None,
            seconds=max(0.0, now - task.begin),
            bytes=held,
            peak=peak,
            error=error,
            method=task.method,
            rss_at_begin=task.rss or None,
            block=block,
        )
