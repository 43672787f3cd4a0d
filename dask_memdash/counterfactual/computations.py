"""What a store knows of the graphs that ran, and whose tasks are whose.

On a living cluster one computation follows another, and figures of task prefixes are of
all of them together.  All sizes are integers in bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dask_memdash.errors import UnknownGraphError
from dask_memdash.store.base import Store
from dask_memdash.terms import DEATHS

#: Why the order of what ran is not used.
NO_ORDER = "no order was recorded"
BESIDE = "another computation ran beside it"


@dataclass(frozen=True, slots=True)
class Order:
    """What graphs need to store, from their order."""

    tasks: int
    done: int
    minimum: int | None
    minimum_threads: int | None
    actual_peak: int | None
    run_ahead: int | None
    #: What one task needs with its inputs.
    need: int | None


def roots_of(store: Store) -> frozenset[str]:
    """Return the prefixes that are known to have no inputs."""
    return frozenset(
        told["prefix"] for graph in store.order(20) for told in graph["rootish"]
    )


def order_of(
    store: Store,
    failed: dict[str, Any] | None,
    times: Sequence[float],
    stored: Sequence[float],
) -> tuple[Order | None, str]:
    """Return the order of what ran, or of what failed; and why there is none."""
    if failed is None:
        return _order(store.order(50)), NO_ORDER
    try:
        graph = None if failed["graph"] is None else store.graph(failed["graph"])
    except UnknownGraphError:
        graph = None
    order = None if graph is None else _order([graph])
    if graph is None or order is None:
        return None, NO_ORDER
    if any(not g["finished"] and g["id"] != graph["id"] for g in store.order(50)):
        return None, BESIDE
    # What was kept of others when it came is stored beside its own.
    before = [s for t, s in zip(times, stored, strict=True) if t <= graph["time"]]
    kept = round(before[-1]) if before else 0
    least, most = order.minimum, order.minimum_threads
    return replace(
        order,
        minimum=None if least is None else least + kept,
        minimum_threads=None if most is None else most + kept,
    ), ""


def _order(known: Iterable[Any]) -> Order | None:
    graphs = [g for g in known if g["minimum"] is not None]
    if not graphs or any(g["covered"] is not None for g in graphs):
        return None
    largest = max(graphs, key=lambda g: g["minimum"] or 0)
    # One that ran ahead counts, though another's order needs more.
    ahead = [g["run_ahead"] for g in graphs if g["run_ahead"] is not None]
    return Order(
        tasks=sum(g["tasks"] for g in graphs),
        done=sum(g["done"] or 0 for g in graphs),
        minimum=largest["minimum"],
        minimum_threads=largest["minimum_threads"],
        actual_peak=largest["actual_peak"],
        run_ahead=max(ahead, default=None),
        need=max((g["need"]["bytes"] for g in graphs if g["need"]), default=None),
    )


def elsewhere(
    store: Store,
    failed: dict[str, Any],
    known: Iterable[Any],
    incidents: Iterable[Any],
) -> tuple[str, ...]:
    """Return prefixes of tasks that died whose known sizes may be of others.

    Those are all of which none is known to have finished since their own computation
    came, where there were other computations.
    """
    graphs = store.order(50)
    others = [g for g in graphs if g["id"] != failed["graph"]]
    if not others:
        return ()
    began = next((g["time"] for g in graphs if g["id"] == failed["graph"]), None)
    died = _cut_short(incidents)
    if began is None:
        return tuple(sorted(died))
    finished = {
        task["prefix"]
        for worker in known
        for task in store.task_history(worker["address"])
        if task["start"] >= began and not task["running"] and task["peak"]
    }
    return tuple(sorted(died - finished))


def cut_short_elsewhere(
    incidents: Sequence[Any], cut: Iterable[str]
) -> tuple[str, ...]:
    """Return which of the prefixes that were cut short were so in other failures alone.

    None where it is not known of every death what ran when it happened.

    Parameters
    ----------
    incidents
        Those of the failure.
    cut
        All prefixes that deaths have cut short.
    """
    deaths = [incident for incident in incidents if incident["kind"] in DEATHS]
    if not all(incident.get("suspects") for incident in deaths):
        return ()
    return tuple(sorted(set(cut) - _cut_short(incidents)))


def _cut_short(incidents: Iterable[Any]) -> set[str]:
    return {s["prefix"] for i in incidents for s in i.get("suspects", ())}
