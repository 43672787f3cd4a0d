"""What a worker's probe says of what it cannot measure, a sentence each."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from dask_memdash.boundary import boundary
from dask_memdash.plugins.shims import TOPIC

if TYPE_CHECKING:
    from distributed.worker import Worker

#: What is said where the kernel keeps no high-water mark that can be set back.
NO_HIGH_WATER = (
    "the kernel does not let the high-water mark of the RSS be set back (clear_refs); "
    "what native libraries use in a task that runs alone is not measured. Set "
    "memdash.tally to `native`, which counts it"
)

#: What is said before the baseline is known.
NEVER_IDLE = (
    "no idle moment has been seen yet: the baseline still contains memory of tasks, so "
    "execution is shown too small. Figures are right once the worker was idle"
)


def of_the_system(*, high_water: bool) -> list[str]:
    """Say what this system does not let be measured.

    Parameters
    ----------
    high_water
        Whether the kernel's high-water mark can be set back.
    """
    if not sys.platform.startswith("linux"):
        return [
            f"this system ({sys.platform}) has no /proc: the RSS is read through "
            "psutil; what native libraries use, what was reserved and never touched, "
            "and what the kernel killed are not measured"
        ]
    return [] if high_water else [NO_HIGH_WATER]


def of_now(
    *, over_budget: float | None, certain: bool, without_slot: int
) -> Iterator[str]:
    """Say what is degraded now, and may not be any more at the next heartbeat.

    Parameters
    ----------
    over_budget
        The budget, a share of a core, if MemDash holds back for it; else None.
    certain
        Whether the baseline is known.
    without_slot
        Tasks that found no slot in the flight recorder, so far.
    """
    yield from boundary.recent()
    if over_budget is not None:
        yield (
            "MemDash cost more of a core here than memdash.budget allows "
            f"({over_budget:.2%}), so it measures more coarsely until it costs less"
        )
    if not certain:
        yield NEVER_IDLE
    if without_slot:
        yield (
            f"{without_slot:,} tasks ran without a slot in the flight recorder and "
            "were not measured; raise memdash.recorder.slots"
        )


def say_missing(worker: Worker, error: Exception) -> None:
    """Tell the scheduler that a worker is not measured, as no heartbeat will.

    Parameters
    ----------
    error
        What the setup ended in.
    """
    text = f"MemDash cannot be set up ({type(error).__name__}: {error})"
    where = getattr(worker, "address_safe", "")
    _log_event(
        worker,
        {"action": "missing", "kind": "worker", "where": where, "text": text},
    )


def _send(worker: Worker, message: dict[str, str]) -> None:
    worker.log_event(TOPIC, message)


_log_event = boundary.guarded(_send, "telling that a worker is not measured")
