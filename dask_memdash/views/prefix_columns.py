"""The table of task prefixes; see :mod:`dask_memdash.views.tabular`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from dask_memdash import terms
from dask_memdash.store.all_rows import all_rows, number_of_rows
from dask_memdash.store.base import Store
from dask_memdash.store.beside_tasks import OtherMemory
from dask_memdash.store.prefix_shapes import Prefix
from dask_memdash.views.tabular import Column, Table, address


def _storage(name: str) -> Callable[[Prefix], Any]:
    return lambda prefix: prefix["storage"][name]  # type: ignore[literal-required]


def _execution(name: str) -> Callable[[Prefix], Any]:
    return lambda prefix: prefix["execution"][name]  # type: ignore[literal-required]


def _of_tasks(name: str) -> Callable[[Prefix], Any]:
    """Return a figure of the execution; nothing where there are no tasks."""
    return lambda row: _execution(name)(row) if row["kind"] == "task" else None


def skew(prefix: Prefix) -> float | None:
    """Return how much larger the largest output is than the median; None if unknown."""
    sizes = prefix["storage"]["output_bytes"]
    if sizes["max"] is None or not sizes["p50"]:
        return None
    return sizes["max"] / sizes["p50"]


def projected(prefix: Prefix) -> int | None:
    """Return what the running tasks use if each reaches the usual peak, in bytes."""
    execution = prefix["execution"]
    usual = execution["peak"]["p50"]
    return None if usual is None else usual * execution["running"]


def awaited_by(prefix: Prefix, most: int = 3) -> str:
    """Name the prefixes that wait for a prefix's outputs, the most important first."""
    waiters = prefix["storage"]["awaited_by"]
    named = [waiter["prefix"] for waiter in waiters[:most]]
    if len(waiters) > most:
        named.append(f"{len(waiters) - most} more")
    return ", ".join(named)


def _size_of(name: str) -> Callable[[Prefix], int | None]:
    return lambda prefix: prefix["storage"]["output_bytes"][name]  # type: ignore[literal-required]


def _peak(name: str) -> Callable[[Prefix], int | None]:
    return lambda prefix: prefix["execution"]["peak"][name]  # type: ignore[literal-required]


def _leak(prefix: Prefix) -> int | None:
    leak = prefix["execution"].get("leak")
    return leak["bytes"] if leak else None


def _sizeof(prefix: Prefix) -> float | None:
    audited = prefix["storage"].get("sizeof")
    return audited["ratio"] if audited else None


def has_intermediates(store: Store) -> bool:
    """Say whether the cluster has a memory of intermediates."""
    return store.cluster()["intermediates"] is not None


#: Prefixes that are searched and sorted, the largest: a cluster may know of 10,000.
SEARCHED = 2000


def _largest(store: Store, limit: int, offset: int) -> tuple[Sequence[Prefix], int]:
    return all_rows(store, limit, offset), number_of_rows(store)


def _link(row: Prefix) -> str:
    return address("prefix" if row["kind"] == "task" else "other", row["prefix"])


def place(row: Prefix | OtherMemory) -> str:
    """Say where memory lies that belongs to no task, where its name does not."""
    if row["kind"] == "task":
        return ""
    if row["part"] is None:
        return "beside the workers' processes"
    label = terms.label(terms.PARTS, row["part"])
    named = dict[str, Any](row)
    name = named.get("prefix", named.get("name"))
    return "" if name == label else f"part of {label}"


def _method(row: Prefix) -> str:
    known = terms.METHODS if row["kind"] == "task" else terms.OTHER_METHODS
    return terms.label(known, row["method"])


