"""Why the scheduler queues a group of root tasks or not, by its own rule, in words."""

from __future__ import annotations

from dask_memdash.model.graph_columns import RootGroup
from dask_memdash.text import count

#: A group with no more tasks than this for each thread is never root-ish
#: (``SchedulerState.is_rootish``).
TASKS_PER_THREAD = 2


def why_rootish(root: RootGroup) -> str:
    """Say by the scheduler's own rule how it takes a group of root tasks."""
    if not root.rootish:
        return f"The scheduler does not take it for root tasks: {why_not(root)}."
    size = f"{count(root.tasks, 'task')} for {count(root.threads, 'thread')}"
    because = "marked as producers of data" if root.producer else size
    if root.saturation is None:
        return (
            f"These are root tasks ({because}), but the scheduler queues none: "
            "distributed.scheduler.worker-saturation is inf."
        )
    if not root.queued:
        return (
            f"These are root tasks ({because}), but they are of a kind that the "
            "scheduler does not queue."
        )
    return (
        f"These are root tasks ({because}), and the scheduler queues them: each "
        f"worker gets {root.saturation:g} times as many as it has threads."
    )


def why_not(root: RootGroup) -> str:
    """Say why the scheduler does not take a group for root tasks."""
    if root.restricted:
        return "it is bound to workers, hosts or resources"
    if root.tasks <= TASKS_PER_THREAD * root.threads:
        return (
            f"its {count(root.tasks, 'task')} {'is' if root.tasks == 1 else 'are'} not "
            f"more than twice the "
            f"{count(root.threads, 'thread')}"
        )
    return (
        f"it depends on {count(root.group_tasks, 'task')} in "
        f"{count(root.groups, 'group')}"
    )
