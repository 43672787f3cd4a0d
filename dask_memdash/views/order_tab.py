"""The Order tab: what a graph's own order needs, and what was really held.

The curves stand over the number of finished tasks, not over time.  A click on one of
them lists what was held there and for whom.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import panel as pn
from bokeh.events import Tap
from bokeh.models import (
    ColumnDataSource,
    HoverTool,
    Line,
    Range1d,
    Scatter,
    Segment,
    Span,
    TapTool,
    VArea,
)

from dask_memdash import terms
from dask_memdash.errors import MemDashError
from dask_memdash.store.base import Store
from dask_memdash.store.order_shapes import Graph, OrderPoint
from dask_memdash.text import format_bytes
from dask_memdash.views import theme
from dask_memdash.views.base import Context, Text, View, sync, tooltip
from dask_memdash.views.table import ServedTable
from dask_memdash.views.table_columns import GRAPHS
from dask_memdash.views.tabular import address

#: Curve → (label, dash, width).  What was stored is storage, so it is blue.
CURVES = {
    "ideal": ("needed, one task at a time", "solid", 2.0),
    "ideal_threads": ("needed, all threads at work", "dashed", 2.0),
    "actual": ("stored", "solid", 2.5),
}

#: Incidents marked on the curves at most.
MARKS = 100


def curves(graph: Graph) -> dict[str, list[Any]]:
    """Turn a graph's curves into columns; what is not known becomes NaN."""
    curve = graph["curve"]
    actual = [float("nan") if size is None else size for size in curve["actual"]]
    return {
        "position": list(curve["position"]),
        "ideal": list(curve["ideal"]),
        "ideal_threads": list(curve["ideal_threads"]),
        "actual": actual,
        "floor": [float("nan") if size is None else 0 for size in curve["actual"]],
        "said": [format_bytes(size) for size in curve["actual"]],
    }


#: What is drawn before there is a graph.
NO_GRAPH = cast(
    Graph,
    {"curve": {"position": [], "ideal": [], "ideal_threads": [], "actual": []}},
)


def nearest(graph: Graph, position: float) -> int:
    """Return the position on a graph's curves that is nearest to where was clicked."""
    return min(max(round(position), 0), graph["tasks"])


