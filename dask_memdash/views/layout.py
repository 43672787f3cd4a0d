"""The page: its sections in order, and the life of one open page.

`SECTIONS` is the one list of what is on the page and on which tab; the template puts
every section where its name is.  Nothing is read while no browser looks: the updates
of a page are a periodic callback of its session, which ends with it.  Of an open page,
only the tab that is shown is kept up to date.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import panel as pn
from bokeh.document import Document
from bokeh.models import ColumnDataSource, CustomJS, TextInput
from panel.io.resources import LOCAL_DIST, patch_model_css

from dask_memdash.border import Border
from dask_memdash.store.base import Store
from dask_memdash.views import theme
from dask_memdash.views.base import Context, Guard, View, environment, sync
from dask_memdash.views.history import HistoryView
from dask_memdash.views.incidents import IncidentsView
from dask_memdash.views.limits import LimitsView
from dask_memdash.views.order import OrderView
from dask_memdash.views.prefix import PrefixView
from dask_memdash.views.prefixes import PrefixesView
from dask_memdash.views.shared import SharedStore
from dask_memdash.views.state import TABS, read
from dask_memdash.views.summary import NoticesView, SummaryView
from dask_memdash.views.worker import WorkerView
from dask_memdash.views.workers import WorkersView


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page."""

    #: Empty for what stands above every tab.
    tab: str
    make: Callable[[Store, Context], View]


#: How often a page looks for a new version within the time between two updates: all
#: open pages then draw the same one, so that it is worked out once.
LOOKS = 4

#: Name of a section in the template → on which tab it is, and what makes its view.
SECTIONS = {
    "notices": Section("", NoticesView),
    "summary": Section("overview", SummaryView),
    "history": Section("overview", HistoryView),
    "workers": Section("overview", WorkersView),
    "prefixes": Section("overview", PrefixesView),
    "worker": Section("workers", WorkerView),
    "prefix": Section("tasks", PrefixView),
    "incidents": Section("incidents", IncidentsView),
    "order": Section("order", OrderView),
    "limits": Section("limits", LimitsView),
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
        guarded: Guard,
    ) -> None:
        self.store = store
        self.context = Context(stylesheet, guarded=guarded)
        self.views = {
            name: section.make(store, self.context)
            for name, section in SECTIONS.items()
        }
        self._updates = [
            (SECTIONS[name].tab, guarded(view.update, f"the page's {name}"))
            for name, view in self.views.items()
        ]
        self._follow = guarded(self.context.axis.keep_up, "the page's time axis")
        #: Short texts that the template has places for: name → text.
        self.facts = ColumnDataSource({"name": [], "text": []}, name="memdash-facts")
        self._state_facts = guarded(self._write_facts, "the page's counts")
        #: What the browser tells of itself, as JSON; see views/state.py.
        self.state = TextInput(name="memdash-state", visible=False)
        self.state.on_change("value", guarded(self._told, "following the browser"))
        # A callback that never runs carries to the browser what nothing there draws.
        sources = [source for view in self.views.values() for source in view.sources]
        self.state.js_on_change(
            "disabled", CustomJS(args={"sources": [self.facts, *sources]}, code="")
        )

    def update(self) -> None:
        """Bring what is shown up to date, unless the reader has paused it."""
        if not self.context.shown.paused:
            self.draw()

    def draw(self) -> None:
        """Bring what is shown up to date."""
        self._follow(self.store)
        for tab, update in self._updates:
            if tab in ("", self.context.shown.tab):
                update()
        self._state_facts()

    def roots(self) -> dict[str, pn.viewable.Viewable]:
        """Give what the template puts on the page, by name."""
        roots: dict[str, pn.viewable.Viewable] = {
            name: view.root for name, view in self.views.items()
        }
        roots["inputs"] = pn.Column(pn.pane.Bokeh(self.state), visible=False)
        return roots

    def _told(self, attr: str, old: str, new: str) -> None:
        before, shown = self.context.shown, read(str(new))
        self.context.shown = shown
        if (shown.window, shown.follow) != (before.window, before.follow):
            self.context.axis.show(shown.window)
        self.draw()

    def _write_facts(self) -> None:
        cluster = self.store.cluster()
        facts = {
            "incidents": f"{cluster['n_incidents']:,}"
            if cluster["n_incidents"]
            else "",
            "clock": theme.clock(cluster["time"]) if cluster["time"] else "",
            "zoomed": "zoomed" if self.context.axis.zoomed else "",
        }
        sync(self.facts, {"name": list(facts), "text": list(facts.values())})


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
            pages=list(self._pages), asset=self._assets, failed=False, tabs=TABS
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
            max(100, round(self._refresh * 1000 / LOOKS)),
        )
        return True
