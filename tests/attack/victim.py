"""A small real cluster with MemDash, to be attacked, and what can be measured of it."""

import contextlib
import gc
import json
import logging
import time
import urllib.request

import psutil
from distributed import Client, LocalCluster

from dask_memdash import MemDash

MB = 10**6


@contextlib.contextmanager
def victim(**options):
    """Start a cluster of two workers, whose scheduler is in this process."""
    options = {
        "n_workers": 2,
        "threads_per_worker": 1,
        "memory_limit": "400 MB",
        "dashboard_address": "127.0.0.1:0",
        "silence_logs": logging.CRITICAL,
        **options,
    }
    with LocalCluster(**options) as cluster, Client(cluster) as client:
        client.register_plugin(MemDash())
        yield Victim(cluster, client)


class Victim:
    def __init__(self, cluster, client):
        self.cluster, self.client = cluster, client
        self.scheduler = cluster.scheduler
        self.base = cluster.dashboard_link.removesuffix("/status") + "/memdash/api/"
        self.tasks_seconds()  # so that workers are warm

    def api(self, path):
        with urllib.request.urlopen(self.base + path, timeout=30) as answer:
            return json.load(answer)

    def said(self):
        """Return all that MemDash says of how it is degraded."""
        return [notice["text"] for notice in self.api("cluster")["degraded"]]

    def tasks_seconds(self, number=200):
        """Return how long Dask takes for some small tasks."""
        begun = time.perf_counter()
        futures = self.client.map(abs, range(number), pure=False)
        assert sum(self.client.gather(futures)) == number * (number - 1) // 2
        return time.perf_counter() - begun

    def beside(self, attack, rounds=5):
        """Return how long tasks take without an attack and beside it, medians.

        `attack` is a coroutine function, run on the client's loop, until cancelled.
        """
        alone = sorted(self.tasks_seconds() for _ in range(rounds))[rounds // 2]
        running = self.client.loop.asyncio_loop
        import asyncio

        done = asyncio.run_coroutine_threadsafe(attack(), running)
        beside = sorted(self.tasks_seconds() for _ in range(rounds))[rounds // 2]
        done.cancel()
        return alone, beside

    def wait_for(self, condition, what, seconds=30):
        deadline = time.monotonic() + seconds
        while not (found := condition()):
            assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
            time.sleep(0.05)
        return found


def memory():
    """Return this process's RSS in bytes, after a collection."""
    gc.collect()
    return psutil.Process().memory_info().rss
