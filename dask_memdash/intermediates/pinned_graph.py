"""Graphs of pinned collections: output keys become *store*, what is stored *load*.

Pure: no store, no cluster.  An output whose task nothing else needs is computed and
stored in one task, so that its value is never one of Dask's own; others, and outputs of
P2P shuffles (which the scheduler restricts by key), get a task of their own after them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dask._task_spec import Alias, GraphNode, Task, TaskRef, convert_legacy_graph
from dask.base import collections_to_expr, tokenize
from dask.core import flatten
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer
from dask.utils import key_split

from dask_memdash.intermediates.lineage import lineages
from dask_memdash.intermediates.memory import address_of
from dask_memdash.intermediates.stored import Stored, load_value, put_value

#: What the keys of a P2P shuffle's barrier begin with; its outputs depend on it.
BARRIER = "shuffle-barrier-"


@dataclass(slots=True)
class Materialized:
    """An optimized graph: its tasks, their annotations, and the output keys by leaf."""

    tasks: dict[Any, GraphNode]
    #: Kind of annotation → key → value.
    annotations: dict[str, dict[Any, Any]]
    #: Output keys of each leaf, in its own order.
    outputs: list[list[Any]]
    #: Functions of the user's own with a hash, of everything before an output key.
    functions: dict[Any, dict[str, str]] = field(default_factory=dict)


def materialize(leaves: Sequence[Any], optimize_graph: bool) -> Materialized:
    """Return the optimized graph of leaves, and whose functions its outputs rest on."""
    made = Materialized({}, {}, [[]] * len(leaves))
    # Dask warns of mixtures: frames are expressions, the others layers of tasks
    expressions = [hasattr(type(leaf), "expr") for leaf in leaves]
    for kind in sorted(set(expressions)):
        chosen = [n for n, is_kind in enumerate(expressions) if is_kind == kind]
        expression = collections_to_expr(
            [leaves[n] for n in chosen], optimize_graph
        ).optimize()
        made.tasks |= convert_legacy_graph(expression.__dask_graph__())
        for about, by_key in expression.__dask_annotations__().items():
            made.annotations.setdefault(about, {}).update(by_key)
        for number, keys in zip(chosen, expression.__dask_keys__(), strict=True):
            made.outputs[number] = list(flatten(keys))
    outputs = {key for keys in made.outputs for key in keys}
    made.functions = {
        key: dict(lineage.functions)
        for key, lineage in lineages(made.tasks, outputs).items()
    }
    return made


def storing_tasks(
    graph: Materialized, missing: Mapping[Any, Stored]
) -> tuple[dict[Any, GraphNode], dict[Any, Any], Mapping[str, Mapping[Any, Any]]]:
    """Return the tasks that compute and store what is missing, and nothing else.

    Parameters
    ----------
    missing
        Output key → where its value will lie.

    Returns
    -------
    tuple
        Tasks; output key → key of the task that stores it; annotations by kind.
    """
    needed = _needed(graph.tasks, missing)
    used: set[Any] = set()
    for key in needed:
        used |= graph.tasks[key].dependencies
    annotated = {key for by_key in graph.annotations.values() for key in by_key}
    tasks: dict[Any, GraphNode] = {key: graph.tasks[key] for key in needed}
    store_keys: dict[Any, Any] = {}
    annotations = {kind: dict(by_key) for kind, by_key in graph.annotations.items()}
    for key, stored in missing.items():
        store_key = _renamed(key, "store", stored)
        store_keys[key] = store_key
        task = tasks.get(key)
        if isinstance(task, Task) and key not in used and not _from_shuffle(task):
            del tasks[key]
            tasks[store_key] = Task(store_key, put_value, stored, task)
            if key in annotated:
                for by_key in annotations.values():
                    if key in by_key:
                        by_key[store_key] = by_key.pop(key)
        else:
            tasks[store_key] = Task(store_key, put_value, stored, TaskRef(key))
    return tasks, store_keys, annotations


def _needed(tasks: Mapping[Any, GraphNode], keys: Collection[Any]) -> list[Any]:
    found: dict[Any, None] = {}
    stack = list(keys)
    while stack:
        key = stack.pop()
        if key in found or key not in tasks:
            continue
        found[key] = None
        stack.extend(tasks[key].dependencies)
    return list(found)


def _from_shuffle(task: GraphNode) -> bool:
    return any(str(key).startswith(BARRIER) for key in task.dependencies)


def as_layers(
    tasks: dict[Any, GraphNode], annotations: Mapping[str, Mapping[Any, Any]]
) -> HighLevelGraph:
    """Return tasks in the form in which Dask takes annotations of single keys.

    Dask makes a token of every task of a plain dict, and of none of these.
    """
    by_key: dict[Any, dict[str, Any]] = {}
    for kind, values in annotations.items():
        for key, value in values.items():
            if key in tasks:
                by_key.setdefault(key, {})[kind] = value
    groups: dict[str, tuple[dict[str, Any], dict[Any, GraphNode]]] = {}
    for key, task in tasks.items():
        wanted = by_key.get(key, {})
        name = f"storing-{tokenize(wanted)}" if wanted else "storing"
        groups.setdefault(name, (wanted, {}))[1][key] = task
    layers = {
        name: MaterializedLayer(group, annotations=wanted or None)
        for name, (wanted, group) in groups.items()
    }
    return HighLevelGraph(layers, {name: set() for name in layers})


class LoadGraph(dict[Any, Any]):
    """The graph of one stored leaf: tasks that load, futures of those that store.

    A dict that can be referred to weakly.  Tasks are replaced in place as values are
    stored; keys are never added or taken away, so that it can be read meanwhile.
    """

    __slots__ = ("__weakref__",)

    def settle(self, load_key: Any, store_key: Any, stored: Stored) -> None:
        """Let a value be loaded without a task before it, now that it is stored."""
        self[load_key] = Task(load_key, load_value, stored)
        # an alias of itself is dropped by whoever runs the graph
        self[store_key] = Alias(store_key, store_key)


def load_keys(
    keys: Sequence[Any], where: Mapping[Any, Stored]
) -> tuple[str, list[Any]]:
    """Return a name for the loaded keys of a leaf, and the keys in order."""
    token = _token(*(where[key] for key in keys))
    name = f"{_prefix(keys[0])}-load-{token}" if keys else f"load-{token}"
    return name, [(name, *key[1:]) if isinstance(key, tuple) else name for key in keys]


def _renamed(key: Any, word: str, stored: Stored) -> Any:
    name = f"{_prefix(key)}-{word}-{_token(stored)}"
    return (name, *key[1:]) if isinstance(key, tuple) else name


def _token(*stored: Stored) -> str:
    """Return a hash of stores and objects; Dask's own takes 0.2 ms a value."""
    digest = hashlib.sha256()
    for one in stored:
        digest.update(f"{address_of(one.memory)}\n{one.object_id}\n".encode())
    return digest.hexdigest()[:32]


def _prefix(key: Any) -> str:
    return str(key_split(key))
