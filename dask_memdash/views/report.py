"""The report: the whole page as one HTML file that opens without a network.

Made of what a store gives, by the same views and tables as the page: their charts are
Bokeh's, with all their data and scripts in the file, so that they can still be hovered
over.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import bokeh
from bokeh.document import Document
from bokeh.embed import components
from panel.io.state import set_curdoc

import dask_memdash
from dask_memdash.store.base import Store
from dask_memdash.text import (
    UNKNOWN,
    format_bytes,
    format_clock,
    format_duration,
    format_factor,
    format_share,
)
from dask_memdash.views import table_columns
from dask_memdash.views.answers import AnswersView
from dask_memdash.views.assets import static_dir
from dask_memdash.views.base import Context, Text, View, environment
from dask_memdash.views.browser_state import Shown
from dask_memdash.views.cluster_history import HistoryView
from dask_memdash.views.guard_card import GuardView
from dask_memdash.views.holders import HoldersView
from dask_memdash.views.incidents_tab import IncidentsView
from dask_memdash.views.intermediates import IntermediatesView
from dask_memdash.views.limits_tab import LimitsView
from dask_memdash.views.order_tab import OrderView
from dask_memdash.views.snapshot import Snapshot
from dask_memdash.views.summary import NoticesView, SummaryView
from dask_memdash.views.tabular import Column, Table, address, cut
from dask_memdash.views.tasks_tab import OthersView
from dask_memdash.views.time_axis import TimeAxis
from dask_memdash.views.worker_bars import WorkersView
from dask_memdash.views.worker_map import WorkerMapView

#: Incidents told in full, the newest, and how many of them with a chart.
STORIES = 20
CHARTED = 8

#: Graphs drawn, the newest.
GRAPHS = 3

#: Limits told in full, the worst.
AUDITS = 5


def render_report(store: Store) -> str:
    """Write a report on what a store knows, as one HTML document.

    Parameters
    ----------
    store
        Read once; a :class:`~dask_memdash.views.snapshot.Snapshot` of it will do, and
        lets this function run in another thread than the store's.

    Returns
    -------
    str
        HTML that names no other file and no other host.
    """
    store = store if isinstance(store, Snapshot) else Snapshot(store)
    # A document of its own: the one that Bokeh and Panel take for the current one is of
    # whatever page the server is at, or of one that is long gone.
    doc = Document()
    with set_curdoc(doc):
        report = _Report(store)
    figures = {name: view for name, view in report.figures.items() if view.visible}
    for figure in figures.values():
        doc.add_root(figure)
    script, divisions = components(figures) if figures else ("", {})
    template = environment().get_template("report.html")
    return template.render(
        version=dask_memdash.__version__,
        made=time.strftime("%Y-%m-%d %H:%M:%S %Z"),
        cluster=store.cluster(),
        texts=report.texts,
        charts=divisions,
        script=script,
        bokeh=_bokeh() if figures else "",
        formats=_file("formats.js"),
        css=_file("memdash.css"),
        tables={
            name: {"table": table, "rows": [*table.rows(store), *_apart(table, store)]}
            for name, table in table_columns.TABLES.items()
        },
        stories=report.stories,
        graphs=report.graphs,
        audits=report.audits,
        cell=_cell,
    )


class _Report:
    """The charts and texts of a report, by name."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.figures: dict[str, Any] = {}
        self.texts: dict[str, str] = {}
        self._axis = TimeAxis("nothing")
        self._axis.keep_up(store)
        for name, make in (
            ("notices", NoticesView),
            ("answers", AnswersView),
            ("summary", SummaryView),
            ("history", HistoryView),
            ("map", WorkerMapView),
            ("workers", WorkersView),
            ("holders", HoldersView),
            ("others", OthersView),
            ("guard", GuardView),
            ("intermediates", IntermediatesView),
        ):
            self._take(name, make(store, self._context()))
        self.stories = [
            self._take(
                address("incident", i), self._shown(IncidentsView, "incidents", i)
            )
            for i in (incident["id"] for incident in store.incidents(STORIES))
        ]
        for name in self.stories[CHARTED:]:
            self.figures.pop(name, None)
        self.graphs = [
            self._take(f"graph-{number}", self._shown(OrderView, "order", graph["id"]))
            for number, graph in enumerate(store.order(GRAPHS))
        ]
        wrong = [a for a in store.limits() if a["severity"] not in ("ok", "unknown")]
        self.audits = [
            self._take(f"limit-{i}", self._shown(LimitsView, "limits", a["address"]))
            for i, a in enumerate(wrong[:AUDITS])
        ]

    def _shown(self, make: Any, tab: str, chosen: str) -> View:
        view: View = make(self.store, self._context(Shown(tab=tab, chosen=chosen)))
        return view

    def _context(self, shown: Shown | None = None) -> Context:
        return Context("", shown or Shown(), self._axis, live=False)

    def _take(self, name: str, view: View) -> str:
        """Draw a view and take what it made; give the name it is kept by."""
        view.update()
        parts = vars(view)
        for attribute, part in parts.items():
            if isinstance(part, Text):
                self.texts[f"{name}.{attribute}"] = part.pane.object
        figure = parts.get("figure") or getattr(parts.get("chart"), "figure", None)
        if figure is not None:
            self.figures[name] = figure
        return name


def _apart(table: Table, store: Store) -> Sequence[Any]:
    """Return the rows that the page shows only when it is asked to."""
    return table.apart(store) if table.apart is not None else ()


def _cell(column: Column, value: Any) -> str:
    """Write a cell of a table in words."""
    if value in (None, ""):
        return UNKNOWN
    if column.kind == "size":
        return format_bytes(value)
    if column.kind == "share":
        return format_share(value, 1)
    if column.kind == "factor":
        return format_factor(value)
    if column.kind == "seconds":
        return format_duration(value)
    if column.kind == "instant":
        return format_clock(value)
    if column.kind == "number":
        return f"{value:,}"
    if column.kind == "names":
        return str(cut(value.replace("\n", ", ")))
    return str(cut(value))


@cache
def _bokeh() -> str:
    """Return the part of BokehJS that draws.

    Read from its file: asked through Bokeh's resources, Panel adds scripts of its own.
    """
    path = Path(bokeh.__file__).parent / "server" / "static" / "js" / "bokeh.min.js"
    return path.read_text(encoding="utf-8")


def _file(name: str) -> str:
    return (static_dir() / name).read_text(encoding="utf-8")
