"""Tasks that leave memory behind: a cache that nobody empties."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from dask_memdash.demos.experiment import Case, Result, Session, Steps
from dask_memdash.demos.stages import MB, Complaint, Stage
from dask_memdash.text import format_bytes

#: Tasks, and what each puts into the cache, in bytes.
LOGS = 40
LOG = 12 * MB

#: Results that are held at once.
BATCH = 8

#: Entries that the bounded cache keeps.
BOUND = 3

_cache: dict[int, Any] = {}


def parse_log(number: int) -> int:
    """Keep what was parsed, just in case."""
    return _parse(number)


def parse_bounded(number: int) -> int:
    """Keep what was parsed last."""
    size = _parse(number)
    while len(_cache) > BOUND:
        _cache.pop(next(iter(_cache)))
    return size


def _parse(number: int) -> int:
    import numpy as np

    _cache[number] = np.ones(LOG // 8)
    time.sleep(0.05)
    return len(_cache[number])


def leaking(session: Session) -> Steps:
    """Parse all logs with the unbounded cache."""
    yield from _in_batches(session, parse_log)
    _weigh(session, parse_log.__name__)


def bounded(session: Session) -> Steps:
    """Parse all logs with the bounded cache."""
    yield from _in_batches(session, parse_bounded)
    _weigh(session, parse_bounded.__name__)


def _in_batches(session: Session, parse: Callable[[int], int]) -> Steps:
    """Hold the results of a few only: a death loses them, and they leak again."""
    for first in range(0, LOGS, BATCH):
        yield session.client.map(parse, range(first, first + BATCH), pure=False)


def _weigh(session: Session, prefix: str) -> None:
    """Note what MemDash has measured that the tasks leave behind, in bytes."""
    row = session.api.prefix(prefix, lambda row: row["execution"]["leak"] is not None)
    leak = row["execution"]["leak"] if row else None
    session.figures["left_per_task"] = None if leak is None else leak["per_task"]


def conclude(results: Sequence[Result]) -> list[str]:
    """Say what the three stages show."""
    stuck, killed, bound = results
    return [
        "With Dask's own thresholds workers pause at 80 % and wait for memory that "
        f"nobody gives back: '{stuck.outcome}'. MemDash says: {stuck.cause}, "
        f"responsible: {stuck.responsible}.",
        f"Without pausing the nannies restart them: {killed.deaths} deaths, and then "
        f"'{killed.outcome}'; what a death loses is computed again.",
        f"With a bounded cache the baseline reached "
        f"{format_bytes(bound.peaks['baseline'])} in place of "
        f"{format_bytes(killed.peaks['baseline'])}, and nobody died.",
    ]


def shown(results: Sequence[Result]) -> bool:
    """See whether the leak was named in both its forms, and the remedy helped."""
    stuck, killed, bound = results
    return (
        stuck.outcome == "stuck"
        and stuck.cause == "leak"
        and stuck.responsible == parse_log.__name__
        and killed.deaths > 0
        and killed.cause == "leak"
        and bound.outcome == "ok"
        and not bound.deaths
    )


COMPLAINT = Complaint(
    name="leak",
    complaint=(
        "“I guess this is what the memory manager built into Dask distributed does; it "
        "just realizes it will constantly leak memory, so it periodically kills leaky "
        "workers?”"
    ),
    stages=(
        Stage(
            Case("leak, Dask's thresholds", leaking, LOGS * LOG, LOG),
            "Each task leaves 12 MB in a cache; workers pause at 80 %.",
        ),
        Stage(
            Case("leak, never paused", leaking, LOGS * LOG, LOG),
            "The same with distributed.worker.memory.pause off.",
            config={"distributed.worker.memory.pause": False},
        ),
        Stage(
            Case("bounded cache", bounded, LOGS * LOG, LOG),
            "The cache keeps three entries.",
        ),
    ),
    conclude=conclude,
    shown=shown,
)
