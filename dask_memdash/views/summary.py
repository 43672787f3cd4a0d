"""The head of the page: what the memory is made of, in words and bytes.

It is the legend of every chart as well, and where MemDash says that it is degraded.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypedDict

from dask_memdash.store.cluster_shapes import Cluster, Notice
from dask_memdash.terms import BESIDE, PARTS
from dask_memdash.text import format_bytes, format_groups
from dask_memdash.views.base import TextView

#: Notices shown at most; the others are counted.
NOTICES = 5

#: Parts that most clusters have nothing of: they are left out where they are 0.
OFTEN_NONE = frozenset({"actors", "graph"})

#: Families of parts, in the order of the page.
FAMILIES = {
    "storage": "Storage",
    "execution": "Execution",
    "overhead": "Overhead",
}


def groups(cluster: Cluster) -> dict[str, dict[str, int | None]]:
    """Return the parts of the breakdown, in bytes, by family."""
    breakdown: Mapping[str, int | None] = cluster["breakdown"]  # type: ignore[assignment]
    return {
        family: {
            p.name: breakdown[p.name] for p in PARTS.values() if p.family == family
        }
        for family in FAMILIES
    }


def families(cluster: Cluster) -> list[dict[str, object]]:
    """Write the families of parts and their sums so that they add up.

    What is spilled stands beside the sum of storage, not in it: it is in no process.
    """
    breakdown: Mapping[str, int | None] = cluster["breakdown"]  # type: ignore[assignment]
    written = format_groups(groups(cluster), breakdown["process"])
    result: list[dict[str, object]] = []
    for family, (total, sizes) in written.items():
        lines = [
            (PARTS[name], size)
            for name, size in sizes.items()
            if breakdown[name] or name not in OFTEN_NONE
        ]
        result.append(
            {
                "name": family,
                "title": FAMILIES[family],
                "total": total,
                "lines": lines,
                "beside": (BESIDE["spilled"], format_bytes(breakdown["spilled"]))
                if family == "storage"
                else None,
                "error": breakdown["error"] if family == "execution" else None,
            }
        )
    return result


class SharedNotice(TypedDict):
    """What one or several places say alike."""

    where: str
    """The first of them."""
    all: list[str]
    others: int
    """How many more there are."""
    text: str
    since: float
    """The earliest."""


def together(notices: Iterable[Notice]) -> list[SharedNotice]:
    """Join notices of one text: many workers lack the same thing."""
    joined: dict[str, SharedNotice] = {}
    for notice in notices:
        shared = joined.get(notice["text"])
        if shared is None:
            joined[notice["text"]] = {
                "where": notice["where"],
                "all": [notice["where"]],
                "others": 0,
                "text": notice["text"],
                "since": notice["since"],
            }
            continue
        shared["all"].append(notice["where"])
        shared["others"] += 1
        shared["since"] = min(shared["since"], notice["since"])
    return list(joined.values())


class NoticesView(TextView):
    """How MemDash is degraded, above every tab."""

    template = "notices.html"

    def draw(self) -> None:
        """Write the notices, which are none where all is well."""
        cluster = self.store.cluster()
        notices = together(cluster["degraded"])
        self.about.write(
            notices=notices[:NOTICES],
            more=max(0, len(notices) - NOTICES),
            shared=cluster["n_workers"] - cluster["n_processes"],
            n_workers=cluster["n_workers"],
            n_processes=cluster["n_processes"],
        )


class SummaryView(TextView):
    """Totals and explanations."""

    template = "summary.html"

    def draw(self) -> None:
        """Write the totals."""
        cluster = self.store.cluster()
        self.about.write(
            cluster=cluster,
            families=families(cluster),
            parts=[
                (part, cluster["breakdown"][part.name])  # type: ignore[literal-required]
                for part in PARTS.values()
            ],
        )
