"""Deaths of mixed kinds under load: whether each is told once, rightly, and how soon.

Workers of small clusters die in six ways, one of them alone or two at once, while all
are kept busy with tasks whose outputs are held.  Each death is awaited on the process
itself (``pidfd_open``), and the JSON API is asked every 20 ms, as a page or a script
would: *seen* is when it first has an incident of that process, *told* when the nanny's
report is in it and its kind and exit are final.

Each cluster serves for some deaths.  Dask's own patience with workers that take long
to come back (``lost-worker-timeout``, 15 s) is raised, as the machine is busy.  What
the kernel kills for memory is not among the kinds, since that takes a cgroup with a
limit of its own.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import logging
import os
import random
import select
import signal
import statistics
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import common
import dask
import numpy as np
from common import header, progress, row, until
from distributed import Client, LocalCluster, wait

from dask_memdash import MemDash

WORKERS, THREADS, LIMIT = 4, 2, "500MB"

#: Kinds of incident that are deaths.
DEATHS = {"terminated", "oom-killed", "killed", "crashed", "exited", "lost"}

#: Longest wait for a death and for its incident, in seconds.
PATIENCE = 60.0


def load(number: int) -> np.ndarray:
    """Keep a thread busy for a while, and give 200 kB to be held."""
    block = np.random.default_rng(number).random(500_000)
    time.sleep(0.02)
    return np.sort(block)[:25_000]


def end_worker(how: str, folder: str, name: str) -> None:
    """End the worker that this runs on, when told to."""
    place = Path(folder)
    (place / f"{name}.tmp").write_text(str(os.getpid()))
    (place / f"{name}.tmp").rename(place / f"{name}.pid")
    while not (place / f"{name}.go").exists():
        time.sleep(0.005)
    if how == "exit":
        os._exit(3)
    elif how == "segfault":
        ctypes.string_at(0)
    elif how == "abort":
        os.abort()
    blocks = []
    while True:  # until the nanny ends it
        blocks.append(np.ones(500_000))
        time.sleep(0.005)


#: How a worker is made to die → kind, exit code and signal that the incident must have.
#: 'kill' and 'term' come from outside, the others from a task.
TRUTH: dict[str, tuple[str, int | None, int | None]] = {
    "kill": ("killed", None, signal.SIGKILL),
    "term": ("killed", None, signal.SIGTERM),
    "exit": ("exited", 3, None),
    "segfault": ("crashed", None, signal.SIGSEGV),
    "abort": ("crashed", None, signal.SIGABRT),
    "memory": ("terminated", None, signal.SIGTERM),
}


#: How a worker is made to die → cause that the incident must have.
CAUSES = {
    "kill": "external",
    "term": "external",
    "exit": "crash",
    "segfault": "crash",
    "abort": "crash",
    "memory": "task-too-large",
}


@dataclass
class Death:
    """One death: what was done, and when what was seen of it."""

    how: str
    name: str
    #: Address and pid of the worker.
    address: str
    pid: int = 0
    #: Unix times in seconds.
    died: float = 0.0
    seen: float = 0.0
    told: float = 0.0
    incident: dict[str, Any] | None = None


class Cluster:
    """A busy cluster with MemDash, and its JSON API."""

    def __init__(self, cluster: LocalCluster, client: Client, folder: str) -> None:
        self.cluster, self.client, self.folder = cluster, client, folder
        self.api = f"http://127.0.0.1:{cluster.scheduler.http_server.port}/memdash/api/"
        self._stop = threading.Event()
        self._load = threading.Thread(target=self._keep_busy, daemon=True)
        self._load.start()

    def ask(self, path: str) -> Any:
        """Ask the JSON API."""
        with urllib.request.urlopen(self.api + path, timeout=30) as answer:
            return json.load(answer)

    def close(self) -> None:
        """Stop the load."""
        self._stop.set()
        self._load.join(30)

    def _keep_busy(self) -> None:
        held: list[Any] = []
        number = 0
        while not self._stop.is_set():
            futures = self.client.map(load, range(number, number + 40), pure=False)
            number += 40
            with contextlib.suppress(TimeoutError):
                wait(futures, timeout=20)
            held = (held + futures)[-200:]

    # -- dying -----------------------------------------------------------------

    def ready(self) -> bool:
        """Whether all workers are there and have told of themselves."""
        workers = self.ask("workers")
        return len(workers) == WORKERS and all(
            worker["breakdown"]["process"] for worker in workers
        )

    def die(self, death: Death, chance: random.Random) -> None:
        """Make a worker die, and follow it; runs in a thread of its own."""
        place = Path(self.folder)
        future = None
        if death.how in ("kill", "term"):
            time.sleep(chance.random() * 0.3)
            death.pid = int(self.cluster.scheduler.workers[death.address].pid)
        else:
            # Bound to this worker, so that it does not run again elsewhere.
            future = self.client.submit(
                *(end_worker, death.how, self.folder, death.name),
                key=death.name,
                workers=[death.address],
            )
            file = place / f"{death.name}.pid"
            until(file.exists, f"{death.name} to run", PATIENCE)
            death.pid = int(file.read_text())
        fd = os.pidfd_open(death.pid)
        try:
            if death.how in ("kill", "term"):
                number = TRUTH[death.how][2]
                assert number is not None
                os.kill(death.pid, number)
            else:
                (place / f"{death.name}.go").touch()
            readable, _, _ = select.select([fd], [], [], PATIENCE)
            death.died = time.time()
            if not readable:
                raise TimeoutError(f"{death.name} ({death.how}) did not die")
        finally:
            os.close(fd)
        if future is not None:
            future.cancel()
        self.follow(death)

    def follow(self, death: Death) -> None:
        """Ask the API until it has told of a death."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            for incident in self.ask("incidents?limit=20"):
                if incident["worker"]["pid"] != death.pid:
                    continue
                if incident["kind"] not in DEATHS:
                    continue
                death.seen = death.seen or time.time()
                if incident["evidence"] == "flight-recorder" and incident["exit"]:
                    death.told = time.time()
                    death.incident = self.ask(f"incidents/{incident['id']}")
                    return
            time.sleep(0.02)


