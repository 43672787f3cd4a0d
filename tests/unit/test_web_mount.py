"""MemDash on the HTTP server of a scheduler without workers."""

import asyncio
import dataclasses
import gc
import itertools
import re
import time
import urllib.error
import urllib.request
import weakref
from types import SimpleNamespace
from unittest import mock

import fake_store
import pytest
from distributed import Scheduler
from distributed.dashboard.scheduler import template_variables
from tornado.httpclient import AsyncHTTPClient
from tornado.websocket import websocket_connect

from dask_memdash.boundary import Boundary
from dask_memdash.config import defaults
from dask_memdash.web import mount as web_mount
from dask_memdash.web import open_pages
from dask_memdash.web.mount import mount, prepare

pytestmark = pytest.mark.hooks


@pytest.fixture
async def started():
    """Start schedulers on free ports of this machine; all are closed at the end."""
    schedulers = []

    async def start(**options):
        scheduler = await Scheduler(
            host="127.0.0.1", port=0, dashboard_address="127.0.0.1:0", **options
        )
        schedulers.append(scheduler)
        return scheduler

    yield start
    for scheduler in schedulers:
        await scheduler.close()


async def fetch(scheduler, path):
    """Return the status and the text at a path."""
    url = f"http://127.0.0.1:{scheduler.http_server.port}{path}"

    def ask():
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.status, error.read().decode()

    return await asyncio.to_thread(ask)


def mounted_on(scheduler, store=None, boundary=None):
    return mount(
        scheduler, store or fake_store.busy(), defaults(), boundary or Boundary()
    )


async def test_page_and_api_are_served_and_linked_beside_the_dashboards_pages(started):
    scheduler = await started()
    await prepare()
    mounted = mounted_on(scheduler)
    assert (mounted.path, mounted.notice) == ("/memdash", None)
    assert template_variables(scheduler)["pages"][-1] == "memdash"
    status, page = await fetch(scheduler, "/memdash")
    assert status == 200
    assert "<title>MemDash</title>" in page
    assert (await fetch(scheduler, "/memdash/api/cluster"))[0] == 200
    assert 'href="memdash"' in (await fetch(scheduler, "/status"))[1]


@pytest.mark.parametrize("prefix", ["/foo", "foo/bar/"])
@pytest.mark.parametrize("dashboard", [True, False])
async def test_prefix_of_the_dashboard_is_honoured(started, prefix, dashboard):
    scheduler = await started(http_prefix=prefix, dashboard=dashboard)
    mounted = mounted_on(scheduler)
    assert mounted.path == f"/{prefix.strip('/')}/memdash"
    assert (await fetch(scheduler, mounted.path))[0] == 200
    assert (await fetch(scheduler, f"{mounted.path}/api/cluster"))[0] == 200
    assert (await fetch(scheduler, "/memdash"))[0] == 404


async def test_all_files_of_the_page_have_relative_urls_whatever_bokeh_is_told(
    started, monkeypatch
):
    monkeypatch.setenv("BOKEH_RESOURCES", "cdn")
    for prefix in ("/", "/foo"):
        scheduler = await started(http_prefix=prefix)
        mounted = mounted_on(scheduler)
        _, page = await fetch(scheduler, mounted.path)
        urls = re.findall(r'(?:src|href)="([^"#]+)"', page)
        assert len(urls) > 8
        assert [url for url in urls if url.startswith("/") or "//" in url] == []


async def test_unmounting_leaves_nothing_and_can_be_repeated(started):
    scheduler = await started()
    applications = list(scheduler.http_application.applications)
    pages = list(template_variables(scheduler)["pages"])
    attributes = set(vars(scheduler.http_application))
    mounted = mounted_on(scheduler)
    await fetch(scheduler, "/memdash")
    await mounted.unmount()
    await mounted.unmount()
    assert scheduler.http_application.applications == applications
    assert template_variables(scheduler)["pages"] == pages
    assert set(vars(scheduler.http_application)) == attributes
    assert (await fetch(scheduler, "/memdash"))[0] == 404
    assert (await fetch(scheduler, "/memdash/api/cluster"))[0] == 404
    assert (await fetch(scheduler, "/status"))[0] == 200


