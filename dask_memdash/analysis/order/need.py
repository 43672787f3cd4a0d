"""What one task needs at once, and which task of a graph needs most.

The *need* of a task is its inputs, which its worker holds while it runs whether it made
or fetched them, and the larger of its peak and its output.  Inputs that are spilled
come back into memory for it.

All sizes in bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dask_memdash.model.graph_columns import GIVEN

if TYPE_CHECKING:
    from dask_memdash.analysis.order.comparison import Snapshot, Usual
    from dask_memdash.analysis.order.simulate import Shape

#: A peak is taken over from earlier tasks of a prefix if the outputs in this graph are
#: at most so many times as large as theirs, or as small.
ALIKE = 2.0

#: Prefixes that never ran which are named at most.
MAX_NAMED = 20


@dataclass(frozen=True, slots=True)
class Need:
    """What one task needs at once."""

    prefix: str
    bytes: int
    #: How much of it is inputs.
    inputs: int
    #: By how much `bytes` may be off.
    doubt: int
    #: Whether the task has run: then it did fit.
    ran: bool
    #: Whether it may need more: its peak has not been measured, or its worker died.
    at_least: bool = False


@dataclass(frozen=True, slots=True)
class Peaks:
    """What tasks of each prefix take while they run, beside their inputs."""

    #: By number of prefix; 0 where nothing is known.
    bytes: npt.NDArray[np.float64]
    #: Whether that is measured of tasks that finished, so that it bounds them.
    bounded: npt.NDArray[np.bool_]


def worst_need(
    snapshot: Snapshot,
    shape: Shape,
    sizes: npt.NDArray[np.float32],
    doubt: npt.NDArray[np.float32],
    peaks: Peaks,
) -> Need | None:
    """Return the need of the task that needs most.

    A task that has not run and surely needs more than any worker has goes before those
    that have run.

    Parameters
    ----------
    sizes, doubt
        Of every output, and by how much each may be off.
    """
    runs = ~shape.given
    if not runs.any():
        return None
    inputs = inputs_of_each(shape, sizes)
    own = np.maximum(sizes, peaks.bytes[snapshot.prefix])
    total = np.where(runs, inputs + own, -1.0)
    unsure = inputs_of_each(shape, doubt) + doubt
    worst = int(np.argmax(total))
    has = snapshot.room.task
    if has is not None:
        too_large = runs & (snapshot.stored_at == 0) & (total - unsure > has)
        if too_large.any():
            worst = int(np.argmax(np.where(too_large, total, -1.0)))
    return Need(
        prefix=snapshot.prefixes[snapshot.prefix[worst]],
        bytes=int(total[worst]),
        inputs=int(inputs[worst]),
        doubt=int(unsure[worst]),
        ran=bool(snapshot.stored_at[worst]),
        at_least=not peaks.bounded[snapshot.prefix[worst]],
    )


def never_ran(snapshot: Snapshot) -> tuple[str, ...]:
    """Name the prefixes of which no task has run, in this graph or an earlier one."""
    marks = np.frombuffer(snapshot.flags, np.uint8)
    runs = (marks & GIVEN) == 0
    ran = np.unique(snapshot.prefix[snapshot.stored_at > 0])
    open_ones = np.setdiff1d(np.unique(snapshot.prefix[runs]), ran)
    names = [snapshot.prefixes[index] for index in open_ones]
    usual = snapshot.usual
    return tuple(
        name for name in names if name not in usual or usual[name].size is None
    )[:MAX_NAMED]


def inputs_of_each(shape: Shape, sizes: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Sum a column over the dependencies of each task."""
    weights = sizes[shape.dependencies].astype(np.float64)
    sums = np.bincount(shape.needed_by, weights=weights, minlength=shape.n)
    return sums.astype(np.float64)


def peaks_of(snapshot: Snapshot, sizes: npt.NDArray[np.float32]) -> Peaks:
    """Return what tasks of each prefix take, as far as that is known.

    What one had when its worker died counts in a graph in which workers died for
    memory: it may have been one of an earlier graph's, with other chunks.
    """
    number = len(snapshot.prefixes)
    largest = np.zeros(number)
    np.maximum.at(largest, snapshot.prefix, sizes)
    usual: Mapping[str, Usual] = snapshot.usual
    peaks, bounded = np.zeros(number), np.zeros(number, bool)
    for index, name in enumerate(snapshot.prefixes):
        known = usual.get(name)
        if known is None:
            continue
        alike = known.size is None or _alike(largest[index], known.size)
        if known.peak is not None and alike:
            peaks[index], bounded[index] = known.peak, True
        cut = known.at_least if snapshot.deaths and alike else None
        if cut is not None and cut > peaks[index]:
            peaks[index], bounded[index] = cut, False
    return Peaks(peaks, bounded)


def _alike(size: float, usual: int) -> bool:
    # A peak of outputs that are small beside it says nothing of their size.
    small = 2**20
    if size <= small and usual <= small:
        return True
    return usual <= ALIKE * size and size <= ALIKE * usual
