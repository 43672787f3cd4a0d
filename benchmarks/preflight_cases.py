"""Graphs for the benchmark of preflight, and the clusters that they are to run on.

Each case is run once on workers that have room, which is what is learnt from, and then
on each of its setups, before which it is asked whether it will fit.  Setups with other
sizes of pieces ask about graphs that were never run so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import counterfactual_cases as tasks
from counterfactual_cases import MB, Setup

#: Given the size of pieces as a multiple, returns a collection.
Graph = Callable[[float], Any]

#: What all cases are learnt on.
ROOMY = Setup(workers=2, threads=1, limit=1200)


@dataclass(frozen=True, slots=True)
class Case:
    """A graph, and the clusters that it is to run on."""

    name: str
    graph: Graph
    setups: tuple[Setup, ...]


def _all(function: Callable[..., Any], count: int, size: float, *rest: float) -> Graph:
    """Return a graph of so many tasks of a size, and one that sums up."""
    import dask

    def graph(chunks: float) -> Any:
        made = dask.delayed(function)
        parts = [made(n, size * chunks, *rest) for n in range(count)]
        return dask.delayed(sum)(parts)

    return graph


def _reduced(chunks: float) -> Any:
    import dask

    load, work = dask.delayed(tasks.piece), dask.delayed(tasks.reduce_slowly)
    return dask.delayed(sum)([work(load(n, 20 * MB * chunks)) for n in range(20)])


def _sorted(chunks: float) -> Any:
    import dask

    load, work = dask.delayed(tasks.piece), dask.delayed(tasks.ordered)
    first = dask.delayed(tasks.reduce_slowly)
    parts = [first(work(load(n, 24 * MB * chunks))) for n in range(12)]
    return dask.delayed(sum)(parts)


def _gathered(chunks: float) -> Any:
    import dask

    load = dask.delayed(tasks.piece)
    parts = [load(n, 15 * MB * chunks) for n in range(16)]
    return dask.delayed(tasks.add_up)(*parts)


def _tree(chunks: float) -> Any:
    import dask

    pair = dask.delayed(tasks.pair)
    level = [dask.delayed(tasks.piece)(n, 14 * MB * chunks) for n in range(16)]
    while len(level) > 1:
        level = [
            pair(one, other) for one, other in zip(*[iter(level)] * 2, strict=True)
        ]
    return level[0]


def _skewed(chunks: float) -> Any:
    import dask

    hold = dask.delayed(tasks.hold_block)
    sizes = [220 * MB * chunks if n == 7 else 10 * MB for n in range(20)]
    return dask.delayed(sum)([hold(n, size, 0.2) for n, size in enumerate(sizes)])


def _broadcast(chunks: float) -> Any:
    import dask

    table = dask.delayed(tasks.piece)(0, 60 * MB * chunks)
    use = dask.delayed(tasks.with_table)
    return dask.delayed(sum)([use(table, n) for n in range(12)])


def _rechunk(chunks: float) -> Any:
    import dask.array as da

    side, rows = 4000, round(500 * chunks)
    tall = da.random.random((side, side), chunks=(rows, side))
    return tall.rechunk((side, rows), method="tasks").sum()


def _array(chunks: float) -> Any:
    import dask.array as da

    rows = round(500 * chunks)
    made = da.random.random((6000, 4000), chunks=(rows, 4000))
    return (made + made.mean(axis=0)).std(axis=0).sum()


def _grouped(chunks: float) -> Any:
    import dask.dataframe as dd

    rows = round(500_000 * chunks)
    parts = dd.from_map(tasks.frame, list(range(12)), rows=rows)
    return parts.groupby("key").value.mean()


def _two_kinds(chunks: float) -> Any:
    import dask

    hold, grow = dask.delayed(tasks.hold_block), dask.delayed(tasks.grow_slowly)
    small = [hold(n, 15 * MB * chunks, 0.1) for n in range(20)]
    return dask.delayed(sum)([*small, *(grow(n, 90 * MB * chunks) for n in range(6))])


def _setups(*settings: tuple[int, int, int]) -> tuple[Setup, ...]:
    return tuple(Setup(workers=w, threads=t, limit=limit) for w, t, limit in settings)


#: The constants of the preflight were set before any of them was run.
CASES = (
    Case(
        "blocks",
        _all(tasks.hold_block, 16, 60 * MB, 0.4),
        (
            *_setups((2, 1, 300), (2, 4, 300), (2, 4, 600), (1, 2, 400)),
            Setup(workers=2, threads=2, limit=300, chunks=3.0),
        ),
    ),
    Case("reduced", _reduced, _setups((2, 1, 300), (2, 2, 300), (2, 4, 600))),
    Case("rechunk", _rechunk, _setups((2, 1, 400), (2, 2, 300), (1, 2, 600))),
    Case("skewed", _skewed, _setups((2, 2, 300), (2, 1, 600), (2, 2, 600))),
    Case(
        "grows",
        _all(tasks.grow_slowly, 6, 150 * MB),
        _setups((1, 2, 300), (2, 1, 400), (1, 2, 600)),
    ),
    Case(
        "bursts",
        _all(tasks.burst, 12, 60 * MB),
        _setups((1, 2, 300), (1, 4, 300), (2, 2, 600)),
    ),
    Case(
        "sorted",
        _sorted,
        (
            *_setups((1, 2, 300), (2, 1, 400), (2, 4, 300)),
            Setup(workers=1, threads=2, limit=300, chunks=0.5),
        ),
    ),
    Case("gathered", _gathered, _setups((1, 2, 300), (2, 1, 600), (2, 2, 450))),
    Case(
        "tree",
        _tree,
        (
            *_setups((2, 2, 300), (1, 2, 450)),
            Setup(workers=2, threads=2, limit=300, spilling=False),
        ),
    ),
    Case("broadcast", _broadcast, _setups((1, 2, 300), (1, 4, 400), (2, 1, 450))),
    Case(
        "array",
        _array,
        (
            *_setups((2, 2, 300), (2, 1, 450)),
            Setup(workers=2, threads=2, limit=300, chunks=3.0),
        ),
    ),
    Case("frames", _grouped, _setups((2, 1, 450), (1, 2, 600), (2, 4, 300))),
    Case("two-kinds", _two_kinds, _setups((1, 2, 300), (1, 4, 300), (2, 1, 450))),
)
