"""Tasks that have finished: noted down one by one, summed up for a heartbeat."""

from __future__ import annotations

from typing import NamedTuple

from dask_memdash.measure.attribution import error_of_finished
from dask_memdash.measure.isolated import (
    COUNT_TOLERANCE,
    HEAP_PART,
    IsolatedPeak,
    with_small_objects,
)
from dask_memdash.measure.methods import ESTIMATED, least_exact
from dask_memdash.measure.regression import Share
from dask_memdash.measure.running_task import RunningTask
from dask_memdash.model.event_parts import Finished, Unseen, Weighed
from dask_memdash.model.quantiles import QuantileSketch

#: What the regression finds uncounted is believed from so many bytes on, from so large
#: a part of what was counted, and if it is so many times its own error: libraries that
#: are loaded meanwhile, and pages on their way, are no task's.
BELIEVED = 2**24
BELIEVED_PART = 0.25
BELIEVED_ERROR = 2


class FinishedTask(NamedTuple):
    """A task that has finished, as it is noted down: its meaning comes later."""

    prefix: str
    method: str
    #: In bytes; None where it was not measured.
    peak: int | None
    error: int
    #: Size of the output in bytes; None where none was stored.
    output: int | None
    #: Whether it had the process to itself.
    alone: bool
    #: Whether it took next to no time.
    brief: bool
    #: What it had allocated and not freed at its end, in bytes; None where not counted.
    net: int | None
    isolated: IsolatedPeak | None
    #: Whether its small objects were counted one by one.
    by_objects: bool = False

    def with_share(
        self, share: Share, reusable: int, part: int = HEAP_PART
    ) -> FinishedTask:
        """Add what a task that had company is found to have had beside its count.

        Parameters
        ----------
        reusable
            What could be used without the process growing, in bytes: where that is more
            than one part in `part` of what was counted, as much could hide there.
        """
        if self.peak is None:
            return self
        if reusable > max(COUNT_TOLERANCE, self.peak // part) and not self.brief:
            share = Share(share.bytes, max(share.error, reusable))
        doubt = max(BELIEVED, BELIEVED_PART * self.peak, BELIEVED_ERROR * share.error)
        if share.bytes > doubt:
            return self._replace(
                peak=self.peak + share.bytes,
                method=ESTIMATED,
                # The sampler has put its own view of the share into the error.
                error=max(abs(self.error - share.bytes), share.error),
            )
        return self._replace(error=max(self.error, abs(share.bytes) + share.error))


def finished(
    task: RunningTask,
    counters: tuple[int, int, int] | None,
    output: int | None,
    *,
    brief: bool,
    first: bool,
) -> FinishedTask:
    """Note a task down whose output has been stored, or that has none.

    Parameters
    ----------
    counters
        What it holds, its peak and the peak's error, in bytes, as its slot in the
        flight recorder says; None where it was not measured.
    output
        Size of its output in bytes; None where none was stored.
    brief
        Whether it took next to no time.
    first
        Whether it is the first of its prefix here, which may have imported half a
        library: what it left behind says nothing of its output.
    """
    peak, error, isolated = None, 0, task.isolated
    if counters is not None:
        held, peak, error = counters
        if isolated is not None:
            isolated = with_small_objects(isolated, task.blocks, output)
            peak, error = isolated.peak, isolated.error
        elif task.method == ESTIMATED:
            # A task held at least its own output, even where that went into memory
            # that the allocator had kept.
            peak = max(peak, output or 0)
            error = error_of_finished(held, output or 0, error)
        elif output is not None:
            # Small objects may have gone where no count sees them.
            error = max(error, output - peak)
    net = None if first else task.net
    return FinishedTask(
        task.prefix,
        task.method,
        peak,
        error,
        output,
        task.alone,
        brief,
        net,
        isolated,
        task.by_objects,
    )


def summary(tasks: list[FinishedTask], because: str) -> Finished:
    """Sum up tasks of one prefix that have finished.

    Parameters
    ----------
    because
        What their outputs are if they weigh much less or more than Dask believes, as a
        look into one showed, or empty.
    """
    measured = [task for task in tasks if task.peak is not None]
    weighed = [t for t in tasks if t.net is not None and t.output is not None]
    looked_at = [task.isolated for task in tasks if task.isolated is not None]
    return Finished(
        count=len(tasks),
        method=least_exact(task.method for task in measured),
        peaks=QuantileSketch.of(t.peak or 0 for t in measured),
        errors=QuantileSketch.of(t.error for t in measured),
        outputs=QuantileSketch.of(t.output for t in tasks if t.output is not None),
        weighed=Weighed(
            count=len(weighed),
            believed=sum(t.output or 0 for t in weighed),
            left=sum(t.net or 0 for t in weighed),
            because=because,
        ),
        unseen=Unseen(
            native=max((peak.native for peak in looked_at), default=0),
            arrow=max((peak.arrow for peak in looked_at), default=0),
            untouched=max((peak.untouched for peak in looked_at), default=0),
            small=max((peak.small for peak in looked_at), default=0),
        ),
    )
