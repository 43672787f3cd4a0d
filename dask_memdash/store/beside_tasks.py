"""What belongs to no task, by name: rows beside the table of prefixes, with advice.

Sums over the cluster's worker processes, from what each last said.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypedDict

from dask_memdash.model.breakdown import Breakdown
from dask_memdash.model.event_parts import GraphRow
from dask_memdash.model.processes import ProcessState
from dask_memdash.text import code, count, format_bytes

#: What is worth advice: so many bytes a task of a graph, and so many that Arrow keeps.
LARGE_ARGUMENT = 2**23
MUCH_KEPT = 2**26


class OtherMemory(TypedDict):
    """Memory of the workers that belongs to no task, under a name of its own."""

    name: str
    """'graph arguments', 'graph records', 'actors', 'arrow pool', 'allocator', 'file
    pages', 'baseline' (what nothing explains further) or 'child processes'."""
    kind: str
    """Always 'other': no prefix of tasks."""
    part: str | None
    """The part of the breakdown that it lies in; ``None`` for what lies beside the
    process."""
    bytes: int
    method: str
    """How it is known: 'looked into', 'estimated', 'upper bound', 'kernel' or
    'remainder'."""
    advice: str | None
    """What to change, where that is worth while."""


def graph_advice(prefix: str, row: GraphRow) -> str | None:
    """Say what to change where each task of a prefix carries much; None elsewhere."""
    each = row.arguments // row.tasks if row.tasks else 0
    if each < LARGE_ARGUMENT:
        return None
    carriers = f"Each of {count(row.tasks, 'task')} carries"
    if row.tasks == 1:
        carriers = "Its task carries"
    return (
        f"{carriers} {format_bytes(each)} of arguments or closure: scatter it once, "
        f"`x = client.scatter(x)`, and pass that to {code(prefix)} instead."
    )


def arrow_advice(kept: int | None) -> str | None:
    """Say how to get back what Arrow's pool keeps; None where that is little."""
    if kept is None or kept < MUCH_KEPT:
        return None
    return (
        f"Arrow's memory pool keeps up to {format_bytes(kept)} that was freed. Give it "
        "back with `client.run(lambda: __import__('pyarrow').default_memory_pool()"
        ".release_unused())`, or start workers with ARROW_DEFAULT_MEMORY_POOL=system."
    )


def beside_tasks(
    total: Breakdown, processes: Iterable[ProcessState]
) -> list[OtherMemory]:
    """Return all that belongs to no task, largest first."""
    arguments = records = arrow = children = 0
    for process in processes:
        members = list(process.members.values())
        for worker in members:
            arguments += sum(row.arguments for row in worker.graph.values())
            records += sum(row.records for row in worker.graph.values())
            children += sum(row.rss for row in worker.children)
        newest = members[-1].reading if members else None
        arrow += (newest.arrow_kept or 0) if newest is not None else 0
    named = arguments + records
    arguments = total.graph * arguments // named if named else total.graph
    arrow = min(arrow, total.retained)
    files = min(total.reclaimable or 0, total.baseline)
    rows: list[OtherMemory] = [
        _row("graph arguments", "graph", arguments, "looked into"),
        _row("graph records", "graph", total.graph - arguments, "estimated"),
        _row("actors", "actors", total.actors, "looked into"),
        _row("arrow pool", "retained", arrow, "upper bound", arrow_advice(arrow)),
        _row("allocator", "retained", total.retained - arrow, "upper bound"),
        _row("baseline", "baseline", total.baseline - files, "remainder"),
        _row("file pages", "baseline", files, "kernel"),
        _row("child processes", None, children, "kernel"),
    ]
    return sorted((r for r in rows if r["bytes"]), key=lambda r: -r["bytes"])


def _row(
    name: str, part: str | None, size: int, method: str, advice: str | None = None
) -> OtherMemory:
    return {
        "name": name,
        "kind": "other",
        "part": part,
        "bytes": size,
        "method": method,
        "advice": advice,
    }
