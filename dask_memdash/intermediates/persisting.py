"""``dask_memdash.persist``: collections that are stored apart from the workers.

As Dask's own ``persist``, it starts the work and returns collections of the same kind
at once.  Their chunks go to a memory, one by one as they are computed, and are loaded
from there whenever they are needed: no worker has to keep them, and the next cluster
finds them.  Needs no plugin: graphs do it all.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from dask._task_spec import List, Task, TaskRef
from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph

from dask_memdash.errors import StorageError
from dask_memdash.intermediates import code_versions, manifest, names
from dask_memdash.intermediates.kinds import (
    Leaf,
    Whole,
    describe,
    make_again,
    take_apart,
)
from dask_memdash.intermediates.manifest import Facts
from dask_memdash.intermediates.memory import Memory, address_of, object_id
from dask_memdash.intermediates.pinned_graph import (
    LoadGraph,
    Materialized,
    as_layers,
    load_keys,
    materialize,
    storing_tasks,
)
from dask_memdash.intermediates.settling import Pending, watch
from dask_memdash.intermediates.stored import Stored, load_value
from dask_memdash.intermediates.unstable import warn_of_unstable

if TYPE_CHECKING:
    from distributed import Client


@dataclass(frozen=True, slots=True)
class Body:
    """What a manifest needs beside its facts to make the collections again."""

    wholes: Sequence[Whole]
    leaves: Sequence[Leaf]
    #: Keys of each leaf, in its own order.
    keys: Sequence[Sequence[Any]]


@dataclass(slots=True)
class Plan:
    """One call of persist, worked out before anything is asked of the store."""

    memory: Memory
    graph: Materialized
    body: Body
    facts: Facts
    overwrite: bool
    trust_keys: bool
    #: Output key → where its value lies or will lie.
    where: dict[Any, Stored]


def persist(
    *collections: Any,
    memory: Memory,
    name: str | None = None,
    overwrite: bool = False,
    compute: bool = True,
    optimize_graph: bool = True,
    client: Client | None = None,
    trust_keys: bool = False,
) -> Any:
    """Compute collections into a store that outlives the cluster, or find them there.

    Returns at once, as :func:`dask.persist` does; ``distributed.progress`` and ``wait``
    work on what it returns.  What is stored already is loaded and not computed.

    Parameters
    ----------
    *collections
        Array, DataFrame, Bag, Delayed, or an xarray object made of Arrays.
    memory
        Where to, such as ``FSMemory("s3://bucket/store")``; workers and client must
        reach it.
    name
        By which :func:`open_persisted` finds the set; made from the keys unless given.
    overwrite
        Whether the set may take the place of another one of that name.
    compute
        If False, nothing is computed now: returns one Delayed that stores all and gives
        the name when it is computed, with any scheduler.
    optimize_graph
        Whether the graph is optimized first.
    client
        By default the current one.  Without any, Dask's local scheduler computes, and
        persist returns when all is stored.
    trust_keys
        Whether what is stored is loaded although functions of yours have changed since.

    Returns
    -------
    collection, tuple of collections or Delayed
        With an asynchronous client, an awaitable of it.

    Raises
    ------
    NameTakenError
        Something else has that name; the message says what differs.
    StorageError
        The store refuses or does not answer, or an argument cannot be stored.
    """
    if not collections:
        raise StorageError("persist needs at least one collection")
    client = client or _current_client()
    if not getattr(memory, "outlives_workers", True):
        return _as_dask_does(client, collections, name, overwrite, optimize_graph)
    parts = [take_apart(collection) for collection in collections]

    def prepare() -> tuple[Plan, Facts, dict[str, int]]:
        plan = _plan(memory, parts, name, optimize_graph, overwrite, trust_keys)
        return plan, *_claim(plan)

    if client is not None and compute and client.asynchronous:

        async def persist_later() -> Any:
            prepared = await asyncio.to_thread(prepare)
            return await asyncio.to_thread(_start, client, *prepared)

        return persist_later()
    prepared = prepare()
    if not compute:
        return _lazily(*prepared)
    if client is None:
        _lazily(*prepared).compute()
        return _loaded(prepared[0])
    return _start(client, *prepared)


def _current_client() -> Client | None:
    from distributed import get_client

    try:
        return get_client()
    except ValueError:
        return None


def _as_dask_does(
    client: Client | None,
    collections: Sequence[Any],
    name: str | None,
    overwrite: bool,
    optimize_graph: bool,
) -> Any:
    """Persist into the workers' memory; a name becomes a dataset of the scheduler."""
    from dask.base import persist as persist_in_memory

    if client is None:
        made = persist_in_memory(*collections, optimize_graph=optimize_graph)
    else:
        made = tuple(client.persist(list(collections), optimize_graph=optimize_graph))
    result = made[0] if len(made) == 1 else made
    if name is not None and client is not None:
        client.publish_dataset(result, name=name, override=overwrite)
    return result


# -- planning ------------------------------------------------------------------


def _plan(
    memory: Memory,
    parts: Sequence[tuple[Whole, list[Any]]],
    name: str | None,
    optimize_graph: bool,
    overwrite: bool,
    trust_keys: bool,
) -> Plan:
    leaves = [leaf for _, part in parts for leaf in part]
    described = [describe(leaf) for leaf in leaves]
    graph = materialize(leaves, optimize_graph)
    warn_of_unstable(graph.tasks)
    version = getattr(memory, "version", None)
    where: dict[Any, Stored] = {}
    functions: dict[str, str] = {}
    for key, before in graph.functions.items():
        edition = code_versions.edition(before, version)
        where[key] = Stored(memory, key, object_id(key, edition))
        functions |= before
    objects = [where[key].object_id for keys in graph.outputs for key in keys]
    words = [leaf.words for leaf in described]
    if name is None:
        name = f"{described[0].prefix}-{object_id(tuple(objects))[:8]}"
    facts = manifest.draft(
        manifest.check_name(name),
        words,
        list(dict.fromkeys(objects)),
        functions,
        version,
    )
    body = Body([whole for whole, _ in parts], described, graph.outputs)
    return Plan(memory, graph, body, facts, overwrite, trust_keys, where)


