"""An actor keeps every page that it is told, 15 MB each.

Mended, pages are scattered, and the actor keeps futures of them: Dask can spill those.
"""

from __future__ import annotations

import time

import numpy as np
from example import NEVER_PAUSES, Setup, main


class Journal:
    """Keeps all that it is told."""

    def __init__(self):
        self.pages = []

    def note(self, page):
        self.pages.append(page)
        return len(self.pages)


def told(client, prepare):
    journal = client.submit(Journal, actor=True).result(timeout=60)
    for _ in range(24):
        page = prepare(np.ones(15 * 125_000))
        journal.note(page).result(timeout=30)
        time.sleep(0.1)


def fail(client):
    told(client, lambda page: page)


def scattered(client):
    told(client, client.scatter)


if __name__ == "__main__":
    main(Setup(fail, memory=NEVER_PAUSES), Setup(scattered, memory=NEVER_PAUSES))
