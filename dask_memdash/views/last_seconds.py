"""A worker's last seconds: its memory over time, and whose it was, one upon the other.

The bands are those of :mod:`dask_memdash.analysis.incidents.last_seconds`: the running
tasks at the bottom, then what was there beside them, up to the process.  A bar at the
right of the death is what it was made of then, and names the bands where they are.
Where tasks were not sampled, the process alone is drawn over time, beside the bar.
Beneath, one lane for each running task says since when it ran.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bokeh.models import (
    ColumnDataSource,
    FixedTicker,
    HoverTool,
    Label,
    Line,
    LinearAxis,
    Quad,
    Range1d,
    Span,
    VArea,
)

from dask_memdash.analysis.incidents.last_seconds import Band, Scene
from dask_memdash.text import format_bytes
from dask_memdash.views import theme
from dask_memdash.views.bar_rows import lead
from dask_memdash.views.base import sync, tooltip
from dask_memdash.views.last_seconds_columns import (
    LINE,
    ROOM,
    bar,
    lanes,
    layers,
    names,
    told,
)
from dask_memdash.views.worker_bars import THRESHOLDS
from dask_memdash.views.workers_tab import AROUND, LANE

#: Height of the chart, and of that what is not its frame, in CSS pixels.
HEIGHT, BESIDE = 280, 48

#: Width of the bar, and where it begins after the death, as shares of the time shown.
WIDE = 0.06
APART = 0.012

#: Lines are named at the left: what the process had before this share of the time shown
#: is in the way.
EARLY = 0.6

#: What is left free above all that is drawn, as a multiple: the death is named there.
HEADROOM = 1.13


class LastSeconds:
    """The two charts of an incident, one above the other on one time axis.

    Parameters
    ----------
    live
        Whether a browser follows clicks.
    """

    def __init__(self, *, live: bool) -> None:
        self.samples = ColumnDataSource({"time": [], "process": [], "said": []})
        self.layers = ColumnDataSource({"time": [], **layers([], 0)})
        self.bar = ColumnDataSource({**bar([]), "left": [], "right": []})
        self.tasks = ColumnDataSource(lanes([], 0))
        self.x_range = Range1d(-60, 0)
        self.y_range = Range1d(0, 1)
        self.rows = Range1d(0.5, -0.5)
        self.limit = _span("width", theme.ALARM, "dashed")
        self.thresholds = {
            name: _span("width", colour, dash)
            for name, (colour, dash) in THRESHOLDS.items()
        }
        self.names = {
            **{name: _label(colour, "top") for name, (colour, _) in THRESHOLDS.items()},
            "limit": _label(theme.ALARM, "bottom"),
        }
        areas = [
            VArea(
                x="time",
                y1=f"edge{place}",
                y2=f"edge{place + 1}",
                hatch_color="#ffffff",
                hatch_alpha=0.4,
                hatch_scale=8,
            )
            for place in range(ROOM)
        ]
        self.figure = self._chart(areas)
        self.strips = self._strips()
        if live:
            lead(self.figure, self.bar)
            lead(self.strips, self.tasks)

    def _chart(self, areas: Sequence[VArea]) -> Any:
        plot = theme.chart(
            "last-minute", HEIGHT, x_range=self.x_range, y_range=self.y_range
        )
        plot.xgrid.visible = False
        plot.min_border_left = 62
        plot.yaxis.ticker = theme.bytes_ticker()
        plot.yaxis.formatter = theme.bytes_formatter()
        plot.ygrid.ticker = plot.yaxis[0].ticker
        theme.name_axis(plot.xaxis[0], "seconds before its death")
        whole = VArea(
            x="time", y1=0, y2="process", fill_color=theme.NEUTRAL, fill_alpha=0.25
        )
        plot.add_glyph(self.samples, whole)
        self.drawn = [plot.add_glyph(self.layers, area) for area in areas]
        line = plot.add_glyph(
            self.samples,
            Line(x="time", y="process", line_color=theme.NEUTRAL, line_width=2),
        )
        stacked = plot.add_glyph(
            self.bar,
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
        for mark in (*self.thresholds.values(), self.limit, *self.names.values()):
            plot.add_layout(mark)
        self._mark_the_death(plot)
        self.edge = theme.plain_axis(LinearAxis(ticker=FixedTicker(ticks=[])))
        plot.add_layout(self.edge, "right")
        plot.add_tools(
            HoverTool(
                renderers=[line],
                mode="vline",
                tooltips=tooltip(
                    [
                        ("process", "@{process}{bytes}"),
                        ("of that", "@{said}"),
                        ("at", "@{time}{0.0} s"),
                    ]
                ),
                formatters={"@{process}": theme.bytes_hover()},
            ),
            HoverTool(
                renderers=[stacked],
                tooltips=tooltip([("at its death", "@{size}")], head="@{what}"),
                attachment="left",
            ),
        )
        plot.visible = False
        return plot

    def _mark_the_death(self, plot: Any) -> None:
        death = _span("height", theme.ALARM, "solid")
        death.update(visible=True, line_width=3)
        plot.add_layout(death)
        self.death_name = _label(theme.ALARM, "top")
        self.death_name.update(text="death", text_align="right", x=0, x_offset=-6)
        self.death_name.visible = True
        plot.add_layout(self.death_name)

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
                hatch_pattern="hatch",
                hatch_color="#ffffff",
                hatch_alpha=0.4,
                hatch_scale=8,
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

    def draw(self, incident: Mapping[str, Any] | None, shown: Scene) -> None:
        """Show an incident's last seconds, or nothing where none were sampled.

        Parameters
        ----------
        incident
            The open one; None without.
        shown
            What is to be drawn of it.
        """
        suspects = (incident or {}).get("suspects") or []
        self.figure.visible = bool(shown.before)
        self.strips.visible = bool(shown.before and suspects)
        if not shown.before or incident is None:
            return
        made, before, process = shown.bands[:ROOM], shown.before, shown.process
        number = len(before)
        sync(
            self.samples,
            {"time": before, "process": process, "said": told(made, number)},
        )
        self._draw_layers(shown)
        found = bar(made)
        left, right = shown.seconds * APART, shown.seconds * (APART + WIDE)
        rows = len(found["top"])
        sync(self.bar, {**found, "left": [left] * rows, "right": [right] * rows})
        tasks = lanes(suspects, -shown.seconds)
        sync(self.tasks, tasks)
        self.rows.start = len(tasks["top"]) - 0.5
        self.strips.height = AROUND + LANE * max(1, len(tasks["top"]))
        self.x_range.update(start=-shown.seconds, end=right if rows else left)
        highest = max(*process, *(found["top"] or [0]), incident["limit"] or 0)
        top = highest * HEADROOM
        self.y_range.update(start=0, end=top)
        self._name_the_bar(made, top)
        lines = {**(incident.get("thresholds") or {}), "limit": incident["limit"]}
        self._draw_lines(lines, shown, top)

    def _draw_layers(self, shown: Scene) -> None:
        made = shown.bands[:ROOM] if shown.over_time else ()
        before = shown.before if shown.over_time else ()
        sync(self.layers, {"time": before, **layers(made, len(before))})
        for place, drawn in enumerate(self.drawn):
            band = made[place] if place < len(made) else None
            drawn.visible = visible = band is not None and bool(band.colour)
            if band is not None and visible:
                drawn.glyph.update(fill_color=band.colour, hatch_pattern=band.hatch)

    def _name_the_bar(self, made: Sequence[Band], top: float) -> None:
        written = names(made, top, HEIGHT - BESIDE)
        self.edge.ticker.ticks = sorted(written)
        self.edge.major_label_overrides = written

    def _draw_lines(
        self, lines: Mapping[str, int | None], shown: Scene, top: float
    ) -> None:
        """Draw limit and thresholds, named where nothing is drawn behind the name."""
        for name, span in {**self.thresholds, "limit": self.limit}.items():
            at = lines.get(name)
            span.update(location=float(at or 0), visible=at is not None)
        early = [
            size
            for at, size in zip(shown.before, shown.process, strict=True)
            if at < -EARLY * shown.seconds
        ]
        filled = max(early, default=shown.process[0])
        for name, label in self.names.items():
            at = lines.get(name)
            said = f"limit {format_bytes(at)}" if name == "limit" else name
            label.update(text=said, x=-shown.seconds, y=float(at or 0), x_offset=4)
            beneath = 0 if name == "limit" else LINE / (HEIGHT - BESIDE) * top
            label.visible = at is not None and at - beneath > filled
        self.death_name.y = top


def _span(dimension: str, colour: str, dash: str) -> Span:
    return Span(
        dimension=dimension,
        location=0,
        line_color=colour,
        line_dash=dash,
        line_width=2,
        visible=False,
    )


def _label(colour: str, baseline: str) -> Label:
    """Make what names a line, beneath it or above.

    White on the line's colour: no colour of words is readable on a light ground and on
    a dark one.
    """
    return Label(
        x=0,
        y=0,
        text="",
        text_color="#ffffff",
        background_fill_color=(
            theme.NEUTRAL_GROUND if colour == theme.NEUTRAL else colour
        ),
        padding=(4, 1),
        border_radius=3,
        text_font="system-ui, sans-serif",
        text_font_size="12px",
        text_baseline=baseline,
        y_offset=-3 if baseline == "top" else 3,
        visible=False,
    )
