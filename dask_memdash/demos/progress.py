"""How far a computation is, drawn on a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from distributed import Client

from dask_memdash.demos import terminal

#: Characters of the bar.
WIDTH = 30

#: A worker from which nothing has been heard for so long is busy, in seconds: it packs
#: or unpacks what it sends or receives.
SILENT = 3.0

#: States in which a task of a group is still to be run, or was given up.
UNFINISHED = ("waiting", "no-worker", "queued", "processing", "erred")


@dataclass(frozen=True, slots=True)
class Progress:
    """What the scheduler knows of all tasks at an instant."""

    finished: int
    total: int
    #: Tasks that are executing as far as workers have said, and workers that are too
    #: busy to say anything.
    busy: int
    #: Workers, and how many of them are not paused.
    workers: int
    running: int


def progress(client: Client) -> Progress:
    """Ask the scheduler."""
    return Progress(*client.run_on_scheduler(_count))


def _count(dask_scheduler: Any = None) -> tuple[int, int, int, int, int]:
    """Count finished and all tasks; runs on the scheduler's loop."""
    finished = total = 0
    for group in dask_scheduler.task_groups.values():
        total += len(group)
        unfinished = sum(group.states.get(state, 0) for state in UNFINISHED)
        finished += len(group) - unfinished
    workers = dask_scheduler.workers.values()
    silent = time.time() - SILENT
    busy = sum(len(w.executing) + (w.last_seen < silent) for w in workers)
    running = sum(worker.status.name == "running" for worker in workers)
    return finished, total, busy, len(workers), running


@contextmanager
def bar(title: str) -> Iterator[Callable[[Progress], None]]:
    """Draw a bar on standard error where that is a terminal, and nothing elsewhere."""
    drawing = sys.stderr.isatty()

    def draw(now: Progress) -> None:
        if drawing and now.total:
            filled = WIDTH * now.finished // now.total
            drawn = "█" * filled + "·" * (WIDTH - filled)
            text = f"{title[: terminal.NAME]:<{terminal.NAME}}  {drawn} "
            text += f"{now.finished:,} of {now.total:,} tasks"
            if now.running < now.workers:
                text += f", {now.workers - now.running} of {now.workers} workers paused"
            print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)  # noqa: T201

    try:
        yield draw
    finally:
        if drawing:
            print("\r\033[K", end="", file=sys.stderr, flush=True)  # noqa: T201
