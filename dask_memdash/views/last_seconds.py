"""A worker's last seconds: its memory as it was sampled, and whose it was at the end.

Sampled is the process alone, several times a second.  What was whose is known of one
instant, the death: it stands as a stack at the right, the running tasks one by one.
Beneath, one lane for each of them says since when it ran.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bokeh.models import (
    ColumnDataSource,
    FixedTicker,
    HoverTool,
    Line,
    Quad,
    Range1d,
    Span,
    VArea,
)

from dask_memdash import terms
from dask_memdash.text import format_bytes, format_duration, shorten
from dask_memdash.views import theme
from dask_memdash.views.bar_rows import lead
from dask_memdash.views.base import sync, tooltip
from dask_memdash.views.tabular import address
from dask_memdash.views.worker_bars import THRESHOLDS
from dask_memdash.views.workers_tab import AROUND, LANE, TINTS

#: Tasks that have a colour of their own, the largest; the rest is summed.
MOST = 12

#: Width of the stack, and where it begins after the death, as shares of the time shown.
WIDE = 0.055
APART = 0.012

#: Least time shown, in seconds.
SHORTEST = 1.0


def tints(suspects: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the colours of the tasks, in their order; empty from the `MOST`-th on."""
    return [TINTS[i % len(TINTS)] if i < MOST else "" for i in range(len(suspects))]


