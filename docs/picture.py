"""Take the README's pictures of the page, from a real run.

Starts a small cluster of its own, fills it with stored outputs until some are spilled,
runs tasks of known weight, lets one of them take all the memory that its worker has,
and saves what Chromium shows of ``/memdash`` while the cluster works on::

    python docs/picture.py

writes ``page.png`` and ``incident.png`` beside this file.  It takes 1.5 GB of memory,
and the Chromium or Chrome on the ``PATH``, or the one that ``MEMDASH_CHROMIUM`` names.
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

from dask_memdash import MemDash, connect

#: Width of the pictures, and height of an incident's story, in CSS pixels.
WIDTH = 1400
STORY = 756

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
def cluster() -> Iterator[Client]:
    """Start four small workers with MemDash on them."""
    settings = {"distributed.scheduler.allowed-failures": 0}
    with (
        dask.config.set(settings),
        LocalCluster(
            n_workers=4,
            threads_per_worker=1,
            memory_limit="320 MB",
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


def photograph(client: Client, folder: Path, height: int) -> None:
    """Run it all, with a page open from the start, and save what it shows."""
    from playwright.sync_api import sync_playwright

    path = os.environ.get("MEMDASH_CHROMIUM") or next(
        filter(None, map(shutil.which, BROWSERS)), None
    )
    address = client.dashboard_link.removesuffix("/status") + "/memdash"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        page = browser.new_page(viewport={"width": WIDTH, "height": height})
        stored = client.map(load, range(44), key="load")
        wait(stored, timeout=PATIENCE)
        for turn in range(6):
            wait(work(client, stored, turn), timeout=PATIENCE)
            time.sleep(1.5)
        death = run_out_of_memory(client, stored[0])
        client.wait_for_workers(4, timeout=PATIENCE)
        for turn in (6, 7):
            wait(work(client, stored, turn), timeout=PATIENCE)
            time.sleep(1.5)
        last = [future for turn in (8, 9, 10) for future in work(client, stored, turn)]
        page.goto(address + "#overview")
        page.locator("canvas").first.wait_for(timeout=PATIENCE * 1000)
        page.wait_for_timeout(6000)
        page.screenshot(path=folder / "page.png")
        page.goto(f"{address}#incident-{death}")
        page.reload()
        story = page.get_by_text(f"Incident {death}: ")
        story.wait_for(timeout=PATIENCE * 1000)
        page.wait_for_timeout(2000)
        top = story.bounding_box()["y"] - 12
        clip = {"x": 0, "y": top, "width": WIDTH, "height": STORY}
        page.screenshot(path=folder / "incident.png", full_page=True, clip=clip)
        client.cancel(last)
        browser.close()


def main() -> None:
    """Read the command line, and take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path(__file__).parent)
    parser.add_argument("--height", type=int, default=1440, help="in CSS pixels")
    options = parser.parse_args()
    with cluster() as client:
        photograph(client, options.folder, options.height)
    for name in ("page.png", "incident.png"):
        size = (options.folder / name).stat().st_size
        print(f"{options.folder / name}: {size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
