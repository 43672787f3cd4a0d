"""What the table of task prefixes says of each, and of all of them together."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Any

from dask_memdash import terms
from dask_memdash.store.all_rows import all_rows, number_of_rows
from dask_memdash.store.base import Store
from dask_memdash.store.beside_tasks import OtherMemory
from dask_memdash.store.prefix_shapes import Prefix
from dask_memdash.text import KEY_KEPT, count, format_bytes, plain
from dask_memdash.views import minute
from dask_memdash.views.tabular import address
from dask_memdash.views.threads_that_fit import with_room


def storage(name: str) -> Callable[[Prefix], Any]:
    """Return a figure of the storage, by its name."""
    return lambda prefix: prefix["storage"][name]  # type: ignore[literal-required]


def execution(name: str) -> Callable[[Prefix], Any]:
    """Return a figure of the execution, by its name."""
    return lambda prefix: prefix["execution"][name]  # type: ignore[literal-required]


def of_tasks(name: str) -> Callable[[Prefix], Any]:
    """Return a figure of the execution; nothing where there are no tasks."""
    return lambda row: execution(name)(row) if row["kind"] == "task" else None


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
    """Name the prefixes that wait for a prefix's outputs, the most important first.

    One a line.
    """
    waiters = prefix["storage"]["awaited_by"]
    named = [plain(waiter["prefix"], KEY_KEPT) for waiter in waiters[:most]]
    if len(waiters) > most:
        named.append(f"{len(waiters) - most} more")
    return "\n".join(named)


def links_of_waiters(prefix: Prefix, most: int = 3) -> str:
    """Return the addresses of these prefixes, one a line."""
    waiters = prefix["storage"]["awaited_by"]
    return "\n".join(address("prefix", waiter["prefix"]) for waiter in waiters[:most])


def output_size(name: str) -> Callable[[Prefix], int | None]:
    """Return a quantile of the sizes of outputs, in bytes."""
    return lambda prefix: prefix["storage"]["output_bytes"][name]  # type: ignore[literal-required]


def peak(name: str) -> Callable[[Prefix], int | None]:
    """Return a quantile of the peaks of its tasks, in bytes."""
    return lambda prefix: prefix["execution"]["peak"][name]  # type: ignore[literal-required]


def leak(prefix: Prefix) -> int | None:
    """Return what its tasks have left behind, in bytes; None if unknown."""
    left = prefix["execution"].get("leak")
    return left["bytes"] if left else None


def sizeof_ratio(prefix: Prefix) -> float | None:
    """Return what Dask believes of an output, as a share of what was measured."""
    audited = prefix["storage"].get("sizeof")
    return audited["ratio"] if audited else None


def has_intermediates(store: Store) -> bool:
    """Say whether the cluster has a memory of intermediates."""
    return store.cluster()["intermediates"] is not None


def last_minute(store: Store, row: Prefix) -> str:
    """Return what a prefix had over the last minute, against the most of it."""
    if row["kind"] != "task":
        return ""
    past, now = store.prefix_minute(row["prefix"]), store.cluster()["time"]
    began = max(0, bisect_right(past["time"], minute.since(now)) - 1)
    top = max(past["bytes"][began:], default=0)
    return minute.curve(past["time"], past["bytes"], now, top)


#: Prefixes that are searched and sorted, the largest: a cluster may know of 10,000.
SEARCHED = 2000


def largest_rows(store: Store, limit: int, offset: int) -> tuple[Sequence[Prefix], int]:
    """Return rows from the largest on, and how many there are."""
    return with_room(store, all_rows(store, limit, offset)), number_of_rows(store)


def at_a_death(prefix: Prefix) -> str:
    """Say where the largest peak was seen, if that was at a death."""
    known = prefix["execution"]["peak"]
    least = known["at_least"]
    return "at least: its worker died" if least and least > (known["max"] or 0) else ""


def fits(row: Prefix) -> int | None:
    """Return how many of its tasks fit; of a row that knows of the room."""
    fit: int | None = dict[str, Any](row).get("fit")
    return fit


def of_threads(row: Prefix) -> str:
    """Say of how many threads; what died needs more than is known."""
    if fits(row) is None:
        return ""
    threads = dict[str, Any](row).get("threads")
    fewer = bool(fits(row) and at_a_death(row))
    return f"of {threads}, or fewer" if fewer else f"of {threads}"


def totals(store: Store) -> dict[str, Any]:
    """Return the cluster's figures, and what of them no row explains."""
    cluster, sums = store.cluster(), store.prefix_totals()
    breakdown = cluster["breakdown"]
    if breakdown["process"] is None:
        return {}
    past = store.history(None, minute.since(cluster["time"]), minute.ASKED)
    most = max(past["process"], default=0)
    counted = (sums["managed"] or 0) + (sums["executing"] or 0)
    others = [(o["part"], o["bytes"] or 0) for o in cluster["others"] if o["part"]]
    named = sum(size for _, size in others)
    executing = sum(size for part, size in others if part == "executing")
    return {
        "prefix": f"All {count(sums['prefixes'], 'prefix', 'prefixes')}",
        "_more_prefix": "and what belongs to no task",
        "bytes": breakdown["process"],
        "minute": minute.curve(past["time"], past["process"], cluster["time"], most),
        "_more_bytes": _left(breakdown["process"], counted + named),
        "managed": breakdown["managed"],
        "spilled": breakdown["spilled"],
        "stored": cluster["stored"],
        "pending": cluster["stored_pending"],
        "count": sums["count"],
        "graph": breakdown["graph"],
        "executing": breakdown["executing"],
        "_more_executing": _left(
            breakdown["executing"] or 0, (sums["executing"] or 0) + executing
        ),
        "running": sums["running"],
        "error": breakdown["error"],
    }


def _left(whole: int, told: int) -> str:
    """Say what of a total its rows do not tell; less than a hundredth goes unsaid."""
    left = whole - told
    return (
        f"{format_bytes(left)} unexplained" if left > max(whole // 100, 2**20) else ""
    )


def link(row: Prefix) -> str:
    """Return the address of a row."""
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


def whose(row: Prefix) -> str:
    """Say of what belongs to no task that it does, and where it lies."""
    return ", ".join(filter(None, ("no task", place(row)))) if _is_other(row) else ""


def _is_other(row: Prefix) -> bool:
    return row["kind"] != "task"


def method(row: Prefix) -> str:
    """Say how a row is measured."""
    known = terms.METHODS if row["kind"] == "task" else terms.OTHER_METHODS
    return terms.label(known, row["method"])
