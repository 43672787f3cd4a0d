"""Take the README's moving picture: a job runs, a worker dies, the page says why.

The cluster and the job are ``picture.py``'s; Chromium's pictures of the page become an
animated WebP::

    python docs/movie.py

writes ``failure.webp`` beside this file, 1.5 MB at most.  It takes 1.5 GB of memory, a
minute, and the Chromium or Chrome on the ``PATH``, or what ``MEMDASH_CHROMIUM`` names.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import picture
from distributed import wait
from PIL import Image, ImageChops, ImageDraw

#: Size of the page, and width of the picture, in pixels.
SIZE = (1400, 980)
WIDTH = 1000

#: Bytes that the picture may have, and qualities that are tried for it.
MOST = 1_500_000
QUALITIES = (80, 65, 50, 35)

#: How long pictures are shown, in milliseconds: while things move, to be read.
MOVING, READ, READ_ON = 450, 3500, 2500


class Movie:
    """Pictures of a page, each with how long it is shown."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.frames: list[tuple[Image.Image, int]] = []

    def take(self, milliseconds: int, click: Any = None) -> None:
        """Take a picture; `click` is what is about to be clicked."""
        image = Image.open(io.BytesIO(self.page.screenshot())).convert("RGB")
        if click is not None:
            box = click.bounding_box()
            x, y = box["x"] + min(60, box["width"] / 2), box["y"] + box["height"] / 2
            ring = ImageDraw.Draw(image, "RGBA")
            ring.ellipse((x - 22, y - 22, x + 22, y + 22), "#1b5fa840", "#1b5fa8", 4)
        high = round(image.height * WIDTH / image.width)
        image = image.resize((WIDTH, high), Image.Resampling.LANCZOS)
        if (
            self.frames
            and not ImageChops.difference(image, self.frames[-1][0]).getbbox()
        ):
            last, shown = self.frames[-1]
            self.frames[-1] = (last, shown + milliseconds)
        else:
            self.frames.append((image, milliseconds))

    def while_not(self, there: Callable[[], bool], patience: float) -> None:
        """Take pictures until something is there."""
        deadline = time.monotonic() + patience
        while not there():
            if time.monotonic() > deadline:
                raise TimeoutError("what the movie is about did not happen")
            self.take(MOVING)
            self.page.wait_for_timeout(500)

    def save(self, path: Path) -> None:
        """Write the pictures as one that moves, as well as it may be."""
        images = [image for image, _ in self.frames]
        for quality in QUALITIES:
            images[0].save(
                path,
                save_all=True,
                append_images=images[1:],
                duration=[shown for _, shown in self.frames],
                loop=0,
                quality=quality,
                method=3,
            )
            if path.stat().st_size <= MOST:
                return
        raise RuntimeError(f"{path} is too large even at quality {QUALITIES[-1]}")


def shoot(client: Any, movie: Movie) -> None:
    """Run the job, let a worker die of it, and open what the page says."""
    page = movie.page
    stored = client.map(picture.load, range(44), key="load")
    wait(stored, timeout=picture.PATIENCE)
    under_way = picture.work(client, stored, 0) + picture.work(client, stored, 1)
    page.goto(client.dashboard_link.removesuffix("/status") + "/memdash")
    page.locator("canvas").first.wait_for(timeout=picture.PATIENCE * 1000)
    page.wait_for_timeout(3000)
    for _ in range(6):
        movie.take(MOVING)
        page.wait_for_timeout(700)
    killer = client.submit(picture.fit_model, stored[0], key="fit_model-1")
    happened = page.locator(".md-answer-what a").first
    movie.while_not(lambda: happened.count() > 0, picture.PATIENCE)
    killer.exception(timeout=picture.PATIENCE)
    page.wait_for_timeout(2500)
    movie.take(READ)
    movie.take(900, happened)
    happened.click()
    page.locator("[data-tab]:not([hidden]):not([data-waits])").wait_for()
    page.wait_for_timeout(1200)
    movie.take(READ)
    incident = page.get_by_role("link", name="terminated by its nanny").last
    movie.take(900, incident)
    incident.click()
    page.locator("[data-tab]:not([hidden]):not([data-waits])").wait_for()
    page.wait_for_timeout(1500)
    movie.take(READ)
    details = page.locator(".md-details:visible")
    for _ in range(3):
        details.evaluate("element => element.scrollBy(0, 330)")
        page.wait_for_timeout(400)
        movie.take(READ_ON)
    client.cancel(under_way)


def main() -> None:
    """Read the command line, and take the picture."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path(__file__).parent)
    options = parser.parse_args()
    path = os.environ.get("MEMDASH_CHROMIUM") or next(
        filter(None, map(shutil.which, picture.BROWSERS)), None
    )
    with picture.cluster() as client, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=picture.ARGUMENTS
        )
        wide, high = SIZE
        page = browser.new_page(viewport={"width": wide, "height": high})
        movie = Movie(page)
        shoot(client, movie)
        browser.close()
    target = options.folder / "failure.webp"
    movie.save(target)
    seconds = sum(shown for _, shown in movie.frames) / 1000
    size = target.stat().st_size / 1000
    print(f"{target}: {len(movie.frames)} pictures, {seconds:.0f} s, {size:.0f} kB")


if __name__ == "__main__":
    main()
