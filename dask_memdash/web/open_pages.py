"""How many pages are open, and that opening or closing them never holds the loop.

Making a page takes the scheduler's loop some tenths of a second, and whoever asks for
fifty pages at once asks without credentials.  So pages are made one after another and
piece by piece; the loop is left to the scheduler for as long again after each piece.
A page that nobody waits for any more is not made.  Beyond a limit there is a light one,
which needs no session.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from dask_memdash.web.listing import rules
from dask_memdash.web.readonly import DATA, NOTICE, PAGE, ReadOnly, hardened
from dask_memdash.web.turns import Turns, gone

#: Seconds after the last document's end until garbage is collected.
QUIET = 2.0

#: Why a web socket is closed that would open one page too many.
TRY_AGAIN_LATER = 1013


class OpenPages:
    """The sessions of one Bokeh application.

    Parameters
    ----------
    limit
        Most sessions that it may have.
    recorded
        Whether they show a recorded run, where no cluster could be slowed down.
    """

    def __init__(self, limit: int, *, recorded: bool = False) -> None:
        self._application: Any = None
        self.limit = limit
        self.recorded = recorded
        self._turns = Turns()
        self._collection: asyncio.TimerHandle | None = None
        #: Whether no page may be made any more.
        self.closed = False

    def count(self) -> int:
        """Return how many sessions there are, those that wait for their turn too."""
        contexts = self._application.applications.values()
        return self._turns.waiting + sum(len(context.sessions) for context in contexts)

    @asynccontextmanager
    async def turn(self, wanted: Callable[[], bool]) -> AsyncIterator[bool]:
        """Wait until a page may be made; give whether it may.

        Parameters
        ----------
        wanted
            Whether somebody still waits for it.
        """
        if self.closed or self.count() >= self.limit:
            yield False
            return
        async with self._turns.turn():
            yield wanted() and not self.closed

    async def make(self, steps: Iterator[None]) -> None:
        """Take the steps that make a page, and rest after each.

        Parameters
        ----------
        steps
            What one step does holds the loop.
        """
        for _ in steps:
            await self._turns.rest()
            if self.closed:
                return

    def ended(self) -> None:
        """Take in that a document has ended: its garbage is collected with others'."""
        self._collect_none()
        self._collection = asyncio.get_running_loop().call_later(QUIET, self._collect)

    def close(self) -> None:
        """Make no page any more, and have no garbage collected."""
        self.closed = True
        self._collect_none()

    def _collect_none(self) -> None:
        if self._collection is not None:
            self._collection.cancel()
            self._collection = None

    def _collect(self) -> None:
        self._collection = None
        gc.collect()

    def take_over(self, application: Any) -> None:
        """Put the limit, the headers and the refusals into an application's routes."""
        self._application = application
        for rule in rules(application):
            name = rule.target.__name__
            if name == "DocHandler":
                rule.target = _limited_page(rule.target, self)
            elif name == "WSHandler":
                rule.target = _limited_socket(rule.target, self)
            elif name in ("AutoloadJsHandler", "MetadataHandler"):
                # They open sessions too, or tell of them to any site that asks.
                rule.target = Nothing
            else:
                rule.target = hardened(rule.target, DATA)


class Nothing(ReadOnly):
    """A path of Bokeh's that is not served."""

    def initialize(self, **kwargs: Any) -> None:
        """Take what the route was made with."""

    def get(self, *path: str) -> None:
        """Say that there is nothing here."""
        self.send_error(404)


def _limited_page(handler: Any, pages: OpenPages) -> type:
    """Make the page's handler one that makes no page too many."""
    base = hardened(handler, PAGE)

    class DocHandler(base):  # type: ignore[misc, valid-type]
        def head(self, *args: Any, **kwargs: Any) -> None:
            self.set_header("Content-Type", "text/html")

        def get_template_path(self) -> str:
            return str(Path(__file__).parent / "templates")

        async def get(self, *args: Any, **kwargs: Any) -> None:
            async with pages.turn(lambda: not gone(self)) as free:
                if free:
                    await super().get(*args, **kwargs)
                    return
            if not gone(self):
                self.set_header("Content-Security-Policy", NOTICE)
                self.set_header("Cache-Control", "no-store")
                self.set_status(503)
                self.render("light.html", limit=pages.limit, recorded=pages.recorded)

    return DocHandler


def _limited_socket(handler: Any, pages: OpenPages) -> type:
    """Make the web socket's handler one that opens no session too many.

    A socket with a token of a session that has gone opens a new one.
    """

    class WSHandler(handler):  # type: ignore[misc]
        async def _async_open(self, token: str) -> None:
            from bokeh.util.token import get_session_id

            context = self.application_context
            if get_session_id(token) in context._sessions:
                await super()._async_open(token)
                return
            async with pages.turn(lambda: self.ws_connection is not None) as free:
                if free:
                    await super()._async_open(token)
                else:
                    self.close(TRY_AGAIN_LATER, "too many pages are open")

    return WSHandler
