"""Who holds a process's memory, from its RSS alone: the ``estimated`` method.

Pure functions.  A task's growth is the RSS now less the RSS when it began.  With
one task it is the task's; with several, the growth since the oldest of them began
is shared out in proportion to each one's own growth, and any of them may in truth
hold all of it or nothing: that is the error.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

EXACT = "exact"
ESTIMATED = "estimated"
UNMEASURED = "unmeasured"


class Share(NamedTuple):
    """What one task is thought to hold, in bytes."""

    now: int
    #: Most by which `now` may be wrong because others run beside it.
    error: int


def share_out(rss: int, begun_at: Sequence[int]) -> list[Share]:
    """Share a process's growth out among the tasks that are running.

    Parameters
    ----------
    rss
        RSS of the process now, in bytes.
    begun_at
        RSS of the process when each task began, in bytes.

    Returns
    -------
    list of Share
        As long as `begun_at`.  The shares sum to the growth since the least
        ``begun_at``, up to rounding down, or to 0.
    """
    if len(begun_at) == 1:
        return [Share(max(0, rss - begun_at[0]), 0)]
    growth = [max(0, rss - begun) for begun in begun_at]
    total = max(growth, default=0)
    weight = sum(growth)
    if weight == 0:
        return [Share(0, 0) for _ in growth]
    shares = [total * own // weight for own in growth]
    return [Share(now, max(now, total - now)) for now in shares]


def error_of_finished(held_at_end: int, output: int, shared: int) -> int:
    """Give the error of a finished task's peak, in bytes.

    What a task holds at its end should be its output.  By how much it is not
    (garbage, memory that the allocator kept, what other threads and transfers did
    meanwhile) is how far the peak may be off; never less than `shared`, the error
    of sharing out with the tasks that ran beside it.
    """
    return max(shared, abs(held_at_end - output))
