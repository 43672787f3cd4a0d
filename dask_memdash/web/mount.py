"""Put MemDash on a running scheduler's HTTP server, and take it away again.

Two Tornado applications join the ones that the scheduler routes to: a plain one for
the JSON API and the static files, which needs Tornado only, and a Bokeh application
for the page.  Without Bokeh, Panel or a dashboard the first still serves, and where
the page would be it serves one sentence that says why there is none.

Everything that the host calls from here goes through the boundary.  What the page
shows is not decided here: see :mod:`dask_memdash.views.layout`.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import re
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tornado import web
from tornado.ioloop import IOLoop
from tornado.routing import PathMatches

from dask_memdash.boundary import Boundary
from dask_memdash.config import Settings
from dask_memdash.store.base import Store
from dask_memdash.views.assets import asset_url, static_dir
from dask_memdash.web import api, export, listing
from dask_memdash.web.open_pages import OpenPages
from dask_memdash.web.readonly import NOTICE, ReadOnly, Redirect, StaticFiles
from dask_memdash.web.turns import Turns

if TYPE_CHECKING:
    from dask_memdash.web.earlier_runs import EarlierRuns

#: Where the page is, beneath the dashboard's prefix; also its name in the navigation.
PAGE = "memdash"

#: Share of the scheduler's loop that all open pages together take to be drawn, unless
#: they would be far behind for it; what the server does to send it comes on top.
PAGES_SHARE = 0.04

#: Parts of BokehJS that the page loads, for Panel needs them; WebGL and TeX stay away.
COMPONENTS = ("bokeh", "bokeh-widgets", "bokeh-tables")

#: Name under which a scheduler's application carries what was mounted on it.
_MARK = "_memdash_mounted"


@dataclass(slots=True)
class Mounted:
    """What :func:`mount` put on a scheduler."""

    #: Path of the page, such as ``"/memdash"``; ``None`` without an HTTP server.
    path: str | None
    #: One sentence when the page cannot be what it should be.
    notice: str | None
    #: Takes things away again, last first.
    _undo: list[Callable[[], Any]] = field(default_factory=list, repr=False)

    #: What is being closed of a page that this one took the place of.
    _closing: list[asyncio.Task[None]] = field(default_factory=list, repr=False)

    async def unmount(self) -> None:
        """Remove every route, link, session and callback; harmless when repeated."""
        for closing in self._dismantle():
            await closing
        while self._closing:
            await self._closing.pop()

    def _dismantle(self) -> list[Coroutine[Any, Any, None]]:
        """Remove every route and link; give what remains to be awaited."""
        results = []
        while self._undo:
            results.append(self._undo.pop()())
        return [result for result in results if result is not None]


async def prepare() -> None:
    """Import what the page needs in a thread, so that the loop runs on meanwhile."""
    await asyncio.to_thread(_import_page)


def mount(
    scheduler: Any, store: Store, settings: Settings, boundary: Boundary
) -> Mounted:
    """Serve the page, the JSON API and the static files; call it on the loop.

    On a scheduler that has MemDash already, this one takes the other's place.

    Parameters
    ----------
    scheduler
        A running ``distributed.Scheduler``.
    store
        What the page and the API read.
    settings
        ``page_refresh`` is the time between two updates of an open page.
    boundary
        What every function that the server calls goes through.

    Returns
    -------
    Mounted
        With a ``notice`` where something is missing.
    """
    router = getattr(scheduler, "http_application", None)
    if router is None:
        return Mounted(
            None, "This scheduler has no HTTP server, so MemDash has no page."
        )
    before: Mounted | None = getattr(router, _MARK, None)
    closing = before._dismantle() if before is not None else []
    dashboard = _dashboard(router)
    prefix = _http_prefix(router) if dashboard is None else dashboard.prefix
    mounted = Mounted(f"{prefix}/{PAGE}", _missing(dashboard))
    mounted._closing += [asyncio.ensure_future(coroutine) for coroutine in closing]
    setattr(router, _MARK, mounted)
    mounted._undo.append(lambda: delattr(router, _MARK))
    earlier = _earlier_runs(scheduler, settings, boundary)
    try:
        files = files_application(prefix, mounted.notice, store, boundary, earlier)
        # First, for Jupyter's and the dashboard's applications leave little over.
        router.applications.insert(0, files)
        mounted._undo.append(lambda: _remove(router.applications, files))
        if mounted.notice is None:
            _serve_page(
                scheduler, mounted, prefix, dashboard, store, settings, boundary
            )
    except BaseException:
        for coroutine in mounted._dismantle():
            coroutine.close()
        raise
    return mounted


def _earlier_runs(
    scheduler: Any, settings: Settings, boundary: Boundary
) -> EarlierRuns | None:
    """Return the runs beside the one that is recorded; None where none is.

    Nothing of :mod:`dask_memdash.runs` is loaded then.
    """
    if settings.record_to is None:
        return None
    from dask_memdash.web.earlier_runs import EarlierRuns

    return EarlierRuns(settings, boundary, str(scheduler.id))


def _import_page() -> None:
    """Import Panel and the views, of which the scheduler has none by itself."""
    importlib.import_module("dask_memdash.views.layout")


def _missing(dashboard: Any | None) -> str | None:
    """Say what keeps the page from being served, ``None`` when nothing does."""
    if dashboard is None and "distributed.dashboard.scheduler" not in sys.modules:
        return (
            "MemDash has no page because this scheduler runs without a dashboard; "
            "its JSON API works. Install bokeh and panel in the scheduler's "
            "environment and start the scheduler with its dashboard."
        )
    if dashboard is None:
        return (
            "MemDash has no page because this scheduler's dashboard is switched off; "
            "its JSON API works. Start the scheduler with a dashboard to have it."
        )
    try:
        _import_page()
    except ImportError as error:
        name = error.name or str(error)
        return (
            f"MemDash has no page because {name!r} cannot be imported on the "
            "scheduler; its JSON API works. Install bokeh and panel in the "
            "scheduler's environment and register MemDash again."
        )
    return None


def _dashboard(router: Any) -> Any | None:
    """Find the dashboard's own Bokeh application among those routed to."""
    for application in router.applications:
        paths = getattr(application, "app_paths", ())
        if "/status" in paths:
            return application
    return None


