"""Pages that are opened and not read: what they cost the scheduler's loop.

``python tests/attack/pages.py [--pages 50] [--page memdash status]``: a cluster of two
workers whose scheduler lives in this process; another process opens the pages all at
once and reads nothing.  A callback of 20 ms on the scheduler's loop says how late the
loop is, 2,000 tasks how fast Dask's own work goes on.  Then all sockets are reset, and
what is left of the documents after a collection is counted.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import gc
import json
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from bokeh.document import Document
from distributed import Client, LocalCluster

from dask_memdash import MemDash

#: Seconds between two calls of the loop's clock.
STEP = 0.02

TASKS = 2000


def increment(number: int) -> int:
    """Be a small task."""
    return number + 1


@dataclass
class LoopClock:
    """How late a callback on the loop comes, which is due every 20 ms."""

    late: list[float] = field(default_factory=list)
    running: bool = True

    async def run(self) -> None:
        """Run until told not to."""
        while self.running:
            due = time.monotonic() + STEP
            await asyncio.sleep(STEP)
            self.late.append(time.monotonic() - due)

    def take(self) -> dict[str, float]:
        """Return what was seen since the last time, in seconds."""
        late, self.late = sorted(self.late), []
        return {
            "calls": len(late),
            "median": statistics.median(late) if late else 0.0,
            "p95": late[int(0.95 * (len(late) - 1))] if late else 0.0,
            "most": late[-1] if late else 0.0,
        }


class Visitors:
    """The process that opens pages."""

    def __init__(self, url: str, pages: int) -> None:
        program = Path(__file__).with_name("visitors.py")
        self.process = subprocess.Popen(
            [sys.executable, str(program), url, str(pages)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def answer(self) -> dict[str, Any]:
        """Return what it says next."""
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def order(self, word: str) -> dict[str, Any]:
        """Have it do something."""
        assert self.process.stdin is not None
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        return self.answer()

    def end(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


def documents() -> list[Document]:
    """Return the documents that are left after collections."""
    for _ in range(3):
        gc.collect()
    return [known for known in gc.get_objects() if isinstance(known, Document)]


def work(client: Client, tasks: int = TASKS) -> float:
    """Return how long small tasks take, in seconds."""
    start = time.monotonic()
    client.gather(client.map(increment, range(tasks), pure=False))
    return time.monotonic() - start


def sessions(cluster: LocalCluster, path: str) -> int:
    """Return how many sessions a page has."""
    for application in cluster.scheduler.http_application.applications:
        if path in getattr(application, "app_paths", ()):
            return len(application.get_sessions(path))
    return 0


def wait_until(condition: Any, timeout: float) -> bool:
    """Wait for a condition; give whether it came true."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


class Told(dict[str, Any]):
    """What was found, written to standard error as it comes."""

    def __setitem__(self, name: str, value: Any) -> None:
        super().__setitem__(name, value)
        print(f"{self['page']}: {name}: {value}"[:400], file=sys.stderr, flush=True)


def attack(
    page: str,
    pages: int,
    settings: dict[str, Any] | None = None,
    tasks: int = TASKS,
    rounds: int = 1,
) -> dict[str, Any]:
    """Open pages, leave them unread, reset them, and open them again.

    Parameters
    ----------
    page
        "memdash" or one of Dask's own, such as "status".
    pages
        How many.
    settings
        Of MemDash, by key with underscores.
    rounds
        How often they are opened and reset.
    """
    found: dict[str, Any] = Told(page=page, pages=pages)
    process = psutil.Process()
    clock = LoopClock()
    with (
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            memory_limit="400MB",
            dashboard_address="127.0.0.1:0",
        ) as cluster,
        Client(cluster) as client,
    ):
        client.register_plugin(MemDash(**(settings or {})))
        url = f"http://127.0.0.1:{cluster.scheduler.http_server.port}/{page}"
        client.wait_for_workers(2)
        work(client, 200)
        once = Visitors(url, 1)  # imports and caches are not what is looked at
        once.answer()
        once.order("reset")
        once.end()
        # What is left of it would take the place of one of those that come.
        assert wait_until(lambda: sessions(cluster, f"/{page}") == 0, 90)
        cluster.loop.add_callback(clock.run)
        found["tasks, none open"] = work(client, tasks)
        found["memory before"] = process.memory_info().rss
        found["documents before"] = len(documents())
        found["loop, none open"] = clock.take()
        visitors = Visitors(url, pages)
        try:
            found["opened"] = visitors.answer()
            found["loop while opening"] = clock.take()
            found["tasks, open"] = work(client, tasks)
            time.sleep(3)
            found["loop, open"] = clock.take()
            found["memory, open"] = process.memory_info().rss
            found["rounds"] = []
            before = found["documents before"]
            for number in range(rounds):
                if number:
                    found["opened again"] = visitors.order("open")
                    found["loop while opening again"] = clock.take()
                visitors.order("reset")
                wait_until(lambda: sessions(cluster, f"/{page}") == 0, 90)
                # Bokeh's list of the sessions that it ends outlives the last of them.
                wait_until(lambda: len(documents()) <= before, 30)
                left = documents()
                found["sessions left"] = sessions(cluster, f"/{page}")
                found["documents left"] = len(left)
                found["holders"] = holders(left[:1])
                del left
                round_ = {"memory": process.memory_info().rss}
                round_["trimmed"] = trimmed(process)
                found["rounds"] = [*found["rounds"], round_]
                clock.take()
        finally:
            visitors.end()
            clock.running = False
    return found


def trimmed(process: psutil.Process) -> int:
    """Return the RSS once the allocator has given back what it kept for later."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).malloc_trim(0)
    return process.memory_info().rss


def holders(left: list[Document]) -> list[str]:
    """Say what holds a document that is left, for the one who has to find out."""
    names = []
    for doc in left:
        for holder in gc.get_referrers(doc):
            if holder is not left and type(holder).__name__ not in ("frame", "list"):
                keys = list(holder)[:3] if isinstance(holder, dict) else ""
                names.append(f"{type(holder).__qualname__} {keys}"[:120])
    return names[:12]


def main() -> None:
    """Attack, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pages", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--page", nargs="*", default=["memdash", "status"])
    options = parser.parse_args()
    for page in options.page:
        for name, value in attack(page, options.pages, rounds=options.rounds).items():
            print(f"{page}: {name}: {value}", flush=True)


if __name__ == "__main__":
    main()