def _claim(plan: Plan) -> tuple[Facts, dict[str, int]]:
    """Claim the name; return what it stands for, and which objects are there."""
    create = getattr(plan.memory, "create", None)
    if create is not None:
        create()
    facts = names.claim(
        plan.memory, plan.facts, plan.body, plan.overwrite, plan.trust_keys
    )
    of_key = {one.partition("-")[0]: one for one in facts.objects}
    for key, stored in plan.where.items():
        trusted = of_key[stored.object_id.partition("-")[0]]
        if trusted != stored.object_id:
            plan.where[key] = Stored(plan.memory, key, trusted)
    return facts, names.stored_ids(plan.memory)


def _missing(plan: Plan, there: dict[str, int]) -> dict[Any, Stored]:
    return {k: s for k, s in plan.where.items() if s.object_id not in there}


# -- starting ------------------------------------------------------------------


def _start(client: Client, plan: Plan, facts: Facts, there: dict[str, int]) -> Any:
    """Send the graph of what is missing; return collections that load."""
    missing = _missing(plan, there)
    give_name = partial(names.finish, plan.memory, facts, plan.body, plan.overwrite)
    if not missing:
        if facts.finished is None:
            give_name()
        return _loaded(plan)
    tasks, store_keys, annotations = storing_tasks(plan.graph, missing)
    futures = dict(
        zip(
            store_keys,
            client.get(
                as_layers(tasks, annotations), list(store_keys.values()), sync=False
            ),
            strict=True,
        )
    )
    loads: dict[Any, list[tuple[Any, LoadGraph]]] = {}

    def graph_of(keys: Sequence[Any], new_keys: Sequence[Any]) -> LoadGraph:
        graph = LoadGraph()
        for key, load_key in zip(keys, new_keys, strict=True):
            stored = plan.where[key]
            if key in missing:
                store_key = store_keys[key]
                after = TaskRef(store_key)
                graph[load_key] = Task(load_key, load_value, stored, after)
                graph[store_key] = futures[key]
                loads.setdefault(key, []).append((load_key, graph))
            else:
                graph[load_key] = Task(load_key, load_value, stored)
        return graph

    made = _collections(plan.body, plan.where, graph_of)
    pending = [
        Pending(
            store_keys[key],
            found[0][0],
            plan.where[key],
            [weakref.ref(graph) for _, graph in found],
        )
        for key, found in loads.items()
    ]
    watch(client, pending, give_name)
    return made


def _loaded(plan: Plan) -> Any:
    return load_all(plan.body, plan.where)


def load_all(body: Body, where: dict[Any, Stored]) -> Any:
    """Return collections that do nothing but load what is stored."""

    def graph_of(keys: Sequence[Any], new_keys: Sequence[Any]) -> LoadGraph:
        graph = LoadGraph()
        for key, load_key in zip(keys, new_keys, strict=True):
            graph[load_key] = Task(load_key, load_value, where[key])
        return graph

    return _collections(body, where, graph_of)


def _collections(body: Body, where: dict[Any, Stored], graph_of: Any) -> Any:
    leaves = []
    for leaf, keys in zip(body.leaves, body.keys, strict=True):
        name, new_keys = load_keys(keys, where)
        leaves.append(make_again(leaf, graph_of(keys, new_keys), new_keys, name))
    wholes = []
    for whole in body.wholes:
        wholes.append(whole.put_together(leaves[: whole.leaves]))
        leaves = leaves[whole.leaves :]
    return wholes[0] if len(wholes) == 1 else tuple(wholes)


# -- later, or without a cluster ------------------------------------------------


def _lazily(plan: Plan, facts: Facts, there: dict[str, int]) -> Any:
    """Return one Delayed that stores what is missing, and then gives the name."""
    missing = _missing(plan, there)
    tasks, store_keys, annotations = storing_tasks(plan.graph, missing)
    key = f"give-name-{facts.plan}"
    after = List(*(TaskRef(store_key) for store_key in store_keys.values()))
    give = partial(_give_name, plan.memory, facts, plan.body, plan.overwrite)
    layers = as_layers(tasks, annotations)
    graph = HighLevelGraph(
        {**layers.layers, key: {key: Task(key, give, after)}},
        {**layers.dependencies, key: set(layers.layers)},
    )
    return Delayed(key, graph, layer=key)


def _give_name(
    memory: Memory, facts: Facts, body: Body, overwrite: bool, stored: Any
) -> str:
    return names.finish(memory, facts, body, overwrite).name


def opened(memory: Memory, facts: Facts, body: Body) -> Any:
    """Return the collections of a finished set.

    Raises
    ------
    StorageError
        The manifest does not name an object for each of its keys.
    """
    of_key = {one.partition("-")[0]: one for one in facts.objects}
    where: dict[Any, Stored] = {}
    for keys in body.keys:
        for key in keys:
            found = of_key.get(object_id(key))
            if found is None:
                raise StorageError(
                    f"the manifest of {facts.name!r} in {address_of(memory)} lacks an "
                    "object. Persist the collection again with overwrite=True."
                )
            where[key] = Stored(memory, key, found)
    return load_all(body, where)
