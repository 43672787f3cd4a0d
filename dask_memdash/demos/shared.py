"""Workers of one host cannot lend each other memory; threads of one worker can."""

from __future__ import annotations

import time
from collections.abc import Sequence

from dask_memdash.demos.experiment import Case, Result, Session, Steps
from dask_memdash.demos.stages import MB, Complaint, Stage
from dask_memdash.text import format_bytes

#: What the tasks need, in bytes: one file is much larger than the others.
FILE = 16 * MB
HUGE = 320 * MB
FILES = 24


def read_file(_: int) -> int:
    """Take a little."""
    return _take(FILE)


def read_huge_file(_: int) -> int:
    """Take more than one of four workers has, and less than all have together."""
    return _take(HUGE)


def _take(size: int) -> int:
    import numpy as np

    blocks = []
    for _step in range(size // (8 * MB)):
        blocks.append(np.ones(MB))
        time.sleep(0.01)
    time.sleep(0.2)
    return len(blocks)


def read_all(session: Session) -> Steps:
    """Read the files, the huge one among them."""
    huge = session.client.map(read_huge_file, range(1), pure=False)
    yield [*session.client.map(read_file, range(FILES), pure=False), *huge]


def conclude(results: Sequence[Result]) -> list[str]:
    """Say what the two stages show."""
    several, one = results
    return [
        f"The limits add up to the same in both. As four workers: {several.outcome}, "
        f"{several.deaths} deaths; cause: {several.cause}, responsible: "
        f"{several.responsible}. As one: {one.outcome}, {one.deaths} deaths.",
        "Four processes had a baseline of "
        f"{format_bytes(several.peaks['baseline'])} together before any task, one of "
        f"{format_bytes(one.peaks['baseline'])}: what is left for tasks differs too.",
        "Threads share the memory, but also the interpreter's lock: what is not "
        "released by NumPy, pandas and the like runs one at a time.",
    ]


def shown(results: Sequence[Result]) -> bool:
    """See whether four small workers failed where a large one did not."""
    several, one = results
    return (
        several.outcome == "KilledWorker"
        and several.cause == "task-too-large"
        and several.responsible == read_huge_file.__name__
        and one.outcome == "ok"
        and not one.deaths
    )


COMPLAINT = Complaint(
    name="shared",
    complaint=(
        "“The memory controls operate on a per-worker basis, which prevents host "
        "memory from being fungible between cohosted workers. […] a reasonable "
        "formula appears to be one worker per host, but multiple threads per worker.”"
    ),
    stages=(
        Stage(
            Case("four workers", read_all, FILES * FILE + HUGE, FILE),
            "Four workers with a quarter of the memory each.",
            workers=4,
            memory_limit=250 * MB,
        ),
        Stage(
            Case("one worker, four threads", read_all, FILES * FILE + HUGE, FILE),
            "One worker with all of it.",
            workers=1,
            threads=4,
            memory_limit=1000 * MB,
        ),
    ),
    conclude=conclude,
    shown=shown,
)
