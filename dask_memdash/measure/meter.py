"""How a running task is measured: one interface, and the ways there are.

A meter is told of begin and end in the task's own thread and leaves what it found in
the task's slot of the flight recorder.  :class:`TallyMeter` counts (``exact``),
:class:`RssMeter` shares the process's growth out (``estimated``).  A task that ran
alone is looked at more closely by :mod:`dask_memdash.measure.isolated` (``hwm``).

Every figure has an error, which rests on the *remainder*: by how much the process
grew and the tally did not count it, or the other way round (native libraries, memory
that was reserved and never touched, small objects in arenas already there, what the
allocator kept).  For a task alone that is its own; what tasks that run together have
of it is worked out over prefixes (:mod:`dask_memdash.measure.regression`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from dask_memdash.flight.format import slot_offset
from dask_memdash.flight.writer import FlightRecorder
from dask_memdash.measure.attribution import TaskBegin, share_out
from dask_memdash.measure.methods import ESTIMATED, EXACT
from dask_memdash.measure.regression import Share
from dask_memdash.measure.running_task import RunningTask
from dask_memdash.measure.tally import BY_OBJECTS, Tally


class Meter(Protocol):
    """Measures tasks, each from begin to end in its own thread.  Never raises."""

    #: What it is called where a figure is shown.
    method: str

    def begin(self, task: RunningTask, slot: int) -> None:
        """Start measuring the task in `slot`."""

    def end(
        self, task: RunningTask, slot: int, rss: int, running: Sequence[RunningTask]
    ) -> None:
        """Stop measuring it, and leave what it holds and held in its slot.

        Parameters
        ----------
        rss
            RSS of the process now, in bytes.
        running
            All measured tasks that run in this process now, this one among them.
        """


class RssMeter:
    """Shares what the process has out (see ``attribution``).

    Parameters
    ----------
    in_execution
        Gives from the RSS what the process has beyond storage and baseline, in bytes;
        None while the baseline is not known.
    expected
        Gives what tasks of a prefix are known to use, None while that is not known.
    """

    method = ESTIMATED

    def __init__(
        self,
        recorder: FlightRecorder,
        in_execution: Callable[[int], int | None],
        expected: Callable[[str], Share | None],
    ) -> None:
        self._recorder = recorder
        self._in_execution = in_execution
        self._expected = expected

    def begin(self, task: RunningTask, slot: int) -> None:
        """Start measuring: nothing to do, as the sampler looks at the slots."""

    def end(
        self, task: RunningTask, slot: int, rss: int, running: Sequence[RunningTask]
    ) -> None:
        """Stop measuring."""
        begins = [
            TaskBegin(other.rss, other.prefix, self._expected(other.prefix))
            for other in running
        ]
        shares = share_out(rss, begins, self._in_execution(rss))
        share = next(s for s, m in zip(shares, running, strict=True) if m is task)
        _, peak, error = self._recorder.counters(slot)
        if share.bytes >= peak:
            peak, error = share
        self._recorder.write_counters(slot, share.bytes, peak, error)


class TallyMeter:
    """Counts what the task's thread allocates and frees (see ``tally``).

    Parameters
    ----------
    otherwise
        What measures tasks that cannot be counted.
    """

    method = EXACT

    def __init__(
        self, tally: Tally, recorder: FlightRecorder, otherwise: RssMeter
    ) -> None:
        self._tally = tally
        self._recorder = recorder
        self._mapping = recorder.mapping
        self._otherwise = otherwise

    def begin(self, task: RunningTask, slot: int) -> None:
        """Start counting, or leave the task to the other meter where that fails."""
        small = self._tally.small_objects
        if small is not None and small.wanted(task.prefix):
            begun = self._tally.begin(self._mapping, slot_offset(slot), True)
        else:
            begun = self._tally.begin(self._mapping, slot_offset(slot))
        if not begun:
            task.method = ESTIMATED

    def end(
        self, task: RunningTask, slot: int, rss: int, running: Sequence[RunningTask]
    ) -> None:
        """Stop counting; say by how much the count may be wrong."""
        if task.method != EXACT:
            self._otherwise.end(task, slot, rss, running)
            return
        missed = self._tally.end()
        net, peak, error = self._recorder.raw_counters(slot)
        if missed & BY_OBJECTS:
            missed &= ~BY_OBJECTS
            task.by_objects = True
            if self._tally.small_objects is not None:
                self._tally.small_objects.learn(task.prefix, peak)
        held = max(net, 0)
        grown = rss - task.rss
        if missed:
            task.method = ESTIMATED
            held = max(held, grown, 0)
            error = max(error, held)
        else:
            task.net = net
            if task.at_begin is not None:
                task.doubt = self._tally.doubt()
                task.short_by = self._tally.short_by()
                task.others = self._tally.others()
            if task.alone and (grown > held or not self._tally.counts_resident):
                error = max(error, abs(grown - held))
        self._recorder.write_counters(slot, held, max(peak, held), error)
