"""Graphs that arrive, rewritten: what is stored is loaded, the rest is as it was.

Pure: works on the tasks of one graph, before the scheduler knows of them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from dask._task_spec import DataNode, GraphNode, Task

from dask_memdash.intermediates.code_versions import edition
from dask_memdash.intermediates.lineage import Lineage, lineages
from dask_memdash.intermediates.memory import Memory, object_id
from dask_memdash.intermediates.shared.index import StoreIndex
from dask_memdash.intermediates.shared.loading import load_stored
from dask_memdash.intermediates.stored import Stored
from dask_memdash.intermediates.unstable import RANDOM_NAME

#: Collections that a graph without a call of persist says it is of.
NOT_PERSISTED = {"low-level-graph", "Future"}

#: What keys begin with that are no results: ends of a compute, and P2P's own.
NEVER_STORED = (
    *("finalize-", "shuffle-transfer-", "shuffle-barrier-", "shuffle-taskid-"),
    *("rechunk-transfer-", "store-map-", "to-parquet-", "memdash-"),
)


@dataclass(slots=True)
class Resumed:
    """A graph in which what is stored is loaded."""

    tasks: dict[Any, GraphNode]
    #: Keys that are loaded → where their values lie.
    loads: dict[Any, Stored]
    #: Of the keys that are loaded.
    lineages: dict[Any, Lineage]


def is_persist(span_metadata: Any, actors: Any) -> bool:
    """Return whether a graph comes from a call of persist."""
    if actors:
        return False
    collections = (span_metadata or {}).get("collections") or ()
    kinds = {str(one.get("type")) for one in collections}
    return bool(kinds) and not kinds & NOT_PERSISTED


def may_be_stored(key: Any, task: GraphNode | None) -> bool:
    """Return whether a requested key's value may be stored, by what it is called."""
    if task is None or isinstance(task, DataNode):
        return False
    name = key[0] if isinstance(key, tuple) and key else key
    if not isinstance(name, str):
        return True
    return not name.startswith(NEVER_STORED) and not RANDOM_NAME.search(name)


def resume(
    tasks: Mapping[Any, GraphNode],
    keys: Collection[Any],
    kept: Callable[[Any], GraphNode | None],
    is_known: Callable[[Any], bool],
    known_lineages: Mapping[Any, Lineage],
    earlier: Callable[[Collection[Any]], Mapping[Any, GraphNode]],
    index: StoreIndex,
    memory: Memory,
) -> Resumed | None:
    """Return the graph with loads in it; None if it stays as it is.

    Parameters
    ----------
    kept
        Key → the task that the scheduler has in its place, if it is one of ours.
    is_known
        Whether the scheduler knows a key already; such tasks stay what they are.
    known_lineages, earlier
        What is known of keys before the graph, and the tasks of keys that it lacks.
    """
    loads: dict[Any, Stored] = {}
    found: dict[Any, Lineage] = {}
    if len(index):
        unknown = [k for k in tasks if not is_known(k) and index.may_have(k)]
        candidates = [k for k in unknown if may_be_stored(k, tasks[k])]
        if candidates:
            found = lineages(
                {**earlier(_before(tasks)), **tasks}, candidates, known_lineages
            )
        version = getattr(memory, "version", None)
        for key in candidates:
            name = object_id(key, edition(found[key].functions, version))
            if name in index and not found[key].writes:
                loads[key] = Stored(memory, key, name)
    stand_ins = {k: task for k in tasks if (task := kept(k)) is not None}
    if not loads and not stand_ins:
        return None
    made: dict[Any, GraphNode] = {}
    used: dict[Any, Stored] = {}
    stack = list(keys)
    while stack:
        key = stack.pop()
        if key in made or key not in tasks:
            continue
        if key in stand_ins:
            made[key] = stand_ins[key]
        elif key in loads:
            made[key] = load_task(loads[key])
            used[key] = loads[key]
        else:
            made[key] = tasks[key]
            stack.extend(tasks[key].dependencies)
    return Resumed(made, used, {key: found[key] for key in used})


def _before(tasks: Mapping[Any, GraphNode]) -> set[Any]:
    """Return the keys that tasks need and a graph lacks."""
    return {k for task in tasks.values() for k in task.dependencies if k not in tasks}


def load_task(stored: Stored) -> Task:
    """Return a task that loads a value."""
    return Task(stored.key, load_stored, stored)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to become of one requested key."""

    #: Name of its object; None if it is never stored.
    object_id: str | None
    lineage: Lineage


def judge(
    tasks: Mapping[Any, GraphNode],
    keys: Collection[Any],
    known_lineages: Mapping[Any, Lineage],
    version: str | None,
) -> dict[Any, Verdict]:
    """Return for requested keys under which names their values are to be stored."""
    verdicts = {}
    for key, lineage in lineages(tasks, keys, known_lineages).items():
        name = None
        if not lineage.writes and may_be_stored(key, tasks.get(key)):
            name = object_id(key, edition(lineage.functions, version))
        verdicts[key] = Verdict(name, lineage)
    return verdicts
