"""Sizes of outputs that have not been measured, and by how much each may be off.

All sizes in bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from dask_memdash.analysis.order.comparison import Snapshot

Sizes = npt.NDArray[np.float32]
Marks = npt.NDArray[np.bool_]

#: Parts of the names of Dask's own tasks that join chunks, and that take pieces of
#: them.  A task whose name has others too is fused with what makes something else.
JOIN, PIECE = "rechunk-merge", "rechunk-split"

#: Steps of joining and taking apart, one after another, that are followed at most.
MAX_STEPS = 50


def fill_sizes(snapshot: Snapshot) -> tuple[Sizes, Sizes]:
    """Return a size for every output, and by how much each may be off.

    Where it has not been measured: of tasks that join or cut chunks, what their inputs
    make; else the median of its prefix in this graph; else what is usual for its
    prefix.  Else it is not known: 0, off by as much as the largest size that is known,
    or as all of its inputs where they are larger.
    """
    sizes = snapshot.sizes.copy()
    doubt = np.zeros(len(sizes), np.float32)
    if snapshot.doubt is not None:
        doubt = snapshot.doubt.copy()
    missing = sizes < 0
    if not missing.any():
        return sizes, doubt
    number = len(snapshot.prefixes)
    usual = np.full(number, np.nan)
    spread = np.zeros(number)
    known = np.flatnonzero(~missing)
    known = known[np.argsort(snapshot.prefix[known], kind="stable")]
    bounds = np.searchsorted(snapshot.prefix[known], np.arange(number + 1))
    for index in np.unique(snapshot.prefix[missing]):
        measured = sizes[known[bounds[index] : bounds[index + 1]]]
        earlier = snapshot.usual.get(snapshot.prefixes[index])
        if len(measured):
            low, usual[index], high = np.percentile(measured, (5, 50, 95))
            spread[index] = max(high - usual[index], usual[index] - low)
        elif earlier is not None and earlier.size is not None:
            usual[index], spread[index] = earlier.size, earlier.spread
    unknown = np.isnan(usual)
    largest = max(sizes.max(), 0 if unknown.all() else np.nanmax(usual))
    usual[unknown], spread[unknown] = 0, max(0, largest)
    sizes[missing] = usual[snapshot.prefix[missing]]
    doubt[missing] = spread[snapshot.prefix[missing]]
    _by_inputs(snapshot, missing, unknown[snapshot.prefix] & missing, sizes, doubt)
    return sizes, doubt


def _by_inputs(
    snapshot: Snapshot, missing: Marks, unknown: Marks, sizes: Sizes, doubt: Sizes
) -> None:
    """Put in what is known of outputs from the inputs of their tasks."""
    needed_by = np.repeat(np.arange(len(sizes)), np.diff(snapshot.offsets))
    joins, cuts = (
        np.array([_is(name, what) for name in snapshot.prefixes], bool)[snapshot.prefix]
        for what in (JOIN, PIECE)
    )
    edges = _Edges(snapshot.dependencies.astype(np.int64), needed_by, len(sizes))
    left = missing & (joins | cuts)
    _of_others(unknown & ~left, edges, sizes, doubt)
    # Of each chunk as many pieces are taken as there are tasks that cut it.
    of_a_cut = cuts[needed_by]
    pieces = np.bincount(edges.dependencies[of_a_cut], minlength=len(sizes))
    share = np.where(of_a_cut, 1 / np.maximum(1, pieces[edges.dependencies]), 1.0)
    for _ in range(MAX_STEPS):
        if not left.any():
            break
        waits = edges.of_each(left[edges.dependencies].astype(float)) > 0
        now = left & ~waits
        if not now.any():
            break
        made = edges.of_each(sizes[edges.dependencies] * share)
        off = edges.of_each(doubt[edges.dependencies] * share)
        sizes[now] = made[now]
        # Pieces are not all equal; no piece is larger than its chunk.
        doubt[now] = (off + np.where(cuts, made, 0))[now]
        left &= ~now
    _of_others(unknown & ~(joins | cuts), edges, sizes, doubt)


def _of_others(unknown: Marks, edges: _Edges, sizes: Sizes, doubt: Sizes) -> None:
    """Let what is not known be off by as much as all inputs of its task."""
    if unknown.any():
        inputs = edges.of_each(sizes[edges.dependencies])
        doubt[unknown] = np.maximum(doubt, inputs)[unknown]


class _Edges:
    """The dependencies of all tasks, and sums over those of each."""

    def __init__(
        self, dependencies: npt.NDArray[Any], needed_by: npt.NDArray[Any], n: int
    ) -> None:
        self.dependencies = dependencies
        self._needed_by = needed_by
        self._n = n

    def of_each(self, values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Sum one value of each dependency over the dependencies of each task."""
        sums = np.bincount(self._needed_by, values, minlength=self._n)
        return sums.astype(np.float64)


def _is(name: str, what: str) -> bool:
    """Say whether tasks of a prefix first join, or cut, and then nothing else."""
    rest = name.replace(JOIN, "").replace(PIECE, "").strip("-")
    return name.startswith(what) and not rest