@pytest.mark.slow
async def test_unmounting_ends_the_sessions_of_open_pages(started, monkeypatch):
    from dask_memdash.views.layout import OpenPage

    scheduler = await started()
    opened = []
    monkeypatch.setattr(
        OpenPage, "update", lambda page: opened.append(weakref.ref(page))
    )
    mounted = mounted_on(scheduler)
    await fetch(scheduler, "/memdash")
    assert opened[0]() is not None
    await mounted.unmount()
    async with asyncio.timeout(10):
        while any(page() is not None for page in opened):
            await asyncio.sleep(0.05)  # timers that are under way hold on to it
            gc.collect()


async def test_unmounting_closes_connections(started):
    scheduler = await started()
    mounted = mounted_on(scheduler)
    _, page = await fetch(scheduler, "/memdash")
    token = page.split('"token":"')[1].split('"')[0]
    url = f"ws://127.0.0.1:{scheduler.http_server.port}/memdash/ws"
    connection = await websocket_connect(url, subprotocols=["bokeh", token])
    assert await connection.read_message() is not None
    await mounted.unmount()
    async with asyncio.timeout(10):
        while await connection.read_message() is not None:
            pass
    connection.close()


async def test_mounting_again_takes_the_place_of_the_first(started):
    scheduler = await started()
    first = mounted_on(scheduler, fake_store.empty())
    applications = len(scheduler.http_application.applications)
    second = mounted_on(scheduler, fake_store.busy())
    assert len(scheduler.http_application.applications) == applications
    assert template_variables(scheduler)["pages"].count("memdash") == 1
    await first.unmount()
    assert '"n_workers": 4' in (await fetch(scheduler, "/memdash/api/cluster"))[1]
    assert (await fetch(scheduler, "/memdash"))[0] == 200
    await second.unmount()
    assert (await fetch(scheduler, "/memdash"))[0] == 404


async def test_without_panel_one_sentence_stands_in_the_pages_place(
    started, monkeypatch
):
    def cannot():
        raise ImportError("No module named 'panel'", name="panel")

    monkeypatch.setattr(web_mount, "_import_page", cannot)
    scheduler = await started()
    mounted = mounted_on(scheduler)
    assert "'panel' cannot be imported" in mounted.notice
    status, page = await fetch(scheduler, "/memdash")
    assert status == 200
    assert "Install bokeh and panel" in page
    assert (await fetch(scheduler, "/memdash/api/cluster"))[0] == 200
    assert "memdash" not in template_variables(scheduler)["pages"]


async def test_without_a_dashboard_one_sentence_stands_in_the_pages_place(started):
    scheduler = await started(dashboard=False)
    mounted = mounted_on(scheduler)
    assert "dashboard is switched off" in mounted.notice
    assert "JSON API works" in (await fetch(scheduler, "/memdash"))[1]


def test_without_an_http_server_nothing_is_mounted_and_said_so():
    mounted = mounted_on(SimpleNamespace())
    assert mounted.path is None
    assert "no HTTP server" in mounted.notice


async def test_page_that_fails_is_a_fault_at_the_border_and_says_so(
    started, monkeypatch
):
    from dask_memdash.views import layout

    monkeypatch.setattr(layout, "SECTIONS", {"summary": lambda *args: 1 / 0})
    scheduler = await started()
    boundary = Boundary()
    mounted_on(scheduler, boundary=boundary)
    status, page = await fetch(scheduler, "/memdash")
    assert status == 200
    assert "The page could not be opened" in page
    assert "opening the page" in boundary.texts()[0]


def limited(scheduler, most):
    settings = dataclasses.replace(defaults(), page_limit=most)
    return mount(scheduler, fake_store.busy(), settings, Boundary())


def bokeh_application(scheduler):
    (application,) = [
        known
        for known in scheduler.http_application.applications
        if "/memdash" in getattr(known, "app_paths", ())
    ]
    return application


