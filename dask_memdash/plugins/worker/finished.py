"""Tasks that have finished, noted down one by one and summed up for a heartbeat."""

from __future__ import annotations

from typing import NamedTuple

from dask_memdash.measure.attribution import ESTIMATED, EXACT, HWM, UNMEASURED
from dask_memdash.measure.isolated import COUNT_TOLERANCE, Found
from dask_memdash.measure.regression import Share
from dask_memdash.model.event_parts import Finished, Unseen, Weighed
from dask_memdash.model.quantiles import QuantileSketch

#: Methods, the most exact first.
METHODS = (EXACT, HWM, ESTIMATED, UNMEASURED)

#: What the regression finds uncounted is believed from so many bytes on, from so large
#: a part of what was counted, and if it is so many times its own error: libraries that
#: are loaded meanwhile, and pages on their way, are no task's.
BELIEVED = 2**24
BELIEVED_PART = 0.25
BELIEVED_ERROR = 2


class Done(NamedTuple):
    """A task that has finished, as it is noted down: its meaning comes later."""

    prefix: str
    method: str
    #: None where it was not measured.
    peak: int | None
    error: int
    #: Size of the output; None where none was stored.
    output: int | None
    #: Whether it had the process to itself.
    alone: bool
    #: Whether it took next to no time.
    brief: bool
    #: What it had allocated and not freed at its end; None where not counted.
    left: int | None
    found: Found | None

    def with_share(self, share: Share, reusable: int) -> Done:
        """Add what a task that had company is found to have had beside its count.

        Parameters
        ----------
        reusable
            What could be used without the process growing, in bytes: where that is more
            than half of what was counted, as much could hide there.
        """
        if self.peak is None:
            return self
        if reusable > max(COUNT_TOLERANCE, self.peak // 2) and not self.brief:
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


def summary(tasks: list[Done], because: str) -> Finished:
    """Sum up tasks of one prefix that have finished.

    Parameters
    ----------
    because
        What their outputs are if they weigh much less than Dask believes, or empty.
    """
    measured = [task for task in tasks if task.peak is not None]
    weighed = [t for t in tasks if t.left is not None and t.output is not None]
    found = [task.found for task in tasks if task.found is not None]
    return Finished(
        count=len(tasks),
        # The least exact of them: a figure must not look better than it is.
        method=max((t.method for t in measured), key=METHODS.index, default=UNMEASURED),
        peaks=QuantileSketch.of(t.peak or 0 for t in measured),
        errors=QuantileSketch.of(t.error for t in measured),
        outputs=QuantileSketch.of(t.output for t in tasks if t.output is not None),
        weighed=Weighed(
            count=len(weighed),
            believed=sum(t.output or 0 for t in weighed),
            left=sum(t.left or 0 for t in weighed),
            because=because,
        ),
        unseen=Unseen(
            native=max((f.native for f in found), default=0),
            arrow=max((f.arrow for f in found), default=0),
            untouched=max((f.untouched for f in found), default=0),
            small=max((f.small for f in found), default=0),
        ),
    )
