"""The head of the page: what the memory is made of, in words and bytes.

It is the legend of every chart as well, and where MemDash says that it is degraded.
"""

from __future__ import annotations

import panel as pn

from dask_memdash.store.base import Cluster, Store
from dask_memdash.views import theme
from dask_memdash.views.base import Context, Text, View

#: Notices shown at most; the others are counted.
NOTICES = 5

#: Families in the order of the page, with what holds for all their parts.
FAMILIES = {
    "storage": "Storage",
    "execution": "Execution",
    "overhead": "Overhead",
}


def families(cluster: Cluster) -> list[dict[str, object]]:
    """Group the parts of the breakdown by family, with their sums, in bytes."""
    breakdown = cluster["breakdown"]
    result: list[dict[str, object]] = []
    for family, title in FAMILIES.items():
        parts = [part for part in theme.PARTS if part.family == family]
        values = [breakdown[part.name] for part in parts]  # type: ignore[literal-required]
        known = [value for value in values if value is not None]
        lines = list(zip(parts, values, strict=True))
        if family == "storage":
            lines.append((theme.SPILLED, breakdown["spilled"]))
        result.append(
            {
                "name": family,
                "title": title,
                "total": sum(known) if known else None,
                "lines": lines,
                "error": breakdown["error"] if family == "execution" else None,
            }
        )
    return result


class NoticesView(View):
    """How MemDash is degraded, above every tab.

    Parameters
    ----------
    store
        What it shows.
    context
        What it shares with the other views of its page.
    """

    def __init__(self, store: Store, context: Context) -> None:
        super().__init__(store, context)
        self.notices = Text("notices.html", context.stylesheet)
        self.root = pn.Column(self.notices.pane, sizing_mode="stretch_width", margin=0)

    def draw(self) -> None:
        """Write the notices, which are none where all is well."""
        cluster = self.store.cluster()
        notices = cluster["degraded"]
        self.notices.write(
            notices=notices[:NOTICES],
            more=max(0, len(notices) - NOTICES),
            shared=cluster["n_workers"] - cluster["n_processes"],
            n_workers=cluster["n_workers"],
            n_processes=cluster["n_processes"],
        )


class SummaryView(View):
    """Totals and explanations.

    Parameters
    ----------
    store
        What it shows.
    context
        What it shares with the other views of its page.
    """

    def __init__(self, store: Store, context: Context) -> None:
        super().__init__(store, context)
        self.totals = Text("summary.html", context.stylesheet)
        self.root = pn.Column(self.totals.pane, sizing_mode="stretch_width", margin=0)

    def draw(self) -> None:
        """Write the totals."""
        cluster = self.store.cluster()
        self.totals.write(
            cluster=cluster,
            families=families(cluster),
            parts=[
                (part, cluster["breakdown"][part.name])  # type: ignore[literal-required]
                for part in theme.PARTS
            ],
        )
