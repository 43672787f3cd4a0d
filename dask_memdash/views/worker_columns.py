"""The table of workers; see :mod:`dask_memdash.views.tabular`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from dask_memdash import terms
from dask_memdash.errors import UnknownWorkerError
from dask_memdash.store.base import Store
from dask_memdash.store.worker_shapes import Worker
from dask_memdash.text import count, format_bytes
from dask_memdash.views import minute
from dask_memdash.views.prefix_figures import has_intermediates
from dask_memdash.views.tabular import Column, ColumnSet, Table, address, state_of


def worker_label(worker: Worker) -> str:
    """Name a worker; a bare number says nothing."""
    name = worker["name"]
    return f"worker {name}" if name.isdigit() else name


def has_left(worker: Worker) -> bool:
    """Say whether a worker is not there any more."""
    return worker["status"] == "left"


def _part(name: str) -> Callable[[Worker], int | None]:
    return lambda worker: worker["breakdown"][name]  # type: ignore[literal-required]


def _usage(worker: Worker) -> float | None:
    return _share(worker["breakdown"]["process"], worker["limit"])


def _share(process: int | None, limit: int | None) -> float | None:
    return process / limit if process is not None and limit else None


def _of_limit(worker: Worker) -> str:
    return f"of {format_bytes(worker['limit'])}" if worker["limit"] else ""


def _children(worker: Worker) -> int | None:
    """Return what its tasks' processes have, in bytes; None where there are none."""
    return worker["children"]["rss"] if worker["children"]["processes"] else None


def has_guard(store: Store) -> bool:
    """Say whether a guard watches over the workers."""
    return store.cluster()["guard"] is not None


def _waits(worker: Worker) -> int | None:
    """Return how many tasks wait for memory; None without a guard."""
    guard = worker["guard"]
    if guard is None or guard["mode"] == "off":
        return None
    return sum(held["tasks"] for held in guard["waiting"].values())


def _full_in(worker: Worker) -> float | None:
    """Return seconds until it is paused, or comes to its limit; None if it does not."""
    told = worker["time_to_limit"]
    return None if told is None else told["seconds"]


def _method(worker: Worker) -> str:
    return terms.label(terms.METHODS, worker["method"])


def _last_minute(store: Store, worker: Worker) -> str:
    """Return its process over the last minute, against its limit."""
    if has_left(worker):
        return ""
    now = store.cluster()["time"]
    try:
        past = store.history(worker["address"], minute.since(now), minute.ASKED)
    except UnknownWorkerError:  # it has left since the rows were made
        return ""
    top = worker["limit"] or max(past["process"], default=0)
    return minute.curve(past["time"], past["process"], now, top)


def one_of_each_process(workers: Iterable[Worker]) -> list[Worker]:
    """Return one worker of each process: workers that share one all tell the whole."""
    return list({(w["host"], w["pid"]): w for w in workers}.values())


def _not_running(workers: Sequence[Worker]) -> str:
    """Say how many workers are what else than running."""
    states = Counter(w["status"] for w in workers if w["status"] != "running")
    stale = sum(worker["stale_for"] is not None for worker in workers)
    told = [f"{number:,} {state}" for state, number in states.most_common()]
    told += [f"{stale:,} stale"] if stale else []
    return ", ".join(told) or "running"


def totals(store: Store) -> dict[str, Any]:
    """Return the cluster's figures, which the connected workers' add up to."""
    cluster, workers = store.cluster(), store.workers()
    if not workers:
        return {}
    breakdown = cluster["breakdown"]
    past = store.history(None, minute.since(cluster["time"]), minute.ASKED)
    top = cluster["limit"] or max(past["process"], default=0)
    children = [_children(worker) for worker in one_of_each_process(workers)]
    known = [size for size in children if size is not None]
    return {
        **dict(breakdown),
        "name": f"All {count(len(workers), 'worker')}" if len(workers) > 1 else "All",
        "status": _not_running(workers),
        "usage": _share(breakdown["process"], cluster["limit"]),
        "limit": cluster["limit"],
        "minute": minute.curve(past["time"], past["process"], cluster["time"], top),
        "stored": cluster["stored"],
        "pending": cluster["stored_pending"],
        "children": sum(known) if known else None,
        "tasks": sum(len(worker["executing_tasks"]) for worker in workers),
        "waits": sum(_waits(worker) or 0 for worker in workers),
        "threads": sum(worker["nthreads"] for worker in workers),
    }


