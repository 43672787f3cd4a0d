"""A page is made piece by piece, and the loop is the scheduler's in between.

Bokeh has the functions of an application fill a new document in one go.  Before that it
awaits a hook of theirs, for things to be prepared: that is where pages are made here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol
from weakref import WeakSet

from bokeh.application.handlers.handler import Handler
from bokeh.document import Document

from dask_memdash.views.session_end import ends_quietly
from dask_memdash.web.open_pages import OpenPages


class Page(Protocol):
    """What can be put into a document."""

    def opening(self, doc: Document) -> Iterator[None]:
        """Put it there, a piece a step."""


class InPieces(Handler):  # type: ignore[misc]
    """Makes one page's documents.

    Parameters
    ----------
    page
        What is put into them.
    pages
        Rests between the pieces, and takes in that a document has ended.
    """

    def __init__(self, page: Page, pages: OpenPages) -> None:
        super().__init__()
        self._page = page
        self._pages = pages
        self._begun: WeakSet[Document] = WeakSet()

    async def on_session_created(self, session_context: Any) -> None:
        """Make the page, before Bokeh asks for it."""
        doc = session_context._document
        self._begun.add(doc)
        await self._pages.make(self._page.opening(doc))

    def modify_document(self, doc: Document) -> None:
        """Make the page at once if the hook was not called; see to how it ends."""
        if doc not in self._begun:
            for _ in self._page.opening(doc):
                pass
        ends_quietly(doc, self._pages.ended)
        # Bokeh would walk over all models to log which layouts have no children: tabs
        # that nobody has opened yet have none.
        doc.validate = _nothing


def _nothing() -> None:
    """Find nothing wrong."""


def nothing(scheduler: Any, extra: dict[str, Any], doc: Document) -> None:
    """Stand for a page in an application that :class:`InPieces` makes."""


def make_in_pieces(application: Any, shown: dict[str, Page], pages: OpenPages) -> None:
    """Have pages made by pieces.

    Parameters
    ----------
    application
        Bokeh's, whose pages are :func:`nothing` so far.
    shown
        Path → page.
    """
    for path, page in shown.items():
        application.applications[path].application.add(InPieces(page, pages))