async def request(scheduler, path, method):
    url = f"http://127.0.0.1:{scheduler.http_server.port}{path}"
    asked = {"method": method, "allow_nonstandard_methods": True, "raise_error": False}
    return await AsyncHTTPClient().fetch(url, request_timeout=60, **asked)


@pytest.mark.slow
async def test_a_page_beyond_the_limit_is_a_light_one_that_says_where_to_look(started):
    scheduler = await started()
    mounted = limited(scheduler, 1)
    assert (await fetch(scheduler, "/memdash"))[0] == 200
    status, page = await fetch(scheduler, "/memdash")
    assert status == 503
    assert "at most 1 live MemDash pages" in page
    assert "memdash.page.limit" in page
    for link in ("memdash/report.html", "memdash/api/cluster", "memdash/api/failures"):
        assert f'href="{link}"' in page
        assert (await fetch(scheduler, f"/{link}"))[0] == 200
    assert len(bokeh_application(scheduler).get_sessions("/memdash")) == 1
    await mounted.unmount()


async def test_a_web_socket_opens_no_page_beyond_the_limit(started):
    from bokeh.util.token import generate_jwt_token

    scheduler = await started()
    mounted = limited(scheduler, 1)
    await fetch(scheduler, "/memdash")
    url = f"ws://127.0.0.1:{scheduler.http_server.port}/memdash/ws"
    forged = generate_jwt_token("somebody-else", expiration=300)
    connection = await websocket_connect(url, subprotocols=["bokeh", forged])
    assert await connection.read_message() is None
    assert connection.close_code == 1013
    connection.close()
    assert len(bokeh_application(scheduler).get_sessions("/memdash")) == 1
    await mounted.unmount()


async def test_the_page_is_read_alone_and_no_other_site_is_given_a_session(started):
    from dask_memdash.views.individual import CHARTS

    scheduler = await started()
    mounted = mounted_on(scheduler)
    for path in ("/memdash", "/memdash/ws", f"/{next(iter(CHARTS))}"):
        for method in ("POST", "PUT", "DELETE"):
            assert (await request(scheduler, path, method)).code in (404, 405), path
    head = await request(scheduler, "/memdash", "HEAD")
    assert (head.code, head.body) == (200, b"")
    policy = head.headers["Content-Security-Policy"]
    assert "connect-src 'self'" in policy
    assert "frame-ancestors" not in policy  # JupyterLab shows the page in a frame
    assert head.headers["X-Content-Type-Options"] == "nosniff"
    for method in ("GET", "OPTIONS"):
        answer = await request(scheduler, "/memdash/autoload.js", method)
        assert answer.code in (404, 405)
        assert "Access-Control-Allow-Origin" not in answer.headers
    assert (await fetch(scheduler, "/memdash/metadata"))[0] == 404
    assert not bokeh_application(scheduler).get_sessions("/memdash")
    await mounted.unmount()


async def discarded(context, session):
    """Discard a session, once no callback of its document is under way."""
    async with asyncio.timeout(10):
        while session in context.sessions:
            await context._discard_session(session, lambda session: True)
            await asyncio.sleep(0)


@pytest.mark.slow
async def test_a_document_ends_without_a_collection_and_garbage_is_collected_once(
    started, monkeypatch
):
    monkeypatch.setattr(open_pages, "QUIET", 60)
    scheduler = await started()
    mounted = mounted_on(scheduler)
    # Bokeh ends a session that nobody has used for fifteen seconds; making three
    # pages may take as long beside other tests
    application = bokeh_application(scheduler)
    monkeypatch.setattr(application, "_unused_session_lifetime_milliseconds", 10**6)
    for _ in range(3):
        await fetch(scheduler, "/memdash")
    context = application.applications["/memdash"]
    documents = [weakref.ref(session.document) for session in context.sessions]
    assert len(documents) == 3
    collections = []
    collect = gc.collect
    monkeypatch.setattr(
        gc, "collect", lambda *args: collections.append(1) or collect(*args)
    )
    *sessions, last = context.sessions
    for session in sessions:
        await discarded(context, session)
    assert collections == []
    monkeypatch.setattr(open_pages, "QUIET", 0.3)
    await discarded(context, last)
    assert not context.sessions
    del session, sessions, last
    async with asyncio.timeout(10):
        while not collections:
            await asyncio.sleep(0.05)
    async with asyncio.timeout(10):
        while any(known() is not None for known in documents):
            await asyncio.sleep(0.05)
    assert collections == [1]
    await mounted.unmount()