def _http_prefix(router: web.Application) -> str:
    """Work out the prefix of the scheduler's routes from one route of Dask's own.

    The scheduler does not keep it, and without a dashboard nothing else does.
    """
    for rule in (*router.default_router.rules, *router.wildcard_router.rules):
        module = sys.modules.get(getattr(rule.target, "__module__", ""))
        if not isinstance(rule.matcher, PathMatches) or module is None:
            continue
        pattern = rule.matcher.regex.pattern.removesuffix("$")
        for url, handler, _ in getattr(module, "routes", ()):
            end = "/" + url.lstrip("/")
            if handler is rule.target and pattern.endswith(end):
                return str(pattern.removesuffix(end))
    return ""


class NoticeHandler(ReadOnly):
    """What stands in the page's place when there can be none: one sentence."""

    policy = NOTICE

    def initialize(self, notice: str) -> None:
        """Take the sentence."""
        self.notice = notice

    def get_template_path(self) -> str:
        """Say where the template is; Tornado escapes what it fills in."""
        return str(Path(__file__).parent / "templates")

    def get(self) -> None:
        """Write the page."""
        self.render("notice.html", notice=self.notice)


def files_application(
    prefix: str,
    notice: str | None,
    store: Store,
    boundary: Boundary,
    earlier: EarlierRuns | None = None,
) -> web.Application:
    """Make the application that serves all but the page, or the notice in its place."""
    base = re.escape(f"{prefix}/{PAGE}")
    shared = {"store": store, "boundary": boundary}
    answers, files = Turns(), Turns()  # a report takes seconds, an answer may not wait
    handlers: list[tuple[Any, ...]] = [
        (
            rf"{base}/api/{path}",
            api.StoreHandler,
            {**shared, "turns": answers, "answer": answer},
        )
        for path, answer in api.routes
    ]
    handlers += [
        (rf"{base}/{path}", handler, {**shared, "turns": files})
        for path, handler in export.routes
    ]
    handlers += [
        (rf"{base}/api(?:/.*)?", api.JSONHandler),
        (rf"{base}/static/(.*)", StaticFiles, {"path": str(static_dir())}),
        (rf"{base}/", Redirect, {"url": f"../{PAGE}"}),
    ]
    if earlier is not None:
        handlers.append((rf"{base}/{earlier.path}", earlier.handler, {"runs": earlier}))
    if notice is not None:
        handlers.append((base, NoticeHandler, {"notice": notice}))
    return web.Application(handlers)