WORKERS = Table(
    name="workers",
    title="Workers",
    rows=lambda store: store.workers(),
    apart=lambda store: store.departed(),
    apart_words=("worker that has left", "workers that have left"),
    link=lambda worker: address("worker", worker["address"]),
    total=totals,
    faint=has_left,
    sets=(
        ColumnSet(
            "Summary",
            (
                *("status", "minute", "usage", "executing"),
                *("process", "managed", "full_in"),
            ),
        ),
        ColumnSet(
            "Storage",
            (
                *("managed", "spilled", "transfer", "actors"),
                *("stored", "pending", "limit"),
            ),
        ),
        ColumnSet(
            "Execution",
            (
                *("executing", "error", "tasks", "threads"),
                *("waits", "children", "method"),
            ),
        ),
        ColumnSet(
            "Errors",
            (
                *("status", "process", "error", "method"),
                *("retained", "graph", "baseline"),
            ),
        ),
    ),
    columns=(
        Column("name", "Worker", "text", worker_label, more=lambda w: w["address"]),
        Column(
            "status",
            "Status",
            "state",
            state_of,
            "Dask's own word. A paused worker starts no new task. A stale one has sent "
            "no heartbeat for longer than three of its intervals. Workers that have "
            "left can be listed for a while; they are in no total.",
        ),
        Column(
            "minute",
            "Last minute",
            "curve",
            lambda worker: "",
            "Memory of its process over the last minute; the top is its limit.",
            ask=_last_minute,
        ),
        Column(
            "usage",
            "Of its limit",
            "share",
            _usage,
            "Memory of the process, as a share of the worker's limit.",
        ),
        Column(
            "process",
            "Process",
            "size",
            _part("process"),
            terms.BESIDE["process"].sentence,
            more=_of_limit,
        ),
        Column(
            "limit",
            "Limit",
            "size",
            lambda worker: worker["limit"],
            "The worker's memory limit, as Dask knows it.",
        ),
        *(
            Column(
                part.name,
                part.label.capitalize(),
                "size",
                _part(part.name),
                part.sentence,
            )
            for part in terms.PARTS.values()
        ),
        Column("error", "±", "size", _part("error"), terms.CONCEPTS["error"].sentence),
        Column(
            "spilled",
            "Spilled",
            "size",
            _part("spilled"),
            terms.BESIDE["spilled"].sentence,
        ),
        Column(
            "stored",
            "Stored",
            "size",
            lambda worker: worker["stored"],
            terms.STORING["stored"].sentence,
            shown=has_intermediates,
        ),
        Column(
            "pending",
            "Pending",
            "size",
            lambda worker: worker["stored_pending"],
            terms.STORING["pending"].sentence,
            shown=has_intermediates,
        ),
        Column(
            "children",
            "Child processes",
            "size",
            _children,
            terms.BESIDE["children"].sentence,
        ),
        Column(
            "tasks",
            "Tasks running",
            "number",
            lambda worker: len(worker["executing_tasks"]),
            "Tasks that run now, and finished ones whose output is not stored yet.",
        ),
        Column(
            "waits",
            "Wait for memory",
            "number",
            _waits,
            "Tasks that are ready and that the guard holds until they fit; in a dry "
            "run, that it would hold.",
            shown=has_guard,
        ),
        Column(
            "full_in",
            "Full in",
            "seconds",
            _full_in,
            terms.CONCEPTS["time-to-limit"].sentence,
        ),
        Column("threads", "Threads", "number", lambda worker: worker["nthreads"]),
        Column(
            "method", "Measured", "text", _method, terms.CONCEPTS["method"].sentence
        ),
    ),
)
