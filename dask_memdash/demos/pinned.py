"""What is persisted stays: a step that would fit alone finds no room beside it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from dask_memdash.demos.experiment import Case, Result, Session, Steps
from dask_memdash.demos.stages import MB, Complaint, Stage
from dask_memdash.text import count, format_bytes

#: Outputs that are persisted, and the size of each in bytes.
DAYS = 7
DAY = 18 * MB

#: What a task of the next step needs, in bytes.
FIT = 112 * MB

#: ``distributed.worker.memory`` as the notes advise it.
NO_SPILLING = {
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": 0.80,
    "distributed.worker.memory.terminate": 0.95,
}


def load_day(day: int) -> Any:
    """Load what will be persisted."""
    import numpy as np

    time.sleep(0.1)
    return np.full(DAY // 8, float(day))


def fit_model(_: int) -> int:
    """Take its memory bit by bit, and give it back."""
    import numpy as np

    blocks = []
    for _step in range(FIT // (8 * MB)):
        blocks.append(np.ones(MB))
        time.sleep(0.05)
    time.sleep(0.5)
    return len(blocks)


def keep(session: Session) -> Steps:
    """Persist, and compute the next step beside it."""
    days = session.client.map(load_day, range(DAYS), pure=False)
    yield days
    _until_seen(session)
    yield session.client.map(fit_model, range(4), pure=False)
    del days


def let_go(session: Session) -> Steps:
    """Persist, let go, and compute the next step."""
    days = session.client.map(load_day, range(DAYS), pure=False)
    yield days
    _until_seen(session)
    del days
    yield session.client.map(fit_model, range(4), pure=False)


def _until_seen(session: Session) -> None:
    """Wait until MemDash knows that a client holds what was persisted."""
    row = session.api.prefix(
        load_day.__name__,
        lambda row: (row["storage"]["pinned"] or 0) >= DAYS * DAY * 0.95,
    )
    session.figures["pinned"] = row["storage"]["pinned"] if row else None


def _case(name: str, work: Any) -> Case:
    return Case(name, work, DAYS * DAY, DAY)


def conclude(results: Sequence[Result]) -> list[str]:
    """Say what the three stages show."""
    kept, spilled, released = results
    return [
        f"{format_bytes(kept.figures.get('pinned') or 0)} were persisted. With "
        f"spilling off: {kept.outcome}, {count(kept.deaths, 'death')}; MemDash says: "
        f"{kept.cause}, responsible: {kept.responsible}.",
        "Persisted outputs do go to disk by now: with Dask's own thresholds "
        f"{format_bytes(spilled.peaks['spilled'])} were spilled at most, and it ended "
        f"with '{spilled.outcome}'.",
        f"Letting go of them before the next step ended with '{released.outcome}', "
        f"with {format_bytes(released.peaks['spilled'])} spilled.",
    ]


def shown(results: Sequence[Result]) -> bool:
    """See whether the trouble and both remedies showed."""
    kept, spilled, released = results
    return (
        kept.deaths > 0
        and kept.cause == "pinned"
        and kept.found("pinned", load_day.__name__)
        and spilled.outcome == "ok"
        and spilled.peaks["spilled"] > 0
        and released.outcome == "ok"
        and not released.deaths
    )


COMPLAINT = Complaint(
    name="pinned",
    complaint=(
        "“.persist() pins stuff in memory and will result in OOM errors. It appears "
        "that persisted objects are not allowed to spill to disk even if running out "
        "of memory is imminent.”"
    ),
    stages=(
        Stage(
            _case("persist, spilling off", keep),
            "Thresholds as the same notes advise: target and spill off, pause at "
            "80 %, terminate at 95 %.",
            workers=1,
            config=NO_SPILLING,
        ),
        Stage(
            _case("persist, spilling on", keep),
            "Dask's own thresholds: target 60 %, spill 70 %, pause 80 %.",
            workers=1,
        ),
        Stage(
            _case("release before the next step", let_go),
            "Spilling is off again, but the futures are released in time.",
            workers=1,
            config=NO_SPILLING,
        ),
    ),
    conclude=conclude,
    shown=shown,
)
