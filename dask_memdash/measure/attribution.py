"""Who holds a process's memory, from its RSS alone: the ``estimated`` method.

Pure functions.  A task's growth is the RSS now less the RSS when it began.  With one
task it is the task's.  With several, what the process has beyond storage and baseline
is shared out: in proportion to what tasks of each prefix are known to use
(:mod:`dask_memdash.measure.regression`), or while that is not known to each one's own
growth (evenly where all are of one prefix), when any of them may in truth hold all of
it or nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from dask_memdash.measure.regression import Share


class TaskBegin(NamedTuple):
    """A running task, as far as sharing out goes."""

    #: RSS of the process when it began, in bytes.
    rss: int
    prefix: str
    #: What tasks of its prefix use; None while that is not known.
    expected: Share | None = None


def share_out(
    rss: int, tasks: Sequence[TaskBegin], total: int | None = None
) -> list[Share]:
    """Share a process's memory out among the tasks that are running.

    Parameters
    ----------
    rss
        RSS of the process now, in bytes.
    total
        What all of them hold together, in bytes: the RSS less storage and baseline.
        None where that is not known: then the growth since the first of them began.

    Returns
    -------
    list of Share
        As long as `tasks`, with the most by which each may be wrong.  With several
        tasks the shares sum to `total`, up to rounding down, or to 0.
    """
    growth = [max(0, rss - task.rss) for task in tasks]
    if len(tasks) == 1:
        return [Share(growth[0], 0)]
    whole = max(growth, default=0) if total is None else max(0, total)
    expected = [task.expected for task in tasks if task.expected is not None]
    used = sum(share.bytes for share in expected)
    if len(expected) == len(tasks) and used > 0:
        unexplained = abs(whole - used) // len(tasks)
        return [
            Share(whole * share.bytes // used, share.error + unexplained)
            for share in expected
        ]
    if len({task.prefix for task in tasks}) == 1:
        even = whole // len(tasks)
        return [Share(even, even) for _ in tasks]
    weight = sum(growth)
    if weight == 0:
        return [Share(0, whole) for _ in growth]
    shares = [whole * own // weight for own in growth]
    return [Share(now, max(now, whole - now)) for now in shares]


def error_of_finished(held_at_end: int, output: int, shared: int) -> int:
    """Return the error of a finished task's peak, in bytes.

    What a task holds at its end should be its output.  By how much it is not
    (garbage, memory that the allocator kept, what other threads and transfers did
    meanwhile) is how far the peak may be off; never less than `shared`, the error
    of sharing out with the tasks that ran beside it.
    """
    return max(shared, abs(held_at_end - output))
