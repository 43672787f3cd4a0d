"""A server for recorded runs, without a cluster: the page, JSON, tables and reports.

Each run is served beneath ``/runs/<id>/memdash`` and opened when it is first asked for.
Read-only; every route that tells of one instant takes it as ``?at=`` in Unix time.

A server that listens on this machine alone answers only to names of this machine: a
site whose name leads here (DNS rebinding) is told nothing.  A web socket is opened only
for pages of the same host.
"""

from __future__ import annotations

import asyncio
import functools
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bokeh.application import Application
from bokeh.server.tornado import BokehTornado
from tornado import template, web
from tornado.httpserver import HTTPServer
from tornado.ioloop import IOLoop
from tornado.netutil import bind_sockets

from dask_memdash.boundary import Boundary
from dask_memdash.errors import RunError
from dask_memdash.runs.directory import is_run_id
from dask_memdash.runs.reading import RunReader
from dask_memdash.runs.remote import Runs
from dask_memdash.store.recorded import RecordedStore
from dask_memdash.text import plain
from dask_memdash.views.assets import asset_url, static_dir
from dask_memdash.views.browser_state import moment_of
from dask_memdash.views.record_page import RecordPage
from dask_memdash.web import api, export, making
from dask_memdash.web.diff_page import PATH as DIFF
from dask_memdash.web.diff_page import DiffHandler
from dask_memdash.web.mount import PAGE, _resources
from dask_memdash.web.open_pages import Nothing, OpenPages
from dask_memdash.web.readonly import NOTICE, ReadOnly, Redirect, StaticFiles
from dask_memdash.web.runs_list import ListAsJSON, ListHandler, RunsList
from dask_memdash.web.turns import Turns

#: Pages of one run that are open at once at most.
MOST_PAGES = 20

#: Runs that are kept open while nobody looks at them: those that were asked for last.
MOST_RUNS = 8

#: Seconds after which a run that is still written elsewhere is fetched again.
AGAIN = 20.0

#: What this machine is called by itself.
LOOPBACK = ("127.0.0.1", "localhost", "::1")

_RUN = re.compile(r"/runs/([^/]+)(?:/|$)")


class AtInstant:
    """A handler whose store tells of the instant, or the span, that the query names."""

    store: Any
    request: Any

    def prepare(self) -> None:
        """Take the instant out of the query; the rest of it is the handler's."""
        values = self.request.query_arguments.pop("at", None)
        if values:
            text = values[0].decode("utf-8", "replace")
            at = moment_of(text)
            self.store = self.store.at(None) if at is None else self.store.then(*at)


class AnswerHandler(AtInstant, api.StoreHandler):
    """A question of the JSON API about a record."""


class TableHandler(AtInstant, export.TableHandler):
    """A table of a record."""


class ReportHandler(AtInstant, export.ReportHandler):
    """The report on a record."""


#: Path beneath the page and what answers it.
FILES = [(r"tables/([a-z]+)\.csv", TableHandler), (r"report\.html", ReportHandler)]


class ServedRun:
    """One run that is open: its applications."""

    def __init__(
        self, store: RecordedStore, prefix: str, back: str, boundary: Boundary
    ) -> None:
        self.store = store
        self.fetched = time.monotonic()
        base = re.escape(f"{prefix}/{PAGE}")
        shared = {"store": store, "boundary": boundary}
        answers, files = Turns(), Turns()
        self.files = web.Application(
            [
                (
                    rf"{base}/api/{path}",
                    AnswerHandler,
                    {**shared, "turns": answers, "answer": answer},
                )
                for path, answer in api.routes
            ]
            + [
                (rf"{base}/{path}", handler, {**shared, "turns": files})
                for path, handler in FILES
            ]
            + [
                (rf"{base}/api(?:/.*)?", api.JSONHandler),
                (rf"{base}/static/(.*)", StaticFiles, {"path": str(static_dir())}),
                (rf"{base}/", Redirect, {"url": f"../{PAGE}"}),
                (rf"{re.escape(prefix)}/?", Redirect, {"url": f"{prefix}/{PAGE}"}),
            ]
        )
        self.pages = OpenPages(MOST_PAGES, recorded=True)
        page = RecordPage(store, asset_url, boundary, back)
        self.page = BokehTornado(
            {f"/{PAGE}": Application()},
            prefix=prefix,
            extra_websocket_origins=["*"],  # the server has looked already
            use_index=False,
            redirect_root=False,
        )
        self.page.resources = functools.partial(_resources, prefix)
        self.page.initialize(IOLoop.current())
        making.make_in_pieces(self.page, {f"/{PAGE}": page}, self.pages)
        self.pages.take_over(self.page)
        self.page.start()

    def stop(self) -> None:
        """Close its pages and its files."""
        self.pages.close()
        self.page.stop(wait=False)
        self.store.reader.close()


class Refused(ReadOnly):
    """What a host or a page that is not ours is told."""

    def prepare(self) -> None:
        """Refuse, whatever is asked for."""
        self.send_error(403)

    def log_exception(self, *args: Any) -> None:
        """Keep it out of the log."""


