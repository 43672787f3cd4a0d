"""Task prefixes and what belongs to no task, in one list: the table of prefixes."""

from __future__ import annotations

import heapq

from dask_memdash.store.base import Store
from dask_memdash.store.beside_tasks import OtherMemory
from dask_memdash.store.prefix_shapes import Prefix


def all_rows(store: Store, limit: int | None = None, offset: int = 0) -> list[Prefix]:
    """Return task prefixes and what belongs to no task, largest first.

    Of a store's prefixes no more are made than may be on the page: rows of kind
    'other' are few, so a page begins at most their number earlier among the tasks.
    """
    others = [as_row(other) for other in store.cluster()["others"]]
    start = max(0, offset - len(others))
    count = None if limit is None else offset - start + limit
    tasks = store.prefixes(count, start)
    merged = list(heapq.merge(tasks, others, key=_rank))
    first = offset - start
    return merged[first : None if limit is None else first + limit]


def number_of_rows(store: Store) -> int:
    """Return how many rows there are, without making them."""
    return store.prefix_totals()["prefixes"] + len(store.cluster()["others"])


def other_named(store: Store, name: str) -> OtherMemory | None:
    """Return what belongs to no task by its name; None if there is none of it now."""
    return next((o for o in store.cluster()["others"] if o["name"] == name), None)


def as_row(other: OtherMemory) -> Prefix:
    """Return what belongs to no task in the shape of a prefix."""
    return {
        "prefix": other["name"],
        "kind": "other",
        "bytes": other["bytes"],
        "part": other["part"],
        "method": other["method"],
        "storage": {
            "managed": None,
            "managed_claimed": None,
            "replicas": None,
            "spilled": None,
            "spilled_disk": None,
            "pinned": None,
            "awaited": None,
            "stored": 0,
            "stored_pending": 0,
            "count": None,
            "output_bytes": {"min": None, "p50": None, "p95": None, "max": None},
            "awaited_by": [],
            "sizeof": None,
        },
        "execution": {
            "executing": None,
            "running": 0,
            "finished": 0,
            "peak": {"p50": None, "p95": None, "max": None, "at_least": None},
            "method": "none",
            "error": None,
            "unseen": {"native": 0, "arrow": 0, "untouched": 0, "small": 0},
            "leak": None,
        },
        "children": {"processes": 0, "rss": 0, "peak": None},
        "graph_bytes": 0,
        "advice": other["advice"],
    }


def _rank(row: Prefix) -> tuple[int, str]:
    """Return what rows are sorted by: storage and execution together, largest first."""
    if row["kind"] == "other":
        return (-(row["bytes"] or 0), row["prefix"])
    stored = (row["storage"]["managed"] or 0) + (row["storage"]["spilled"] or 0)
    return (-stored - (row["execution"]["executing"] or 0), row["prefix"])
