"""A real browser, real clusters, and made-up stores on a real scheduler.

Every page that a test opens is watched: an error on the console, a request that fails
or a request to another host fails the test.
"""

import os
import shutil
import sys
from pathlib import Path
from urllib.parse import urlsplit

import dask
import pytest
from distributed import Client, LocalCluster
from forked_workers import forked_workers

from dask_memdash import MemDash
from dask_memdash.boundary import Boundary
from dask_memdash.config import load
from dask_memdash.web.mount import mount, prepare

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))

#: What Chromium is called, in the order in which it is looked for.
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

#: Nothing but the page: no sandbox (tests may run as root), no calls home.
ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    # what Debian's start script turns on is costly where no GPU is
    *("--disable-gpu-rasterization", "--disable-software-rasterizer"),
    *("--disable-background-networking", "--disable-component-update"),
    "--disable-sync",
]

#: How long a test waits for something on the page, in milliseconds.
TIMEOUT_MS = 30_000


def find_browser():
    named = os.environ.get("MEMDASH_CHROMIUM")
    return named or next(filter(None, map(shutil.which, BROWSERS)), None)


# For this folder, not the session: its loop would be in the way of other tests' loops.
@pytest.fixture(scope="package")
def browser():
    """Start Chromium once for all; without one, fail in CI and skip elsewhere."""
    path = find_browser()
    if path is None:
        message = "no Chromium: set MEMDASH_CHROMIUM or put one on the PATH"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


class Watch:
    """What went wrong on the pages of a test."""

    def __init__(self):
        self.wrong = []

    def page(self, page, host):
        page.on("console", self.console)
        page.on("pageerror", lambda error: self.wrong.append(f"error: {error}"))
        page.on("requestfailed", self.failed)
        page.on("request", lambda request: self.request(request, host))
        page.on("response", self.response)

    def failed(self, request):
        # what a page gives up itself, as when it is left, has not failed
        if request.failure != "net::ERR_ABORTED":
            self.wrong.append(f"failed: {request.url}: {request.failure}")

    def console(self, message):
        if message.type == "error":
            self.wrong.append(f"console: {message.text}")

    def request(self, request, host):
        url = urlsplit(request.url)
        if url.scheme not in {"blob", "data"} and url.netloc != host:
            self.wrong.append(f"foreign: {request.url}")

    def response(self, response):
        if response.status >= 400:
            self.wrong.append(f"{response.status}: {response.url}")


@pytest.fixture
def look(browser, cluster, show):
    """Return a function that opens a page and waits until it is alive.

    `before` is called with the page before it goes anywhere.  It asks for what serves
    pages, so that pages are closed before that goes.
    """
    watch = Watch()
    contexts = []

    def look(url, width=1400, scheme="light", ready=True, before=None):
        context = browser.new_context(
            viewport={"width": width, "height": 1000},
            color_scheme=scheme,
            ignore_https_errors=True,
        )
        contexts.append(context)
        context.set_default_timeout(TIMEOUT_MS)
        page = context.new_page()
        watch.page(page, urlsplit(url).netloc)
        if before is not None:
            before(page)
        page.goto(url)
        if ready:
            page.wait_for_selector("html[data-memdash=ready]")
        return page

    yield look
    for context in contexts:
        context.close()
    assert watch.wrong == []


@pytest.fixture(autouse=True)
def workers_are_forked():
    """Start workers in a tenth of the time."""
    with forked_workers():
        yield


@pytest.fixture
def cluster():
    """Return a function that starts a cluster with MemDash; all are closed."""
    closers = []

    def start(register=True, **options):
        options = {"dashboard_address": "127.0.0.1:0", **options}
        options = {"n_workers": 1, "threads_per_worker": 1, **options}
        cluster = LocalCluster(**options)
        closers.append(cluster.close)
        client = Client(cluster)
        closers.append(client.close)
        if register:
            client.register_plugin(MemDash(page__refresh="200ms"))
        return client, f"{origin(cluster.scheduler)}/memdash"

    yield start
    for close in reversed(closers):
        close()


def origin(scheduler):
    tls = dask.config.get("distributed.scheduler.dashboard.tls.cert") is not None
    return f"{'https' if tls else 'http'}://127.0.0.1:{scheduler.http_server.port}"


@pytest.fixture
def show():
    """Return a function that serves a made-up store on a real scheduler."""
    closers = []
    boundary = Boundary()

    def show(store, **options):
        cluster = LocalCluster(
            n_workers=0, dashboard_address="127.0.0.1:0", scheduler_kwargs=options
        )
        closers.append(cluster.close)

        async def put():
            await prepare()
            settings = load({"page.refresh": "100ms"})
            return mount(cluster.scheduler, store, settings, boundary)

        mounted = cluster.sync(put)
        closers.append(lambda: cluster.sync(mounted.unmount))
        return f"{origin(cluster.scheduler)}{mounted.path}"

    yield show
    for close in reversed(closers):
        close()
    assert boundary.texts() == ()
