"""A server for recorded runs, without a cluster: the page, JSON, tables and reports.

Each run is served beneath ``/runs/<id>/memdash`` and opened when it is first asked for.
Read-only; every route that tells of one instant takes it as ``?at=`` in Unix time.
"""

from __future__ import annotations

import asyncio
import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bokeh.application import Application
from bokeh.server.tornado import BokehTornado
from tornado import web
from tornado.httpserver import HTTPServer
from tornado.ioloop import IOLoop
from tornado.netutil import bind_sockets

from dask_memdash.boundary import Boundary
from dask_memdash.errors import RunError
from dask_memdash.runs.directory import is_run_id
from dask_memdash.runs.reading import RunReader
from dask_memdash.store.recorded import RecordedStore
from dask_memdash.views.assets import asset_url, static_dir
from dask_memdash.views.record_page import RecordPage, instant_of
from dask_memdash.web import api, export, making
from dask_memdash.web.mount import PAGE, NoticeHandler, _resources
from dask_memdash.web.open_pages import OpenPages
from dask_memdash.web.readonly import Redirect, StaticFiles
from dask_memdash.web.turns import Turns

#: Pages of one run that are open at once at most.
MOST_PAGES = 20

_RUN = re.compile(r"/runs/([^/]+)(?:/|$)")


class AtInstant:
    """A handler whose store tells of the instant that the query names."""

    store: Any
    request: Any

    def prepare(self) -> None:
        """Take the instant out of the query; the rest of it is the handler's."""
        values = self.request.query_arguments.pop("at", None)
        if values:
            text = values[0].decode("utf-8", "replace")
            self.store = self.store.at(instant_of(text))


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
        self,
        store: RecordedStore,
        prefix: str,
        back: str,
        boundary: Boundary,
        origins: list[str],
    ) -> None:
        self.store = store
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
        self.pages = OpenPages(MOST_PAGES)
        page = RecordPage(store, asset_url, boundary, back)
        self.page = BokehTornado(
            {f"/{PAGE}": Application()},
            prefix=prefix,
            extra_websocket_origins=origins,
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
        self.page.stop()
        self.store.reader.close()


class RunsServer(web.Application):
    """Serves recorded runs.

    Parameters
    ----------
    find
        Gives the directory of a run by its id, or None.
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
        self._find = find
        self._boundary = boundary
        self._back = back
        self._served: dict[str, ServedRun] = {}
        self._server: HTTPServer | None = None
        self._origins: list[str] = []

    def find_handler(self, request: Any, **kwargs: Any) -> Any:
        """Find what answers a request; opens the run that it is about."""
        named = _RUN.match(request.path)
        if named is None:
            return super().find_handler(request, **kwargs)
        try:
            run = self.run(named[1])
        except RunError as error:
            notice = {"notice": f"This run cannot be opened. {error}"}
            return self.get_handler_delegate(request, NoticeHandler, notice)
        if run is None:
            return super().find_handler(request, **kwargs)
        found = run.files.find_handler(request, **kwargs)
        if issubclass(found.handler_class, web.ErrorHandler):
            return run.page.find_handler(request, **kwargs)
        return found

    def run(self, name: str) -> ServedRun | None:
        """Return a run that is served, opened if need be; None where there is none.

        Raises
        ------
        RunError
            It cannot be opened.
        """
        if name not in self._served:
            path = self._find(name)
            if path is None:
                return None
            store = RecordedStore(RunReader(path))
            store.span()
            self._served[name] = ServedRun(
                store, f"/runs/{name}", self._back, self._boundary, self._origins
            )
        return self._served[name]

    def start(self, port: int = 0, address: str = "127.0.0.1") -> int:
        """Listen; give the port."""
        sockets = bind_sockets(port, address)
        self._server = HTTPServer(self)
        self._server.add_sockets(sockets)
        chosen = int(sockets[0].getsockname()[1])
        hosts = dict.fromkeys(("127.0.0.1", "localhost", address))
        self._origins = [f"{host}:{chosen}" for host in hosts]
        return chosen

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
