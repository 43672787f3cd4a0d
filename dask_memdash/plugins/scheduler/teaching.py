"""Who teaches the guard of workers, where it is on; elsewhere it is not loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dask_memdash.config import Settings
from dask_memdash.model.cluster import ClusterModel

if TYPE_CHECKING:
    from distributed.scheduler import Scheduler

    from dask_memdash.guard.on_scheduler import GuardTeacher


def teacher(
    scheduler: Scheduler, model: ClusterModel, settings: Settings
) -> GuardTeacher | None:
    """Return who learns from a model's events and tells workers; None if it is off."""
    if settings.guard == "off":
        return None
    from dask_memdash.guard.on_scheduler import GuardTeacher

    return GuardTeacher(scheduler, model, settings)
