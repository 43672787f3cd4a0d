"""What the page costs the scheduler's loop and the browser, at 1,000 workers.

A real scheduler in this process with MemDash on it; simulated workers
(``simulated.py``) send a real worker's heartbeats at the rate that real ones would.
Prefixes and incidents beyond what those tell are put into the model.  A real Chromium,
in a process of its own, opens the page as often as is asked, on each tab.

Refreshes are timed in the loop, in its own processor time: what the views do and what
Bokeh does at once to send it, without collections of garbage that happen to fall into
them, which depend on all that this process holds.  The loop's load is the processor
time of its thread, with no page, one and five open.  Bytes are those of the web socket
towards one browser.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import os
import random
import shutil
import statistics
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from typing import Any
from unittest import mock
from weakref import WeakKeyDictionary

import common
import simulated
from common import progress
from distributed import Scheduler
from distributed.scheduler import heartbeat_interval

from dask_memdash import MemDash
from dask_memdash.model.incidents import WorkerRef
from dask_memdash.model.quantiles import QuantileSketch
from dask_memdash.plugins.scheduler import notifications
from dask_memdash.views import layout

#: Budgets: seconds of the loop for a refresh, seconds to first paint.
REFRESH_BUDGET = 0.050
PAINT_BUDGET = 2.0

#: Pages that are open at once, to be compared with one.
MANY = 5

#: A page that shows all there is, or says that too many are open.
READY = "html[data-memdash=ready], #memdash-light"

TABS = ("overview", "workers", "tasks", "incidents", "order", "limits")

ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--enable-precise-memory-info"),
]


class Refreshes:
    """Times every refresh of every open page, in seconds of processor time."""

    def __init__(self) -> None:
        self.opened: list[float] = []
        self.taken: list[float] = []
        #: Time that collections of garbage took so far.
        self.collected = 0.0
        self._collecting = 0.0
        self._seen: WeakKeyDictionary[layout.OpenPage, int] = WeakKeyDictionary()
        self._update = layout.OpenPage.update
        self._fill = layout.Page._fill

    def collecting(self, phase: str, info: dict[str, int]) -> None:
        """Take in that a collection of garbage begins or ends."""
        if phase == "start":
            self._collecting = time.thread_time()
        else:
            self.collected += time.thread_time() - self._collecting

    def installed(self) -> Any:
        """Time them from now on; undone when the context is left."""
        timer = self

        def update(page: layout.OpenPage) -> None:
            start, collected = time.thread_time(), timer.collected
            timer._update(page)
            spent = time.thread_time() - start - (timer.collected - collected)
            version = page.store.version
            if timer._seen.get(page) != version:  # else it has only looked
                timer._seen[page] = version
                timer.taken.append(spent)

        def fill(page: layout.Page, doc: Any) -> Iterator[str]:
            spent, pieces, piece = 0.0, timer._fill(page, doc), ""
            while piece is not None:
                start = time.thread_time()
                piece = next(pieces, None)
                spent += time.thread_time() - start
                if piece is not None:
                    yield piece
            timer.opened.append(spent)

        return mock.patch.multiple(layout.OpenPage, update=update), mock.patch.multiple(
            layout.Page, _fill=fill
        )


# -- the browser's process -------------------------------------------------------------


def chromium() -> str | None:
    """Return the browser's path."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    named = os.environ.get("MEMDASH_CHROMIUM")
    return named or next(filter(None, map(shutil.which, names)), None)


def browse(url: str, pages: int, seconds: float) -> None:
    """Open the page, stay for a while, and print what was seen as JSON."""
    from playwright.sync_api import sync_playwright

    received = [0]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=ARGUMENTS)
        opened = []
        for number in range(pages):
            page = browser.new_page(viewport={"width": 1400, "height": 1000})
            if number == 0:
                page.on("websocket", lambda socket: _count(socket, received))
            start = time.monotonic()
            page.goto(url)
            page.wait_for_selector(READY, timeout=120_000, state="attached")
            opened.append((page, time.monotonic() - start))
        first, ready = opened[0]
        paint = first.evaluate(
            "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
        )
        first.wait_for_timeout(2000)
        print("ready", flush=True)
        heap = "performance.memory.usedJSHeapSize"
        before, received[0] = first.evaluate(heap), 0
        first.wait_for_timeout(seconds * 1000)
        print(
            json.dumps(
                {
                    "bytes": received[0] / seconds,
                    "paint": None if paint is None else paint / 1000,
                    "ready": ready,
                    "heap_before": before,
                    "heap_after": first.evaluate(heap),
                }
            ),
            flush=True,
        )
        browser.close()


def _count(socket: Any, received: list[int]) -> None:
    def frame(payload: Any) -> None:
        received[0] += len(payload)

    socket.on("framereceived", frame)


