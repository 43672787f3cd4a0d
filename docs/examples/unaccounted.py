"""A worker plugin has a thread that fetches ahead, 8 MB at a time, for ever.

No task allocates it. Mended, it keeps three blocks at most.
"""

from __future__ import annotations

import threading
import time

import numpy as np
from distributed import WorkerPlugin
from example import NEVER_PAUSES, Setup, main


class Prefetch(WorkerPlugin):
    """Fetches ahead in a thread of its own."""

    def __init__(self, most):
        self.most = most

    def setup(self, worker):
        threading.Thread(target=self.fetch, daemon=True).start()

    def fetch(self):
        blocks = []
        while True:
            blocks.append(np.ones(1_000_000))
            del blocks[: -self.most]
            time.sleep(0.1)


def work(number):
    time.sleep(0.2)
    return number


def fail(client):
    client.register_plugin(Prefetch(most=1000))
    client.gather(client.map(work, range(60)))


def bounded(client):
    client.register_plugin(Prefetch(most=3))
    client.gather(client.map(work, range(60)))


if __name__ == "__main__":
    main(Setup(fail, memory=NEVER_PAUSES), Setup(bounded, memory=NEVER_PAUSES))