TASKS = Table(
    name="tasks",
    title="Task prefixes",
    rows=lambda store: all_rows(store, SEARCHED),
    page=_largest,
    counted=lambda store: store.prefix_totals()["prefixes"],
    searched=f"among the {SEARCHED:,} largest",
    link=_link,
    columns=(
        Column("prefix", "Prefix", "text", lambda prefix: prefix["prefix"], more=place),
        Column(
            "kind",
            "Kind",
            "text",
            lambda row: terms.label(terms.ROW_KINDS, row["kind"]),
            " ".join(kind.sentence for kind in terms.ROW_KINDS.values()),
        ),
        Column(
            "bytes",
            "In processes",
            "size",
            lambda row: row["bytes"],
            "What it has in the workers' processes: outputs in memory and running "
            "tasks, or all of it where it belongs to no task.",
        ),
        Column(
            "managed",
            "In memory",
            "size",
            _storage("managed"),
            terms.PARTS["managed"].sentence,
            "Storage",
        ),
        Column(
            "spilled",
            "Spilled",
            "size",
            _storage("spilled"),
            terms.BESIDE["spilled"].sentence,
            "Storage",
        ),
        Column(
            "stored",
            "Stored",
            "size",
            _storage("stored"),
            terms.STORING["stored"].sentence,
            "Storage",
            shown=has_intermediates,
        ),
        Column(
            "pending",
            "Pending",
            "size",
            _storage("stored_pending"),
            terms.STORING["pending"].sentence,
            "Storage",
            shown=has_intermediates,
        ),
        Column(
            "pinned",
            "Pinned",
            "size",
            _storage("pinned"),
            terms.CONCEPTS["pinned"].sentence,
            "Storage",
        ),
        Column(
            "awaited",
            "Awaited",
            "size",
            _storage("awaited"),
            terms.CONCEPTS["awaited"].sentence,
            "Storage",
        ),
        Column(
            "awaited_by",
            "By",
            "text",
            awaited_by,
            "Prefixes of the tasks that need these outputs, the largest share first.",
            "Storage",
        ),
        Column(
            "replicas",
            "Replicas",
            "size",
            _storage("replicas"),
            terms.CONCEPTS["replicas"].sentence,
            "Storage",
        ),
        Column(
            "count",
            "Outputs",
            "number",
            _storage("count"),
            "Outputs stored now. Copies of one output count once.",
            "Storage",
        ),
        Column(
            "graph",
            "Graph",
            "size",
            lambda prefix: prefix["graph_bytes"] or None,
            terms.PARTS["graph"].sentence,
            "Storage",
        ),
        Column(
            "size",
            "Size",
            "size",
            _size_of("p50"),
            "Median size of an output.",
            "Outputs",
        ),
        Column(
            "largest", "Largest", "size", _size_of("max"), "Largest output.", "Outputs"
        ),
        Column(
            "skew",
            "Skew",
            "factor",
            skew,
            "Largest output, divided by the median. A large factor means uneven "
            "partitions.",
            "Outputs",
        ),
        Column(
            "sizeof",
            "sizeof",
            "factor",
            _sizeof,
            terms.CONCEPTS["sizeof"].sentence,
            "Outputs",
        ),
        Column(
            "executing",
            "Now",
            "size",
            _execution("executing"),
            terms.PARTS["executing"].sentence,
            "Execution",
        ),
        Column(
            "running",
            "Tasks",
            "number",
            _of_tasks("running"),
            "Tasks that run now.",
            "Execution",
        ),
        Column(
            "projected",
            "Projected",
            "size",
            projected,
            terms.CONCEPTS["projected"].sentence,
            "Execution",
        ),
        Column(
            "peak",
            "Peak, median",
            "size",
            _peak("p50"),
            "Half of its tasks need less than this while they run.",
            "Execution",
        ),
        Column(
            "peak95",
            "95 %",
            "size",
            _peak("p95"),
            "19 of 20 of its tasks need less than this while they run.",
            "Execution",
        ),
        Column(
            "error",
            "±",
            "size",
            _execution("error"),
            terms.CONCEPTS["error"].sentence,
            "Execution",
        ),
        Column(
            "children",
            "Child processes",
            "size",
            lambda prefix: prefix["children"]["peak"],
            "The most that the processes had that one of its tasks started. "
            + terms.BESIDE["children"].sentence,
            "Execution",
        ),
        Column(
            "leak",
            "Left behind",
            "size",
            _leak,
            terms.CONCEPTS["leak"].sentence,
            "Execution",
        ),
        Column(
            "method",
            "Measured",
            "text",
            _method,
            terms.CONCEPTS["method"].sentence,
            "Execution",
        ),
    ),
)
