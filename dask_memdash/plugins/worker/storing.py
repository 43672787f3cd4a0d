"""What a worker does for the cluster's memory of intermediates, for its heartbeat."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distributed import Worker

#: Name of the extension by which the memory's side on a worker is found.
NAME = "memdash-storage"


def storing(worker: Worker) -> dict[str, Any] | None:
    """Return the figures of a worker's side of the memory; None without one."""
    side: Any = worker.extensions.get(NAME)
    figures: dict[str, Any] | None = None if side is None else side.figures()
    return figures
