"""Charts that stand alone on a page: for JupyterLab's Dask extension, and to embed.

Each is a view of the page without what is around it, filling its window.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from bokeh.document import Document
from panel.io.state import set_curdoc

from dask_memdash.boundary import Boundary
from dask_memdash.store.base import Store
from dask_memdash.views.base import Context, View, environment, while_watched
from dask_memdash.views.cluster_history import HistoryView
from dask_memdash.views.order_tab import OrderView
from dask_memdash.views.prefix_bars import PrefixesView
from dask_memdash.views.worker_bars import WorkersView


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart that has a page of its own."""

    title: str
    make: Callable[[Store, Context], View]
    figure: Callable[[Any], Any]
    #: Whether its height follows the window; charts with rows have a height of theirs.
    stretches: bool


#: Path beneath the dashboard's prefix → the chart there.
CHARTS = {
    "individual-memdash-memory-over-time": Chart(
        "MemDash: memory over time", HistoryView, lambda view: view.figure, True
    ),
    "individual-memdash-workers": Chart(
        "MemDash: workers", WorkersView, lambda view: view.chart.figure, False
    ),
    "individual-memdash-task-prefixes": Chart(
        "MemDash: task prefixes", PrefixesView, lambda view: view.chart.figure, False
    ),
    "individual-memdash-order": Chart(
        "MemDash: order", OrderView, lambda view: view.figure, True
    ),
}


class IndividualPage:
    """Makes the page of one chart for every browser that asks for it.

    Parameters
    ----------
    chart
        What is on it.
    store
        What it shows.
    refresh
        Seconds between two updates.
    assets
        Gives the URL of a static file, relative to the page.
    boundary
        What keeps failures from the server.
    """

    def __init__(
        self,
        chart: Chart,
        store: Store,
        refresh: float,
        assets: Callable[[str], str],
        boundary: Boundary,
    ) -> None:
        self._chart = chart
        self._store = store
        self._refresh = refresh
        self._assets = assets
        self._boundary = boundary

    def open(self, doc: Document) -> None:
        """Put the chart into the document of a new session; never raises."""
        doc.title = self._chart.title
        doc.template = environment().get_template("individual.html")
        doc.template_variables.update(asset=self._assets)
        self._boundary.guarded(self._fill, f"opening {self._chart.title}")(doc)

    def opening(self, doc: Document) -> Iterator[None]:
        """Put the chart into a document; it is small, so that it is made at once."""
        self.open(doc)
        yield from ()

    def _fill(self, doc: Document) -> None:
        context = Context("")

        def update() -> None:
            context.axis.keep_up(self._store)
            view.update()

        with set_curdoc(doc):
            view = self._chart.make(self._store, context)
            figure = self._chart.figure(view)
            update()
        figure.sizing_mode = (
            "stretch_both" if self._chart.stretches else "stretch_width"
        )
        doc.add_root(figure)
        doc.roots[-1].name = "chart"
        doc.add_periodic_callback(
            self._boundary.guarded(
                while_watched(doc, update), f"updating {self._chart.title}"
            ),
            max(100, round(self._refresh * 1000)),
        )
