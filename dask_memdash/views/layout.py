"""The page: its sections in order, and the life of one open page.

`SECTIONS` is the one list of what is on the page; the template puts every section
where its name is.  Nothing is read while no browser looks: the updates of a page are
a periodic callback of its session, which ends with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import panel as pn
from bokeh.document import Document
from bokeh.models import TextInput
from panel.io.resources import LOCAL_DIST, patch_model_css

from dask_memdash.border import Border
from dask_memdash.store.base import Store
from dask_memdash.views.base import View, environment
from dask_memdash.views.history import HistoryView
from dask_memdash.views.incidents import IncidentsView
from dask_memdash.views.prefixes import PrefixesView
from dask_memdash.views.shared import SharedStore
from dask_memdash.views.summary import SummaryView
from dask_memdash.views.workers import WorkersView

#: Name of a section in the template → what makes its view.
SECTIONS: dict[str, Callable[[Store, str], View]] = {
    "summary": SummaryView,
    "history": HistoryView,
    "workers": WorkersView,
    "prefixes": PrefixesView,
    "incidents": IncidentsView,
}


class OpenPage:
    """The views of one browser's page.

    Parameters
    ----------
    store
        What they show.
    stylesheet
        URL of the page's stylesheet, relative to the page.
    guarded
        Wraps a function so that it never raises; each view fails by itself.
    """

    def __init__(
        self,
        store: Store,
        stylesheet: str,
        guarded: Callable[[Callable[..., Any], str], Callable[..., Any]],
    ) -> None:
        self.views = {name: make(store, stylesheet) for name, make in SECTIONS.items()}
        self._updates = [
            guarded(view.update, f"the page's {name}")
            for name, view in self.views.items()
        ]
        self._tables = {
            name: view
            for name, view in self.views.items()
            if isinstance(view, WorkersView | PrefixesView)
        }
        #: What the browser tells: the open incident, and the tables that are open.
        self.incident = TextInput(name="memdash-incident", visible=False)
        self.tables = TextInput(name="memdash-tables", visible=False)
        self.incident.on_change("value", guarded(self._select, "opening an incident"))
        self.tables.on_change("value", guarded(self._open_tables, "opening a table"))

    def update(self) -> None:
        """Bring every view up to date."""
        for update in self._updates:
            update()

    def roots(self) -> dict[str, pn.viewable.Viewable]:
        """Give what the template puts on the page, by name."""
        roots: dict[str, pn.viewable.Viewable] = {
            name: view.root for name, view in self.views.items()
        }
        for name, view in self._tables.items():
            roots[f"{name}_table"] = view.table.pane
        roots["inputs"] = pn.Column(
            pn.pane.Bokeh(self.incident), pn.pane.Bokeh(self.tables), visible=False
        )
        return roots

    def _select(self, attr: str, old: str, new: str) -> None:
        view = self.views["incidents"]
        assert isinstance(view, IncidentsView)
        view.select(str(new)[:40])
        view.update()

    def _open_tables(self, attr: str, old: str, new: str) -> None:
        names = str(new).split()
        for name, view in self._tables.items():
            view.table_open = name in names
            view.invalidate()
            view.update()


class Page:
    """Makes a page for every browser that asks for one.

    Parameters
    ----------
    store
        What all pages show; see :class:`~dask_memdash.views.shared.SharedStore`.
    refresh
        Seconds between two updates of an open page.
    pages
        Names of the dashboard's other pages, beside this one.
    assets
        Gives the URL of a static file, relative to the page.
    border
        What keeps failures from the server.
    """

    def __init__(
        self,
        store: SharedStore,
        refresh: float,
        pages: Sequence[str],
        assets: Callable[[str], str],
        border: Border,
    ) -> None:
        self._store = store
        self._refresh = refresh
        self._pages = pages
        self._assets = assets
        self._border = border

    def open(self, doc: Document) -> None:
        """Put a page into the document of a new session; never raises."""
        doc.title = "MemDash"
        doc.template = environment().get_template("page.html")
        doc.template_variables.update(
            pages=list(self._pages), asset=self._assets, failed=False
        )
        opened = self._border.guarded(self._fill, "opening the page", False)(doc)
        if not opened:
            doc.clear()
            doc.template_variables["failed"] = True

    def _fill(self, doc: Document) -> bool:
        page = OpenPage(self._store, self._assets("memdash.css"), self._border.guarded)
        page.update()
        with doc.models.freeze():
            for name, root in page.roots().items():
                root.server_doc(doc, title="MemDash", location=False)
                doc.roots[-1].name = name
        # Panel does so only for pages that it hands out itself, not for a session
        # that is made anew when a browser comes back.
        for root in doc.roots:
            patch_model_css(root, LOCAL_DIST)
        doc.add_periodic_callback(
            self._border.guarded(page.update, "updating the page"),
            max(100, round(self._refresh * 1000)),
        )
        return True
