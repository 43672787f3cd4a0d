"""Ends of real workers that are not for memory: whether any is given a memory cause.

Workers that are idle, or keep some outputs and run small tasks, are killed, crash, end
themselves, or are let go in good order (retired, restarted, scaled down, also by
adaptive scaling).  The first need one incident each, of their own kind, and no memory
cause anywhere in it; the others need no incident at all.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import logging
import os
import random
import signal
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import common
import dask
from common import header, progress, row, until
from distributed import Client, LocalCluster

from dask_memdash import MemDash
from dask_memdash.terms import CAUSES, NOT_MEMORY

WORKERS, THREADS, LIMIT = 3, 1, "500MB"

#: Causes that are about memory.
MEMORY = frozenset(CAUSES) - NOT_MEMORY

#: How long what must be no incident may take to become one, in seconds.
QUIET = 1.0

#: Ends of one cluster, before a new one takes its place.
EACH = 11


def nap(number: int) -> bytes:
    """Run for a while, and return 1 MB to be held."""
    time.sleep(0.02)
    return bytes([number % 251]) * 1_000_000


def fault() -> None:
    """Read from an address that nothing is mapped to."""
    ctypes.string_at(0)


def leave(status: int) -> None:
    """End the process, whatever else runs in it."""
    os._exit(status)


class Session:
    """A cluster with MemDash, and its JSON API."""

    def __init__(self, cluster: LocalCluster, client: Client) -> None:
        self.cluster, self.client = cluster, client
        self.api = f"http://127.0.0.1:{cluster.scheduler.http_server.port}/memdash/api/"

    def ask(self, path: str) -> Any:
        """Ask the JSON API."""
        with urllib.request.urlopen(self.api + path, timeout=30) as answer:
            return json.load(answer)

    def ready(self) -> bool:
        """Whether all workers are there and have told of themselves."""
        workers = self.ask("workers")
        return len(workers) == WORKERS and all(
            worker["breakdown"]["process"] for worker in workers
        )

    def some(self) -> str:
        """Return the address of a worker."""
        return str(min(self.cluster.scheduler.workers))

    def pid(self) -> int:
        """Return the process number of that worker."""
        return int(self.cluster.scheduler.workers[self.some()].pid)

    def count(self) -> int:
        """Return how many workers the scheduler knows."""
        return len(self.cluster.scheduler.workers)

    def scale(self, number: int) -> None:
        """Ask for so many workers, and wait for as many."""
        # Its nannies first: asked for more again too early, it would do nothing.
        until(lambda: self.count() == len(self.cluster.workers), "workers to close")
        self.cluster.scale(number)
        until(lambda: len(self.cluster.workers) == number, "nannies to come or go")
        until(lambda: self.count() == number, "workers to come or go")

    def die_in(self, function: Callable[..., None], *arguments: int) -> None:
        """Let a task end the worker that it runs on."""
        pid = self.pid()
        # Bound to this worker, so that it does not run again elsewhere.
        future = self.client.submit(
            function, *arguments, workers=[self.some()], pure=False
        )
        until(lambda: not _lives(pid), "the process to end")
        future.cancel()


def _lives(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


# -- ends ------------------------------------------------------------------------------


def retire(session: Session) -> None:
    """Let the scheduler retire a worker, and start another."""
    workers = session.cluster.scheduler.workers
    # The one that the cluster lets go of first, so that it does not wait for it.
    last = next(reversed(session.cluster.worker_spec))
    (address,) = (a for a, worker in workers.items() if worker.name == last)
    session.client.retire_workers([address])
    until(lambda: session.count() < WORKERS, "the retired worker to go")
    session.cluster.scale(WORKERS - 1)
    until(lambda: len(session.cluster.workers) < WORKERS, "its nanny to go")
    session.scale(WORKERS)


def scale_down(session: Session) -> None:
    """Ask for fewer workers, then for as many as before."""
    session.scale(WORKERS - 2)
    session.scale(WORKERS)


def adapt(session: Session) -> None:
    """Let adaptive scaling let go of idle workers."""
    adaptive = session.cluster.adapt(
        minimum=1, maximum=WORKERS, interval="100ms", wait_count=2
    )
    until(lambda: session.count() == 1, "adaptive scaling to let go")
    adaptive.stop()
    session.scale(WORKERS)


def restart(session: Session) -> None:
    """Restart all workers."""
    session.client.restart(timeout=60)


def restart_one(session: Session) -> None:
    """Restart one worker."""
    session.client.restart_workers([session.some()], timeout=60)


def die_by(number: int) -> Callable[[Session], None]:
    """Send a worker a signal from outside."""
    return lambda session: os.kill(session.pid(), number)


#: How a worker ends → what makes it end, and kind and cause of the one incident that
#: there must be; None: there must be none.
ENDS: dict[str, tuple[Callable[[Session], None], tuple[str, str] | None]] = {
    "kill -9": (die_by(signal.SIGKILL), ("killed", "external")),
    "kill -15": (die_by(signal.SIGTERM), ("killed", "external")),
    "segfault": (lambda s: s.die_in(fault), ("crashed", "crash")),
    "abort": (die_by(signal.SIGABRT), ("crashed", "crash")),
    "exit 0": (lambda s: s.die_in(leave, 0), ("exited", "crash")),
    "exit 3": (lambda s: s.die_in(leave, 3), ("exited", "crash")),
    "retire": (retire, None),
    "restart": (restart, None),
    "restart one": (restart_one, None),
    "scale down": (scale_down, None),
    "adaptive": (adapt, None),
}


@dataclass
class Tally:
    """The ends of one kind."""

    ends: int = 0
    right: int = 0
    #: Ends with a memory cause, in a diagnosis, a finding or a failure.
    memory: int = 0
    wrong: Counter[str] = field(default_factory=Counter)


@contextlib.contextmanager
def running() -> Iterator[Session]:
    """Run a cluster with MemDash."""
    with (
        dask.config.set({"distributed.deploy.lost-worker-timeout": "10 minutes"}),
        common.cluster(WORKERS, THREADS, LIMIT) as (cluster, client),
    ):
        client.register_plugin(MemDash())
        yield Session(cluster, client)


def end_one(session: Session, how: str, *, busy: bool) -> list[dict[str, Any]]:
    """Let a worker end; return the incidents that came of it, whole."""
    until(session.ready, "the workers to be there", 120)
    progress(f"{how}, {'busy' if busy else 'idle'}")
    before = {incident["id"] for incident in session.ask("incidents")}
    held = session.client.map(nap, range(60), pure=False) if busy else []
    if held:
        until(lambda: any(f.done() for f in held), "the first tasks")
    act, expected = ENDS[how]
    act(session)

    def fresh() -> list[dict[str, Any]]:
        return [i for i in session.ask("incidents") if i["id"] not in before]

    if expected is not None:
        with contextlib.suppress(TimeoutError):
            until(lambda: any(i["settled"] for i in fresh()), "its incident")
    session.client.cancel(held)
    until(session.ready, "the workers to be back", 40)
    time.sleep(QUIET)
    return [session.ask(f"incidents/{i['id']}") for i in fresh()]


def judge(how: str, incidents: list[dict[str, Any]], tally: Tally) -> None:
    """Hold what MemDash said against the truth."""
    expected = ENDS[how][1]
    said = [(i["kind"], i["diagnosis"]["cause"]) for i in incidents]
    tally.ends += 1
    tally.right += said == ([] if expected is None else [expected])
    if said != ([] if expected is None else [expected]):
        tally.wrong.update([", ".join(" ".join(pair) for pair in said) or "nothing"])
    causes = {cause for _, cause in said}
    causes |= {finding["cause"] for i in incidents for finding in i["findings"]}
    tally.memory += bool(causes & MEMORY)


def main() -> int:
    """Let workers end, and print what was said; fail where any was for memory."""
    parser = common.parser(__doc__)
    parser.add_argument("--ends", type=int, help="in all (default 110)")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    logging.getLogger("dask_memdash").setLevel(logging.ERROR)  # a line for each
    total = options.ends or common.sized(options, 110, 33, 11)
    chance = random.Random(options.seed)
    hows = [list(ENDS)[n % len(ENDS)] for n in range(total)]
    tallies = {how: Tally() for how in ENDS}
    while hows:
        batch, hows = hows[:EACH], hows[EACH:]
        chance.shuffle(batch)
        with running() as session:
            for how in batch:
                incidents = end_one(session, how, busy=chance.random() < 0.5)
                judge(how, incidents, tallies[how])
            causes = {f["diagnosis"]["cause"] for f in session.ask("failures")}
        if causes & MEMORY:
            progress(f"a failure for memory: {', '.join(sorted(causes & MEMORY))}")
            tallies[batch[0]].memory += 1
        progress(f"{total - len(hows)} of {total}")
    header("how", "ends", "right", "with a memory cause", "else said")
    for how, tally in tallies.items():
        wrong = ", ".join(f"{n} × {text}" for text, n in tally.wrong.most_common())
        row(how, tally.ends, tally.right, tally.memory, wrong)
    right = sum(tally.right for tally in tallies.values())
    memory = sum(tally.memory for tally in tallies.values())
    row("**all**", total, right, memory, "")
    return 0 if right == total and not memory else 1


if __name__ == "__main__":
    sys.exit(main())
