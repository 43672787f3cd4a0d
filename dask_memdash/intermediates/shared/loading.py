"""What a worker does in place of a task whose value is stored: load it.

:func:`load_stored` travels in graphs to workers, which load this module and nothing of
the scheduler's.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Any

from dask_memdash.boundary import boundary
from dask_memdash.intermediates.shared.protocol import NAME
from dask_memdash.intermediates.stored import Stored, load_value


@dataclass(slots=True)
class ReadBack:
    """What this process has loaded so far."""

    count: int = 0
    #: In bytes, of the values as Dask sizes them.
    bytes: int = 0
    #: Together, in seconds.
    seconds: float = 0.0
    failed: int = 0


_LOCK = threading.Lock()
_READ_BACK: dict[str, ReadBack] = {}


def read_back(address: str) -> ReadBack:
    """Return what a worker of this process has loaded so far."""
    with _LOCK:
        return _READ_BACK.setdefault(address, ReadBack())


def forget(address: str) -> None:
    """Forget a worker that has gone."""
    with _LOCK:
        _READ_BACK.pop(address, None)


def load_stored(stored: Stored) -> Any:
    """Return a stored value, in a worker's own thread.

    Raises
    ------
    StorageError
        It is missing, damaged or out of reach; the scheduler has it computed then.
    """
    worker = _worker_here()
    value = load_for("" if worker is None else str(worker.address), stored)
    side = None if worker is None else worker.extensions.get(NAME)
    if side is not None:
        boundary.guarded(side.loaded, "telling of a loaded value")(stored, value)
    return value


def load_for(address: str, stored: Stored) -> Any:
    """Return a stored value, and count it as read back by a worker."""
    from dask.sizeof import sizeof

    figures, begun = read_back(address), time.perf_counter()
    try:
        value = load_value(stored)
    except BaseException:
        with _LOCK:
            figures.failed += 1
        raise
    size = sizeof(value)
    with _LOCK:
        figures.count += 1
        figures.bytes += size
        figures.seconds += time.perf_counter() - begun
    return value


def _worker_here() -> Any:
    from distributed import get_worker

    try:
        return get_worker()
    except ValueError:
        return None
