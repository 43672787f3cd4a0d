"""A worker's figures on the page of Prometheus metrics that its own server has."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from dask_memdash.metrics.family import Family
from dask_memdash.metrics.registry import serve
from dask_memdash.metrics.worker import worker_families
from dask_memdash.model.breakdown import break_down, join_readings

if TYPE_CHECKING:
    from distributed.worker import Worker

    from dask_memdash.plugins.worker.probe import WorkerProbe

# The probes of this process that are served.
_probes: list[WorkerProbe] = []


def serve_metrics(probe: WorkerProbe, worker: Worker) -> Callable[[], None]:
    """Show the figures of a worker on its page; return what takes them away.

    It is read at each scrape, as it is for a heartbeat; of other workers of its process
    their last heartbeats count.
    """

    def families() -> list[Family]:
        told = [other.told for other in _probes if other is not probe]
        others = [reading for reading, _ in told if reading is not None]
        breakdown = break_down(join_readings([probe.read(), *others]))
        limit = worker.memory_manager.memory_limit
        return worker_families(breakdown, limit, probe.tasks.count, probe.told[1])

    withdraw = serve("worker", worker, families)
    _probes.append(probe)

    def undo() -> None:
        _probes[:] = [other for other in _probes if other is not probe]
        withdraw()

    return undo