async def visit(
    url: str, pages: int, seconds: float, *, sockets: bool = False
) -> tuple[dict[str, Any], float]:
    """Let a browser look for a while; give what it saw, and the loop's load.

    Parameters
    ----------
    sockets
        Whether web sockets that draw nothing look in its place.
    """
    look = (__file__.replace("page.py", "page_sockets.py"), url)
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        *(look if sockets else (__file__, "--browse", url)),
        *("--pages", str(pages), "--seconds", str(seconds)),
        stdout=asyncio.subprocess.PIPE,
    )
    assert child.stdout is not None
    line = await asyncio.wait_for(child.stdout.readline(), 60 + 20 * pages)
    if line.strip() != b"ready":
        raise RuntimeError(f"the browser failed: {line!r}")
    cpu, wall = time.thread_time(), time.monotonic()
    answer = json.loads(await child.stdout.readline())
    load = (time.thread_time() - cpu) / (time.monotonic() - wall)
    await child.wait()
    return answer, load


# -- the cluster -----------------------------------------------------------------------


def fill(plugin: MemDash, prefixes: int, incidents: int) -> None:
    """Put prefixes and incidents into the model, as many as are asked for."""
    model = plugin._model
    for number in range(prefixes):
        state = model.prefixes.of(f"prefix-{number}")
        state.count, state.finished = 3, 50
        state.outputs = QuantileSketch.of([0, 9 * 2**20, number * 100])
        state.peaks = QuantileSketch.of([number * 1000, 2**20])
    for number in range(incidents):
        ref = WorkerRef(f"tcp://10.0.0.1:{number}", f"w{number}", "10.0.0.1", number)
        model.incidents.add(
            "lost",
            time.time() - incidents + number,
            ref,
            limit=2**30,
            breakdown=None,
            evidence="scheduler",
        )


async def beat(running: Scheduler, variants: list[list[Any]]) -> None:
    """Send heartbeats for ever, at the rate that so many workers would."""
    workers = len(variants[0])
    interval = heartbeat_interval(workers)
    sent, start = 0, time.monotonic()
    while True:
        due = int((time.monotonic() - start) / interval * workers)
        for number in range(sent, min(due, sent + workers)):
            packet = random.choice(variants)[number % workers]
            simulated.beat(running, [packet])
        sent = due
        await asyncio.sleep(0.02)


@asynccontextmanager
async def cluster(
    options: argparse.Namespace, caught: dict[str, dict[str, Any]], rounds: int = 0
) -> AsyncIterator[Scheduler]:
    """Run a scheduler with MemDash, whose workers heartbeat until the end.

    Parameters
    ----------
    options
        Numbers of workers, prefixes and incidents.
    caught
        Heartbeats of a real worker.
    rounds
        Heartbeats of each worker before the start, as if six seconds apart, so that
        histories are as long as they would be by then.
    """
    logging.getLogger("dask_memdash").setLevel(logging.CRITICAL)
    clock = simulated.Clock()
    clock.now -= 6.0 * rounds
    async with simulated.scheduler() as running:
        with clock.installed():
            plugin = MemDash(incidents__keep=max(10, options.incidents))
            running.add_plugin(plugin)
        await plugin.start(running)
        await simulated.add_workers(running, options.workers, caught["busy"]["metrics"])
        variants = [vary(caught["busy"], f, options.workers) for f in (0.8, 1.0, 1.2)]
        with clock.installed():
            for number in range(rounds):
                clock.now += 6.0
                simulated.beat(running, variants[number % 3])
                plugin.tick()
                if number % 50 == 0:
                    progress(f"{number} of {rounds} heartbeats before the start")
        simulated.beat(running, variants[1])
        beating = asyncio.create_task(beat(running, variants))
        # The incidents are of long ago: nobody is told of them one by one.
        silent = mock.patch.object(
            notifications.Notifications, "tell", return_value=None
        )
        with silent:
            fill(plugin, options.prefixes, options.incidents)
            try:
                yield running
            finally:
                beating.cancel()


def vary(caught: dict[str, Any], factor: float, workers: int) -> list[Any]:
    """Return a heartbeat for each worker, with another RSS than was caught."""
    message = {**caught, "extensions": dict(caught["extensions"])}
    own = message["extensions"]["memdash"]
    reading = {**own["reading"], "rss": int(own["reading"]["rss"] * factor)}
    message["extensions"]["memdash"] = {**own, "reading": reading}
    return simulated.packed(message, workers, with_memdash=True)


async def measure(
    options: argparse.Namespace, caught: dict[str, dict[str, Any]]
) -> None:
    """Open pages on each tab and print what they cost."""
    refreshes = Refreshes()
    gc.callbacks.append(refreshes.collecting)
    with ExitStack() as timed:
        for patch in refreshes.installed():
            timed.enter_context(patch)
        async with cluster(options, caught) as running:
            await print_costs(options, running, refreshes)


