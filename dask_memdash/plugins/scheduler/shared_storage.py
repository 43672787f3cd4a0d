"""What MemDash asks of the cluster's memory of intermediates, where there is one.

That memory is a plugin of its own (:mod:`dask_memdash.intermediates.shared.plugin`),
registered before or after this one or never: it is looked up by name each time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dask_memdash.model.events import IntermediatesTold

if TYPE_CHECKING:
    from distributed.scheduler import Scheduler, TaskState

#: Name of the plugin.
NAME = "memdash-storage"

#: Module of the function that a load's task calls.
LOADS = "dask_memdash.intermediates.shared.loading"


def kept_by(scheduler: Scheduler) -> Callable[[object], str | None] | None:
    """Return what says of a key whether it is "stored" or "pending"; None without."""
    plugin: Any = scheduler.plugins.get(NAME)
    state_of = getattr(plugin, "state_of", None)
    return state_of if state_of is not None and plugin.is_running else None


def is_load(task: TaskState) -> bool:
    """Return whether a task loads its value from the memory, and computes nothing."""
    function = getattr(task.run_spec, "func", None)
    return getattr(function, "__module__", None) == LOADS


#: What is told once the memory has been taken away.
GONE: dict[str, Any] = {
    "address": "",
    **dict.fromkeys(
        ("objects", "stored", "pending", "failed", "never", "stand_ins"), 0
    ),
}


class IntermediatesWatch:
    """Tells what the memory says of itself, whenever that has changed."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._told: dict[str, Any] = {}

    def step(self, now: float) -> IntermediatesTold | None:
        """Return what is new now, Unix time in seconds; None if nothing is."""
        plugin: Any = self._scheduler.plugins.get(NAME)
        figures = getattr(plugin, "figures", None)
        told: dict[str, Any] | None = None if figures is None else figures()
        told = told or {}
        if told == self._told:
            return None
        self._told = told
        return IntermediatesTold(time=now, **(told or GONE))
