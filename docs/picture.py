"""Take the README's pictures of the page, from a real run.

Starts a small cluster of its own, fills it with stored outputs until some are spilled,
runs tasks of known weight, lets one of them take all the memory that its worker has,
and saves what Chromium shows of ``/memdash`` while the cluster works on::

    python docs/picture.py

writes ``page.png`` and ``incident.png`` beside this file, the latter from a cluster of
its own, in which tasks run beside each other.  It takes 1.5 GB of memory, and the
Chromium or Chrome on the ``PATH``, or the one that ``MEMDASH_CHROMIUM`` names.
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask
import numpy as np
from distributed import Client, KilledWorker, LocalCluster, wait
from PIL import Image

from dask_memdash import MemDash, connect

#: Width of the page, and height of one that shows an incident's whole story, in CSS
#: pixels.
WIDTH = 1400
STORY = 2000

#: Colours of a picture; even those of a thin line are among them.
COLOURS = 256

#: Nothing but the page: no sandbox (it may run as root), no calls home.
ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update"),
    "--disable-sync",
]

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

#: Longest that anything is waited for, in seconds.
PATIENCE = 180


def load(number: int) -> np.ndarray:
    """Return 16 MB that stay, as a client that persists keeps them."""
    time.sleep(0.15)
    return np.full(2_000_000, float(number))


def regrid(block: np.ndarray) -> np.ndarray:
    """Work on a block with 48 MB beside it, and give 2 MB."""
    fine = np.repeat(block, 3)
    time.sleep(0.25)
    return fine[::24].copy()


def summarise(blocks: list[np.ndarray]) -> float:
    """Put blocks together, and give one number."""
    joined = np.concatenate(blocks)
    time.sleep(0.4)
    return float(joined.mean())


def fit_model(block: np.ndarray) -> None:
    """Take memory, 36 MB at a time, until the worker is ended."""
    taken = [block]
    while True:
        taken.append(np.ones(4_500_000))
        time.sleep(0.15)


def align(block: np.ndarray, seconds: float) -> float:
    """Hold 24 MB beside a block for a while, and give one number."""
    shifted = np.concatenate([block, block[: len(block) // 2]])
    time.sleep(seconds)
    return float(shifted.mean())


def work(client: Client, stored: list[Any], turn: int) -> list[Any]:
    """Start tasks on what is stored: some seconds of work for the cluster."""
    fine = [
        client.submit(regrid, block, key=f"regrid-{turn}-{i}")
        for i, block in enumerate(stored)
    ]
    return [
        client.submit(summarise, fine[i : i + 8], key=f"summarise-{turn}-{i}")
        for i in range(0, len(fine), 8)
    ]


@contextmanager
def cluster(workers: int = 4, threads: int = 1, limit: str = "320 MB") -> Iterator[Any]:
    """Start some small workers with MemDash on them."""
    settings = {"distributed.scheduler.allowed-failures": 0}
    with (
        dask.config.set(settings),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=threads,
            memory_limit=limit,
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
        ) as started,
        Client(started) as client,
    ):
        client.register_plugin(MemDash())
        yield client


def run_out_of_memory(client: Client, block: Any) -> str:
    """Let a worker die of one task, and give the death's incident number."""
    try:
        client.submit(fit_model, block, key="fit_model-1").result(timeout=PATIENCE)
    except KilledWorker as error:
        told = connect(client).explain(error)
        return str(told.deaths[-1]["id"])
    raise RuntimeError("the task that takes everything has ended by itself")


@contextmanager
def browser() -> Iterator[Any]:
    """Start Chromium."""
    from playwright.sync_api import sync_playwright

    path = os.environ.get("MEMDASH_CHROMIUM") or next(
        filter(None, map(shutil.which, BROWSERS)), None
    )
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield started
        started.close()


def page_of(client: Client) -> str:
    """Return the address of the page."""
    return client.dashboard_link.removesuffix("/status") + "/memdash"


def photograph(client: Client, folder: Path, height: int) -> None:
    """Run it all, with a page open from the start, and save what it shows."""
    with browser() as chromium:
        page = chromium.new_page(viewport={"width": WIDTH, "height": height})
        stored = client.map(load, range(44), key="load")
        wait(stored, timeout=PATIENCE)
        for turn in range(6):
            wait(work(client, stored, turn), timeout=PATIENCE)
            time.sleep(1.5)
        run_out_of_memory(client, stored[0])
        client.wait_for_workers(4, timeout=PATIENCE)
        for turn in (6, 7):
            wait(work(client, stored, turn), timeout=PATIENCE)
            time.sleep(1.5)
        last = [future for turn in (8, 9, 10) for future in work(client, stored, turn)]
        page.goto(page_of(client) + "#overview")
        page.locator("canvas").first.wait_for(timeout=PATIENCE * 1000)
        page.wait_for_timeout(6000)
        page.screenshot(path=folder / "page.png")
        client.cancel(last)


def photograph_incident(client: Client, folder: Path) -> None:
    """Let one of several tasks of a worker take its memory, and save its story."""
    stored = client.map(load, range(6), key="load")
    wait(stored, timeout=PATIENCE)
    wait(work(client, stored, 0), timeout=PATIENCE)
    beside = [
        client.submit(align, stored[i], PATIENCE, key=f"align-{i}") for i in range(2)
    ]
    time.sleep(1)
    death = run_out_of_memory(client, stored[0])
    client.cancel(beside)
    with browser() as chromium:
        page = chromium.new_page(viewport={"width": WIDTH, "height": STORY})
        page.goto(f"{page_of(client)}#incident-{death}")
        chart = page.locator("[data-chart=last-minute]")
        chart.locator("canvas").first.wait_for(timeout=PATIENCE * 1000)
        page.wait_for_timeout(3000)
        page.locator(".md-details").filter(has=chart).screenshot(
            path=folder / "incident.png"
        )


def make_small(path: Path) -> None:
    """Keep of a picture as many colours as it needs."""
    picture = Image.open(path).convert("RGB")
    cover, exact = Image.Quantize.MAXCOVERAGE, Image.Dither.NONE
    picture.quantize(COLOURS, cover, dither=exact).save(path, optimize=True)


def main() -> None:
    """Read the command line, and take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path(__file__).parent)
    parser.add_argument("--height", type=int, default=1440, help="in CSS pixels")
    parser.add_argument("--only", choices=("page", "incident"))
    options = parser.parse_args()
    if options.only != "incident":
        with cluster() as client:
            photograph(client, options.folder, options.height)
    if options.only != "page":
        with cluster(workers=1, threads=3, limit="480 MB") as client:
            photograph_incident(client, options.folder)
    for name in [options.only] if options.only else ["page", "incident"]:
        name = f"{name}.png"
        make_small(options.folder / name)
        size = (options.folder / name).stat().st_size
        print(f"{options.folder / name}: {size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
