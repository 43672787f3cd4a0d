"""Panes that stand alone on a page: for JupyterLab's Dask extension, and to embed.

What is in them is :mod:`dask_memdash.views.pane`'s; each fills its window.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bokeh.document import Document

from dask_memdash.boundary import Boundary
from dask_memdash.store.base import Store
from dask_memdash.views.base import Context, View, environment
from dask_memdash.views.pane import (
    history_pane,
    order_pane,
    prefixes_pane,
    workers_pane,
)
from dask_memdash.views.rounds import Follow
from dask_memdash.views.sending import hand_out, together
from dask_memdash.views.shared import SharedStore
from dask_memdash.views.time_axis import TimeAxis


@dataclass(frozen=True, slots=True)
class Chart:
    """A pane that has a page of its own."""

    title: str
    make: Callable[[Store, Context], View]


#: Path beneath the dashboard's prefix → the pane there.
CHARTS = {
    "individual-memdash-memory-over-time": Chart(
        "MemDash: memory over time", history_pane
    ),
    "individual-memdash-workers": Chart("MemDash: workers", workers_pane),
    "individual-memdash-task-prefixes": Chart("MemDash: task prefixes", prefixes_pane),
    "individual-memdash-order": Chart("MemDash: order", order_pane),
}


class IndividualPage:
    """Makes the page of one chart for every browser that asks for it.

    Parameters
    ----------
    chart
        What is on it.
    store
        What it shows.
    follow
        Has it brought up to date for as long as it is open.
    assets
        Gives the URL of a static file, relative to the page.
    boundary
        What keeps failures from the server.
    """

    def __init__(
        self,
        chart: Chart,
        store: SharedStore,
        follow: Follow,
        assets: Callable[[str], str],
        boundary: Boundary,
    ) -> None:
        self._chart = chart
        self._store = store
        self._follow = follow
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
        context = Context(self._assets("memdash.css"), axis=TimeAxis("zoom"))

        def update() -> bool:
            context.resting = False
            context.axis.keep_up(self._store)
            view.update()
            return context.resting

        with together(doc):
            view = self._chart.make(self._store, context)
            update()
            doc.add_root(hand_out(view.root, doc))
        doc.roots[-1].name = "chart"
        self._follow(doc, update, f"updating {self._chart.title}")
