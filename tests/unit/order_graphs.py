"""Small graphs for tests of the order analysis."""

from array import array
from hashlib import blake2b

import numpy as np

from dask_memdash.analysis.order.comparison import Snapshot
from dask_memdash.analysis.order.pack import RawTasks, pack
from dask_memdash.model.events import GraphArrived
from dask_memdash.model.graph_columns import PINNED
from dask_memdash.model.room import Room

T = 1_760_000_000.0

#: Two chains that meet: key → (what it needs, size in bytes).  In order of priority;
#: a client wants the last one.
CHAINS = {
    "load-1": ((), 10),
    "cut-1": (("load-1",), 2),
    "load-2": ((), 20),
    "cut-2": (("load-2",), 3),
    "join-1": (("cut-1", "cut-2"), 1),
}


def hashes(*keys):
    """Return numbers that stand for hashes; the same in every run."""
    return [
        int.from_bytes(blake2b(key.encode(), digest_size=7).digest(), "little")
        for key in keys
    ]


def raw(graph, wanted=("join-1",), given=(), priorities=None):
    """Make what was copied of a graph."""
    made = RawTasks()
    for rank, (key, (needs, _)) in enumerate(graph.items()):
        made.hashes.extend(hashes(key))
        user, generation, order = (priorities or {}).get(key, (0, 1, rank))
        made.users.append(user)
        made.generations.append(generation)
        made.orders.append(order)
        name = key.split("-")[0]
        if name not in made.prefixes:
            made.prefixes.append(name)
        made.prefix.append(made.prefixes.index(name))
        made.degrees.append(len(needs))
        made.dependencies.extend(hashes(*needs))
        made.flags.append((PINNED if key in wanted else 0) | (2 if key in given else 0))
    return made


def arrived(graph=CHAINS, name="g", time=T, moved=(), **more):
    """Make the event of a graph's arrival."""
    columns = pack(raw(graph, **more))
    return GraphArrived(
        time=time,
        graph=name,
        groups=("group",),
        priorities={},
        name="join",
        tasks=len(columns.flags) - columns.n_given,
        columns=columns,
        moved=moves(*moved),
    )


def moves(*pairs):
    """Make a column of moves from keys with sizes; -1 is a leaving."""
    column = array("q")
    for key, size in pairs:
        column.extend((*hashes(key), size))
    return column.tobytes()


def snapshot(graph=CHAINS, threads=1, capacity=None, stored=(), room=None, **more):
    """Make the snapshot of a graph of which nothing has run, all sizes known.

    `stored` gives for each key when it was stored, when it left, and nothing else ran.
    """
    columns = pack(raw(graph, **more))
    n = len(graph)
    keys = list(graph)
    made = Snapshot(
        id="g",
        total=n - columns.n_given,
        done=max([0, *(begin for _, begin, _ in stored)]),
        finished=False,
        threads=threads,
        capacity=capacity,
        room=Room() if room is None else room,
        prefixes=columns.prefixes,
        prefix=np.frombuffer(columns.prefix, np.uint16),
        offsets=np.frombuffer(columns.offsets, np.uint32),
        dependencies=np.frombuffer(columns.dependencies, np.uint32),
        flags=columns.flags,
        sizes=np.array([size for _, size in graph.values()], np.float32),
        stored_at=np.zeros(n, np.uint32),
        left_at=np.zeros(n, np.uint32),
    )
    for key, begin, end in stored:
        made.stored_at[keys.index(key)] = begin
        made.left_at[keys.index(key)] = end
    return made
