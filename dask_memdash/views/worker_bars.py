"""Workers as stacked bars against their limit, with their thresholds as lines.

One row is one process: workers that share a process share a row, for nothing tells
whose memory is whose.  Beyond `MOST` rows the fullest are shown and the rest is
summed in a row of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import panel as pn
from bokeh.models import ColumnDataSource, HBar, HoverTool, Segment

from dask_memdash import terms
from dask_memdash.store.base import Store
from dask_memdash.store.worker_shapes import Breakdown, Worker
from dask_memdash.text import (
    UNKNOWN,
    format_bytes,
    format_duration,
    format_parts,
    format_share,
    format_stored,
    shorten,
)
from dask_memdash.views import theme
from dask_memdash.views.bar_rows import RowChart
from dask_memdash.views.base import Context, Text, View, sync, tooltip
from dask_memdash.views.tabular import address, state_of, states_of

#: Rows at most, the rest's not counted, and with a map of all workers above them.
MOST = 40
MOST_WITH_MAP = 12

#: The outermost part: free memory begins where it ends.
LAST = list(terms.PARTS)[-1]

#: Height of a bar, in rows.
BAR = 0.66

#: Tasks named in a tooltip at most.
TASKS_NAMED = 4

#: Threshold → (colour, dash) of its line.
THRESHOLDS = {
    "target": (theme.NEUTRAL, "dotted"),
    "spill": (theme.NEUTRAL, "dashed"),
    "pause": (theme.CAUTION, "solid"),
    "terminate": (theme.ALARM, "solid"),
}


@dataclass(slots=True)
class Row:
    """One process, or the sum of the processes that have no row."""

    label: str
    workers: list[Worker]
    #: Smallest limit of its workers, in bytes; a sum in the row of the rest.
    limit: int | None
    #: Part → bytes; 0 for what is not known.
    parts: dict[str, int]
    #: Bytes; ``None`` before the first reading.
    process: int | None
    spilled: int | None
    #: Pages of files in the process, in bytes; ``None`` where that is not known.
    reclaimable: int | None = None
    #: Processes that tasks started, beside it: how many, and their bytes.
    children: tuple[int, int] = (0, 0)
    thresholds: dict[str, int | None] = field(default_factory=dict)
    note: str = ""


def processes(workers: Iterable[Worker]) -> list[list[Worker]]:
    """Group workers by the process that they live in, in the order of the workers."""
    groups: dict[tuple[str, int], list[Worker]] = {}
    for worker in workers:
        groups.setdefault((worker["host"], worker["pid"]), []).append(worker)
    return list(groups.values())


def rows(known: list[list[Worker]], most: int | None = None) -> list[Row]:
    """Return the fullest of all processes rows, in their order, then one to the rest.

    Unless `most` says otherwise, these are few where there is a map of all workers.
    """
    if most is None:
        most = MOST if len(known) <= MOST else MOST_WITH_MAP
    if len(known) <= most:
        return [_row(group) for group in known]
    fullest = sorted(known, key=lambda group: -fullness(group))[:most]
    chosen = {id(group) for group in fullest}
    shown = [_row(group) for group in known if id(group) in chosen]
    return [*shown, _rest([group for group in known if id(group) not in chosen])]


def fullness(group: list[Worker]) -> float:
    """Return how full a process is, as a share of its limit."""
    worker = group[0]
    return (worker["breakdown"]["process"] or 0) / (least_limit(group) or 2**60)


def least_limit(group: Sequence[Worker]) -> int | None:
    """Return the smallest limit of a process's workers, in bytes; None without one."""
    if len(group) == 1:  # the usual case, a thousand times over
        return group[0]["limit"]
    return min((w["limit"] for w in group if w["limit"] is not None), default=None)


def _part(breakdown: Breakdown, name: str) -> int:
    size: int | None = breakdown[name]  # type: ignore[literal-required]
    return size or 0


def label(group: list[Worker]) -> str:
    """Name a process as its row does."""
    if len(group) > 1:
        return f"{len(group)} in one process"
    return shorten(called(group[0]), 22)


def called(worker: Worker) -> str:
    """Name a worker as it is told to people."""
    name = worker["name"]
    return f"worker {name}" if name.isdigit() else name


