"""What an order needs near the point that a cluster has reached.

A cluster does not run its tasks just in order: one that takes long, or dies and runs
again, keeps its inputs while later ones run.  At a number of finished tasks it is
somewhere between its first task that has not run and the furthest that has, and what
the order needs anywhere between them is no run-ahead.

All sizes in bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dask_memdash.analysis.order.need import inputs_of_each
from dask_memdash.analysis.order.storage_curve import Floats, curve

if TYPE_CHECKING:
    from dask_memdash.analysis.order.comparison import Snapshot
    from dask_memdash.analysis.order.simulate import Shape

Ints = npt.NDArray[np.int64]


def needed_near(
    snapshot: Snapshot,
    shape: Shape,
    come: npt.NDArray[np.int32],
    gone: npt.NDArray[np.int32],
    sizes: npt.NDArray[np.float32],
) -> Floats:
    """Return the most that an order needs near each of 0 to `done` finished tasks.

    Where tasks are late, each other thread may be at one as well, with its inputs.
    """
    low, high = reached(come, snapshot.stored_at, snapshot.done)
    held = curve(come, gone, sizes, snapshot.total)
    inputs = np.zeros(len(held))
    inputs[come] = inputs_of_each(shape, sizes)
    inputs[0] = 0  # those that do not run
    others = np.minimum(snapshot.threads - 1, high - low)
    late: Floats = others * most_between(inputs, low, high)
    return most_between(held, low, high) + late


def reached(
    come: npt.NDArray[Any], stored_at: npt.NDArray[Any], done: int
) -> tuple[Ints, Ints]:
    """Return between which points of the order a cluster was, at 0 to `done` tasks.

    Parameters
    ----------
    come
        When the order runs each task: from 1; 0 for one that does not run.
    stored_at
        The number of finished tasks when each had run; 0 where it has not.

    Returns
    -------
    array, array
        The point just before the first task that had not run, and that of the furthest
        task that had.
    """
    order = come.astype(np.int64)
    last = int(order.max(initial=0))
    ran = (order > 0) & (stored_at > 0) & (stored_at <= done)
    when = stored_at[ran].astype(np.int64)
    high = np.zeros(done + 1, np.int64)
    np.maximum.at(high, when, order[ran])
    high = np.maximum(np.maximum.accumulate(high), np.arange(done + 1))
    # Of those that had not run at a point: those that ran later, and those that never.
    open_ = order[(order > 0) & ~ran].min(initial=last + 1)
    first = np.full(done + 1, open_, np.int64)
    np.minimum.at(first, when - 1, order[ran])
    first = np.minimum.accumulate(first[::-1])[::-1]
    low = np.minimum(first - 1, np.arange(done + 1))
    return low, np.minimum(high, max(last, done))


def most_between(curve: Floats, low: Ints, high: Ints) -> Floats:
    """Return the highest point of a curve in each of several stretches, ends included.

    By maxima of stretches of 1, 2, 4… points, each made of the one before.
    """
    high = np.minimum(high, len(curve) - 1)
    low = np.minimum(low, high)
    step = np.frexp(high - low + 1)[1] - 1  # 2**step is at most the length
    found: Floats = np.zeros(len(low))
    level = curve
    for power in range(int(step.max(initial=0)) + 1):
        here = step == power
        ends = high[here] - 2**power + 1
        found[here] = np.maximum(level[low[here]], level[ends])
        level = np.maximum(level[: -(2**power)], level[2**power :])
    return found
