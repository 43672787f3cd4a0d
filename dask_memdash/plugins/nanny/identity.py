"""Which process a nanny's worker is, where it listens, and how it ended.

A nanny's own word on its worker's address is that of the *previous* worker from a
restart until the new one is ready, and the first task may come, and kill it, before
that.  So an address comes from the worker's flight recorder, or from the nanny where
it is sure to speak of this process.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from dask_memdash.errors import RecorderError
from dask_memdash.flight.format import Header
from dask_memdash.flight.reader import RecorderReader

if TYPE_CHECKING:
    from distributed.nanny import Nanny, WorkerProcess
    from distributed.process import AsyncProcess

#: Exit status by which the host says that it does not know the exit status.
UNKNOWN_STATUS = 255


def process_of(nanny: Nanny) -> AsyncProcess | None:
    """Return the process that a nanny has at this instant, alive or not."""
    worker_process = nanny.process
    process = worker_process.process if worker_process is not None else None
    return process if process is not None and process.pid is not None else None


def is_starting(nanny: Nanny) -> bool:
    """Whether a nanny's worker process has not told the nanny its address yet."""
    worker_process = nanny.process
    return worker_process is None or worker_process.status.name == "starting"


def is_closing(nanny: Nanny) -> bool:
    """Whether a nanny is going to be there no more."""
    return nanny.status.name in ("closing", "closing_gracefully", "closed")


def is_asked_to_end(nanny: Nanny, process: AsyncProcess) -> bool:
    """Whether a process that lives has been asked to end.

    Of one that has ended it says no: a nanny may close *because* its worker died.
    """
    current = _current(nanny, process)
    if process.exitcode is not None or current is None:
        return False
    return is_closing(nanny) or current.status.name in (
        "stopping",
        "closing_gracefully",
    )


def address_of(nanny: Nanny, process: AsyncProcess) -> str:
    """Return the address of a process's worker by the nanny; empty if not sure."""
    current = _current(nanny, process)
    if current is None or current.status.name == "starting":
        return ""
    return str(current.worker_address or "")


def _current(nanny: Nanny, process: AsyncProcess) -> WorkerProcess | None:
    """Return what the nanny says of its worker, if that is about this process."""
    worker_process = nanny.process
    if worker_process is None or worker_process.process is not process:
        return None
    return worker_process


def terminates_above(nanny: Nanny) -> int:
    """Return the RSS above which a nanny terminates its worker, in bytes; 0: never."""
    manager = nanny.memory_manager
    limit, fraction = manager.memory_limit, manager.memory_terminate_fraction
    return int(limit * fraction) if limit and fraction else 0


def header_of(recorders: Iterable[RecorderReader]) -> Header | None:
    """Return the header of a worker's recorder; None where it cannot be read."""
    for recorder in recorders:
        try:
            return recorder.header()
        except RecorderError:
            continue
    return None


def describe_nanny(nanny: Nanny) -> dict[str, Any]:
    """Return what a message says of the nanny, which is what its worker is found by."""
    return {
        "nanny": str(nanny.address_safe),
        "name": str(getattr(nanny, "name", "")),
        "host": str(getattr(nanny, "ip", "")),
    }


def status_of(process: AsyncProcess, child: Any) -> int | None:
    """Return the exit status of a process that has ended; None while it lives.

    Two threads of the host may ask the kernel at once, which answers one of them: Dask
    then says `UNKNOWN_STATUS`, and `child`, the process as multiprocessing has it, may
    know better a moment later.
    """
    status: int | None = process.exitcode
    if status != UNKNOWN_STATUS or child is None:
        return status
    try:
        known: int | None = child.exitcode
    except ValueError:  # closed
        known = None
    return status if known is None else known


def exit_of(status: int | None) -> tuple[int | None, int | None]:
    """Split an exit status as multiprocessing has it into status and signal."""
    if status is None or status == UNKNOWN_STATUS:
        return None, None
    return (status, None) if status >= 0 else (None, -status)
