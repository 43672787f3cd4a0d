"""What a cluster or a recorded run knows that a preflight asks: peaks, and the room.

All sizes in bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from dask_memdash.analysis.order.preflight import Space
from dask_memdash.analysis.order.taken import Taken
from dask_memdash.errors import NotRegisteredError
from dask_memdash.model.room import ProcessRoom, Room, joined

if TYPE_CHECKING:
    from dask_memdash.client.connection import Connection

#: Graphs that are looked at for what tasks get, and prefixes that are asked for.
GRAPHS = 50
PREFIXES = 1_000


@dataclass(frozen=True, slots=True)
class Known:
    """What a cluster or a record knows."""

    #: Prefix → what its tasks took.
    taken: dict[str, Taken]
    #: Prefix → the median size of its outputs.
    outputs: dict[str, int]
    #: What the workers have.
    space: Space


def ask(connection: Connection) -> Known | None:
    """Return what is known behind a connection; None without MemDash.

    Raises
    ------
    MemDashError
        It cannot be asked.
    """
    try:
        rows = connection.ask("prefixes", limit=PREFIXES)
    except NotRegisteredError:
        return None
    graphs = connection.ask("order", limit=GRAPHS)
    sizes = {
        row["prefix"]: size
        for row in rows
        if row["kind"] == "task"
        and (size := row["storage"]["output_bytes"]["p50"]) is not None
    }
    space = space_of(connection.ask("workers"))
    return Known(taken_of(rows, graphs), sizes, space)


def known_of(client: Any, run: Any) -> Known | None:
    """Return what a client's cluster knows, or a recorded run; None where neither does.

    Peaks are the run's where one is given; the room is the cluster's where one is.
    """
    from dask_memdash.client.connection import connect

    here = None if client is None else ask(connect(client))
    if run is None:
        return here
    recorded = _recorded(run)
    if recorded is None or client is None:
        return recorded
    space = _space_without(client) if here is None else here.space
    if space.idle is None or (recorded.space.idle or 0) > space.idle:
        # a worker that has not worked yet has not loaded what the tasks load
        space = replace(space, idle=recorded.space.idle)
    return replace(recorded, space=space)


def _recorded(run: Any) -> Known | None:
    from dask_memdash.client.connection import Connection

    if isinstance(run, Connection):
        return ask(run)
    from dask_memdash.client.recorded import open_run

    with open_run(run) as opened:
        return ask(opened)


def _space_without(client: Any) -> Space:
    """Return what a cluster has that MemDash does not run on, by Dask's settings."""
    rows = [
        {
            "limit": worker["memory_limit"] or None,
            "nthreads": worker["nthreads"],
            "thresholds": {
                name: worker["memory_limit"] * share
                if (share := _fraction(name)) and worker["memory_limit"]
                else None
                for name in ("target", "spill", "pause", "terminate")
            },
            "breakdown": {"process": None},
        }
        for worker in client.scheduler_info(n_workers=-1)["workers"].values()
    ]
    return space_of(rows)


def _fraction(name: str) -> float:
    import dask

    return float(dask.config.get(f"distributed.worker.memory.{name}", 0) or 0)


def taken_of(
    prefixes: Iterable[Mapping[str, Any]], graphs: Iterable[Mapping[str, Any]]
) -> dict[str, Taken]:
    """Return what tasks took, from a store's answers."""
    inputs: dict[str, int] = {}
    for graph in graphs:
        for each in graph.get("sizes") or ():  # runs recorded earlier have none
            name = each["prefix"]
            inputs[name] = max(each["inputs"], inputs.get(name, 0))
    found = {}
    for row in prefixes:
        if row["kind"] != "task":
            continue
        execution, outputs = row["execution"], row["storage"]["output_bytes"]
        peak, unseen = execution["peak"], execution["unseen"]
        found[row["prefix"]] = Taken(
            finished=execution["finished"],
            p50=peak["p50"],
            most=peak["max"],
            at_least=peak["at_least"],
            error=max(execution["error"] or 0, unseen["native"]),
            output=outputs["max"],
            inputs=inputs.get(row["prefix"]),
        )
    return found


def space_of(workers: Iterable[Mapping[str, Any]]) -> Space:
    """Return what workers have, from a store's answers."""
    rows = list(workers)
    if not rows:
        return Space()
    least = min(rows, key=lambda row: row["limit"] or 0)
    thresholds = [row["thresholds"] for row in rows]
    ends = [row["thresholds"]["terminate"] or row["limit"] for row in rows]
    targets = [each["target"] or each["spill"] for each in thresholds]
    idle = [_idle(row["breakdown"]) for row in rows]
    known_idle = [size for size in idle if size is not None]
    bounded = all(ends)
    return Space(
        workers=len(rows),
        threads=max(row["nthreads"] for row in rows),
        total_threads=sum(row["nthreads"] for row in rows),
        limit=least["limit"] or None,
        end=min(ends) if bounded else None,
        pause=min((t["pause"] for t in thresholds if t["pause"]), default=None),
        target=max(targets) if all(targets) else None,
        idle=max(known_idle, default=None),
        most=max(ends) if bounded else None,
    )


def _idle(breakdown: Mapping[str, Any]) -> int | None:
    """Return what of a process is neither stored, nor moved, nor a running task's."""
    if breakdown["process"] is None:
        return None
    # what the allocator keeps of what was freed, the next tasks take
    own = ("baseline", "graph", "actors")
    return sum(breakdown[part] or 0 for part in own)


def cluster_of(client: Any) -> tuple[int | None, Room]:
    """Return the threads of a client's cluster, and what its workers have room for.

    That is their limits less what each process takes now beside stored outputs: more
    than they have where they cannot spill, since then they pause before.
    """
    if client is None:
        return None, Room()
    workers = list(client.scheduler_info(n_workers=-1)["workers"].values())
    threads = sum(worker["nthreads"] for worker in workers)
    return threads, joined(_worker_room(worker) for worker in workers)


def _worker_room(worker: Mapping[str, Any]) -> ProcessRoom:
    metrics = worker.get("metrics") or {}
    used, stored = metrics.get("memory"), metrics.get("managed_bytes") or 0
    return ProcessRoom(
        limit=worker["memory_limit"] or None,
        pause=None,
        terminate=None,
        spills=True,
        idle=None if not used else max(0, used - stored),
    )