def _row(group: list[Worker]) -> Row:
    first = group[0]
    said = label(group)
    note = ""
    if len(group) > 1:
        note = (
            f"{len(group)} workers share process {first['pid']}. Each of them "
            "compares the memory of the whole process with its own limit."
        )
    states = sorted(set().union(*map(states_of, group)) - {"running"})
    if states:
        state = shorten(", ".join(states), 9)
        said = f"{shorten(said, 18 - len(state) + 3)} ({state})"
    return Row(
        label=said,
        workers=group,
        limit=least_limit(group),
        parts={p.name: _part(first["breakdown"], p.name) for p in terms.PARTS.values()},
        process=first["breakdown"]["process"],
        spilled=first["breakdown"]["spilled"],
        reclaimable=first["breakdown"]["reclaimable"],
        children=_children(group),
        thresholds=dict(first["thresholds"]),  # type: ignore[arg-type]
        note=note,
    )


def _sum(values: Iterable[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _rest(groups: list[list[Worker]]) -> Row:
    known = [group[0]["breakdown"] for group in groups]
    limits = [least_limit(group) for group in groups]
    return Row(
        label=f"{len(groups):,} less full",
        workers=[worker for group in groups for worker in group],
        limit=None if None in limits else _sum(limits),
        parts={
            p.name: sum(_part(b, p.name) for b in known) for p in terms.PARTS.values()
        },
        process=_sum(breakdown["process"] for breakdown in known),
        spilled=_sum(breakdown["spilled"] for breakdown in known),
        reclaimable=_sum(breakdown["reclaimable"] for breakdown in known),
        children=_children(worker for group in groups for worker in group),
        note="All workers without a row of their own, added up.",
    )


def _children(workers: Iterable[Worker]) -> tuple[int, int]:
    known = [worker["children"] for worker in workers]
    return sum(c["processes"] for c in known), sum(c["rss"] for c in known)


def _beside(row: Row) -> str:
    number, size = row.children
    return f"{number:,}, {format_bytes(size)} beside the process" if number else "none"


def _running(row: Row) -> str:
    tasks = [task for worker in row.workers for task in worker["executing_tasks"]]
    if not tasks:
        return "no task is running"
    named = [
        f"{shorten(task['key'], 44)} "
        f"({format_bytes(task['bytes'])}, {format_duration(task['seconds'])})"
        for task in tasks[:TASKS_NAMED]
    ]
    if len(tasks) > TASKS_NAMED:
        named.append(f"and {len(tasks) - TASKS_NAMED} more")
    return "; ".join(named)


def columns(shown: list[Row]) -> dict[str, list[Any]]:
    """Turn rows into the columns of the bars.

    A row that sums many processes is drawn in shares of its limit, scaled to the
    largest limit of the others, for its bytes would dwarf them.
    """
    scale = max((row.limit or row.process or 0 for row in shown[:-1]), default=0)
    data: dict[str, list[Any]] = {
        "row": list(range(len(shown))),
        "label": [row.label for row in shown],
        "figures": [_figures(row) for row in shown],
        "name": [", ".join(map(called, row.workers[:3])) for row in shown],
        "address": [", ".join(w["address"] for w in row.workers[:3]) for row in shown],
        "status": [", ".join(sorted(map(state_of, row.workers))) for row in shown],
        "threads": [sum(w["nthreads"] for w in row.workers) for row in shown],
        "process": [format_bytes(row.process) for row in shown],
        "limit": [format_bytes(row.limit) for row in shown],
        "spilled": [format_bytes(row.spilled) for row in shown],
        "reclaimable": [format_bytes(row.reclaimable) for row in shown],
        "children": [_beside(row) for row in shown],
        "running": [_running(row) for row in shown],
        "kept": [_kept(row) for row in shown],
        "note": [row.note for row in shown],
        "end": [],
        "link": [_link(row) for row in shown],
    }
    for part in terms.PARTS.values():
        for column in ("from", "to", "size"):
            data[f"{column}_{part.name}"] = []
    for row in shown:
        whole = row.limit or row.process or 0
        summed = len(row.workers) > 1 and not row.thresholds
        factor = scale / whole if summed and whole and scale else 1
        data["end"].append(whole * factor)
        level = 0.0
        written = format_parts(row.parts, row.process)
        for part in terms.PARTS.values():
            value = row.parts[part.name]
            data[f"from_{part.name}"].append(level)
            level += value * factor
            data[f"to_{part.name}"].append(level)
            text = f"{written[part.name]}, {format_share(value, row.process)}"
            data[f"size_{part.name}"].append(
                text if row.process is not None else UNKNOWN
            )
    return data


def _link(row: Row) -> str:
    """Return the address of a row's worker; the row of the rest leads to all."""
    alone = row.thresholds or len(row.workers) == 1
    return address("worker", row.workers[0]["address"]) if alone else "workers"


def _kept(row: Row) -> str:
    stored = sum(worker["stored"] for worker in row.workers)
    return format_stored(stored, sum(w["stored_pending"] for w in row.workers))


def _figures(row: Row) -> str:
    share = format_share(row.process, row.limit) if row.limit else ""
    return f"{format_bytes(row.process):>11} {share:>6}"


def lines(shown: list[Row]) -> dict[str, list[Any]]:
    """Turn the rows' thresholds into the columns of the lines."""
    data: dict[str, list[Any]] = {
        name: [] for name in ("at", "top", "bottom", "colour", "dash", "what", "means")
    }
    for number, row in enumerate(shown):
        for name, (colour, dash) in THRESHOLDS.items():
            at = row.thresholds.get(name)
            if at is not None:
                data["at"].append(at)
                data["top"].append(number - 0.42)
                data["bottom"].append(number + 0.42)
                data["colour"].append(colour)
                data["dash"].append(dash)
                share = format_share(at, row.limit)
                data["what"].append(
                    f"{name}: {format_bytes(at)} ({share} of the limit)"
                )
                data["means"].append(terms.CONCEPTS[name].sentence)
    return data


class WorkersView(View):
    """Bars of the workers' breakdowns, for the overview.

    Parameters
    ----------
    store
        What it shows.
    context
        What it shares with the other views of its page.
    """

    def __init__(self, store: Store, context: Context) -> None:
        super().__init__(store, context)
        self.empty = Text("workers_empty.html", context.stylesheet, ["md-empty"])
        self.source = ColumnDataSource(columns([]))
        self.lines = ColumnDataSource(lines([]))
        self.chart = RowChart("workers", self.source)
        self._draw_bars()
        self.root = pn.Column(
            self.empty.pane,
            pn.pane.Bokeh(self.chart.figure, sizing_mode="stretch_width", margin=0),
            sizing_mode="stretch_width",
            margin=0,
        )

    def _draw_bars(self) -> None:
        plot = self.chart.figure
        plot.add_glyph(
            self.source,
            HBar(
                y="row",
                left=0,
                right="end",
                height=BAR,
                fill_color=theme.NEUTRAL,
                fill_alpha=0.12,
                line_color=theme.NEUTRAL,
                line_alpha=0.55,
            ),
        )
        free = plot.add_glyph(
            self.source,
            HBar(
                y="row",
                left=f"to_{LAST}",
                right="end",
                height=BAR,
                fill_alpha=0,
                line_alpha=0,
            ),
        )
        about = [("address", "@{address}"), ("status", "@{status}")]
        usage = [
            ("process", "@{process} of @{limit}"),
            (terms.BESIDE["reclaimable"].label, "@{reclaimable}"),
            (terms.BESIDE["children"].label, "@{children}"),
            ("spilled", "@{spilled}"),
        ]
        running = [("threads", "@{threads}"), ("running", "@{running}")]
        plot.add_tools(
            HoverTool(
                renderers=[free],
                tooltips=tooltip(
                    [*about, *usage, *running],
                    head="@{name}",
                    words="@{note} @{kept}",
                ),
                attachment="above",
            )
        )
        for part in terms.PARTS.values():
            bars = self.chart.bars(self.source, part, y="row", height=BAR)
            rows = [(part.label, f"@{{size_{part.name}}} of the process"), *usage]
            if part.family == "execution":
                rows += running
            plot.add_tools(
                HoverTool(
                    renderers=[bars],
                    tooltips=tooltip(
                        rows,
                        head="@{name}",
                        words=f"{part.sentence} @{{kept}}"
                        if part.name == "managed"
                        else part.sentence,
                        swatch=part.colour,
                    ),
                    attachment="below",
                )
            )
        thresholds = plot.add_glyph(
            self.lines,
            Segment(
                x0="at",
                x1="at",
                y0="top",
                y1="bottom",
                line_color="colour",
                line_dash="dash",
                line_width=2,
            ),
        )
        if self.context.live:
            self.chart.lead()
        plot.add_tools(
            HoverTool(
                renderers=[thresholds],
                tooltips=tooltip([], head="@{what}", words="@{means}"),
                attachment="above",
            )
        )

    def draw(self) -> None:
        """Bring the bars up to date."""
        groups = self.once("processes", lambda: processes(self.store.workers()))
        shown = self.once("rows of workers", lambda: rows(groups))
        self.empty.write(empty=not shown)
        self.chart.figure.visible = bool(shown)
        data = self.once("columns of workers", lambda: columns(shown))
        ends = [*data["end"], *data[f"to_{LAST}"]]
        self.chart.fit(len(shown), max(ends, default=0))
        sync(self.source, data)
        sync(self.lines, self.once("lines of workers", lambda: lines(shown)))
