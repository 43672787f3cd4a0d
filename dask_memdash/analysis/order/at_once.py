"""What the tasks that run side by side on one worker need, against what it has.

Storage that fits and tasks that fit one by one are not enough: a worker runs one task
a thread, and all of them may be at their peaks together.  Two bounds are worked out
from the order in which tasks run with all threads of the cluster at work: what tasks
of this graph *surely* need, whichever of those that run together come to the worker,
and what they need *at most*.

All sizes in bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dask_memdash.analysis.order.need import Peaks, inputs_of_each

if TYPE_CHECKING:
    from dask_memdash.analysis.order.comparison import Snapshot
    from dask_memdash.analysis.order.simulate import Ints, Shape

Column = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class AtOnce:
    """Tasks side by side on the worker that has least for each of its threads."""

    #: How many run together there, and what there is for them when it is idle.
    tasks: int
    has: int
    #: What they need at least, all of them at their peaks.
    surely: int
    #: What they need at most; None where the peak of one is not known.
    at_most: int | None
    #: Of what `surely` rests on: the prefix, what one of its tasks needs beside its
    #: inputs, and whether that is only what one had when its worker died.
    prefix: str
    each: int
    at_least: bool
    #: How many tasks of it have run in this graph.
    ran: int

    @property
    def fit(self) -> int:
        """How many tasks that need `each` fit together."""
        return self.tasks if self.each <= 0 else min(self.tasks, self.has // self.each)


def at_once(
    snapshot: Snapshot,
    shape: Shape,
    together: Ints,
    sizes: npt.NDArray[np.float32],
    doubt: npt.NDArray[np.float32],
    peaks: Peaks,
) -> AtOnce | None:
    """Bound what tasks need that run together and have not run yet.

    Parameters
    ----------
    together
        For each task the number of tasks that have finished with it, as many running
        at a time as the cluster has threads.
    sizes, doubt
        Of every output, and by how much each may be off.

    Returns
    -------
    AtOnce or None
        None where no worker tells its room, or nothing is left to run.
    """
    room = snapshot.room
    to_run = ~shape.given & (snapshot.stored_at == 0)
    ranks = np.flatnonzero(to_run)
    if room.least is None or not room.threads or not len(ranks):
        return None
    ranks = ranks[np.argsort(together[ranks], kind="stable")]
    width = min(max(1, snapshot.threads), len(ranks))
    tasks, has = room.threads, room.least
    if width < snapshot.threads:  # some worker gets as many as there are for each
        tasks, has = -(-width // max(1, room.processes)), room.task or 0
    prefix = snapshot.prefix[ranks]
    own = np.maximum(np.maximum(0, sizes - doubt)[ranks], peaks.bytes[prefix])
    least = np.where(
        _apart(shape, together, ranks, width), _sliding(own, width, np.minimum), 0.0
    )
    at = int(np.argmax(least))
    return AtOnce(
        tasks=tasks,
        has=has,
        surely=int(tasks * least[at]),
        at_most=_at_most(shape, ranks, width, tasks, sizes + doubt, peaks, prefix),
        each=int(least[at]),
        **_whose(snapshot, prefix[at : at + width], peaks),
    )


def _apart(
    shape: Shape, together: Ints, ranks: npt.NDArray[Any], width: int
) -> npt.NDArray[np.bool_]:
    """Say of which runs of `width` tasks none needs another: they are ready at once."""
    place = np.full(shape.n, -1, np.int64)
    place[ranks] = np.arange(len(ranks))
    last = np.full(shape.n, -1, np.int64)
    np.maximum.at(last, shape.needed_by, place[shape.dependencies])
    needs = _sliding(last[ranks].astype(np.float64), width, np.maximum)
    found: npt.NDArray[np.bool_] = needs < np.arange(len(needs))
    return found


def _at_most(
    shape: Shape,
    ranks: npt.NDArray[Any],
    width: int,
    tasks: int,
    sizes: npt.NDArray[np.float32],
    peaks: Peaks,
    prefix: npt.NDArray[Any],
) -> int | None:
    """Return what `tasks` tasks out of any `width` in a row need at most."""
    if not peaks.bounded[prefix].all():
        return None
    inputs = inputs_of_each(shape, sizes)[ranks]
    total = inputs + np.maximum(sizes[ranks], peaks.bytes[prefix])
    summed = np.concatenate(([0.0], np.cumsum(total)))
    rows = summed[width:] - summed[:-width]
    largest = tasks * _sliding(total, width, np.maximum)
    return int(np.minimum(rows, largest).max())


def _whose(
    snapshot: Snapshot, prefix: npt.NDArray[Any], peaks: Peaks
) -> dict[str, Any]:
    """Name the prefix that most of these tasks are of."""
    index = int(np.argmax(np.bincount(prefix)))
    ran = (snapshot.prefix == index) & (snapshot.stored_at > 0)
    return {
        "prefix": snapshot.prefixes[index],
        "at_least": not bool(peaks.bounded[index]),
        "ran": int(ran.sum()),
    }


def _sliding(values: Column, width: int, of: Any) -> Column:
    """Return the least or the largest of every `width` values in a row."""
    found, reach = values, 1
    while reach < width:
        step = min(reach, width - reach)
        found = of(found[:-step], found[step:])
        reach += step
    return found
