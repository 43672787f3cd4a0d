"""Runs the cases of the benchmark of counterfactuals, each on a cluster of its own.

A run is recorded, and it is noted what became of it: it finished without a death
(*lived*), a worker died or nothing moved any more (*died*), by what the scheduler and
the futures themselves say.  A task is given up with its first death, so that runs are
short.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import dask
from counterfactual_cases import MB, Case, Setup
from distributed import Client, LocalCluster

from dask_memdash import MemDash

#: How long nothing may get finished, nor any worker run, until a run is stuck, in s.
STUCK = 3.0

#: Longest that a run may take, in seconds, and that evidence of its end may.
PATIENCE, SETTLE = 40.0, 6.0

#: Seconds between two looks.
LOOK = 0.25

#: Seconds between two looks at the memory of the processes.
PEAK = 0.01


@dataclass(slots=True)
class Outcome:
    """What became of a run."""

    #: 'lived' or 'died'.
    verdict: str
    #: How, in a word: 'finished', 'stuck', 'slow' or the name of an exception.
    how: str
    seconds: float
    #: The most memory that any worker process had, looked at each 10 ms, in bytes.
    peak: int = 0
    #: Address → (time, RSS in bytes, status, time to limit as told) at each look.
    looks: dict[str, list[list[Any]]] = field(default_factory=dict)


@contextlib.contextmanager
def cluster(setup: Setup) -> Iterator[tuple[LocalCluster, Client]]:
    """Run a cluster as a setup has it, and close it."""
    memory = {} if setup.spilling else {"target": False, "spill": False}
    config = {f"distributed.worker.memory.{name}": v for name, v in memory.items()}
    config["distributed.scheduler.allowed-failures"] = 0
    config["distributed.admin.tick.limit"] = "1h"
    with (
        dask.config.set(config),
        LocalCluster(
            n_workers=setup.workers,
            threads_per_worker=setup.threads,
            processes=True,
            memory_limit=setup.limit * MB,
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL + 1,
        ) as running,
        Client(running) as client,
    ):
        yield running, client


class Peak:
    """Looks at the memory of worker processes from outside, very often."""

    def __init__(self, cluster: LocalCluster) -> None:
        self.most = 0
        self._cluster = cluster
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(10)

    def _run(self) -> None:
        page = os.sysconf("SC_PAGE_SIZE")
        while not self._stop.wait(PEAK):
            for nanny in list(self._cluster.workers.values()):
                pid = getattr(nanny, "pid", None)
                with contextlib.suppress(OSError, ValueError, IndexError):
                    text = Path(f"/proc/{pid}/statm").read_text(encoding="ascii")
                    self.most = max(self.most, int(text.split()[1]) * page)


def run(case: Case, setup: Setup, directory: Path) -> Outcome:
    """Run a case on a setup, recorded into a directory; say what became of it."""
    with cluster(setup) as (running, client):
        client.register_plugin(
            MemDash(record=str(directory), run=f"{case.name}-{setup.name}")
        )
        api = api_of(running)
        ready(api, setup.workers)
        begun = time.time()
        with Peak(running) as peak:
            futures = case.work(client, setup.chunks)
            outcome = watch(running, futures, api, begun)
        outcome.peak = peak.most
        settle(api)
        client.cancel(futures)
    return outcome


def api_of(cluster: LocalCluster) -> str:
    """Return the address of a cluster's JSON API."""
    return f"http://127.0.0.1:{cluster.scheduler.http_server.port}/memdash/api/"


def watch(cluster: Any, futures: Any, api: str, begun: float) -> Outcome:
    """Look at a run until it ends, and say what became of it."""
    outcome = Outcome("died", "slow", 0.0)
    moved, before = time.monotonic(), -1
    scheduler = cluster.scheduler
    while time.time() < begun + PATIENCE:
        _look(api, outcome)
        states = {future.status for future in futures}
        if "error" in states:
            failed = next(f for f in futures if f.status == "error")
            outcome.how = type(failed.exception(timeout=10)).__name__
            break
        if states <= {"finished"}:
            outcome.how, outcome.verdict = "finished", "lived"
            if any(i["kind"] in DEATHS for i in ask(api, "incidents")):
                outcome.verdict = "died"
            break
        done = ("memory", "released", "forgotten")
        finished = sum(ts.state in done for ts in list(scheduler.tasks.values()))
        running = any(w["executing_tasks"] for w in ask(api, "workers"))
        if finished != before or running:
            moved, before = time.monotonic(), finished
        if time.monotonic() - moved > STUCK:
            outcome.how = "stuck"
            break
        time.sleep(LOOK)
    outcome.seconds = time.time() - begun
    return outcome


DEATHS = ("terminated", "oom-killed", "killed", "crashed", "exited", "lost")


def ask(api: str, path: str) -> Any:
    """Return what the JSON API has at a path."""
    with urllib.request.urlopen(api + path, timeout=20) as answer:
        return json.load(answer)


def _look(api: str, outcome: Outcome) -> None:
    for worker in ask(api, "workers"):
        outcome.looks.setdefault(worker["address"], []).append(
            [
                worker["last_seen"],
                worker["breakdown"]["process"],
                worker["status"],
                worker.get("time_to_limit"),
            ]
        )


def ready(api: str, workers: int) -> None:
    """Wait until all workers have told of themselves."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        known = ask(api, "workers")
        if len(known) == workers and all(w["breakdown"]["process"] for w in known):
            return
        time.sleep(0.1)
    raise TimeoutError("the workers did not report")


def settle(api: str) -> None:
    """Wait until what is known of each incident is final, and recorded."""
    deadline = time.monotonic() + SETTLE
    while time.monotonic() < deadline:
        if all(failure["settled"] for failure in ask(api, "failures")):
            break
        time.sleep(0.1)
    time.sleep(0.6)  # the last reports of what had finished


def write(outcome: Outcome, path: Path) -> None:
    """Write what became of a run."""
    path.write_text(json.dumps(asdict(outcome)))


def read(path: Path) -> Outcome:
    """Read what became of a run."""
    return Outcome(**json.loads(path.read_text()))
