"""The cluster's memory over time, with deaths and pauses marked on it.

The parts are stacked areas above the axis, outputs spilled to disk hang beneath it.
All data go into three sources that are replaced in place; no model is made after
the first drawing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import panel as pn
from bokeh.models import (
    ColumnDataSource,
    CustomJSTickFormatter,
    DatetimeTicker,
    HoverTool,
    Line,
    Quad,
    Range1d,
    Scatter,
    Segment,
    Span,
    VArea,
)

from dask_memdash.store.base import History, Store
from dask_memdash.views import theme
from dask_memdash.views.base import Text, View, tooltip

#: Points drawn at most.
POINTS = 300

#: Incidents marked at most, the newest.
MARKS = 100

#: Least span of the time axis, in seconds, so that a young cluster's does not race.
LEAST_SPAN = 60.0

#: Share of the limit from which the limit is drawn; below, it would flatten the rest.
LIMIT_SHOWN_FROM = 0.35


def columns(history: History) -> dict[str, np.ndarray[Any, Any]]:
    """Turn a store's history into the columns of the chart.

    Times are milliseconds since the epoch, sizes are bytes; ``top_*`` and
    ``bottom_*`` are the bounds of each part's area.
    """
    data: dict[str, np.ndarray[Any, Any]] = {
        "time": np.asarray(history["time"], dtype="f8") * 1000,
        "process": np.asarray(history["process"], dtype="f8"),
        "spilled": np.asarray(history["spilled"], dtype="f8"),
    }
    data["beneath"] = -data["spilled"]
    level = np.zeros(len(data["time"]))
    for part in theme.PARTS:
        data[part.name] = np.asarray(history[part.name], dtype="f8")  # type: ignore[literal-required]
        data[f"bottom_{part.name}"] = level
        level = level + data[part.name]
        data[f"top_{part.name}"] = level
    return data


def marks(incidents: list[dict[str, Any]], since: float) -> dict[str, list[Any]]:
    """Turn incidents into the columns of the marks.

    Parameters
    ----------
    incidents
        Newest first.
    since
        Earliest instant drawn, in seconds since the epoch.
    """
    shown = [i for i in incidents[:MARKS] if i["time"] >= since]
    kinds = [incident["kind"] for incident in shown]
    return {
        "time": [incident["time"] * 1000 for incident in shown],
        "marker": [
            "square" if k == "paused" else "x" if k in theme.DEATHS else "diamond"
            for k in kinds
        ],
        "colour": [theme.CAUTION if k == "paused" else theme.ALARM for k in kinds],
        "what": [theme.KINDS.get(i["kind"], i["kind"]) for i in shown],
        "worker": [_name(incident) for incident in shown],
        "text": [incident["diagnosis"]["text"] for incident in shown],
    }


def pauses(
    incidents: list[dict[str, Any]], since: float, until: float
) -> dict[str, list[Any]]:
    """Turn pauses of workers into the columns of the strips."""
    shown = [
        incident
        for incident in incidents
        if incident["kind"] == "paused" and (incident.get("until") or until) >= since
    ][:MARKS]
    return {
        "start": [max(incident["time"], since) * 1000 for incident in shown],
        "end": [(incident.get("until") or until) * 1000 for incident in shown],
    }


def _name(incident: dict[str, Any]) -> str:
    worker = incident.get("worker") or {}
    return str(worker.get("name") or worker.get("address") or theme.UNKNOWN)


class HistoryView(View):
    """Chart of the cluster's breakdown over time.

    Parameters
    ----------
    store
        What it shows.
    stylesheet
        URL of the page's stylesheet.
    """

    def __init__(self, store: Store, stylesheet: str) -> None:
        super().__init__(store)
        self.empty = Text("history_empty.html", stylesheet, ["md-empty"])
        empty: dict[str, list[float]] = {
            name: [] for name in ("time", "process", "spilled", "beneath")
        }
        for part in theme.PARTS:
            for prefix in ("", "bottom_", "top_"):
                empty[prefix + part.name] = []
        self.source = ColumnDataSource(empty)
        edges: dict[str, list[float]] = {"low": [], "high": []}
        self.marks = ColumnDataSource({**marks([], 0), **edges})
        self.pauses = ColumnDataSource({**pauses([], 0, 0), **edges})
        self.x_range = Range1d(0, 1)
        self.y_range = Range1d(0, 2**30)
        self.limit = Span(
            dimension="width",
            location=0,
            line_color=theme.NEUTRAL,
            line_dash="dashed",
            line_width=1.5,
            visible=False,
        )
        self.figure = self._chart()
        self.root = pn.Column(
            self.empty.pane,
            pn.pane.Bokeh(self.figure, sizing_mode="stretch_width", margin=0),
            sizing_mode="stretch_width",
            margin=0,
        )

    def _chart(self) -> Any:
        plot = theme.chart(340, x_range=self.x_range, y_range=self.y_range)
        plot.xgrid.visible = False
        plot.yaxis.ticker = theme.bytes_ticker()
        plot.yaxis.formatter = theme.bytes_formatter()
        plot.ygrid.ticker = plot.yaxis[0].ticker
        plot.xaxis.formatter = CustomJSTickFormatter(code="return memdash.clock(tick)")
        plot.xaxis.ticker = DatetimeTicker(desired_num_ticks=8, num_minor_ticks=0)
        plot.add_glyph(
            self.pauses,
            Quad(
                left="start",
                right="end",
                bottom="low",
                top="high",
                fill_color=theme.CAUTION,
                fill_alpha=0.16,
                line_alpha=0,
            ),
        )
        for part in theme.PARTS:
            plot.add_glyph(
                self.source,
                VArea(
                    x="time",
                    y1=f"bottom_{part.name}",
                    y2=f"top_{part.name}",
                    fill_color=part.colour,
                    fill_alpha=0.9,
                    hatch_pattern=part.hatch,
                    hatch_color="#ffffff",
                    hatch_alpha=0.35,
                ),
            )
        plot.add_glyph(
            self.source,
            VArea(
                x="time",
                y1=0,
                y2="beneath",
                fill_color=theme.SPILLED.colour,
                fill_alpha=0.35,
                hatch_pattern=theme.SPILLED.hatch,
                hatch_color=theme.SPILLED.colour,
                hatch_alpha=0.8,
                hatch_scale=8,
            ),
        )
        outline = plot.add_glyph(
            self.source, Line(x="time", y="process", line_color=theme.NEUTRAL)
        )
        plot.add_glyph(
            self.marks,
            Segment(
                x0="time",
                x1="time",
                y0="low",
                y1="high",
                line_color="colour",
                line_alpha=0.6,
            ),
        )
        events = plot.add_glyph(
            self.marks,
            Scatter(
                x="time",
                y=0,
                marker="marker",
                size=13,
                line_color="colour",
                fill_color="colour",
                line_width=3,
            ),
        )
        plot.add_layout(self.limit)
        sizes = theme.bytes_hover()
        clock = theme.clock_hover()
        drawn = [*reversed(theme.PARTS), theme.SPILLED]
        plot.add_tools(
            HoverTool(
                renderers=[outline],
                mode="vline",
                line_policy="nearest",
                point_policy="snap_to_data",
                tooltips=tooltip(
                    [
                        ("process", "@{process}{bytes}"),
                        *((p.label, f"@{{{p.name}}}{{bytes}}") for p in drawn),
                    ],
                    head="@{time}{clock}",
                ),
                formatters={
                    "@{time}": clock,
                    "@{process}": sizes,
                    **{f"@{{{part.name}}}": sizes for part in drawn},
                },
            ),
            HoverTool(
                renderers=[events],
                tooltips=tooltip(
                    [("worker", "@{worker}"), ("time", "@{time}{clock}")],
                    head="@{what}",
                    words="@{text}",
                ),
                formatters={"@{time}": clock},
                attachment="below",
            ),
        )
        return plot

    def draw(self) -> None:
        """Replace the columns, and move the axes with them."""
        cluster = self.store.cluster()
        data = self.once(
            "columns of history", lambda: columns(self.store.history(points=POINTS))
        )
        incidents = self.store.incidents(MARKS)
        times = data["time"]
        self.figure.visible = bool(len(times))
        self.empty.write(n_workers=cluster["n_workers"], drawn=bool(len(times)))
        if not len(times):
            return
        start, end = times[0] / 1000, times[-1] / 1000
        start = min(start, end - LEAST_SPAN)
        peak = float(data["process"].max())
        limit = cluster["limit"]
        show_limit = limit is not None and peak >= LIMIT_SHOWN_FROM * limit
        top = theme.nice_ceiling(peak * 1.04)
        if show_limit:
            top = max(top, float(limit or 0) * 1.04)
        spilled = float(data["spilled"].max())
        self.source.data = data
        bottom = -theme.nice_ceiling(spilled * 1.04) if spilled else 0.0
        for source, found in (
            (self.marks, marks(incidents, start)),
            (self.pauses, pauses(incidents, start, end)),
        ):
            # Short of the edges: what BokehJS draws upon them, it does not clear.
            number = len(next(iter(found.values())))
            low, high = [bottom * 0.99] * number, [top * 0.99] * number
            source.data = {**found, "low": low, "high": high}
        self.limit.update(location=float(limit or 0), visible=show_limit)
        self.x_range.update(start=start * 1000, end=end * 1000)
        self.y_range.update(start=bottom, end=top)
