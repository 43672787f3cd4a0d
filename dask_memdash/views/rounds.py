"""All open pages are brought up to date in rounds, one page after another.

Nothing is read while no browser looks.  While one does, one timer for all of them asks
some times a second whether there is a new version of what they show.  If so, each page
in its turn changes what differs, in one message, and after each the scheduler has its
loop for as long again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Protocol

from bokeh.document import Document
from tornado.ioloop import PeriodicCallback

from dask_memdash.boundary import Boundary
from dask_memdash.views.sending import in_one
from dask_memdash.views.shared import SharedStore

#: Looks for a new version within the time between two updates.
LOOKS = 4

#: Least time between two looks, in seconds.
LEAST = 0.1

#: Seconds that a round waits for one browser to take what it is sent.
PATIENCE = 0.05

#: Pings, of two a second, without an answer: from how many on updates wait, and from
#: how many on nobody is thought to be there.
BEHIND = 6
LOST = 120


class Follow(Protocol):
    """Has a page brought up to date for as long as its session lives."""

    def __call__(self, doc: Document, update: Callable[[], object], what: str) -> None:
        """Take a page on: see :meth:`Rounds.follow`."""


class _Follower:
    """A page that is brought up to date."""

    __slots__ = ("again", "doc", "sending", "update", "version")

    def __init__(self, doc: Document, update: Callable[[], object]) -> None:
        self.doc, self.update = doc, update
        #: What it shows.
        self.version: int | None = None
        #: Whether something of it waits, though there is no new version.
        self.again = False
        #: What its browser has not taken yet.
        self.sending: asyncio.Future[Any] | None = None

    @property
    def session(self) -> Any:
        """The session that its browser has, if it has come by now."""
        return getattr(self.doc.session_context, "session", None)


class Rounds:
    """Brings the open pages over one store up to date.

    Parameters
    ----------
    store
        What they show; is told how much of the loop they take.
    refresh
        Seconds between two updates of a page, where they all take little.
    boundary
        Keeps failures from the loop.

    Notes
    -----
    Not thread-safe: all happens on the loop of the server.
    """

    def __init__(self, store: SharedStore, refresh: float, boundary: Boundary) -> None:
        self._store = store
        self._interval = max(LEAST, refresh / LOOKS)
        self._boundary = boundary
        self._send = boundary.guarded(self._send_one, "sending a page's update")
        self._pages: dict[_Follower, None] = {}
        self._timer: PeriodicCallback | None = None

    def follow(self, doc: Document, update: Callable[[], object], what: str) -> None:
        """Bring a page up to date from now on, until its session ends.

        Parameters
        ----------
        doc
            Its document.
        update
            Changes what differs; gives whether something waits that is to be done
            before there is a new version.
        what
            What that is in words, should it fail.
        """
        page = _Follower(doc, self._boundary.guarded(update, what))
        self._pages[page] = None
        doc.on_session_destroyed(lambda session_context: self._leave(page))
        if self._timer is None:
            look = self._boundary.guarded(self._round, "updating pages")
            self._timer = PeriodicCallback(look, self._interval * 1000)
            self._timer.start()

    def close(self) -> None:
        """Follow no page any more."""
        self._pages.clear()
        self._stop()

    def _leave(self, page: _Follower) -> None:
        self._pages.pop(page, None)
        if not self._pages:
            self._stop()

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.stop()
            self._timer = None

    async def _round(self) -> None:
        """Bring every page up to date that is not, and rest after each."""
        for page in list(self._pages):
            version = self._store.version
            if page not in self._pages or not (page.again or page.version != version):
                continue
            session = page.session
            if session is None or not reads(session) or page.sending is not None:
                continue
            begun = time.thread_time()
            page.version = version
            page.sending = asyncio.ensure_future(self._send(page, session))
            await asyncio.wait((page.sending,), timeout=PATIENCE)
            await asyncio.sleep(min(time.thread_time() - begun, PATIENCE))

    async def _send_one(self, page: _Follower, session: Any) -> None:
        """Change what differs on a page, and wait until its browser has it."""

        def update() -> None:
            with self._store.drawing(), in_one(page.doc):
                page.again = bool(page.update())

        try:
            await session.with_document_locked(update)
        finally:
            page.sending = None


def reads(session: Any) -> bool:
    """Say whether a browser reads what a session sends.

    Bokeh keeps a session for half a minute after its browser has left.  What is sent
    to a browser that does not read is kept for it, first by the kernel, then by the
    server.  The server pings every browser twice a second, and one that reads answers
    each ping: updates wait while some are unanswered, and a web socket that has
    answered none for a minute is closed.
    """
    behind = 0
    for connection in list(getattr(session, "_subscribed_connections", ())):
        pings = unanswered(connection)
        behind = max(behind, pings)
        if pings > LOST:
            connection._socket.ws_connection.abort()
    return bool(session.connection_count) and behind <= BEHIND


def unanswered(connection: Any) -> int:
    """Return how many pings a browser has not answered since its last answer."""
    last: int = getattr(connection._socket, "latest_pong", -1)
    return int(getattr(connection, "_ping_count", 0)) - 1 - last