class Opening(ReadOnly):
    """Opens a run, which may have to be fetched first, and leads to where it is."""

    def initialize(self, server: RunsServer, name: str) -> None:
        """Take what is to be opened."""
        self.server = server
        self.name = name

    async def get(self) -> None:
        """Open it; tell on a page of its own why it cannot be."""
        try:
            there = await self.server.open(self.name)
        except RunError as error:
            self.set_header("Content-Security-Policy", NOTICE)
            path = str(Path(__file__).parent / "templates")
            notice = f"This run cannot be opened. {plain(str(error), 1000)}"
            self.finish(
                template.Loader(path)
                .load("unopened.html")
                .generate(notice=notice, back=self.server.back)
            )
            return
        if there:
            self.redirect(self.request.uri or "/")
        else:
            self.send_error(404)


class RunsServer(web.Application):
    """Serves recorded runs.

    Parameters
    ----------
    find
        Gives the directory of a run by its name in addresses, or None; called in a
        thread, and may fetch it first.
    boundary
        What every function that the server calls goes through.
    handlers
        Of the paths beside the runs.
    back
        Link from a run's page to the list, relative to it.
    """

    def __init__(
        self,
        find: Callable[[str], Path | None],
        boundary: Boundary,
        handlers: list[Any],
        back: str = "",
    ) -> None:
        super().__init__(handlers)
        self.back = back
        self._find = find
        self._boundary = boundary
        self._served: dict[str, ServedRun] = {}
        self._server: HTTPServer | None = None
        #: Names that it answers to; empty for all.
        self._names: set[str] = set()
        self._opening = asyncio.Lock()

    def find_handler(self, request: Any, **kwargs: Any) -> Any:
        """Find what answers a request; opens the run that it is about."""
        if not self._ours(request):
            return self.get_handler_delegate(request, Refused)
        compared = DIFF.fullmatch(request.path)
        if compared is not None:
            target = {"find": self._find, "names": (compared[1], compared[2])}
            return self.get_handler_delegate(request, DiffHandler, target)
        named = _RUN.match(request.path)
        if named is None:
            return super().find_handler(request, **kwargs)
        run = self._served.get(named[1])
        if run is None or (request.path.endswith(f"/{PAGE}") and self._is_old(run)):
            opens = {"server": self, "name": named[1]}
            return self.get_handler_delegate(request, Opening, opens)
        self._served[named[1]] = self._served.pop(named[1])
        found = run.files.find_handler(request, **kwargs)
        if issubclass(found.handler_class, web.ErrorHandler):
            return run.page.find_handler(request, **kwargs)
        return found

    def _ours(self, request: Any) -> bool:
        """Whether a request is for this server, and a web socket's from its pages."""
        host = urlsplit(f"//{request.host}").hostname or ""
        if self._names and host not in self._names:
            return False
        origin = request.headers.get("Origin")
        socket = request.headers.get("Upgrade", "").lower() == "websocket"
        return not (socket and origin) or urlsplit(origin).netloc == request.host

    def _is_old(self, run: ServedRun) -> bool:
        ended = run.store.reader.manifest.ended is not None
        return not ended and time.monotonic() > run.fetched + AGAIN

    async def open(self, name: str) -> bool:
        """Open a run if need be; False where there is none of that name.

        Raises
        ------
        RunError
            It cannot be opened.
        """
        async with self._opening:
            path = await asyncio.to_thread(self._find, name)
            if path is None:
                return False
            known = self._served.get(name)
            if known is not None:
                known.fetched = time.monotonic()
                return True
            store = RecordedStore(RunReader(path))
            try:
                store.span()
            except RunError:
                store.reader.close()
                raise
            served = ServedRun(store, f"/runs/{name}", self.back, self._boundary)
            self._served[name] = served
            idle = [n for n, run in self._served.items() if not run.pages.count()]
            for old in idle[: max(0, len(self._served) - MOST_RUNS)]:
                if old != name:
                    self._served.pop(old).stop()
            return True

    def start(self, port: int = 0, address: str = "127.0.0.1") -> int:
        """Listen; give the port.

        Raises
        ------
        OSError
            The address is not this machine's, or the port is taken.
        """
        sockets = bind_sockets(port, address)
        self._server = HTTPServer(self)
        self._server.add_sockets(sockets)
        if address in LOOPBACK or address.startswith("127."):
            self._names = {*LOOPBACK, address}
        return int(sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Close every page, run and connection."""
        if self._server is not None:
            self._server.stop()
            await asyncio.wait_for(self._server.close_all_connections(), 5)
        for run in self._served.values():
            run.stop()
        self._served.clear()


def serving_one(directory: Path, boundary: Boundary) -> RunsServer:
    """Make a server of one run, which ``/`` leads to."""
    name = directory.resolve().name
    if not is_run_id(name):
        name = "run"
    paths = {name: directory}
    home = f"/runs/{name}/{PAGE}"
    to_page = (r"/", Redirect, {"url": home, "permanent": False})
    return RunsServer(paths.get, boundary, [to_page])


def serving(places: Sequence[Runs], boundary: Boundary) -> RunsServer:
    """Make a server of all runs of some directories and URLs, with a list of them."""
    runs = RunsList(places)
    made = {"runs": runs, "boundary": boundary}
    handlers = [
        (r"/", ListHandler, made),
        (r"/runs\.json", ListAsJSON, made),
        (rf"/{PAGE}/static/(.*)", StaticFiles, {"path": str(static_dir())}),
        (r"/runs/?", Redirect, {"url": "/", "permanent": False}),
        (r"/.*", Nothing, {}),
    ]
    return RunsServer(runs.find, boundary, handlers, back="../../")
