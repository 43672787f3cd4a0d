"""Garbage in reference cycles, and an event loop that does not answer.

What is in a cycle is freed when Python's collector comes by, not when the task ends;
and a task that holds the interpreter's lock keeps its worker from saying anything.
"""

from __future__ import annotations

import ctypes
import gc
import time
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from dask_memdash.demos.experiment import Case, Result, Session, Steps
from dask_memdash.demos.stages import MB, Complaint, Stage
from dask_memdash.text import count, format_bytes

#: Tasks, and what each leaves in a cycle, in bytes.
FILES = 24
FILE = 24 * MB

#: How long a task holds the lock, in seconds, and what it has taken before, in bytes.
LOCKED = 4.0
TAKEN = 80 * MB

#: Between two looks at how long a worker has been silent, in seconds.
LOOK = 0.1


class Document:
    """What a parser makes; it and its parser know each other."""

    def __init__(self) -> None:
        import numpy as np

        self.text = np.ones(FILE // 8)
        self.parser: Any = self

    def parse(self) -> int:
        """Grow old, as happens to what lives while many small objects are made."""
        gc.collect(1)
        return len(self.text)


def parse_cycle(_: int) -> int:
    """Leave a document in a cycle."""
    time.sleep(0.05)
    return Document().parse()


def parse_collected(_: int) -> int:
    """Leave a document in a cycle, and have the collector come by."""
    time.sleep(0.05)
    try:
        return Document().parse()
    finally:
        gc.collect()


def parse_broken(_: int) -> int:
    """Break the cycle, so that there is nothing for the collector to do."""
    time.sleep(0.05)
    document = Document()
    number = document.parse()
    document.parser = None
    return number


def hold_lock(_: int) -> int:
    """Take memory, then hold the interpreter's lock as badly written C code does."""
    import numpy as np

    block = np.ones(TAKEN // 8)
    ctypes.PyDLL(None).usleep(int(LOCKED * 1e6))
    return len(block)


def cycles(session: Session) -> Steps:
    """Parse files, and leave garbage."""
    yield session.client.map(parse_cycle, range(FILES), pure=False)


def collected(session: Session) -> Steps:
    """Parse files, and collect after each."""
    yield session.client.map(parse_collected, range(FILES), pure=False)


def broken(session: Session) -> Steps:
    """Parse files without leaving garbage."""
    yield session.client.map(parse_broken, range(FILES), pure=False)


def locked(session: Session) -> Steps:
    """Run a task that holds the lock, and note who hears of its worker meanwhile."""
    future = session.client.submit(hold_lock, 0, pure=False)
    silence = 0.0
    while not future.done():
        silence = max(silence, session.client.run_on_scheduler(_silence))
        time.sleep(LOOK)
    session.figures["silence"] = round(silence, 2)
    columns = session.api.history(session.start)
    times = columns["time"]
    gaps = [after - before for before, after in pairwise(times)]
    session.figures["samples"] = len(times)
    session.figures["longest_gap"] = round(max(gaps, default=0.0), 2)
    session.figures["process"] = max(columns["process"], default=0)
    yield [future]


def _silence(dask_scheduler: Any = None) -> float:
    """Return how long the most silent worker has said nothing to Dask, in seconds."""
    now = time.time()
    return max(
        (now - worker.last_seen for worker in dask_scheduler.workers.values()),
        default=0.0,
    )


def conclude(results: Sequence[Result]) -> list[str]:
    """Say what the stages show."""
    garbage, *remedies, silent = results
    lines = [
        f"With cycles the baseline reached {format_bytes(garbage.peaks['baseline'])}; "
        f"it ended with '{garbage.outcome}', {count(garbage.pauses, 'pause')} and "
        f"{count(garbage.deaths, 'death')}. Dask does collect garbage on a "
        "paused worker, but only once its loop has been busy for twenty times as long "
        "as the last collection took: that can be a long wait.",
        *(
            f"{result.case.name}: {format_bytes(result.peaks['baseline'])}, "
            f"{count(result.deaths, 'death')}."
            for result in remedies
        ),
    ]
    figures = silent.figures
    if figures:
        lines.append(
            f"While a task held the lock, Dask heard nothing of the worker for "
            f"{figures['silence']:.1f} s. MemDash's nanny looked on from outside: "
            f"{figures['samples']} readings, at most {figures['longest_gap']:.1f} s "
            f"apart, up to {format_bytes(figures['process'])}."
        )
    return lines


def shown(results: Sequence[Result]) -> bool:
    """See whether garbage showed, both remedies helped, and the silence was seen."""
    garbage, by_hand, unneeded, silent = results
    least = garbage.peaks["baseline"] - 2 * FILE
    return (
        all(r.outcome == "ok" for r in (by_hand, unneeded, silent))
        and by_hand.peaks["baseline"] < least
        and unneeded.peaks["baseline"] < least
        and silent.figures["longest_gap"] < silent.figures["silence"]
        and silent.figures["process"] > TAKEN
    )


COMPLAINT = Complaint(
    name="gc",
    complaint=(
        "“I wonder if tasks would be happier if I interspersed sleeps into my tasks so "
        "GC can catch up.” And: “Event loop was unresponsive in Worker for 3.30s. This "
        "is often caused by long-running GIL-holding functions.”"
    ),
    stages=(
        Stage(
            Case("garbage in cycles", cycles, FILES * FILE, FILE),
            "Each task leaves 24 MB in a reference cycle, and sleeps a little first: "
            "sleeping does not bring the collector.",
            workers=1,
        ),
        Stage(
            Case("gc.collect() in each task", collected, FILES * FILE, FILE),
            "Each task has the collector come by at its end.",
            workers=1,
        ),
        Stage(
            Case("no cycles", broken, FILES * FILE, FILE),
            "Each task breaks its cycle, so that nothing is left to be collected.",
            workers=1,
        ),
        Stage(
            Case("interpreter's lock held", locked, TAKEN, TAKEN),
            "One task takes 80 MB, and holds the interpreter's lock for 4 s.",
            workers=1,
        ),
    ),
    conclude=conclude,
    shown=shown,
)
