"""How the scheduler takes the tasks at a graph's roots, by its own rule.

The rule is asked of the scheduler that runs (``SchedulerState.is_rootish``); what
stands beside its answer are the numbers that it looks at.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dask_memdash.model.graph_columns import RootGroup

if TYPE_CHECKING:
    from distributed.scheduler import Scheduler, TaskGroup, TaskState

#: Groups that are told of at most, the largest first.
MAX_ROOTS = 12

#: Groups that a group may depend on for their tasks to be counted.
MAX_COUNTED = 100

#: A group with so many more tasks than all it depends on is near the roots.
NEAR = 20


def root_groups(
    scheduler: Scheduler, groups: Mapping[TaskGroup, Any]
) -> tuple[RootGroup, ...]:
    """Describe the groups that count as root-ish, and those that nearly are roots.

    Parameters
    ----------
    groups
        Task groups, each with the key of one of its tasks.
    """
    found = [
        root
        for group, key in groups.items()
        if (task := scheduler.tasks.get(key)) is not None
        and (root := _describe(scheduler, group, task)) is not None
    ]
    found.sort(key=lambda root: (-root.tasks, root.prefix))
    return tuple(found[:MAX_ROOTS])


def _describe(
    scheduler: Scheduler, group: TaskGroup, task: TaskState
) -> RootGroup | None:
    if task.group is not group:
        return None  # forgotten meanwhile, and come again
    rootish = bool(scheduler.is_rootish(task))
    dependencies = group.dependencies
    counted = len(dependencies) <= MAX_COUNTED
    group_tasks = sum(map(len, dependencies)) if counted else 0
    near = counted and group_tasks * NEAR <= len(group)
    if not (rootish or near):
        return None
    saturation = float(scheduler.WORKER_SATURATION)
    queueable = bool(getattr(task, "_queueable", True))
    return RootGroup(
        prefix=str(group.prefix.name) if group.prefix else str(group.name),
        tasks=len(group),
        threads=int(scheduler.total_nthreads),
        rootish=rootish,
        queued=rootish and queueable and math.isfinite(saturation),
        saturation=saturation if math.isfinite(saturation) else None,
        groups=len(dependencies),
        group_tasks=group_tasks,
        restricted=bool(
            task.resource_restrictions
            or task.worker_restrictions
            or task.host_restrictions
        ),
        producer=bool(getattr(task.run_spec, "data_producer", False)),
    )
