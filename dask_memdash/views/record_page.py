"""The page of a recorded run: the views of the live page, and a slider over time.

All but the charts over time tell of the chosen moment, which is moved by the slider of
``static/record.js`` as well as by all that chooses one on a living page.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from bokeh.document import Document

from dask_memdash.boundary import Boundary
from dask_memdash.store.recorded import RecordedStore
from dask_memdash.text import format_duration, format_instant, shorten
from dask_memdash.views.base import environment
from dask_memdash.views.browser_state import TABS, moment_of
from dask_memdash.views.layout import OpenPage
from dask_memdash.views.sending import together
from dask_memdash.views.shared import SharedStore

#: Sections that show all of the run, with the chosen moment marked.
OVER_TIME = frozenset({"history", "strips"})

#: Marks on the slider at most: the newest.
MARKS = 200

#: Milliseconds between two looks whether a run that is still written has grown.
LOOK = 1000

#: What a record has at intervals only, or not at all, said beneath its slider.
KEPT = (
    "Workers and prefixes are shown as they were at the last time they were written, "
    "some seconds before. Failures and graphs are told as they were last known."
)


class OpenRecord(OpenPage):
    """The views of one browser's page over a record."""

    def is_selected(self, section: str) -> bool:
        """Say whether a section tells of the chosen moment: of a record, all can."""
        return section not in OVER_TIME


class RecordPage:
    """Makes a page over a record for every browser that asks for one.

    Parameters
    ----------
    store
        Of the run; every page gets its own at the same reader.
    assets
        Gives the URL of a static file, relative to the page.
    boundary
        What keeps failures from the server.
    back
        Link to the list of runs, relative to the page; empty without one.
    """

    def __init__(
        self,
        store: RecordedStore,
        assets: Callable[[str], str],
        boundary: Boundary,
        back: str = "",
    ) -> None:
        self._store = store
        self._assets = assets
        self._boundary = boundary
        self._back = back

    def opening(self, doc: Document) -> Iterator[None]:
        """Put a page into a document piece by piece; never raises."""
        doc.title = "MemDash: a recorded run"
        if hasattr(doc, "config"):
            doc.config.update(notify_connection_status=False, reconnect_session=False)
        doc.template = environment().get_template("page.html")
        doc.template_variables.update(
            pages=[], asset=self._assets, failed=False, tabs=TABS, record=None
        )
        pieces = self._fill(doc)
        step = self._boundary.guarded(lambda: next(pieces, "whole"), "opening a record")
        while (came := step()) == "piece":
            yield
        if came != "whole":
            doc.clear()
            doc.template_variables["failed"] = True

    def _fill(self, doc: Document) -> Iterator[str]:
        chosen = moment_of(_argument(doc, "at"))
        recorded = self._store.at(None)
        instant = None if chosen is None else chosen[1]
        doc.template_variables["record"] = told(recorded, instant, self._back)
        with together(doc):
            stylesheet, guarded = self._assets("memdash.css"), self._boundary.guarded
            page = OpenRecord(
                doc, SharedStore(recorded), stylesheet, guarded, whole=False
            )
            page.context.shown = replace(page.context.shown, at=chosen)
            page.choose(chosen)
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
        if recorded.reader.manifest.ended is None:
            doc.add_periodic_callback(
                self._boundary.guarded(page.update, "following a record"), LOOK
            )


def told(
    store: RecordedStore, chosen: float | None, back: str = ""
) -> Mapping[str, Any]:
    """Return what the banner and the slider say of a run."""
    manifest = store.reader.manifest
    first, last = store.span()
    state, note = store.reader.state()
    length = max(last - first, 1e-3)
    marks = [
        {
            "id": mark["id"],
            "time": mark["time"],
            "place": round(
                100 * min(1.0, max(0.0, (mark["time"] - first) / length)), 2
            ),
            "title": f"{format_instant(mark['time'])}: "
            + shorten(mark["text"] or "", 200),
        }
        for mark in store.marks()[-MARKS:]
    ]
    return {
        "id": manifest.id,
        "name": manifest.name,
        "tags": manifest.tags,
        "first": first,
        "last": last,
        "from": format_instant(first),
        "until": format_instant(last),
        "length": format_duration(last - first),
        "ended": manifest.ended is not None,
        "state": f"{state}: {note}" if note else state,
        "at": last if chosen is None else min(max(chosen, first), last),
        "chosen": chosen is not None,
        "marks": marks,
        "back": back,
        "kept": KEPT,
    }


def _argument(doc: Document, name: str) -> str | None:
    request = getattr(doc.session_context, "request", None)
    values = (getattr(request, "arguments", None) or {}).get(name) or []
    return values[0].decode("utf-8", "replace") if values else None
