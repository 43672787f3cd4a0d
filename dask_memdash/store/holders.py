"""Who holds the memory: prefixes and what belongs to no task, down to the last byte.

Rows of one column sum exactly to what the cluster has of it.  A prefix that workers
have died of has a row too, be it that none of its tasks ever finished.  All sizes are
in bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from dask_memdash.errors import UnknownPrefixError
from dask_memdash.store.answers import LOOKED_AT
from dask_memdash.store.base import Store
from dask_memdash.store.prefix_shapes import Prefix

#: Prefixes that have rows of their own at most, and those that deaths are laid to.
MOST = 10
BLAMED = 4


@dataclass(frozen=True, slots=True)
class Blame:
    """Deaths that a prefix is responsible for, and the newest failure of these."""

    deaths: int
    failure: str


@dataclass(frozen=True, slots=True)
class Holder:
    """One row: a prefix, all smaller ones together, or what belongs to no task."""

    #: 'task', 'smaller', 'unknown' (stored, and not known whose), 'transfer', 'actors'
    #: or 'not counted'.
    kind: str
    name: str
    managed: int = 0
    spilled: int = 0
    executing: int = 0
    #: The prefix; None in other rows.
    prefix: Prefix | None = None
    #: How many prefixes, in the row of the smaller ones.
    number: int = 1
    #: Of the smaller ones: all of their deaths together.
    blame: Blame | None = None


@dataclass(frozen=True, slots=True)
class Holders:
    """All rows, and what they sum to; None for what is not known yet."""

    rows: tuple[Holder, ...]
    stored: int | None
    spilled: int | None
    executing: int | None


def blames(store: Store) -> dict[str, Blame]:
    """Return which prefixes workers have died of, the newest failure's first."""
    deaths: Counter[str] = Counter()
    newest: dict[str, str] = {}
    for failure in store.failures(LOOKED_AT):
        name = failure["responsible"]["prefix"]
        if name is not None and failure["deaths"]:
            deaths[name] += failure["deaths"]
            newest.setdefault(name, failure["id"])
    return {name: Blame(deaths[name], number) for name, number in newest.items()}


def holders(store: Store, most: int = MOST) -> Holders:
    """Return who holds the memory: prefixes largest first, then what is no task's."""
    breakdown = store.cluster()["breakdown"]
    blamed = blames(store)
    prefixes = _with_blamed(store, store.prefixes(most), list(blamed)[:BLAMED])
    rows = [_of_prefix(prefix, blamed.get(prefix["prefix"])) for prefix in prefixes]
    whole = {
        "managed": breakdown["managed"] or 0,
        "spilled": breakdown["spilled"] or 0,
        "executing": breakdown["executing"] or 0,
    }
    totals = store.prefix_totals()
    number = totals["prefixes"] - len(prefixes)
    executing = min(totals["executing"] or 0, whole["executing"])
    left = {
        name: max(0, size - sum(getattr(row, name) for row in rows))
        for name, size in {**whole, "executing": executing}.items()
    }
    if number > 0:
        others = _together(blamed, {prefix["prefix"] for prefix in prefixes})
        rows.append(Holder("smaller", "", number=number, blame=others, **left))
    elif left["managed"] or left["spilled"]:
        rows.append(Holder("unknown", "", left["managed"], left["spilled"]))
    if breakdown["transfer"]:
        rows.append(Holder("transfer", "", managed=breakdown["transfer"]))
    if breakdown["actors"]:
        rows.append(Holder("actors", "", managed=breakdown["actors"]))
    uncounted = whole["executing"] - sum(row.executing for row in rows)
    if uncounted > 0:
        rows.append(Holder("not counted", "", executing=uncounted))
    known = breakdown["process"] is not None
    stored = (
        whole["managed"] + (breakdown["transfer"] or 0) + (breakdown["actors"] or 0)
    )
    return Holders(
        rows=tuple(rows),
        stored=stored if known else None,
        spilled=breakdown["spilled"],
        executing=breakdown["executing"],
    )


def _together(blamed: dict[str, Blame], shown: Collection[str]) -> Blame | None:
    """Return the deaths of prefixes that have no row, and their newest failure."""
    rest = [blame for name, blame in blamed.items() if name not in shown]
    if not rest:
        return None
    return Blame(sum(blame.deaths for blame in rest), rest[0].failure)


def _of_prefix(prefix: Prefix, blame: Blame | None) -> Holder:
    storage = prefix["storage"]
    return Holder(
        "task",
        prefix["prefix"],
        managed=storage["managed"] or 0,
        spilled=storage["spilled"] or 0,
        executing=prefix["execution"]["executing"] or 0,
        prefix=prefix,
        blame=blame,
    )


def _with_blamed(
    store: Store, largest: Sequence[Prefix], names: Sequence[str]
) -> list[Prefix]:
    """Return the largest prefixes, and after them the named ones that are not there."""
    there = {prefix["prefix"] for prefix in largest}
    rows = list(largest)
    for name in names:
        if name not in there:
            try:
                rows.append(store.prefix(name))
            except UnknownPrefixError:
                continue
    return rows
