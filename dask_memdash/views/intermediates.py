"""The card of the cluster's memory of intermediates: what is stored apart from workers.

It stands beside storage, execution and what Dask spills, and is in no sum of theirs.
A cluster without such a memory has no such card.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dask_memdash.store.base import Store
from dask_memdash.store.cluster_shapes import Cluster
from dask_memdash.store.intermediate_shapes import Intermediates
from dask_memdash.text import UNKNOWN, format_bytes, format_latency
from dask_memdash.views.base import TextView
from dask_memdash.views.tabular import address
from dask_memdash.views.worker_bars import called

#: Rows of each list at most.
MOST = 8


@dataclass(frozen=True, slots=True)
class Row:
    """What is stored, and is to be, of one prefix, worker or name."""

    name: str
    #: Fragment of the page's address, empty for none.
    link: str
    stored: int
    pending: int
    #: The two in words.
    said: str


@dataclass(frozen=True, slots=True)
class Rows:
    """The largest rows, how many more there are, and the longest bar."""

    shown: Sequence[Row]
    more: int
    widest: int


def of_prefixes(told: Intermediates) -> Rows:
    """Return what is stored by prefix, largest first."""
    found = [
        (
            prefix["prefix"],
            address("prefix", prefix["prefix"]),
            prefix["stored"],
            prefix["pending"],
        )
        for prefix in told["prefixes"]
    ]
    return _largest(found, told["n_prefixes"])


def of_workers(store: Store) -> Rows:
    """Return what is stored by the workers that hold it, largest first."""
    return _largest(
        [
            (
                called(worker),
                address("worker", worker["address"]),
                worker["stored"],
                worker["stored_pending"],
            )
            for worker in store.workers()
            if worker["stored"] or worker["stored_pending"]
        ]
    )


def of_names(cluster: Cluster) -> Rows:
    """Return the names that were given, with how many of their results are stored."""
    told = cluster["intermediates"]
    names = told["names"] if told else []
    rows = [
        Row(
            name["name"],
            "",
            name["stored"],
            max(0, name["total"] - name["stored"]),
            f"{name['stored']:,} of {name['total']:,} results",
        )
        for name in names
    ]
    widest = max((row.stored + row.pending for row in rows), default=1)
    return Rows(rows[:MOST], max(0, len(rows) - MOST), max(1, widest))


def _largest(found: Sequence[tuple[str, str, int, int]], total: int = 0) -> Rows:
    """Return the largest of what was found, of `total` where that is more."""
    held = sorted(found, key=_weight)
    rows = [
        Row(name, link, stored, pending, _sizes(stored, pending))
        for name, link, stored, pending in held[:MOST]
    ]
    widest = max((row.stored + row.pending for row in rows), default=1)
    return Rows(rows, max(total, len(held)) - len(rows), widest)


def _weight(one: tuple[str, str, int, int]) -> tuple[int, str]:
    return -(one[2] + one[3]), one[0]


def _sizes(stored: int, pending: int) -> str:
    if not pending:
        return format_bytes(stored)
    return f"{format_bytes(stored)}, {format_bytes(pending)} pending"


def each(seconds: float, number: int) -> str:
    """Write the mean time of one of several."""
    return f"{format_latency(seconds / number)} each" if number else UNKNOWN


class IntermediatesView(TextView):
    """What is stored apart from the workers, in words and bars."""

    template = "intermediates.html"

    def draw(self) -> None:
        """Bring the card up to date; empty without a memory."""
        cluster = self.store.cluster()
        told = cluster["intermediates"]
        if told is None:
            self.about.write(told=None)
            return
        self.about.write(
            told=told,
            stored=cluster["stored"],
            pending=cluster["stored_pending"],
            prefixes=of_prefixes(told),
            workers=self.once("stored of workers", lambda: of_workers(self.store)),
            names=of_names(cluster),
            each=each,
        )
