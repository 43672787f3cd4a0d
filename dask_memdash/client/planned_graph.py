"""A collection as the graph that a scheduler would get, with the sizes that are known.

All sizes in bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dask.utils import key_split

from dask_memdash.client import size_estimates
from dask_memdash.errors import MemDashError


class PreviewError(MemDashError, ValueError):
    """A collection that no order can be worked out for."""


def materialise(collections: Sequence[Any]) -> tuple[dict[Any, Any], set[Any]]:
    """Return the tasks that the scheduler would get, and the keys that are wanted."""
    from dask._task_spec import convert_legacy_graph
    from dask.base import collections_to_expr, is_dask_collection
    from dask.core import flatten

    if not collections or not all(map(is_dask_collection, collections)):
        raise PreviewError("order() takes Dask collections")
    expression = collections_to_expr(collections).optimize()
    graph = convert_legacy_graph(expression.__dask_graph__())
    wanted = set(flatten(expression.__dask_keys__()))
    kept: dict[Any, Any] = {}
    stack = [key for key in wanted if key in graph]
    while stack:
        key = stack.pop()
        if key not in kept:
            kept[key] = graph[key]
            stack.extend(need for need in graph[key].dependencies if need in graph)
    return kept, wanted


def known_sizes(
    graph: dict[Any, Any],
    ranks: dict[Any, int],
    collections: Sequence[Any],
    sizes: size_estimates.Sizes | None,
    sample: bool,
    measured: Mapping[str, int],
) -> tuple[list[int | None], dict[str, str]]:
    """Return the sizes that are known by rank, and by prefix where they come from."""
    keys = list(ranks)
    found: dict[Any, int] = {}
    sources: dict[str, str] = {}

    def take(more: dict[Any, int], source: str) -> None:
        for key, size in more.items():
            if key not in found:
                found[key] = size
                sources.setdefault(key_split(key), source)

    take(size_estimates.given(sizes, keys), "given")
    take(size_estimates.of_arrays(collections, keys), "array")
    if sample:
        take(
            size_estimates.given(size_estimates.sampled(graph, ranks, found), keys),
            "sampled",
        )
    take(size_estimates.given(measured, keys), "measured")
    return [found.get(key) for key in keys], sources