@contextlib.contextmanager
def running() -> Iterator[Cluster]:
    """Run a cluster with MemDash, busy."""
    with (
        dask.config.set({"distributed.deploy.lost-worker-timeout": "10 minutes"}),
        tempfile.TemporaryDirectory() as folder,
        common.cluster(WORKERS, THREADS, LIMIT) as (cluster, client),
    ):
        client.register_plugin(MemDash())
        made = Cluster(cluster, client, folder)
        try:
            until(made.ready, "every worker's first report")
            yield made
        finally:
            made.close()


def kill_some(number: int, chance: random.Random, first: int) -> tuple[Any, ...]:
    """Run one cluster through some deaths; give them, and the incidents at the end."""
    deaths: list[Death] = []
    with running() as cluster:
        hows = [list(TRUTH)[(first + n) % len(TRUTH)] for n in range(number)]
        chance.shuffle(hows)
        while len(deaths) < number:
            until(cluster.ready, "the workers to be back", 120)
            batch = [hows.pop() for _ in range(min(len(hows), chance.randint(1, 2)))]
            workers = chance.sample(sorted(cluster.cluster.scheduler.workers), 2)
            fresh = [
                Death(how, f"end-{how}-{first + len(deaths) + n}", workers[n])
                for n, how in enumerate(batch)
            ]
            threads = [
                threading.Thread(target=cluster.die, args=(death, chance))
                for death in fresh
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(4 * PATIENCE)
            deaths += fresh
        until(cluster.ready, "the workers to be back", 120)
        incidents = cluster.ask("incidents")
    return deaths, [i for i in incidents if i["kind"] in DEATHS]


def judge(death: Death, incidents: list[dict[str, Any]]) -> str:
    """Say in a word whether a death was told rightly."""
    of_it = [i for i in incidents if i["worker"]["pid"] == death.pid]
    if not of_it:
        return "lost"
    if len(of_it) > 1:
        return "double"
    kind, code, number = TRUTH[death.how]
    (incident,) = of_it
    exit_ = incident["exit"] or {}
    right = (incident["kind"], exit_.get("code"), exit_.get("signal")) == (
        kind,
        code,
        number,
    )
    return "right" if right else "wrong"


def main() -> None:
    """Measure, and print the tables."""
    parser = common.parser(__doc__)
    parser.add_argument("--deaths", type=int, help="in all (default 100)")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    logging.getLogger("dask_memdash").setLevel(logging.ERROR)  # a line for each death
    total = options.deaths or common.sized(options, 100, 24, 4)
    chance = random.Random(options.seed)
    judged: dict[str, Counter[str]] = {how: Counter() for how in TRUTH}
    blamed: dict[str, int] = Counter()
    said: dict[str, Counter[str]] = {how: Counter() for how in TRUTH}
    times: dict[str, list[tuple[float, float]]] = {how: [] for how in TRUTH}
    invented = done = 0
    while done < total:
        number = min(12, total - done)
        progress(f"deaths {done + 1} to {done + number} of {total}")
        deaths, incidents = kill_some(number, chance, done)
        done += number
        known = {death.pid for death in deaths}
        for incident in incidents:
            if incident["worker"]["pid"] not in known:
                invented += 1
                progress(f"unexpected: {incident['diagnosis']['text']}")
        for death in deaths:
            verdict = judge(death, incidents)
            judged[death.how][verdict] += 1
            if verdict != "right":
                progress(f"{verdict}: {death}")
            if death.told:
                times[death.how].append(
                    (death.seen - death.died, death.told - death.died)
                )
            cause = (death.incident or {}).get("diagnosis", {}).get("cause", "nothing")
            said[death.how][cause] += 1
            if cause != CAUSES[death.how]:
                progress(f"{death.how} is said to be {cause}: {death.incident}")
            suspects = (death.incident or {}).get("suspects", ())
            blamed[death.how] += any(s["key"] == death.name for s in suspects)
    header("how", "deaths", "right", "wrong", "lost", "double", "suspect found")
    for how, counts in judged.items():
        outside = how in ("kill", "term")
        number = counts.total()
        row(
            *(how, number, counts["right"], counts["wrong"]),
            *(counts["lost"], counts["double"]),
            "from outside" if outside else f"{blamed[how]} of {number}",
        )
    print()
    header("how", "true cause", "said")
    for how, causes in said.items():
        row(how, CAUSES[how], ", ".join(f"{n} × {c}" for c, n in causes.most_common()))
    print(f"\nIncidents of workers that did not die: {invented}.\n")
    header("seconds from death", "median", "95 %", "most")
    for name, place in (("seen", 0), ("told", 1)):
        values = sorted(pair[place] for pairs in times.values() for pair in pairs)
        middle = statistics.median(values)
        high = values[min(len(values) - 1, int(0.95 * len(values)))]
        row(name, f"{middle:.3f}", f"{high:.3f}", f"{values[-1]:.3f}")


if __name__ == "__main__":
    main()
