"""Sizes of a graph's outputs before anything has run.

Each output's size comes from the first of these that knows it: what the caller says of
its prefix or key, the chunks and dtype of the array that it is part of, a sample that
is computed here, what a cluster measured for its prefix earlier.  Failing all, a task
is taken to pass on what it gets: each input's bytes are shared out among those that use
it.  That holds for splitting, joining and elementwise work, and is too much for
reductions.

All sizes in bytes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from dask.sizeof import sizeof
from dask.utils import key_split, parse_bytes

#: A prefix → a size (an integer or a text such as '100 MB'), or key → size or None.
Sizes = Mapping[str, int | str] | Callable[[Any], int | None]

#: A sample runs no more tasks than this for one prefix, and no longer in all (seconds).
MAX_SAMPLED = 100
SAMPLE_TIME = 30.0

#: How the names of layers end that put together what was reduced chunk by chunk.
TOGETHER = ("-partial", "-aggregate")


def given(sizes: Sizes | None, keys: Iterable[Any]) -> dict[Any, int]:
    """Return the sizes that the caller gives, by key.

    Raises
    ------
    ValueError
        A size that cannot be read, or is negative.
    """
    if sizes is None:
        return {}
    if callable(sizes):
        found = {key: size for key in keys if (size := sizes(key)) is not None}
    else:
        by_prefix = {name: int(parse_bytes(size)) for name, size in sizes.items()}
        found = {
            key: by_prefix[prefix]
            for key in keys
            if (prefix := key_split(key)) in by_prefix
        }
    if any(size < 0 for size in found.values()):
        raise ValueError("a size cannot be negative")
    return found


def of_arrays(collections: Sequence[Any], keys: Iterable[Any]) -> dict[Any, int]:
    """Return the sizes of outputs that are blocks of arrays, by key."""
    blocks: dict[str, tuple[Any, int]] = {}
    for collection in collections:
        for name, chunks, dtype in _arrays(collection):
            with suppress(AttributeError, TypeError):
                blocks[name] = (chunks, int(dtype.itemsize))
    found = {}
    for key in keys:
        known = _array_of(key, blocks)
        size = None if known is None else _block(known[0], key[1:], known[1])
        if size is not None:
            found[key] = size
    return found


def largest_blocks(
    collections: Sequence[Any], prefixes: Iterable[str]
) -> dict[str, int]:
    """Return the largest block of any array that tasks of a prefix are named after.

    Of several tasks that are fused into one, the prefix has the names of all of them
    (``random_sample-sum``).
    """
    blocks: dict[str, int] = {}
    for collection in collections:
        for name, chunks, dtype in _arrays(collection):
            with suppress(AttributeError, TypeError, ValueError):
                size = math.prod(max(lengths) for lengths in chunks) * dtype.itemsize
                if not math.isnan(size):
                    prefix = key_split(name)
                    blocks[prefix] = max(int(size), blocks.get(prefix, 0))
    found = {}
    for prefix in prefixes:
        within = f"-{prefix}-"
        sizes = [size for name, size in blocks.items() if f"-{name}-" in within]
        if sizes:
            found[prefix] = max(sizes)
    return found


def _arrays(collection: Any) -> Iterator[tuple[str, Any, Any]]:
    """Return name, chunks and dtype of a collection and of its source arrays."""
    graph = collection.__dask_graph__()
    users = getattr(graph, "dependents", {})
    for name, layer in getattr(graph, "layers", {}).items():
        # A reduction of each chunk is noted with the chunks that it takes, and makes
        # what the next step puts together.
        if any(key_split(user).endswith(TOGETHER) for user in users.get(name, ())):
            continue
        notes = getattr(layer, "collection_annotations", None) or {}
        if "chunks" in notes and "dtype" in notes:
            yield name, notes["chunks"], notes["dtype"]
    chunks = getattr(collection, "chunks", None)
    if chunks is not None and hasattr(collection, "dtype"):
        yield collection.name, chunks, collection.dtype


def _array_of(
    key: Any, blocks: Mapping[str, tuple[Any, int]]
) -> tuple[Any, int] | None:
    """Find the array that a key is a block of.

    The key of several tasks fused into one ends with the name of the last of them,
    whose output it has (``dask.optimization.default_fused_keys_renamer``).
    """
    if not (isinstance(key, tuple) and key and isinstance(key[0], str)):
        return None
    name = key[0]
    while name and name not in blocks:
        name = name.partition("-")[2]
    return blocks.get(name)


def _block(chunks: Any, index: tuple[Any, ...], itemsize: int) -> int | None:
    if len(index) != len(chunks):
        return None
    try:
        lengths = [lengths[i] for lengths, i in zip(chunks, index, strict=True)]
    except (IndexError, TypeError):
        return None
    if any(math.isnan(length) for length in lengths):
        return None
    return int(math.prod(lengths)) * itemsize


def sampled(
    graph: Mapping[Any, Any], ranks: Mapping[Any, int], known: Mapping[Any, int]
) -> dict[str, int]:
    """Compute one task of each prefix of unknown size here; give its output's size.

    Prefixes whose first task needs more than `MAX_SAMPLED` others are left out.
    """
    found: dict[str, int] = {}
    deadline = time.monotonic() + SAMPLE_TIME
    firsts: dict[str, Any] = {}
    for key in sorted(graph, key=ranks.__getitem__):
        if key not in known:
            firsts.setdefault(key_split(key), key)
    for prefix, first in firsts.items():
        needed = _needs(graph, first)
        if needed is None or time.monotonic() > deadline:
            continue
        values: dict[Any, Any] = {}
        for key in sorted(needed, key=ranks.__getitem__):
            task = graph[key]
            values[key] = task({need: values[need] for need in task.dependencies})
        found[prefix] = int(sizeof(values[first]))
    return found


def _needs(graph: Mapping[Any, Any], key: Any) -> set[Any] | None:
    """Return a task with all it needs; None when that is too much."""
    needed, stack = {key}, [key]
    while stack:
        for need in graph[stack.pop()].dependencies:
            if need not in needed:
                needed.add(need)
                stack.append(need)
        if len(needed) > MAX_SAMPLED:
            return None
    return needed


def shared_out(
    running: Sequence[int],
    dependencies: Sequence[Sequence[int]],
    users: Sequence[int],
    sizes: list[int | None],
) -> list[int | None]:
    """Fill in the sizes that are not known from those of the inputs.

    Parameters
    ----------
    running
        Ranks of the tasks in an order in which they can run.
    dependencies, users
        For each task, by rank, the ranks of its inputs and the number of tasks that
        use its output.
    sizes
        By rank, None where not known.

    Returns
    -------
    list of int or None
        None where not even an input's is known.
    """
    filled = list(sizes)
    for rank in running:
        if filled[rank] is None:
            shares = [
                size / max(1, users[need])
                for need in dependencies[rank]
                if (size := filled[need]) is not None
            ]
            filled[rank] = int(sum(shares)) if shares else None
    return filled