def _serve_page(
    scheduler: Any,
    mounted: Mounted,
    prefix: str,
    dashboard: Any,
    store: Store,
    settings: Settings,
    boundary: Boundary,
) -> None:
    """Add the Bokeh application of the page and the link to it."""
    from distributed.dashboard.core import BokehApplication
    from distributed.dashboard.scheduler import template_variables

    from dask_memdash.views.individual import CHARTS, IndividualPage
    from dask_memdash.views.layout import Page
    from dask_memdash.views.rounds import Rounds
    from dask_memdash.views.shared import SharedStore
    from dask_memdash.web import making

    variables = template_variables(scheduler)
    refresh = settings.page_refresh
    shared = SharedStore(store, interval=0.8 * refresh, share=PAGES_SHARE)
    rounds = Rounds(shared, refresh, boundary)
    mounted._undo.append(rounds.close)
    shown: dict[str, making.Page] = {
        f"/{PAGE}": Page(shared, rounds.follow, variables["pages"], asset_url, boundary)
    }
    if settings.record_to is not None:
        from dask_memdash.web.earlier_runs import LinkedPage

        shown[f"/{PAGE}"] = LinkedPage(shown[f"/{PAGE}"])
    for path, chart in CHARTS.items():
        shown[f"/{path}"] = IndividualPage(
            chart, shared, rounds.follow, asset_url, boundary
        )
    pages = OpenPages(settings.page_limit)
    application = BokehApplication(
        dict.fromkeys(shown, making.nothing),
        scheduler,
        prefix=prefix,
        template_variables={},
    )
    application.resources = functools.partial(_resources, prefix)
    application.initialize(IOLoop.current())
    making.make_in_pieces(application, shown, pages)
    pages.take_over(application)
    mounted._undo.append(pages.close)
    # Right behind the dashboard: other applications (Jupyter's) leave no path over.
    behind = _index(scheduler.http_application.applications, dashboard) + 1
    scheduler.http_application.applications.insert(behind, application)
    mounted._undo.append(
        lambda: _remove(scheduler.http_application.applications, application)
    )
    application.start()
    mounted._undo.append(lambda: _stop(application))
    if PAGE not in variables["pages"]:
        variables["pages"].append(PAGE)
        mounted._undo.append(lambda: _remove(variables["pages"], PAGE))
    for path, chart in CHARTS.items():
        link = {"url": path, "name": chart.title}
        variables["plots"].append(link)
        mounted._undo.append(functools.partial(_remove, variables["plots"], link))
    mounted._undo += listing.extend(scheduler.http_application, list(CHARTS))


def _resources(prefix: str, *args: Any, **kwargs: Any) -> Any:
    """Say which of Bokeh's files the page loads: few, and from this server alone.

    Panel makes their URLs relative by taking the root away, so there must be one.
    """
    from bokeh.resources import Resources
    from bokeh.server.views.static_handler import StaticHandler

    return Resources(
        mode="server",
        root_url=f"{prefix}/",
        path_versioner=StaticHandler.append_version,
        components=list(COMPONENTS),
    )


def _index(applications: list[Any], application: Any) -> int:
    """Return the position of an application, by identity."""
    return next(i for i, known in enumerate(applications) if known is application)


def _remove(items: list[Any], item: Any) -> None:
    """Remove an item by identity; nothing happens when it is not there."""
    items[:] = [known for known in items if known is not item]


async def _stop(application: Any) -> None:
    """Stop a Bokeh application: its connections, sessions and periodic callbacks."""
    for connection in list(application._clients):
        socket = connection._socket
        socket.connection = None  # or it would look for its session when it closes
        socket.close(code=1001, reason="MemDash was unregistered")
        application.client_lost(connection)
    for context in application.applications.values():
        for session in list(context.sessions):
            if session.connection_count == 0:
                await context._discard_session(session, lambda session: True)
    stop = getattr(application, "stop_async", None)
    if stop is not None:
        await stop()
    else:
        application.stop()
