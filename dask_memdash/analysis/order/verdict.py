"""The verdict on a graph's order, and why its roots are queued or not, in words.

All sizes in bytes.
"""

from __future__ import annotations

from typing import NamedTuple

from dask_memdash.analysis.order.comparison import Judgement
from dask_memdash.model.graph_columns import RootGroup
from dask_memdash.text import code, count, format_bytes, join

#: Least share above what the order needs, and of the workers' limits, that is called
#: run-ahead; the least in bytes where the workers have no limit.
SHARE_ABOVE = 0.25
SHARE_OF_CAPACITY = 0.05
LEAST_AHEAD = 64 * 2**20

#: How much of the run-ahead a prefix must be for 'nearly all of it'.
NEARLY_ALL = 0.8

#: A group with no more tasks than this for each thread is never root-ish
#: (``SchedulerState.is_rootish``).
TASKS_PER_THREAD = 2


class Verdict(NamedTuple):
    """A kind ('fits', 'runs-ahead', 'cannot-fit', 'unknown') and one sentence."""

    kind: str
    text: str


def verdict(judgement: Judgement) -> Verdict:
    """Say whether the graph fits, ran ahead, or cannot fit."""
    snapshot = judgement.snapshot
    if not judgement.measured and not snapshot.usual:
        return Verdict(
            "unknown",
            "No output has been stored yet, so that nothing is known of their sizes.",
        )
    if snapshot.capacity is not None and judgement.minimum > snapshot.capacity:
        return Verdict("cannot-fit", _cannot_fit(judgement, snapshot.capacity))
    if _is_ahead(judgement):
        return Verdict("runs-ahead", _runs_ahead(judgement))
    return Verdict(
        "fits" if snapshot.capacity is not None else "unknown", _fits(judgement)
    )


def _is_ahead(judgement: Judgement) -> bool:
    ahead = (judgement.run_ahead or 0) - judgement.needed_doubt
    capacity = judgement.snapshot.capacity
    least = LEAST_AHEAD if capacity is None else SHARE_OF_CAPACITY * capacity
    return ahead >= least and ahead > SHARE_ABOVE * judgement.needed_there


def _cannot_fit(judgement: Judgement, capacity: int) -> str:
    snapshot = judgement.snapshot
    names = [name for name, _ in judgement.minimum_by[:1]]
    smaller = [f"smaller chunks of {code(name)}" for name in names]
    steps = (
        ["rechunking in intermediate steps (`array.rechunk.method`, `threshold`)"]
        if any("rechunk" in name for name, _ in judgement.minimum_by)
        else []
    )
    kept = next((w.minimum for w in judgement.what_if if "kept by" in w.change), None)
    unpinned = (
        ["not keeping all outputs in memory (store them as they come)"]
        if kept is not None and kept <= capacity
        else []
    )
    remedies = ["spilling to disk", "bigger workers", *smaller, *steps, *unpinned]
    return (
        f"This order needs {format_bytes(judgement.minimum)} at task "
        f"{judgement.minimum_position:,} of {snapshot.total:,} even one task at a "
        f"time; the workers have {format_bytes(capacity)}: it takes "
        f"{', '.join(remedies[:-1])} or {remedies[-1]}."
    )


def _runs_ahead(judgement: Judgement) -> str:
    by = judgement.run_ahead_by
    share = by[0][1] / max(1, judgement.run_ahead or 0)
    mostly = (
        f", nearly all of it {code(by[0][0])}"
        if share >= NEARLY_ALL
        else f", mostly {join([code(name) for name, _ in by[:2]])}"
    )
    return (
        f"Held {format_bytes(judgement.held_there)} where its order needs "
        f"{format_bytes(judgement.needed_there)} "
        f"({count(judgement.snapshot.threads, 'task')} at a time, "
        f"{judgement.run_ahead_position:,} of {judgement.snapshot.total:,} done)"
        f"{mostly}: {_slow_down(judgement, by[0][0])}."
    )


def _slow_down(judgement: Judgement, prefix: str) -> str:
    roots = [root for root in judgement.snapshot.roots if root.prefix == prefix]
    if not roots:
        return (
            "these are no root tasks, so that the scheduler does not hold them back; "
            "give what consumes them a higher priority, or more threads"
        )
    root = roots[0]
    if root.rootish and root.saturation is None:
        return (
            "lower `distributed.scheduler.worker-saturation` (now inf; 1.1 is Dask's "
            "default), so that these root tasks wait on the scheduler"
        )
    if root.queued and (root.saturation or 0) > 1:
        return (
            "lower `distributed.scheduler.worker-saturation` "
            f"(now {root.saturation:g}) to 1.0, or give the workers fewer threads"
        )
    if root.queued:
        return "they are queued already; give the workers fewer threads"
    return (
        "they are not queued, since they do not count as root-ish "
        f"({_why_not(root)}); split the graph, or use fewer and larger chunks there"
    )


def _fits(judgement: Judgement) -> str:
    snapshot = judgement.snapshot
    at_a_time = f"{count(snapshot.threads, 'task')} at a time"
    needs = f"its order needs {format_bytes(judgement.minimum_threads)} ({at_a_time})"
    held = (
        ""
        if judgement.actual_peak is None
        else f", and held at most {format_bytes(judgement.actual_peak)}"
        + ("" if snapshot.finished else " so far")
    )
    if snapshot.capacity is None:
        return f"Not every worker has a limit to compare with; {needs}{held}."
    if judgement.minimum_threads > snapshot.capacity:
        return (
            f"Fits only with fewer tasks at a time: {needs}, one at a time "
            f"{format_bytes(judgement.minimum)}, and the workers have "
            f"{format_bytes(snapshot.capacity)}{held}."
        )
    return f"Fits: {needs} of the workers' {format_bytes(snapshot.capacity)}{held}."


def why_rootish(root: RootGroup) -> str:
    """Say by the scheduler's own rule how it takes a group of root tasks."""
    if not root.rootish:
        return f"Not root-ish, so never queued: {_why_not(root)}."
    size = f"{count(root.tasks, 'task')} for {count(root.threads, 'thread')}"
    because = "marked as producers of data" if root.producer else size
    if root.saturation is None:
        return (
            f"Root-ish ({because}), but nothing is queued: "
            "distributed.scheduler.worker-saturation is inf."
        )
    if not root.queued:
        return f"Root-ish ({because}), but not queued: its tasks may not be."
    return (
        f"Root-ish ({because}) and queued: workers get "
        f"{root.saturation:g} times as many as they have threads."
    )


def _why_not(root: RootGroup) -> str:
    if root.restricted:
        return "it is bound to workers, hosts or resources"
    if root.tasks <= TASKS_PER_THREAD * root.threads:
        return (
            f"its {count(root.tasks, 'task')} are not more than twice the "
            f"{count(root.threads, 'thread')}"
        )
    return (
        f"it depends on {count(root.group_tasks, 'task')} in "
        f"{count(root.groups, 'group')}"
    )