def stack(incident: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return what the process was made of at that moment, from the bottom up.

    The parts of the breakdown, and instead of what was executing the running tasks: at
    most as much as was executing, the rest being nobody's.  Empty without a breakdown.
    """
    columns: dict[str, list[Any]] = {
        name: [] for name in ("bottom", "top", "colour", "hatch", "what", "size")
    }
    columns["link"] = []
    breakdown = incident.get("breakdown") or {}
    if breakdown.get("process") is None:
        return columns
    level = 0.0
    for name, part in terms.PARTS.items():
        rows = [(breakdown[name] or 0, part.colour, part.pattern, part.label, "")]
        if name == "executing":
            rows = _tasks(breakdown[name] or 0, incident.get("suspects") or [])
        for size, colour, hatch, what, link in rows:
            if size > 0:
                said = format_bytes(size)
                values = (level, level + size, colour, hatch, what, said, link)
                for column, value in zip(columns.values(), values, strict=True):
                    column.append(value)
                level += size
    return columns


def _tasks(
    executing: int, suspects: Sequence[Mapping[str, Any]]
) -> list[tuple[int, str, str, str, str]]:
    sizes = [int(suspect.get("bytes") or 0) for suspect in suspects]
    total = sum(sizes)
    if total > executing:  # each of them counts with an error of its own
        sizes = [size * executing // total for size in sizes]
    colours = tints(suspects)
    rows = [
        (size, colour, " ", shorten(s["key"], 60), address("prefix", s["prefix"]))
        for size, colour, s in zip(sizes, colours, suspects, strict=True)
        if colour
    ]
    more = sum(size for size, colour in zip(sizes, colours, strict=True) if not colour)
    left = executing - sum(sizes)
    part = terms.PARTS["executing"]
    return [
        *rows,
        (more, part.colour, " ", f"{len(suspects) - len(rows)} more tasks", ""),
        (left, part.colour, "/", "executing, and counted for no task", ""),
    ]


def lanes(suspects: Sequence[Mapping[str, Any]], start: float) -> dict[str, list[Any]]:
    """Return since when each task ran: columns of one strip for each."""
    shown = list(suspects[:MOST])
    return {
        "left": [max(start, -float(s["seconds"] or 0)) for s in shown],
        "right": [0.0 for _ in shown],
        "top": [row - 0.38 for row in range(len(shown))],
        "bottom": [row + 0.38 for row in range(len(shown))],
        "colour": tints(shown),
        "key": [shorten(s["key"], 60) for s in shown],
        "size": [format_bytes(s.get("bytes")) for s in shown],
        "ran": [format_duration(s["seconds"]) for s in shown],
        "link": [address("prefix", s["prefix"]) for s in shown],
    }


class LastSeconds:
    """The two charts of an incident, one above the other on one time axis.

    Parameters
    ----------
    live
        Whether a browser follows clicks.
    """

    def __init__(self, *, live: bool) -> None:
        self.samples = ColumnDataSource({"time": [], "process": []})
        self.stack = ColumnDataSource({**stack({}), "left": [], "right": []})
        self.tasks = ColumnDataSource(lanes([], 0))
        self.x_range = Range1d(-60, 0)
        self.y_range = Range1d(0, 1)
        self.rows = Range1d(0.5, -0.5)
        self.limit = _span("width", theme.ALARM, "dashed")
        self.thresholds = {
            name: _span("width", colour, dash)
            for name, (colour, dash) in THRESHOLDS.items()
        }
        self.figure = self._chart()
        self.strips = self._strips()
        if live:
            lead(self.figure, self.stack)
            lead(self.strips, self.tasks)

    def _chart(self) -> Any:
        plot = theme.chart(
            "last-minute", 230, x_range=self.x_range, y_range=self.y_range
        )
        plot.xgrid.visible = False
        plot.min_border_left = 62
        plot.yaxis.ticker = theme.bytes_ticker()
        plot.yaxis.formatter = theme.bytes_formatter()
        plot.ygrid.ticker = plot.yaxis[0].ticker
        theme.name_axis(plot.xaxis[0], "seconds before the incident")
        area = VArea(
            x="time", y1=0, y2="process", fill_color=theme.NEUTRAL, fill_alpha=0.25
        )
        plot.add_glyph(self.samples, area)
        line = plot.add_glyph(
            self.samples,
            Line(x="time", y="process", line_color=theme.NEUTRAL, line_width=2),
        )
        stacked = plot.add_glyph(
            self.stack,
            Quad(
                left="left",
                right="right",
                bottom="bottom",
                top="top",
                fill_color="colour",
                hatch_pattern="hatch",
                hatch_color="#ffffff",
                hatch_alpha=0.4,
                hatch_scale=8,
                line_color="#ffffff",
                line_alpha=0.6,
            ),
        )
        for span in (*self.thresholds.values(), self.limit):
            plot.add_layout(span)
        death = _span("height", theme.ALARM, "solid")
        death.update(visible=True, line_width=3)
        plot.add_layout(death)
        plot.add_tools(
            HoverTool(
                renderers=[line],
                mode="vline",
                tooltips=tooltip(
                    [("process", "@{process}{bytes}"), ("at", "@{time}{0.0} s")]
                ),
                formatters={"@{process}": theme.bytes_hover()},
            ),
            HoverTool(
                renderers=[stacked],
                tooltips=tooltip([("at that moment", "@{size}")], head="@{what}"),
                attachment="left",
            ),
        )
        plot.visible = False
        return plot

    def _strips(self) -> Any:
        plot = theme.chart(
            "last-tasks", AROUND + LANE, x_range=self.x_range, y_range=self.rows
        )
        plot.grid.visible = False
        plot.axis.visible = False
        plot.min_border_left = 62
        plot.yaxis.ticker = FixedTicker(ticks=[0], minor_ticks=[])
        drawn = plot.add_glyph(
            self.tasks,
            Quad(
                left="left",
                right="right",
                top="top",
                bottom="bottom",
                fill_color="colour",
                line_alpha=0,
            ),
        )
        plot.add_tools(
            HoverTool(
                renderers=[drawn],
                tooltips=tooltip(
                    [("memory", "@{size}"), ("ran for", "@{ran}")], head="@{key}"
                ),
                attachment="above",
            )
        )
        plot.visible = False
        return plot

    def draw(
        self,
        incident: Mapping[str, Any] | None,
        thresholds: Mapping[str, int | None],
    ) -> None:
        """Show an incident's last seconds, or nothing where none were sampled.

        Parameters
        ----------
        incident
            The open one; None without.
        thresholds
            Its worker's, in bytes.
        """
        timeline = (incident or {}).get("timeline") or {}
        times, process = timeline.get("time") or [], timeline.get("process") or []
        suspects = (incident or {}).get("suspects") or []
        self.figure.visible = shown = bool(len(times) > 1 and incident)
        self.strips.visible = shown and bool(suspects)
        if not shown or incident is None:
            return
        relative = [instant - incident["time"] for instant in times]
        start = min(relative[0], -SHORTEST)
        sync(self.samples, {"time": relative, "process": process})
        found = stack(incident)
        number = len(found["top"])
        left, right = -start * APART, -start * (APART + WIDE)
        sync(self.stack, {**found, "left": [left] * number, "right": [right] * number})
        tasks = lanes(suspects, start)
        sync(self.tasks, tasks)
        self.rows.start = len(tasks["top"]) - 0.5
        self.strips.height = AROUND + LANE * max(1, len(tasks["top"]))
        end = right if number else -start * APART
        self.x_range.update(start=start, end=end)
        lines = {**thresholds, "limit": incident["limit"]}
        for name, span in {**self.thresholds, "limit": self.limit}.items():
            at = lines.get(name)
            span.update(location=float(at or 0), visible=at is not None)
        top = max(*process, *(found["top"] or [0]), incident["limit"] or 0)
        self.y_range.update(start=0, end=theme.nice_ceiling(top * 1.05))


def _span(dimension: str, colour: str, dash: str) -> Span:
    return Span(
        dimension=dimension,
        location=0,
        line_color=colour,
        line_dash=dash,
        line_width=2,
        visible=False,
    )
