"""Incidents: a list, newest first, in which each opens to its whole story.

The address of the page says which one is open (``#incident-3``), so that it can be
shared; ``static/memdash.js`` brings it here.  Text is written by templates, which
escape; the worker's last minute is a Bokeh chart.
"""

from __future__ import annotations

from typing import Any

import panel as pn
from bokeh.models import ColumnDataSource, HoverTool, Line, Range1d, Span, VArea

from dask_memdash.errors import UnknownIncidentError
from dask_memdash.store.base import Store
from dask_memdash.views import theme
from dask_memdash.views.base import Text, View, tooltip

#: Incidents listed at most, the newest.
MOST = 25


class IncidentsView(View):
    """List of incidents, and the story of the one that is open.

    Parameters
    ----------
    store
        What it shows.
    stylesheet
        URL of the page's stylesheet.
    """

    def __init__(self, store: Store, stylesheet: str) -> None:
        super().__init__(store)
        #: Identifier of the incident that is open, empty for none.
        self.open = ""
        self.list = Text("incidents.html", stylesheet)
        self.story = Text("incident_story.html", stylesheet)
        self.more = Text("incident_more.html", stylesheet)
        self.source = ColumnDataSource({"time": [], "process": []})
        self.x_range = Range1d(-60, 0)
        self.y_range = Range1d(0, 1)
        self.limit = Span(
            dimension="width",
            location=0,
            line_color=theme.ALARM,
            line_dash="dashed",
            visible=False,
        )
        self.figure = self._chart()
        self.root = pn.Column(
            self.list.pane,
            self.story.pane,
            pn.pane.Bokeh(self.figure, sizing_mode="stretch_width", margin=0),
            self.more.pane,
            sizing_mode="stretch_width",
            margin=0,
        )

    def _chart(self) -> Any:
        plot = theme.chart(170, x_range=self.x_range, y_range=self.y_range)
        plot.xgrid.visible = False
        plot.yaxis.ticker = theme.bytes_ticker()
        plot.yaxis.formatter = theme.bytes_formatter()
        plot.ygrid.ticker = plot.yaxis[0].ticker
        plot.xaxis.axis_label = "seconds before the death"
        plot.xaxis.axis_label_text_color = theme.NEUTRAL
        plot.xaxis.axis_label_text_font = "system-ui, sans-serif"
        plot.xaxis.axis_label_text_font_size = "12px"
        plot.xaxis.axis_label_text_font_style = "normal"
        plot.add_glyph(
            self.source,
            VArea(
                x="time",
                y1=0,
                y2="process",
                fill_color=theme.NEUTRAL,
                fill_alpha=0.25,
            ),
        )
        line = plot.add_glyph(
            self.source,
            Line(x="time", y="process", line_color=theme.NEUTRAL, line_width=2),
        )
        death = Span(
            dimension="height", location=0, line_color=theme.ALARM, line_width=3
        )
        plot.add_layout(self.limit)
        plot.add_layout(death)
        plot.add_tools(
            HoverTool(
                renderers=[line],
                mode="vline",
                tooltips=tooltip(
                    [("process", "@{process}{bytes}"), ("at", "@{time}{0.0} s")]
                ),
                formatters={"@{process}": theme.bytes_hover()},
            )
        )
        plot.visible = False
        return plot

    def select(self, incident_id: str) -> None:
        """Open an incident, or none where the identifier is empty."""
        if incident_id != self.open:
            self.open = incident_id
            self.invalidate()

    def draw(self) -> None:
        """Write the list anew, and the story of the open incident."""
        listed = self.store.incidents(MOST)
        total = self.store.cluster()["n_incidents"]
        self.list.write(incidents=listed, total=total, open=self.open)
        incident = self._opened()
        self.story.write(incident=incident, asked=self.open)
        self.more.write(incident=incident)
        self._draw_timeline(incident)

    def _opened(self) -> dict[str, Any] | None:
        if not self.open:
            return None
        try:
            return self.store.incident(self.open)
        except UnknownIncidentError:
            return None

    def _draw_timeline(self, incident: dict[str, Any] | None) -> None:
        timeline = (incident or {}).get("timeline") or {}
        times, process = timeline.get("time") or [], timeline.get("process") or []
        self.figure.visible = bool(len(times) > 1 and incident)
        if not self.figure.visible or incident is None:
            return
        relative = [instant - incident["time"] for instant in times]
        if self.source.data != {"time": relative, "process": process}:
            self.source.data = {"time": relative, "process": process}
        limit = incident["limit"]
        self.limit.update(location=limit or 0, visible=limit is not None)
        self.x_range.update(start=min(relative[0], -1.0), end=0.5)
        top = max(*process, limit or 0)
        self.y_range.update(start=0, end=theme.nice_ceiling(top * 1.05))