async def test_pages_are_made_one_after_another_and_the_loop_rests_between():
    pages = open_pages.OpenPages(5)
    pages._application = SimpleNamespace(applications={})
    made = []

    async def make():
        async with pages.turn(lambda: True) as free:
            start = time.monotonic()
            if free:
                time.sleep(0.05)  # as making a page does, which holds the loop
            made.append((free, start, time.monotonic()))

    await asyncio.gather(*(make() for _ in range(7)))
    refused = [free for free, _, _ in made if not free]
    assert len(refused) == 2
    spans = sorted((start, end) for free, start, end in made if free)
    for (_, end), (start, _) in itertools.pairwise(spans):
        assert start - end >= 0.045


async def test_a_page_that_nobody_waits_for_is_not_made():
    pages = open_pages.OpenPages(5)
    pages._application = SimpleNamespace(applications={})
    async with pages.turn(lambda: False) as free:
        assert not free
    assert pages.count() == 0


async def test_the_loop_is_left_alone_between_the_pieces_of_a_page():
    pages = open_pages.OpenPages(5)
    pages._application = SimpleNamespace(applications={})
    free, others = [], []

    def steps():
        for _ in range(4):
            time.sleep(0.03)  # as making a piece does, which holds the loop
            free.append(time.monotonic())
            yield

    async def others_run():
        while True:
            await asyncio.sleep(0)
            others.append(time.monotonic())

    running = asyncio.create_task(others_run())
    async with pages.turn(lambda: True):
        await pages.make(steps())
    running.cancel()
    for since, until in itertools.pairwise(free):
        run = [at for at in others if since < at < until]
        assert run[-1] - run[0] >= 0.02
    # The loop was left alone for four pieces already, and is not for all once more.
    assert pages._turns._rests_until - time.monotonic() < 0.03


async def test_a_page_is_made_before_bokeh_asks_for_it(started):
    scheduler = await started()
    mounted = mounted_on(scheduler)
    lent = []
    make = open_pages.OpenPages.make

    async def watched(pages, steps):
        async def lend():
            while True:
                lent.append(1)
                await asyncio.sleep(0)

        lending = asyncio.create_task(lend())
        await make(pages, steps)
        lending.cancel()

    with mock.patch.object(open_pages.OpenPages, "make", watched):
        status, page = await fetch(scheduler, "/memdash")
    assert status == 200
    assert "memdash-facts" not in page  # it comes by the web socket
    assert len(lent) > 10
    context = bokeh_application(scheduler).applications["/memdash"]
    (session,) = context.sessions
    assert session.document.select_one({"name": "memdash-facts"})
    await mounted.unmount()


async def test_a_page_that_is_half_made_at_the_end_is_left_so(started):
    scheduler = await started()
    mounted = mounted_on(scheduler)
    make = open_pages.OpenPages.make
    ended = asyncio.Event()

    async def interrupted(pages, steps):
        def until_unmounted():
            yield next(steps)
            pages.close()
            ended.set()
            yield from steps

        await make(pages, until_unmounted())

    with mock.patch.object(open_pages.OpenPages, "make", interrupted):
        await fetch(scheduler, "/memdash")
    assert ended.is_set()
    context = bokeh_application(scheduler).applications["/memdash"]
    assert [s.document.session_callbacks for s in context.sessions] == [[]]
    assert (await fetch(scheduler, "/memdash"))[0] == 503
    await mounted.unmount()
