"""The page: its sections in order, and the life of one open page.

`SECTIONS` is the one list of what is on the page and on which tab; the template puts
every section where its name is.  Nothing is read while no browser looks: its
updates end with its session (see :mod:`dask_memdash.views.rounds`).  Of an open page,
only the tab that is shown is kept up to date, and what is on the other tabs is made
when they are shown first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from bokeh.document import Document
from bokeh.models import (
    Column,
    ColumnDataSource,
    CustomJS,
    TextInput,
)

from dask_memdash.boundary import Boundary
from dask_memdash.store.base import Store
from dask_memdash.text import format_clock
from dask_memdash.views.answers import AnswersView
from dask_memdash.views.base import (
    Context,
    Guard,
    View,
    environment,
    sync,
)
from dask_memdash.views.browser_state import TABS, read
from dask_memdash.views.cluster_history import HistoryView
from dask_memdash.views.guard_card import GuardView
from dask_memdash.views.holders import HoldersView
from dask_memdash.views.incidents_tab import IncidentsView
from dask_memdash.views.intermediates import IntermediatesView
from dask_memdash.views.limits_tab import LimitsView
from dask_memdash.views.order_tab import OrderView
from dask_memdash.views.rounds import Follow
from dask_memdash.views.selected_time import Moment, SelectedStore
from dask_memdash.views.sending import hand_out, in_one, together
from dask_memdash.views.shared import SharedStore
from dask_memdash.views.summary import NoticesView, SummaryView
from dask_memdash.views.table import ServedTable
from dask_memdash.views.table_columns import TABLES
from dask_memdash.views.tasks_tab import OthersView, PrefixView
from dask_memdash.views.worker_bars import MOST, WorkersView
from dask_memdash.views.worker_map import WorkerMapView
from dask_memdash.views.worker_strips import WorkerStripsView
from dask_memdash.views.workers_tab import WorkerView


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page."""

    #: Empty for what stands above every tab.
    tab: str
    make: Callable[[Store, Context], View]
    #: Whether it tells of the moment that is chosen, and not of now.
    selected: bool = False


#: Name of a section in the template → on which tab it is, and what makes its view.
SECTIONS = {
    "notices": Section("", NoticesView),
    "answers": Section("overview", AnswersView),
    "summary": Section("overview", SummaryView, selected=True),
    "history": Section("overview", HistoryView),
    "strips": Section("overview", WorkerStripsView),
    "holders": Section("overview", HoldersView, selected=True),
    "map": Section("overview", WorkerMapView, selected=True),
    "workers": Section("overview", WorkersView, selected=True),
    "guard": Section("overview", GuardView),
    "intermediates": Section("overview", IntermediatesView),
    "worker": Section("workers", WorkerView, selected=True),
    "prefix": Section("tasks", PrefixView, selected=True),
    "others": Section("tasks", OthersView, selected=True),
    "incidents": Section("incidents", IncidentsView),
    "order": Section("order", OrderView),
    "limits": Section("limits", LimitsView),
}


