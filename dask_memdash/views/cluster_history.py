"""The cluster's memory over time, with deaths and pauses marked on it."""

from __future__ import annotations

from typing import Any

import panel as pn
from bokeh.models import ColumnDataSource, HoverTool, Scatter, Segment

from dask_memdash import terms
from dask_memdash.store.base import Store
from dask_memdash.text import UNKNOWN
from dask_memdash.views import theme
from dask_memdash.views.bar_rows import lead
from dask_memdash.views.base import Context, Text, View, sync, tooltip
from dask_memdash.views.tabular import address
from dask_memdash.views.time_chart import EDGE, TimeChart

#: Incidents marked at most, the newest.
MARKS = 100

#: Share of the limit from which the limit is drawn; below, it would flatten the rest.
LIMIT_SHOWN_FROM = 0.35


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
        "marker": ["x" if k in terms.DEATHS else "diamond" for k in kinds],
        "colour": [theme.ALARM for _ in kinds],
        "what": [terms.label(terms.KINDS, i["kind"]) for i in shown],
        "worker": [_name(incident) for incident in shown],
        "text": [incident["diagnosis"]["text"] for incident in shown],
        "link": [address("incident", incident["id"]) for incident in shown],
    }


def _name(incident: dict[str, Any]) -> str:
    worker = incident.get("worker") or {}
    return str(worker.get("name") or worker.get("address") or UNKNOWN)


class HistoryView(View):
    """Chart of the cluster's breakdown over time.

    Parameters
    ----------
    store
        What it shows.
    context
        What it shares with the other views of its page.
    """

    def __init__(self, store: Store, context: Context) -> None:
        super().__init__(store, context)
        self.empty = Text("history_empty.html", context.stylesheet, ["md-empty"])
        edges: dict[str, list[float]] = {"low": [], "high": []}
        self.marks = ColumnDataSource({**marks([], 0), **edges})
        self.chart = TimeChart("history", context.axis, 340)
        self.figure = self.chart.figure
        self._draw_marks()
        self.root = pn.Column(
            self.empty.pane,
            pn.pane.Bokeh(self.figure, sizing_mode="stretch_width", margin=0),
            sizing_mode="stretch_width",
            margin=0,
        )

    def _draw_marks(self) -> None:
        plot = self.figure
        self.chart.draw_parts()
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
        plot.add_tools(
            HoverTool(
                renderers=[events],
                tooltips=tooltip(
                    [("worker", "@{worker}"), ("time", "@{time}{clock}")],
                    head="@{what}",
                    words="@{text}",
                ),
                formatters={"@{time}": theme.clock_hover()},
                attachment="below",
            ),
        )
        if self.context.live:
            lead(plot, self.marks)

    def draw(self) -> None:
        """Add what is new, and move the axes with it."""
        cluster = self.store.cluster()
        drawn = self.chart.draw(
            lambda since, points: self.store.history(None, since, points),
            "cluster",
            cluster["time"],
        )
        self.figure.visible = drawn
        self.empty.write(n_workers=cluster["n_workers"], drawn=drawn)
        if not drawn:
            return
        peak, spilled = self.chart.peaks()
        limit = cluster["limit"]
        show_limit = limit is not None and peak >= LIMIT_SHOWN_FROM * limit
        top = theme.nice_ceiling(peak * 1.04)
        if show_limit:
            top = max(top, float(limit or 0) * 1.04)
        bottom = self.chart.fit(top, spilled)
        self.chart.mark_pauses(self.store.history(None, self.context.axis.start, 2))
        found = marks(self.store.incidents(MARKS), self.context.axis.start)
        number = len(found["time"])
        low, high = [bottom * EDGE] * number, [top * EDGE] * number
        sync(self.marks, {**found, "low": low, "high": high})
        self.chart.limit.update(location=float(limit or 0), visible=show_limit)
