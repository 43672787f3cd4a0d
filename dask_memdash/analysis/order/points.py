"""One point of a graph's curve: what was held there and for whom.

All sizes in bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dask_memdash.analysis.order.comparison import (
    Judgement,
    actual_span,
    excess_by_prefix,
)
from dask_memdash.analysis.order.need import inputs_of_each
from dask_memdash.analysis.order.simulate import Shape
from dask_memdash.analysis.order.storage_curve import curve, held_at
from dask_memdash.model.evidence import OrderFacts
from dask_memdash.model.graph_columns import PINNED

#: Prefixes that are told of at most, the largest first.
MAX_SHOWN = 100


@dataclass(frozen=True, slots=True)
class HeldThere:
    """What one prefix held at a point."""

    prefix: str
    bytes: int
    keys: int
    #: How much of it is more than the order needs.
    run_ahead: int
    #: (prefix, or None for a client; bytes that it waits for), largest first.
    awaited_by: list[tuple[str | None, int]]


def largest_of_each(judgement: Judgement) -> list[dict[str, Any]]:
    """Return the largest inputs and output of a task of each prefix, as measured.

    Largest first; ``inputs`` are those of tasks all of whose inputs have been measured.
    """
    snapshot = judgement.snapshot
    known = snapshot.sizes >= 0
    sizes = np.where(known, snapshot.sizes, 0).astype(np.float64)
    shape = Shape(snapshot.offsets, snapshot.dependencies, snapshot.flags)
    inputs = inputs_of_each(shape, sizes)
    inputs[inputs_of_each(shape, (~known).astype(np.float64)) > 0] = 0
    number = len(snapshot.prefixes)
    largest_input, largest_output = np.zeros(number), np.zeros(number)
    np.maximum.at(largest_input, snapshot.prefix, inputs)
    np.maximum.at(largest_output, snapshot.prefix, sizes)
    order = np.argsort(-(largest_input + largest_output), kind="stable")[:MAX_SHOWN]
    return [
        {
            "prefix": snapshot.prefixes[index],
            "inputs": int(largest_input[index]),
            "output": int(largest_output[index]),
        }
        for index in order.tolist()
    ]


def look(judgement: Judgement, position: int) -> tuple[str, list[HeldThere]]:
    """Say what was held when `position` tasks had finished.

    Returns
    -------
    str
        'actual', or 'ideal' where the graph has not got so far: then it is what its
        order needs, as many tasks at a time as there are threads.
    list of HeldThere
        Largest first.
    """
    snapshot = judgement.snapshot
    position = min(max(0, position), snapshot.total)
    here, come, gone = actual_span(snapshot)
    if position <= snapshot.done and here.any():
        held = here.copy()
        held[here] = held_at(come, gone, position)
        ran = (snapshot.stored_at > 0) & (snapshot.stored_at <= position)
        excess = excess_by_prefix(judgement, position)
        of = "actual"
    else:
        held = held_at(judgement.come, judgement.gone, position)
        ran = judgement.come <= position
        excess = np.zeros(len(snapshot.prefixes))
        of = "ideal"
    n = len(snapshot.prefixes)
    prefix, sizes = snapshot.prefix, judgement.sizes
    total = np.bincount(prefix[held], sizes[held], minlength=n)
    keys = np.bincount(prefix[held], minlength=n)
    by_waiter = _waiters(judgement, held, ran)
    found = [
        HeldThere(
            prefix=snapshot.prefixes[index],
            bytes=int(total[index]),
            keys=int(keys[index]),
            run_ahead=max(0, int(excess[index])),
            awaited_by=sorted(
                by_waiter.get(int(index), {}).items(),
                key=lambda item: (-item[1], item[0] or ""),
            ),
        )
        for index in np.argsort(-total, kind="stable")[:MAX_SHOWN]
        if keys[index]
    ]
    return of, found


def facts(judgement: Judgement, position: int) -> OrderFacts:
    """Return what an incident at `position` finished tasks has to know."""
    snapshot = judgement.snapshot
    position = min(max(0, position), snapshot.done)
    here, come, gone = actual_span(snapshot)
    sizes = judgement.sizes
    held = curve(come, gone, sizes[here], snapshot.total)[position]
    ideal = curve(judgement.come, judgement.gone, sizes, snapshot.total)[position]
    near = int(judgement.near[position])
    excess = excess_by_prefix(judgement, position)
    return OrderFacts(
        graph=snapshot.id,
        done=position,
        total=snapshot.total,
        ideal=int(ideal),
        held=int(held),
        minimum=judgement.minimum,
        capacity=snapshot.capacity,
        near=near,
        doubt=int(judgement.near_at_most[position]) - near,
        need=0 if judgement.need is None else judgement.need.bytes,
        run_ahead={
            snapshot.prefixes[index]: int(excess[index])
            for index in np.flatnonzero(excess >= 1)
        },
        saturation={
            root.prefix: root.saturation
            for root in snapshot.roots
            if root.rootish and (root.queued or root.saturation is None)
        },
    )


def _waiters(
    judgement: Judgement, held: np.ndarray, ran: np.ndarray
) -> dict[int, dict[str | None, int]]:
    """Give, by number of prefix, the bytes that each prefix or a client waits for."""
    snapshot = judgement.snapshot
    n = len(snapshot.prefixes)
    edges = np.flatnonzero(held[snapshot.dependencies])
    needs = np.searchsorted(snapshot.offsets, edges, side="right") - 1
    waiting = ~ran[needs]
    outputs = snapshot.dependencies[edges[waiting]].astype(np.int64)
    waiters = snapshot.prefix[needs[waiting]].astype(np.int64)
    pairs = np.unique(outputs * n + waiters)  # each output once for each prefix
    outputs, waiters = pairs // n, pairs % n
    found: dict[int, dict[str | None, int]] = {}
    of_both = snapshot.prefix[outputs].astype(np.int64) * n + waiters
    sums = np.bincount(of_both, judgement.sizes[outputs].astype(np.float64))
    for both in np.flatnonzero(sums):
        own = found.setdefault(int(both) // n, {})
        own[snapshot.prefixes[int(both) % n]] = int(sums[both])
    pinned = held & ((np.frombuffer(snapshot.flags, np.uint8) & PINNED) > 0)
    kept = np.bincount(snapshot.prefix[pinned], judgement.sizes[pinned], minlength=n)
    for index in np.flatnonzero(kept):
        found.setdefault(int(index), {})[None] = int(kept[index])
    return found
