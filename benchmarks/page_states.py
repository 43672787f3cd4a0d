"""Every tab of the page in every state, at every width: pictures, and what is wrong.

Real clusters of small workers: none there yet, busy, after one failure and after ten
(real deaths); and 1,000 workers that only the scheduler believes in (``simulated.py``).
Chromium, in a process of its own, goes through all tabs and details, light and dark,
takes a picture of each and looks for what should not be: what axe finds, text that is
cut, what must be scrolled sideways, errors on the console, requests to other hosts.

Prints one line for each finding.  ``--folder`` keeps the pictures, and one sheet of
them for each state, width and scheme.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import common
import dask
import numpy as np
import page as page_cost
import simulated
from common import progress
from distributed import Client, LocalCluster, wait

from dask_memdash import MemDash, connect

STATES = ("empty", "busy", "one-failure", "ten-failures", "thousand")
WIDTHS = (380, 900, 1400, 1920)
SCHEMES = ("light", "dark")
HEIGHTS = {380: 800, 900: 1000, 1400: 900, 1920: 1080}

#: Tabs, and what is opened beside them where a state has it: name → kind.
TABS = ("overview", "workers", "tasks", "incidents", "order", "limits")
DETAILS = ("worker", "prefix", "failure", "incident", "limit")

#: How long anything on the page is waited for, in milliseconds.
PATIENCE = 60_000

#: Longest that the cluster is waited for, in seconds.
LONG = 240

LOOK = (Path(__file__).parent / "page_look.js").read_text(encoding="utf-8")

#: Goes to an address; the page hears of it a moment later.
GO = """hash => new Promise((gone) => {
  window.location.hash = hash;
  window.setTimeout(gone, 100);
})"""

#: What the address names to open details of, from the JSON API: kind → path, field.
NAMES = {
    "worker": ("workers?limit=1", "address"),
    "prefix": ("prefixes?limit=9", "prefix"),
    "failure": ("failures?limit=1", "id"),
    "incident": ("incidents?limit=1", "id"),
    "limit": ("limits?limit=1", "address"),
}


# -- the browser's process -------------------------------------------------------------


def browse(options: argparse.Namespace) -> None:
    """Go through the page of one state; print each finding as a line of JSON."""
    from axe_playwright_python.sync_playwright import Axe
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=page_cost.chromium(), args=page_cost.ARGUMENTS
        )
        for scheme in options.schemes:
            for width in options.widths:
                context = browser.new_context(
                    viewport={"width": width, "height": HEIGHTS.get(width, 900)},
                    color_scheme=scheme,
                )
                context.set_default_timeout(PATIENCE)
                opened = context.new_page()
                host = urlsplit(options.browse).netloc
                where = {"state": options.state, "width": width, "scheme": scheme}
                _watch(opened, host, where)
                shots = _through_tabs(opened, options, where, Axe())
                if options.folder:
                    _sheet(shots, options.folder / f"{_stem(where)}-sheet.png")
                context.close()
        browser.close()


def _watch(opened: Any, host: str, where: dict[str, Any]) -> None:
    def told(text: str) -> None:
        _say({**where, "at": "", "what": text})

    def request(asked: Any) -> None:
        url = urlsplit(asked.url)
        if url.scheme not in ("blob", "data") and url.netloc != host:
            told(f"foreign request: {asked.url}")

    opened.on(
        "console",
        lambda m: told(f"console: {m.text}") if m.type in ("error", "warning") else 0,
    )
    opened.on("pageerror", lambda error: told(f"error: {error}"))
    opened.on("requestfailed", lambda r: told(f"failed: {r.url}"))
    opened.on("request", request)


def _through_tabs(
    opened: Any, options: argparse.Namespace, where: dict[str, Any], axe: Any
) -> list[Path]:
    opened.goto(options.browse)
    opened.wait_for_selector("html[data-memdash=ready]")
    shots = []
    for name, address in _places(opened, options.browse):
        opened.evaluate(GO, address)
        opened.locator("[data-tab]:not([hidden]):not([data-waits])").wait_for()
        opened.wait_for_timeout(options.settle)
        if name in TABS or where["width"] < 1200:
            opened.evaluate("window.scrollTo(0, 0)")
        for text in opened.evaluate(LOOK):
            _say({**where, "at": name, "what": text})
        if options.axe:
            for one in axe.run(opened).response["violations"]:
                html = "; ".join(node["html"][:90] for node in one["nodes"][:3])
                _say({**where, "at": name, "what": f"axe: {one['id']}: {html}"})
        if options.folder:
            path = options.folder / f"{_stem(where)}-{name}.png"
            opened.screenshot(path=path, full_page=name in TABS)
            shots.append(path)
    return shots


def _places(opened: Any, url: str) -> Iterator[tuple[str, str]]:
    """Yield name and address of each tab, and of what can be opened on it."""
    for tab in TABS:
        yield tab, tab
    for kind in DETAILS:
        path, field = NAMES[kind]
        rows = opened.evaluate(
            "async url => (await fetch(url)).json()", f"{url}/api/{path}"
        )
        rows = [row for row in rows if row.get("kind") != "other"]
        if rows:
            name = opened.evaluate("text => encodeURIComponent(text)", rows[0][field])
            yield kind, f"{kind}-{name}"


def _stem(where: dict[str, Any]) -> str:
    return f"{where['state']}-{where['width']}-{where['scheme']}"


def _say(finding: dict[str, Any]) -> None:
    print(json.dumps(finding), flush=True)


def _sheet(shots: list[Path], path: Path) -> None:
    """Put pictures side by side on one, each at most as high as it is useful."""
    from PIL import Image

    made = []
    for shot in shots:
        with Image.open(shot) as image:
            wide = 380 if image.width <= 380 else 700
            high = round(image.height * wide / image.width)
            small = image.convert("RGB").resize((wide, high))
            made.append(small.crop((0, 0, wide, min(high, 1500))))
    columns = 6 if made[0].width <= 380 else 3
    rows = [made[i : i + columns] for i in range(0, len(made), columns)]
    gap = 10
    sheet = Image.new(
        "RGB",
        (
            columns * (made[0].width + gap),
            sum(max(one.height for one in row) + gap for row in rows),
        ),
        "#ff00ff",
    )
    y = 0
    for row in rows:
        for at, one in enumerate(row):
            sheet.paste(one, (at * (one.width + gap), y))
        y += max(one.height for one in row) + gap
    sheet.save(path)


# -- the states ------------------------------------------------------------------------


def load(number: int) -> np.ndarray:
    """Return 12 MB that stay, as a client that persists keeps them."""
    time.sleep(0.05)
    return np.full(1_500_000, float(number))


def regrid(block: np.ndarray, seconds: float = 0.2) -> np.ndarray:
    """Work on a block with 36 MB beside it, and give 1.5 MB."""
    fine = np.repeat(block, 3)
    time.sleep(seconds)
    return fine[::24].copy()


def swell(seconds: float) -> None:
    """Take memory, 40 MB at a time, until the worker is ended."""
    taken = []
    while True:
        taken.append(np.ones(5_000_000))
        time.sleep(seconds)


#: What the tasks are called that workers die of; each is a failure of its own.
KILLERS = (
    *("fit_model", "merge_chunks", "sort_values", "train_forest", "to_dense"),
    *("join_tables", "interpolate", "read_everything", "build_index", "resample"),
)


@contextmanager
def small_cluster(workers: int = 4) -> Iterator[Client]:
    """Start small workers with MemDash on them."""
    with (
        dask.config.set(
            {
                "distributed.scheduler.allowed-failures": 0,
                "distributed.deploy.lost-worker-timeout": "5 minutes",
            }
        ),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=2,
            memory_limit="320 MB",
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
        ) as started,
        Client(started) as client,
    ):
        client.register_plugin(MemDash())
        yield client


def work(client: Client, failures: int) -> list[Any]:
    """Fill workers, let so many of them die, and give what is to be held on to."""
    # Few outputs where workers die: each death has the lost ones computed again.
    stored = client.map(load, range(8 if failures > 1 else 40), key="load")
    wait(stored, timeout=LONG)
    wait(client.map(regrid, stored, key="regrid"), timeout=LONG)
    for name in KILLERS[:failures]:
        client.submit(swell, 0.05, key=f"{name}-1", pure=False).exception(timeout=LONG)
    client.wait_for_workers(4, timeout=LONG)
    lasting = client.map(regrid, stored, seconds=20.0, key="regrid-again")
    memdash = connect(client)
    common.until(
        lambda: len(memdash.failures()) >= failures if failures else True,
        "the failures to be known",
        LONG,
    )
    return [*stored, *lasting]


def visit(url: str, state: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Let a browser look at a state; give what it found."""
    command = [sys.executable, __file__, "--browse", url, "--state", state]
    command += ["--settle", str(options.settle)]
    command += ["--widths", *map(str, options.widths), "--schemes", *options.schemes]
    command += ["--folder", str(options.folder)] if options.folder else []
    command += [] if options.axe else ["--no-axe"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


async def visit_thousand(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Look at a cluster of workers that only the scheduler believes in."""
    caught = simulated.catch()
    sizes = argparse.Namespace(workers=options.workers, prefixes=300, incidents=10)
    async with page_cost.cluster(sizes, caught, rounds=20) as running:
        url = f"http://127.0.0.1:{running.http_server.port}/memdash"
        return await asyncio.to_thread(visit, url, "thousand", options)


def look_at(state: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Make a state, and look at its page."""
    if state == "thousand":
        return asyncio.run(visit_thousand(options))
    with small_cluster(0 if state == "empty" else 4) as client:
        url = client.dashboard_link.removesuffix("/status") + "/memdash"
        held = []
        if state != "empty":
            held = work(client, {"one-failure": 1, "ten-failures": 10}.get(state, 0))
        found = visit(url, state, options)
        client.cancel(held)
        return found


def main() -> None:
    """Read the options, look at all states, and print what is wrong."""
    parser = common.parser(__doc__)
    parser.add_argument("--states", nargs="*", default=STATES, choices=STATES)
    parser.add_argument("--widths", nargs="*", type=int, default=WIDTHS)
    parser.add_argument("--schemes", nargs="*", default=SCHEMES, choices=SCHEMES)
    parser.add_argument("--workers", type=int, help="simulated workers")
    parser.add_argument("--folder", type=Path, help="where pictures go")
    parser.add_argument("--settle", type=int, default=500, help="ms before a picture")
    parser.add_argument("--no-axe", dest="axe", action="store_false")
    parser.add_argument("--browse", help=argparse.SUPPRESS)
    parser.add_argument("--state", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.folder:
        options.folder.mkdir(parents=True, exist_ok=True)
    if options.browse:
        browse(options)
        return
    if options.workers is None:
        options.workers = common.sized(options, 1000, 1000, 40)
    if options.tiny:
        options.states, options.widths, options.schemes = ("empty",), (380,), ("light",)
    number = 0
    for state in options.states:
        progress(f"state: {state}")
        found = look_at(state, options)
        number += len(found)
        for one in found:
            where = f"{one['state']} {one['width']} {one['scheme']} {one['at']}"
            print(f"{where}: {one['what']}")
    print(f"{number} findings in {', '.join(options.states)}")


if __name__ == "__main__":
    main()