class OpenPage:
    """The views of one browser's page.

    Parameters
    ----------
    doc
        The document of its session.
    store
        What they show.
    stylesheet
        URL of the page's stylesheet, relative to the page.
    guarded
        Wraps a function so that it never raises; each view fails by itself.
    whole
        Whether the views are made at once, rather than by :meth:`pieces`.
    """

    def __init__(
        self,
        doc: Document,
        store: Store,
        stylesheet: str,
        guarded: Guard,
        *,
        whole: bool = True,
    ) -> None:
        self.doc = doc
        #: What charts over time show, and what the rest does: the chosen moment.
        self.now = store if isinstance(store, SharedStore) else SharedStore(store)
        self.store = SelectedStore(self.now)
        self.context = Context(stylesheet, guarded=guarded)
        #: The views that have been made, by name.
        self.views: dict[str, View] = {}
        self._guarded = guarded
        self._holders = {
            name: Column(name=name, sizing_mode="stretch_width") for name in SECTIONS
        }
        self._updates: list[tuple[str, Callable[[], object]]] = []
        self._made: set[str] = set()
        self._make = guarded(self._make_tab, "making the page's tab")
        self._follow = guarded(self.context.axis.keep_up, "the page's time axis")
        served = [ServedTable(table, self.context) for table in TABLES.values()]
        tables = [source for table in served for source in (table.source, table.total)]
        #: Short texts that the template has places for: name → text.
        self.facts = ColumnDataSource({"name": [], "text": []}, name="memdash-facts")
        self._state_facts = guarded(self._write_facts, "the page's counts")
        #: What the browser tells of itself, as JSON; see views/browser_state.py.
        self.state = TextInput(name="memdash-state", visible=False)
        self.state.on_change("value", guarded(self._told, "following the browser"))
        # A callback that never runs carries to the browser what nothing there draws.
        self.state.js_on_change(
            "disabled", CustomJS(args={"sources": [self.facts, *tables]}, code="")
        )
        if whole:
            for _ in self.pieces():
                pass

    def pieces(self) -> Iterator[None]:
        """Make the views that the page opens with, one a step."""
        yield from self._sections("")
        yield from self._sections(self.context.shown.tab)

    def update(self) -> bool:
        """Bring what is shown up to date, unless it is paused or nobody sees it.

        Returns whether some of it has been put off, so that it is to be tried again.
        """
        self.context.resting = False
        if not (self.context.shown.paused or self.context.shown.hidden):
            self.draw()
        return self.context.resting

    def draw(self) -> None:
        """Bring what is shown up to date."""
        self._follow(self.now)
        for tab, update in self._updates:
            if tab in ("", self.context.shown.tab):
                update()
        self._state_facts()

    def is_selected(self, section: str) -> bool:
        """Say whether a section tells of the moment that is chosen."""
        return SECTIONS[section].selected

    def choose(self, at: Moment) -> None:
        """Show another moment: in tables and bars, and marked in charts over time."""
        self.store.choose(at)
        self.context.axis.choose(at)

    def first(self) -> dict[str, Any]:
        """Return what the template shows from the first paint on."""
        facts = dict(zip(self.facts.data["name"], self.facts.data["text"], strict=True))
        notices = self.views.get("notices")
        text = notices.about.pane.object if isinstance(notices, NoticesView) else ""
        return {"facts": facts, "notices": text}

    def roots(self) -> list[Column]:
        """Return what the template puts on the page, by the names that they have."""
        inputs = Column(self.state, name="inputs", visible=False)
        return [*self._holders.values(), inputs]

    def _make_tab(self, tab: str) -> None:
        for _ in self._sections(tab):
            pass

    def _sections(self, tab: str) -> Iterator[None]:
        """Make the views of a tab, once, one a step."""
        self._made.add(tab)
        self._follow(self.now)
        for name, section in SECTIONS.items():
            if section.tab == tab:
                store = self.store if self.is_selected(name) else self.now
                self.views[name] = view = section.make(store, self.context)
                update = self._guarded(view.update, f"the page's {name}")
                update()  # so that it comes to the browser whole
                self._updates.append((tab, update))
                self._holders[name].children = [hand_out(view.root, self.doc)]
                yield

    def _told(self, attr: str, old: str, new: str) -> None:
        before, shown = self.context.shown, read(str(new))
        self.context.shown = shown
        if (shown.window, shown.follow) != (before.window, before.follow):
            self.context.axis.show(shown.window)
        if shown.at != before.at:
            self.choose(shown.at)
        if shown.zoom != before.zoom and shown.at is not None:
            self.context.axis.zoom(*shown.at)
        if shown.tab not in self._made:
            with together(self.doc):
                self._make(shown.tab)
        with in_one(self.doc):
            self.draw()

    def _write_facts(self) -> None:
        cluster = self.now.cluster()
        notes = " ".join(self.store.notes)
        facts = {
            "missing": notes,
            "failures": _number(cluster["n_failures"]),
            "incidents": _number(cluster["n_incidents"]),
            "clock": format_clock(cluster["time"]) if cluster["time"] else "",
            "drawn": f"{self.context.shown.tab} {self.context.shown.chosen}",
            "zoomed": "zoomed" if self.context.axis.zoomed else "",
            "strips": "strips"
            if cluster["n_processes"] or self.now.departed(1)
            else "",
            "map": "map" if cluster["n_processes"] > MOST else "",
            "storage": "storage" if cluster["intermediates"] else "",
            "guard": "guard" if cluster["guard"] else "",
        }
        sync(self.facts, {"name": list(facts), "text": list(facts.values())})


def _number(value: int) -> str:
    """Write a count; one of nothing is not written at all."""
    return f"{value:,}" if value else ""


class Page:
    """Makes a page for every browser that asks for one.

    Parameters
    ----------
    store
        What all pages show; see :class:`~dask_memdash.views.shared.SharedStore`.
    follow
        Has a page brought up to date for as long as it is open.
    pages
        Names of the dashboard's other pages, beside this one.
    assets
        Gives the URL of a static file, relative to the page.
    boundary
        What keeps failures from the server.
    """

    def __init__(
        self,
        store: SharedStore,
        follow: Follow,
        pages: Sequence[str],
        assets: Callable[[str], str],
        boundary: Boundary,
    ) -> None:
        self._store = store
        self._follow = follow
        self._pages = pages
        self._assets = assets
        self._boundary = boundary

    def open(self, doc: Document) -> None:
        """Put a page into the document of a new session; never raises."""
        for _ in self.opening(doc):
            pass

    def opening(self, doc: Document) -> Iterator[None]:
        """Put a page into a document piece by piece; never raises.

        Between two steps others may have the loop; the page is whole after the last.
        """
        doc.title = "MemDash"
        if hasattr(doc, "config"):  # else BokehJS tells nothing and does not reconnect
            doc.config.update(notify_connection_status=False, reconnect_session=False)
        doc.template = environment().get_template("page.html")
        doc.template_variables.update(
            pages=list(self._pages), asset=self._assets, failed=False, tabs=TABS
        )
        pieces = self._fill(doc)
        step = self._boundary.guarded(lambda: next(pieces, "whole"), "opening the page")
        while (came := step()) == "piece":
            yield
        if came != "whole":
            doc.clear()
            doc.template_variables["failed"] = True

    def _fill(self, doc: Document) -> Iterator[str]:
        stylesheet, guarded = self._assets("memdash.css"), self._boundary.guarded
        with together(doc):
            page = OpenPage(doc, self._store, stylesheet, guarded, whole=False)
        pieces, more = page.pieces(), True
        while more:
            yield "piece"
            with together(doc):
                more = next(pieces, "last") is None
        with together(doc):
            page.update()
            for root in page.roots():
                doc.add_root(root)
        doc.template_variables.update(page.first())
        self._follow(doc, page.update, "updating the page")
