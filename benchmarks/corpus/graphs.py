"""A small graph for a simulated cluster, and what was stored of it."""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Iterable

from dask_memdash.analysis.order.pack import RawTasks, pack
from dask_memdash.model.events import GraphArrived, OutputsMoved
from dask_memdash.model.graph_columns import PINNED

#: Key → keys that it needs, in order of priority.
Graph = dict[str, tuple[str, ...]]


def chains(n: int) -> Graph:
    """Return chains that need little at a time: load, cut, and one sum of all cuts."""
    graph: Graph = {}
    for number in range(n):
        graph[f"block-{number}"] = ()
        graph[f"cut-{number}"] = (f"block-{number}",)
    graph["sum-0"] = tuple(f"cut-{number}" for number in range(n))
    return graph


def fan_in(n: int) -> Graph:
    """Return a graph that needs all of its outputs at once."""
    graph: Graph = {f"block-{number}": () for number in range(n)}
    graph["sum-0"] = tuple(graph)
    return graph


def arrived(graph: Graph, time: float) -> GraphArrived:
    """Return that a graph has arrived, whose last task a client wants."""
    raw = RawTasks()
    for rank, (key, needs) in enumerate(graph.items()):
        name = key.partition("-")[0]
        if name not in raw.prefixes:
            raw.prefixes.append(name)
        raw.hashes.append(_hash(key))
        raw.users.append(0)
        raw.generations.append(1)
        raw.orders.append(rank)
        raw.prefix.append(raw.prefixes.index(name))
        raw.degrees.append(len(needs))
        raw.dependencies.extend(map(_hash, needs))
        raw.flags.append(PINNED if rank == len(graph) - 1 else 0)
    columns = pack(raw)
    return GraphArrived(
        time, "g", ("g",), {}, name="sum", tasks=len(graph), columns=columns
    )


def moved(time: float, moves: Iterable[tuple[str, int]]) -> OutputsMoved:
    """Return that outputs were stored (with their size), or have left (-1)."""
    column = array("q")
    for key, size in moves:
        column.extend((_hash(key), size))
    return OutputsMoved(time, column.tobytes())


def _hash(key: str) -> int:
    return zlib.crc32(key.encode())