class OrderView(View):
    """Table of the graphs, and the chosen one's curves; by default the newest's.

    Parameters
    ----------
    store
        What it shows.
    context
        What it shares with the other views of its page.
    """

    def __init__(self, store: Store, context: Context) -> None:
        super().__init__(store, context)
        self.table = ServedTable(GRAPHS, context)
        self.empty = Text("order_empty.html", context.stylesheet, ["md-empty"])
        self.about = Text("order.html", context.stylesheet)
        self.point = Text("order_point.html", context.stylesheet)
        self.more = Text("order_more.html", context.stylesheet)
        #: What was clicked: graph and number of finished tasks.
        self.clicked: tuple[str, int] | None = None
        self._graph: Graph | None = None
        self.source = ColumnDataSource({name: [] for name in curves(NO_GRAPH)})
        self.deaths = ColumnDataSource({"position": [], "top": [], "id": []})
        self.x_range = Range1d(0, 1)
        self.y_range = Range1d(0, 1)
        self.capacity = Span(
            dimension="width",
            location=0,
            line_color=theme.ALARM,
            line_dash="dashed",
            line_width=1.5,
            visible=False,
        )
        self.cursor = Span(
            dimension="height",
            location=0,
            line_color=theme.CAUTION,
            line_width=2,
            visible=False,
        )
        self.figure = self._chart()
        self.root = pn.Column(
            self.empty.pane,
            self.about.pane,
            pn.pane.Bokeh(self.figure, sizing_mode="stretch_width", margin=0),
            self.point.pane,
            self.more.pane,
            sizing_mode="stretch_width",
            margin=0,
        )

    def _chart(self) -> Any:
        plot = theme.chart("order", 320, x_range=self.x_range, y_range=self.y_range)
        plot.min_border_left = 72
        plot.xgrid.visible = False
        plot.yaxis.ticker = theme.bytes_ticker()
        plot.yaxis.formatter = theme.bytes_formatter()
        plot.ygrid.ticker = plot.yaxis[0].ticker
        theme.name_axis(plot.xaxis[0], "finished tasks")
        storage = terms.PARTS["managed"].colour
        plot.add_glyph(
            self.source,
            VArea(
                x="position",
                y1="floor",  # not 0: the area ends where what was stored does
                y2="actual",
                fill_color=storage,
                fill_alpha=0.25,
            ),
        )
        colours = dict.fromkeys(CURVES, theme.NEUTRAL) | {"actual": storage}
        for name, (_, dash, width) in CURVES.items():
            line = plot.add_glyph(
                self.source,
                Line(
                    x="position",
                    y=name,
                    line_color=colours[name],
                    line_dash=dash,
                    line_width=width,
                ),
            )
            if name == "ideal":
                outline = line
        plot.add_glyph(
            self.deaths,
            Segment(
                x0="position",
                x1="position",
                y0=0,
                y1="top",
                line_color=theme.ALARM,
                line_alpha=0.6,
            ),
        )
        marks = plot.add_glyph(
            self.deaths,
            Scatter(
                x="position",
                y="top",
                marker="x",
                size=12,
                line_color=theme.ALARM,
                line_width=3,
            ),
        )
        plot.add_layout(self.capacity)
        plot.add_layout(self.cursor)
        sizes = theme.bytes_hover()
        plot.add_tools(
            TapTool(renderers=[]),
            HoverTool(
                renderers=[outline],
                mode="vline",
                tooltips=tooltip(
                    [
                        (CURVES["actual"][0], "@{said}"),
                        (CURVES["ideal"][0], "@{ideal}{bytes}"),
                        (CURVES["ideal_threads"][0], "@{ideal_threads}{bytes}"),
                    ],
                    head="@{position}{0,0} tasks finished",
                    words="Click to see what was stored here, and who needed it.",
                ),
                formatters={"@{ideal}": sizes, "@{ideal_threads}": sizes},
            ),
            HoverTool(
                renderers=[marks],
                tooltips=tooltip([], head="Incident @{id} happened here"),
                attachment="below",
            ),
        )
        if self.context.live:
            tapped = self.context.guarded(self._tapped, "a click on the order")
            plot.on_event(Tap, tapped)
        return plot

    def _tapped(self, event: Tap) -> None:
        """Take in a click on the curves."""
        graph = self._graph
        if graph is not None and event.x is not None:
            self.clicked = (graph["id"], nearest(graph, event.x))
            self._draw_point(graph)

    def draw(self) -> None:
        """Bring the table up to date, and the curves of the chosen graph."""
        chosen = self.shown.chosen_on("order")
        graph = self._find(chosen)
        self._graph = graph
        marked = address("graph", graph["id"]) if graph else ""
        self.table.draw(self.store, self.shown.table(GRAPHS.name), marked, self.once)
        self.empty.write(empty=graph is None, asked=chosen)
        self.about.write(graph=graph)
        self.more.write(graph=graph)
        # Without the size of any output there is nothing to draw.
        self.figure.visible = bool(
            graph and graph["minimum"] and graph["curve"]["position"]
        )
        if graph is not None:
            self._draw_curves(graph)
            if self.shown.point is not None and self.clicked is None:
                self.clicked = (graph["id"], nearest(graph, self.shown.point))
        self._draw_point(graph)

    def _find(self, chosen: str) -> Graph | None:
        if chosen:
            graph: Graph | None = _attempt(lambda: self.store.graph(chosen))
            return graph
        newest = self.store.order(1)
        return newest[0] if newest else None

    def _draw_curves(self, graph: Graph) -> None:
        data = curves(graph)
        self.source.data = data
        sizes = [*data["ideal"], *data["ideal_threads"], graph["actual_peak"] or 0]
        highest = max((size for size in sizes if size == size), default=1)
        capacity = graph["capacity"]
        shown = capacity is not None and highest > 0.3 * capacity
        top = theme.nice_ceiling(max(highest, capacity or 0 if shown else 0) * 1.05)
        self.y_range.update(start=0, end=top)
        self.x_range.update(start=0, end=max(1, graph["tasks"]))
        self.capacity.update(location=float(capacity or 0), visible=shown)
        incidents = graph["incidents"][:MARKS]
        sync(
            self.deaths,
            {
                "position": [incident["position"] for incident in incidents],
                "top": [top * 0.96] * len(incidents),
                "id": [incident["id"] for incident in incidents],
            },
        )

    def _draw_point(self, graph: Graph | None) -> None:
        point: OrderPoint | None = None
        if graph is not None and self.clicked and self.clicked[0] == graph["id"]:
            position = self.clicked[1]
            point = _attempt(lambda: self.store.order_point(graph["id"], position))
        self.cursor.update(
            location=float(point["position"]) if point else 0.0, visible=bool(point)
        )
        self.point.write(graph=graph, point=point)


def _attempt(ask: Callable[[], Any]) -> Any:
    """Ask a store; give None where it does not know what is asked for."""
    try:
        return ask()
    except MemDashError:
        return None
