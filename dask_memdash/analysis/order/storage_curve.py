"""Storage over the number of finished tasks, from when outputs come and go.

An output is held from the moment its task finishes, the `come`-th to do so, up to and
including the moment its `gone`-th task finishes: at that moment it is still an input.
So a point of the curve counts the newest output and all inputs of the newest task,
which is what has to fit.  ``dask.order.diagnostics`` counts what is held before each
task runs: one less, in outputs, at every point.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def curve(
    come: npt.NDArray[Any], gone: npt.NDArray[Any], sizes: npt.NDArray[Any], total: int
) -> Floats:
    """Return the bytes held at 0 to `total` finished tasks.

    Parameters
    ----------
    come, gone
        Numbers of finished tasks between which each output is held, both included.
    sizes
        Of the outputs, in bytes.
    """
    weights = sizes.astype(np.float64)
    arriving = np.bincount(come, weights, minlength=total + 1)[: total + 1]
    leaving = np.bincount(
        np.minimum(gone.astype(np.int64) + 1, total + 1), weights, minlength=total + 2
    )[: total + 1]
    held: Floats = np.cumsum(arriving - leaving).astype(np.float64)
    return held.round()


def held_at(
    come: npt.NDArray[Any], gone: npt.NDArray[Any], position: int
) -> npt.NDArray[np.bool_]:
    """Say which outputs are held when `position` tasks have finished."""
    held: npt.NDArray[np.bool_] = (come <= position) & (gone >= position)
    return held


def thin(columns: list[npt.NDArray[Any]], most: int) -> npt.NDArray[np.int64]:
    """Choose points of curves of one length that keep their peaks.

    Returns
    -------
    array of int
        At most `most` indices, ascending: the ends, and of each of as many stretches
        as fit the highest point of every curve.
    """
    length = len(columns[0])
    if length <= most:
        return np.arange(length)
    stretches = (most - 2) // len(columns)
    bounds = np.linspace(0, length, stretches + 1).astype(int)[:-1]
    chosen = [np.array([0, length - 1])]
    for column in columns:
        peaks = np.maximum.reduceat(column, bounds)
        ends = np.append(bounds[1:], length)
        chosen.append(
            np.array(
                [
                    begin + int(np.argmax(column[begin:end] == peak))
                    for begin, end, peak in zip(bounds, ends, peaks, strict=True)
                ]
            )
        )
    return np.unique(np.concatenate(chosen))
