"""Answers of a record without what came after the instant that is looked at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, cast, get_type_hints

from dask_memdash.store.incident_shapes import Incident
from dask_memdash.store.last_seconds import NOT_RECORDED, nothing
from dask_memdash.store.order_shapes import Graph
from dask_memdash.store.recorded_catalogue import KnownWorker
from dask_memdash.store.worker_shapes import Breakdown, Worker

#: What a list of incidents says of each.
BRIEF = frozenset(get_type_hints(Incident))

#: Kinds of incidents that are deaths of workers.
DEATHS = frozenset(
    ("terminated", "oom-killed", "killed", "crashed", "exited", "lost"),
)

#: What a worker says only while it is there, as the store of a living cluster has it.
GONE: dict[str, Any] = {
    "status": "left",
    "time_to_limit": None,
    "stale_for": None,
    "children": {"processes": 0, "rss": 0, "tasks": []},
    "shares_process_with": 0,
    "transfer": dict.fromkeys(("incoming", "outgoing", "shuffle")),
    "stored": 0,
    "stored_pending": 0,
    "storing": None,
    "guard": None,
    "executing_tasks": [],
    "degraded": [],
}


def cut_incident(answer: dict[str, Any], instant: float) -> dict[str, Any]:
    """Return an incident; one that lasted beyond the instant lasts."""
    if "last_seconds" not in answer:  # as older records lack it
        spill = answer.get("spill") or {}
        known = {"target": spill.get("target"), "spill": spill.get("threshold")}
        more = {"thresholds": {**known, "pause": None, "terminate": None}}
        answer = {**answer, **more, "last_seconds": nothing(NOT_RECORDED)}
    until = answer["until"]
    if until is not None and until > instant:
        return {**answer, "until": None}
    return answer


def cut_failure(
    answer: dict[str, Any], instant: float, kind_of: Callable[[str], str | None]
) -> dict[str, Any]:
    """Return a failure without the incidents that came later.

    What it cost, and what was learnt of its cause, stays as it was last known.
    """
    closed = answer["closed"]
    cut = {**answer, "closed": None if closed is None or closed > instant else closed}
    kinds = {one: kind_of(one) for one in answer["incidents"]}
    then = [one for one, kind in kinds.items() if kind is not None]
    if len(then) == len(kinds):
        return cut
    counted = Counter(kind for kind in kinds.values() if kind is not None)
    deaths = sum(n for kind, n in counted.items() if kind in DEATHS)
    return {
        **cut,
        "incidents": then,
        "count": len(then),
        "deaths": deaths,
        "kinds": dict(counted),
        "settled": False,
    }


def cut_graph(answer: dict[str, Any], done: int | None) -> Graph:
    """Return a graph as far as it had got; its verdict as it was last known.

    By how much it ran ahead, and of what, is not known of an earlier instant.
    """
    answer = {"sizes": [], "foreseen": None, **answer}  # as older records lack it
    if done is None or answer["done"] is None or done >= answer["done"]:
        return cast(Graph, answer)
    curve = answer["curve"]
    held = [
        value if position <= done else None
        for position, value in zip(curve["position"], curve["actual"], strict=True)
    ]
    known = [value for value in held if value is not None]
    return cast(
        Graph,
        {
            **answer,
            "done": done,
            "actual_peak": max(known, default=None),
            "run_ahead": None,
            "run_ahead_position": None,
            "run_ahead_by": [],
            "curve": {**curve, "actual": held},
            "incidents": [i for i in answer["incidents"] if i["position"] <= done],
            "finished": False,
        },
    )


def departed_row(worker: KnownWorker, last: Any) -> Worker:
    """Return a worker that had left, as it was last seen.

    Parameters
    ----------
    last
        Its last state; None where none was recorded.
    """
    if last is None:
        last = {
            "address": worker.address,
            "name": worker.name,
            "host": "",
            "pid": 0,
            "nthreads": 0,
            "n_pauses": 0,
            "limit": None,
            "thresholds": dict.fromkeys(("target", "spill", "pause", "terminate")),
            "breakdown": dict.fromkeys(get_type_hints(Breakdown)),
            "rss": dict.fromkeys(("anon", "file", "shmem")),
            "method": "none",
            "self_cost": {},
        }
    left = worker.left if worker.left is not None else last.get("last_seen")
    return cast(Worker, {**last, **GONE, "last_seen": left})
