"""The Limits tab: whether each worker's memory limit is right, and what to change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import panel as pn

from dask_memdash.store.base import Store
from dask_memdash.store.limit_shapes import LimitAudit
from dask_memdash.store.natural_order import natural
from dask_memdash.views.base import Context, Text, View
from dask_memdash.views.table import ServedTable
from dask_memdash.views.table_columns import LIMITS
from dask_memdash.views.tabular import address

#: Machines that are listed at most, so that the workers stay near.
MACHINES = 8


@dataclass(frozen=True, slots=True)
class Machine:
    """What a machine has, told once for all of its workers; sizes in bytes."""

    name: str
    memory: int | None
    #: The least that its workers saw of what is left.
    available: int | None
    #: Worker processes, and the sum of their limits; None where one has none.
    processes: int
    limits: int | None


def machines(audits: Sequence[LimitAudit]) -> list[Machine]:
    """Return the machines of workers, those that are given out most first."""
    there: dict[str, list[LimitAudit]] = {}
    for audit in audits:
        there.setdefault(audit["machine"] or audit["host"], []).append(audit)
    found = [_machine(members) for members in there.values()]
    return sorted(
        found, key=lambda m: (-(m.limits or 0) / (m.memory or 2**63), natural(m.name))
    )


def _machine(members: Sequence[LimitAudit]) -> Machine:
    hosts = list(dict.fromkeys(audit["host"] for audit in members))
    left = [a["live"]["available"] for a in members]
    memory = [a["sources"]["host"] for a in members]
    first = members[0]
    return Machine(
        name=hosts[0] + (f" and {len(hosts) - 1:,} more" if len(hosts) > 1 else ""),
        memory=max((size for size in memory if size is not None), default=None),
        available=min((size for size in left if size is not None), default=None),
        processes=first["n_siblings"],
        limits=first["siblings"],
    )


class LimitsView(View):
    """Table of the audits, and one in full; by default the worst one.

    Parameters
    ----------
    store
        What it shows.
    context
        What it shares with the other views of its page.
    """

    def __init__(self, store: Store, context: Context) -> None:
        super().__init__(store, context)
        self.table = ServedTable(LIMITS, context)
        self.about = Text("limit.html", context.stylesheet)
        self.root = pn.Column(self.about.pane, sizing_mode="stretch_width", margin=0)

    def draw(self) -> None:
        """Bring the table up to date, and the chosen audit."""
        chosen = self.shown.chosen_on("limits")
        audits = self.store.limits()
        audit = _find(audits, chosen)
        marked = address("limit", audit["address"]) if audit else ""
        self.table.draw(self.store, self.shown.table(LIMITS.name), marked, self.once)
        self.about.write(
            audit=audit,
            asked=chosen,
            empty=not audits,
            scale=_scale(audit) if audit else 1,
            machines=self.once("machines", lambda: machines(audits)),
            most=MACHINES,
        )


def _find(audits: list[LimitAudit], chosen: str) -> LimitAudit | None:
    if not chosen:
        return audits[0] if audits else None
    return next((audit for audit in audits if audit["address"] == chosen), None)


def _scale(audit: LimitAudit) -> int:
    """Return the longest bar of the chain, in bytes; what allows all is cut off."""
    sizes = [link["bytes"] for link in audit["chain"]]
    own = max(audit["limit"] or 0, audit["effective"] or 0, audit["siblings"] or 0)
    return max(1, *(size for size in (*sizes, own) if size <= 8 * max(own, 1)))
