"""A picture of a failure's story on the page, in a real Chromium."""

from __future__ import annotations

import io
import os
import shutil
from pathlib import Path

#: Nothing but the page: no sandbox (it may run as root), no calls home.
ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update"),
    "--disable-sync",
]

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

#: Longest that the story is waited for, in milliseconds.
PATIENCE = 60_000


#: Width of the window, and most that a story may be high, in CSS pixels.
WIDTH, HEIGHT = 820, 2400

#: Colours that a picture keeps: it is a page, no photograph.
COLOURS = 128


def photograph(address: str, file: Path) -> None:
    """Save the story that the page shows at an address, as a small PNG."""
    from playwright.sync_api import sync_playwright

    path = os.environ.get("MEMDASH_CHROMIUM") or next(
        filter(None, map(shutil.which, BROWSERS)), None
    )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.goto(address, timeout=PATIENCE)
        story = page.locator(".md-details:visible").first
        story.get_by_text("Close", exact=True).wait_for(timeout=PATIENCE)
        page.wait_for_timeout(4000)
        picture = story.screenshot()
        browser.close()
    _made_small(picture, file)


def _made_small(picture: bytes, file: Path) -> None:
    """Cut off what is empty below, and keep few colours."""
    from PIL import Image, ImageChops

    image = Image.open(io.BytesIO(picture)).convert("RGB")
    ground = Image.new("RGB", image.size, image.getpixel((image.width // 2, 2)))
    # the edges are shadows, and no content
    within = (20, 0, image.width - 20, image.height - 40)
    box = ImageChops.difference(image, ground).crop(within).getbbox()
    bottom = image.height if box is None else min(image.height, box[3] + 16)
    image = image.crop((0, 0, image.width, bottom))
    # even the colours of a thin line and of a small key
    cover, exact = Image.Quantize.MAXCOVERAGE, Image.Dither.NONE
    image.quantize(COLOURS, cover, dither=exact).save(file, optimize=True)
