"""The Incidents tab: failures, and their incidents, each of which opens to its story.

The address of the page says what is open (``#failure-1``, ``#incident-3``) and can be
shared.  Text is written by templates, which escape; the worker's last minute is a
Bokeh chart.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import panel as pn
from bokeh.models import ColumnDataSource, HoverTool, Line, Range1d, Span, VArea

from dask_memdash.analysis.incidents.failure_words import cost_in_words
from dask_memdash.errors import UnknownFailureError, UnknownIncidentError
from dask_memdash.store.base import Store
from dask_memdash.views import theme
from dask_memdash.views.base import Context, Text, View, tooltip
from dask_memdash.views.table import ServedTable
from dask_memdash.views.table_columns import FAILURES, INCIDENTS
from dask_memdash.views.tabular import address
from dask_memdash.views.would_have_lived import WouldHaveLived

#: What the choice of a failure begins with; incidents are chosen by their id alone.
FAILURE = "failure-"

#: Rows of each table of a story at most.
MOST = 50


class IncidentsView(View):
    """Table of incidents, and the story of the one that is open.

    Parameters
    ----------
    store
        What it shows.
    context
        What it shares with the other views of its page.
    """

    def __init__(self, store: Store, context: Context) -> None:
        super().__init__(store, context)
        self.failures = ServedTable(FAILURES, context)
        self.lived = WouldHaveLived(store)
        self.table = ServedTable(INCIDENTS, context)
        self.failure = Text("failure_story.html", context.stylesheet)
        self.story = Text("incident_story.html", context.stylesheet)
        self.more = Text("incident_more.html", context.stylesheet)
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
            self.failure.pane,
            self.story.pane,
            pn.pane.Bokeh(self.figure, sizing_mode="stretch_width", margin=0),
            self.more.pane,
            sizing_mode="stretch_width",
            margin=0,
        )

    def _chart(self) -> Any:
        plot = theme.chart(
            "last-minute", 170, x_range=self.x_range, y_range=self.y_range
        )
        plot.xgrid.visible = False
        plot.yaxis.ticker = theme.bytes_ticker()
        plot.yaxis.formatter = theme.bytes_formatter()
        plot.ygrid.ticker = plot.yaxis[0].ticker
        theme.name_axis(plot.xaxis[0], "seconds before the incident")
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

    def draw(self) -> None:
        """Bring the table up to date, and the story of the open incident."""
        chosen = self.shown.chosen_on("incidents")
        failure_id = chosen.removeprefix(FAILURE) if chosen.startswith(FAILURE) else ""
        chosen = "" if failure_id else chosen
        self._draw_failures(failure_id)
        query = self.shown.table(INCIDENTS.name)
        self.table.draw(self.store, query, address("incident", chosen), self.once)
        incident = self._opened(chosen)
        self.story.write(incident=incident, asked=chosen, most=MOST)
        self.more.write(incident=incident, most=MOST)
        self._draw_timeline(incident)

    def _draw_failures(self, chosen: str) -> None:
        query = self.shown.table(FAILURES.name)
        shown = address("failure", chosen)
        self.failures.draw(self.store, query, shown, self.once)
        failure = None
        if chosen:
            with suppress(UnknownFailureError):
                failure = self.store.failure(chosen)
        cost = "" if failure is None else cost_in_words(failure["cost"])
        self.failure.write(
            failure=failure,
            asked=chosen,
            cost_text=cost,
            lived=self.lived.lines(failure),
            addresses=self._addresses(failure),
            most=MOST,
        )

    def _addresses(self, failure: dict[str, Any] | None) -> dict[str, str]:
        """Return where the workers of a failure listened, by name."""
        found: dict[str, str] = {}
        for incident_id in (failure or {}).get("incidents", [])[-MOST:]:
            with suppress(UnknownIncidentError):
                worker = self.store.incident(incident_id)["worker"] or {}
                found[str(worker.get("name"))] = str(worker.get("address") or "")
        return found

    def _opened(self, chosen: str) -> dict[str, Any] | None:
        if not chosen:
            return None
        try:
            return self.store.incident(chosen)
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
