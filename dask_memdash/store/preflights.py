"""Whether a graph fits, execution and all, as the store shows it.

What tasks took is the cluster's, by prefix.  Of a graph that has run there is nothing
to foresee.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dask_memdash.analysis.order.comparison import Judgement, Snapshot, judge
from dask_memdash.analysis.order.preflight import (
    Load,
    Planned,
    Preflight,
    Space,
    preflight,
)
from dask_memdash.analysis.order.preflight_words import in_words
from dask_memdash.analysis.order.simulate import Shape
from dask_memdash.analysis.order.sizes import fill_sizes
from dask_memdash.analysis.order.taken import Sizes, Taken
from dask_memdash.model.cluster import ClusterModel
from dask_memdash.model.processes import ProcessState
from dask_memdash.model.room import process_room
from dask_memdash.store.order_shapes import Foreseen, ThreadLoad


def foresee(
    snapshot: Snapshot, taken: Mapping[str, Taken], space: Space
) -> tuple[Judgement, Preflight | None]:
    """Judge a graph, and say whether it will fit."""
    judged = judge(snapshot)
    if snapshot.finished:
        return judged, None
    sizes, doubt = fill_sizes(snapshot)
    outputs = Sizes(
        sizes.astype(np.float64), doubt.astype(np.float64), snapshot.sizes >= 0
    )
    planned = Planned(
        Shape(snapshot.offsets, snapshot.dependencies, snapshot.flags),
        snapshot.prefixes,
        snapshot.prefix.astype(np.intp),
        outputs,
    )
    return judged, preflight(planned, taken, space)


def taken_of(model: ClusterModel, prefixes: tuple[str, ...]) -> dict[str, Taken]:
    """Return what tasks of some prefixes took on a cluster so far."""
    found = {}
    for name in prefixes:
        state = model.prefixes.by_name.get(name)
        if state is not None:
            error = state.errors.quantile(0.9) or 0
            found[name] = Taken(
                finished=state.finished,
                p50=state.peaks.quantile(0.5),
                most=state.peaks.max,
                at_least=state.at_least,
                error=max(error, state.unseen.native),
                output=state.outputs.max,
            )
    return found


def space_of(model: ClusterModel) -> Space:
    """Return what the workers of a cluster have."""
    processes = list(model.processes.by_key.values())
    rooms = [process_room(process) for process in processes]
    if not rooms:
        return Space()
    ends = [room.for_task for room in rooms]
    threads = [_threads(process) for process in processes]
    idle = [room.idle for room in rooms if room.idle is not None]
    limits = [room.limit for room in rooms]
    known_ends = [end for end in ends if end]
    bounded = len(known_ends) == len(rooms) and all(limits)
    return Space(
        workers=len(rooms),
        threads=max(threads),
        total_threads=sum(threads),
        limit=min(filter(None, limits)) if bounded else None,
        end=min(known_ends) if bounded else None,
        pause=min((room.pause for room in rooms if room.pause), default=None),
        target=_target(processes),
        idle=max(idle, default=None),
        most=max(known_ends) if bounded else None,
    )


def shown(found: Preflight | None) -> Foreseen | None:
    """Return it in the shape of the store."""
    if found is None:
        return None
    room = found.space.room
    return {
        "kind": found.kind,
        "text": in_words(found),
        "low": found.low,
        "usual": found.usual,
        "high": found.high,
        "execution": found.execution,
        "position": found.position,
        "has": None if room is None else room * found.space.workers,
        "fitting": found.fitting,
        "workers": [_load(load, room) for load in (found.load, *found.fewer)],
        "unknown": list(found.why),
        "assumed": list(found.assumed),
    }


def _load(load: Load, room: int | None) -> ThreadLoad:
    return {
        "threads": load.threads,
        "kind": load.kind,
        "low": load.low,
        "high": load.high,
        "execution": load.execution,
        "has": room,
    }


def _threads(process: ProcessState) -> int:
    return sum(member.info.nthreads for member in process.members.values())


def _target(processes: list[ProcessState]) -> int | None:
    """Return down to where all workers spill; None where one does not."""
    found: list[int] = []
    for process in processes:
        for member in process.members.values():
            lines: Any = member.thresholds
            line = lines.target or lines.spill
            if line is None:
                return None
            found.append(line)
    return max(found, default=None)
