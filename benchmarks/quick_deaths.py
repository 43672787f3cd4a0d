"""Deaths in quick succession: whether any is blind.

A worker that was started again after a death takes the next task at once and dies of
it: ``KilledWorker`` takes several such deaths, and all but the first are of workers a
fraction of a second old.  Each task leaves a file with its worker's pid before it does
harm, which is the truth: every such process must have one incident, from its flight
recorder, with the task among its suspects.  *Blind* is one without.

Scenes: ``at-once`` (the task fills the worker in one allocation), ``kill`` (the same,
and ends its process by SIGKILL at the next instruction, as the kernel would), ``gil``
(as ``at-once``, and the client's process, in which all nannies live, holds the GIL for
0.9 s of each second), ``first`` (the first worker of a cluster dies in its first task,
before its nanny knows it to be there), ``memory`` (as ``kill``, where no file can be
made, so that the recorder is gone with its process unless it was opened before),
``quick`` (as ``kill`` with 120 MB, which is less than the worker may have: what the
task held when it died is known to the byte, and what is said of it should be that).
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import json
import logging
import os
import signal
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import common
import dask
import numpy as np
from common import MB, header, progress, row, until
from distributed import Client, LocalCluster, wait

from dask_memdash import MemDash
from dask_memdash.measure.tally_choice import MODES

LIMIT = "300MB"

#: What a burst fills, and a quick one, in bytes.
BURST = 360_000_000
QUICK = 120_000_000

#: Kinds of incident that are deaths.
DEATHS = {"terminated", "oom-killed", "killed", "crashed", "exited", "lost"}

SCENES = ("at-once", "kill", "gil", "first", "memory", "quick")


def burst(folder: str, key: str, kill: bool, size: int) -> float:
    """Fill the worker that this runs on, past its limit or not, at once."""
    (Path(folder) / f"{os.getpid()} {key}").touch()
    block = np.ones(size // 8)
    if kill:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(30)
    return float(block[0])


@contextlib.contextmanager
def held_gil(share: float = 0.9) -> Iterator[None]:
    """Hold this process's GIL for a share of each second."""
    stop = threading.Event()
    usleep = ctypes.PyDLL(None).usleep  # PyDLL: the GIL is not given up

    def hold() -> None:
        while not stop.is_set():
            usleep(int(share * 1e6))
            time.sleep(1 - share)

    thread = threading.Thread(target=hold, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


class Truth:
    """The processes in which tasks began, and what MemDash says of them."""

    def __init__(self, folder: str, cluster: LocalCluster) -> None:
        self.folder = Path(folder)
        self.api = f"http://127.0.0.1:{cluster.scheduler.http_server.port}/memdash/api/"

    def died(self) -> dict[int, str]:
        """Return the key of the task that each process has died of."""
        parts = (path.name.split(" ", 1) for path in self.folder.iterdir())
        return {
            int(pid): key for pid, key in parts if not Path(f"/proc/{pid}").exists()
        }

    def ask(self, path: str) -> Any:
        """Ask the JSON API."""
        with urllib.request.urlopen(self.api + path, timeout=60) as answer:
            return json.load(answer)

    def judge(self) -> Counter[str]:
        """Count the deaths, and those that are not what they should be."""
        died = self.died()
        until(lambda: len(self._reported()) >= len(died), "the reports", 15)
        counts: Counter[str] = Counter(deaths=len(died))
        incidents = [i for i in self.ask("incidents") if i["kind"] in DEATHS]
        for pid, key in died.items():
            of_it = [i for i in incidents if i["worker"]["pid"] == pid]
            counts["missing"] += not of_it
            counts["double"] += len(of_it) > 1
            for incident in of_it[:1]:
                whole = self.ask(f"incidents/{incident['id']}")
                suspects = {suspect["key"] for suspect in whole["suspects"]}
                recorded = incident["evidence"] == "flight-recorder"
                counts["blind"] += not recorded or key not in suspects
                held = [s["bytes"] or 0 for s in whole["suspects"] if s["key"] == key]
                counts["least"] = min(counts["least"] or 10**12, sum(held))
                counts["most"] = max(counts["most"], sum(held))
                counts["unknown"] += incident["diagnosis"]["cause"] == "unknown"
                for suspect in whole["suspects"]:
                    counts["soonest"] = min(
                        counts["soonest"] or 10**9, int(1000 * suspect["seconds"])
                    )
        counts["blind"] += counts["missing"]
        counts["invented"] = len({i["worker"]["pid"] for i in incidents} - died.keys())
        return counts

    def _reported(self) -> list[Any]:
        known = self.ask("incidents")
        return [i for i in known if i["kind"] in DEATHS and i["exit"]]


@contextlib.contextmanager
def running(n_workers: int, tally: str) -> Iterator[tuple[LocalCluster, Client, Truth]]:
    """Run a cluster with MemDash, and keep the truth about its deaths."""
    with (
        # Dask's own patience with a worker that is away, on a machine that is busy
        dask.config.set({"distributed.deploy.lost-worker-timeout": "10 minutes"}),
        tempfile.TemporaryDirectory() as folder,
        LocalCluster(
            n_workers=n_workers,
            threads_per_worker=1,
            memory_limit=LIMIT,
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster) as client,
    ):
        client.register_plugin(MemDash(tally=tally))
        yield cluster, client, Truth(folder, cluster)


def submit(
    client: Client, truth: Truth, number: int, kill: bool, size: int = BURST
) -> Any:
    """Submit a task that its worker dies of."""
    key = f"burst-{number}"
    return client.submit(burst, str(truth.folder), key, kill, size, key=key)


def many(total: int, kill: bool, tally: str, size: int = BURST) -> Counter[str]:
    """Let one worker die again and again, four times of each task."""
    with running(1, tally) as (_, client, truth):
        for number in range(-(-total // 4)):
            wait(submit(client, truth, number, kill, size), timeout=120)
        until(lambda: len(truth.died()) >= total, "the last death")
        return truth.judge()


def first(total: int, tally: str) -> Counter[str]:
    """Let the first worker of a cluster die in its first task."""
    counts: Counter[str] = Counter()
    for number in range(total):
        with running(0, tally) as (cluster, client, truth):
            cluster.scheduler.allowed_failures = 0
            future = submit(client, truth, number, True)
            with contextlib.suppress(Exception):
                cluster.scale(1)
                wait(future, timeout=30)
            until(truth.died, "the death")
            one = truth.judge()
        least = [n for n in (counts["soonest"], one["soonest"]) if n]
        counts.update(one)
        counts["soonest"] = min(least, default=0)
    return counts


def play(scene: str, total: int, tally: str) -> Counter[str]:
    """Run one scene for so many deaths."""
    if scene == "first":
        return first(max(1, total // 3), tally)
    if scene == "gil":
        with held_gil():
            return many(total, kill=False, tally=tally)
    if scene == "memory":
        with tempfile.NamedTemporaryFile() as file:
            settings = {"memdash.recorder.directory": file.name}
            with dask.config.set(settings):
                return many(total, kill=True, tally=tally)
    if scene == "quick":
        return many(total, kill=True, tally=tally, size=QUICK)
    return many(total, kill=scene == "kill", tally=tally)


def main() -> None:
    """Measure, and print the table."""
    parser = common.parser(__doc__)
    parser.add_argument("--deaths", type=int, help="in each scene (default 32)")
    parser.add_argument("--scene", choices=SCENES, action="append")
    parser.add_argument("--tally", choices=MODES, default=["auto"], nargs="+")
    options = parser.parse_args()
    logging.getLogger("dask_memdash").setLevel(logging.ERROR)  # a line for each death
    total = options.deaths or common.sized(options, 32, 12, 4)
    header(
        *(
            "scene",
            "tally",
            "deaths",
            "blind",
            "of these: no incident",
            "twice",
            "invented",
        ),
        *("cause unknown", "soonest death, ms into the task"),
        "least and most that the task is said to have held, of 120 MB",
    )
    wanted = itertools.product(options.scene or SCENES, options.tally)
    for scene, tally in wanted:
        progress(f"{scene}, tally {tally}: {total} deaths")
        counts = play(scene, total, tally)
        row(
            *(scene, tally, counts["deaths"], counts["blind"], counts["missing"]),
            *(counts["double"], counts["invented"], counts["unknown"]),
            counts["soonest"],
            f"{counts['least'] / MB:.1f}, {counts['most'] / MB:.1f}"
            if scene == "quick"
            else "",
        )


if __name__ == "__main__":
    main()
