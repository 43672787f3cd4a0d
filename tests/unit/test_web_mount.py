"""MemDash on the HTTP server of a scheduler without workers."""

import asyncio
import gc
import re
import urllib.error
import urllib.request
import weakref
from types import SimpleNamespace

import fake_store
import pytest
from distributed import Scheduler
from distributed.dashboard.scheduler import template_variables
from tornado.websocket import websocket_connect

from dask_memdash.boundary import Boundary
from dask_memdash.config import defaults
from dask_memdash.web import mount as web_mount
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