async def print_costs(
    options: argparse.Namespace, running: Scheduler, refreshes: Refreshes
) -> None:
    """Print the tables."""
    url = f"http://127.0.0.1:{running.http_server.port}/memdash"
    print(
        f"\n{options.workers:,} workers, {options.prefixes:,} prefixes, "
        f"{options.incidents:,} incidents, {options.seconds:.0f} s each\n"
    )
    idle = await load_with_none(options.seconds)
    nobody = len(refreshes.taken)
    common.header(
        "tab", "pages", "refresh, ms (median, 95 %, most)", "loop's load",
        "more than with none", "kB/s to one browser", "heap of the tab, MB",
    )  # fmt: skip
    common.row("none open", 0, f"{nobody} refreshes", f"{idle:.1%}", "", "", "")
    first: dict[str, Any] | None = None
    looks = [(tab, 1, False) for tab in options.tabs]
    looks += [("overview", pages, True) for pages in (1, options.many)]
    looks += [("overview", options.many, False)]
    for tab, pages, sockets in looks:
        refreshes.taken.clear()
        answer, load = await visit(
            f"{url}#{tab}", pages, options.seconds, sockets=sockets
        )
        first = first or answer
        taken = sorted(refreshes.taken) or [0.0]
        common.row(
            "bare web sockets" if sockets else tab,
            pages,
            f"{1e3 * statistics.median(taken):.1f}, "
            f"{1e3 * taken[int(0.95 * (len(taken) - 1))]:.1f}, {1e3 * taken[-1]:.1f}",
            f"{load:.1%}",
            f"{load - idle:.1%}",
            f"{answer['bytes'] / 1e3:.1f}",
            ""
            if sockets
            else f"{answer['heap_before'] / 1e6:.1f} to "
            f"{answer['heap_after'] / 1e6:.1f}",
        )
        progress(f"{tab}, {pages} open")
        await all_gone(running)
    assert first is not None
    print()
    common.header("what", "measured", "budget")
    paint = first["paint"]
    common.row(
        "first paint", "–" if paint is None else f"{paint:.2f} s", f"{PAINT_BUDGET} s"
    )
    common.row("alive (charts drawn, connected)", f"{first['ready']:.2f} s", "")
    common.row(
        "opening a page, of the loop (median)",
        f"{1e3 * statistics.median(refreshes.opened):.0f} ms",
        "",
    )
    common.row("a refresh's budget", "", f"{1e3 * REFRESH_BUDGET:.0f} ms")
    loads: dict[int, list[float]] = {0: [], 1: [], options.many: []}
    for number in range(options.rounds):
        for pages, found in loads.items():
            if pages:
                _, load = await visit(f"{url}#overview", pages, options.seconds)
            else:
                load = await load_with_none(options.seconds)
            found.append(load)
            await all_gone(running)
        progress(f"none, one and {options.many} open, {number + 1} of {options.rounds}")
    none, one, many = map(statistics.median, loads.values())
    common.row(
        f"{options.many} pages over one, load (medians of {options.rounds} in turns)",
        f"{(many - none) / (one - none):.2f} ({many - none:.1%}, {one - none:.1%})",
        "2",
    )


async def all_gone(running: Scheduler) -> None:
    """Wait until no session is left: each costs a collection of garbage at its end."""
    (application,) = [
        application
        for application in running.http_application.applications
        if "/memdash" in getattr(application, "app_paths", ())
    ]
    for _ in range(120):
        await asyncio.sleep(0.5)
        if not application.get_sessions("/memdash"):
            return
    raise RuntimeError("sessions are left a minute after their browser")


async def load_with_none(seconds: float) -> float:
    """Return the loop's load while no page is open."""
    cpu, wall = time.thread_time(), time.monotonic()
    await asyncio.sleep(seconds)
    return (time.thread_time() - cpu) / (time.monotonic() - wall)


def main() -> None:
    """Read the options and measure."""
    parser = common.parser(__doc__)
    parser.add_argument("--workers", type=int, help="simulated workers")
    parser.add_argument("--prefixes", type=int, help="task prefixes")
    parser.add_argument("--incidents", type=int, help="incidents")
    parser.add_argument("--seconds", type=float, help="time on each tab")
    parser.add_argument("--rounds", type=int, help="comparisons of one page and many")
    parser.add_argument(
        "--many", type=int, default=MANY, help=f"pages at once (default {MANY})"
    )
    parser.add_argument("--tabs", nargs="*", default=TABS, choices=TABS)
    parser.add_argument("--browse", help=argparse.SUPPRESS)
    parser.add_argument("--pages", type=int, default=1, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.browse:
        browse(options.browse, options.pages, options.seconds)
        return
    for name, sizes in {
        "workers": (1000, 1000, 50),
        "prefixes": (10_000, 10_000, 100),
        "incidents": (10_000, 10_000, 100),
        "seconds": (60.0, 15.0, 3.0),
        "rounds": (5, 3, 1),
    }.items():
        if getattr(options, name) is None:
            setattr(options, name, common.sized(options, *sizes))
    progress("catching heartbeats of a real worker")
    caught = simulated.catch()
    asyncio.run(measure(options, caught))


if __name__ == "__main__":
    main()
