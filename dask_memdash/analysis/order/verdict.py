"""The verdict on a graph's order, and why its roots are queued or not, in words.

All sizes in bytes.
"""

from __future__ import annotations

from typing import NamedTuple

from dask_memdash.analysis.order.comparison import Judgement
from dask_memdash.analysis.order.need import Need
from dask_memdash.model.graph_columns import RootGroup
from dask_memdash.text import code, count, format_bytes, join

#: Least share above what the order needs, and of the workers' limits, that is called
#: run-ahead; the least in bytes where the workers have no limit.
SHARE_ABOVE = 0.25
SHARE_OF_CAPACITY = 0.05
LEAST_AHEAD = 64 * 2**20

#: How much of the run-ahead a prefix must be for 'nearly all of it'.
NEARLY_ALL = 0.8

#: Limit that a worker needs to be given for each byte of room for a task, about: the
#: nanny ends it at 95 % of the limit.
LIMIT_FOR_ROOM = 1 / 0.95

#: Why there is nothing to compare with → what is said of it.
WHY_NO_ROOM = {
    "no-limit": "Not every worker has a limit to compare with",
    "young": "What an idle worker takes has not been measured yet, so that their room "
    "is not known",
    "no-workers": "There is no worker whose room it could be compared with",
}

#: A group with no more tasks than this for each thread is never root-ish
#: (``SchedulerState.is_rootish``).
TASKS_PER_THREAD = 2


class Verdict(NamedTuple):
    """A kind ('fits', 'runs-ahead', 'cannot-fit', 'unknown') and one sentence."""

    kind: str
    text: str


def verdict(judgement: Judgement) -> Verdict:
    """Say whether the graph fits, ran ahead, or cannot fit.

    It fits only where that is known: of every prefix at least one task has run, and
    what sizes may be off by would not change the answer.
    """
    snapshot = judgement.snapshot
    if not judgement.measured and not snapshot.usual:
        return Verdict(
            "unknown",
            "No output has been stored yet, so that nothing is known of their sizes.",
        )
    need, has = judgement.need, snapshot.room.task
    if has is not None and need is not None and not need.ran:  # what ran did fit
        needs_at_least = need.bytes - need.doubt
        if needs_at_least > has:
            return Verdict("cannot-fit", _fits_nowhere(need, has))
    capacity = snapshot.capacity
    if capacity is not None and judgement.minimum - judgement.uncertainty > capacity:
        if _is_over(judgement):
            return Verdict("fits", _did_fit(judgement, capacity))
        return Verdict("cannot-fit", _cannot_fit(judgement, capacity))
    if _is_ahead(judgement):
        return Verdict("runs-ahead", _runs_ahead(judgement))
    why_not = "" if _is_over(judgement) else _not_known(judgement)
    if why_not:
        return Verdict("unknown", why_not)
    return _fits(judgement)


def _is_over(judgement: Judgement) -> bool:
    """Say whether all tasks have run: the graph did fit."""
    snapshot = judgement.snapshot
    return snapshot.capacity is not None and snapshot.done >= snapshot.total > 0


def _not_known(judgement: Judgement) -> str:
    """Say why it is not known yet whether the graph fits; empty where it is."""
    snapshot, need = judgement.snapshot, judgement.need
    capacity, has = snapshot.capacity, snapshot.room.task
    needs = _needs(judgement)
    if capacity is None:
        why = WHY_NO_ROOM.get(snapshot.room.unknown, WHY_NO_ROOM["no-workers"])
        return f"{why}; {needs}{_held(judgement)}."
    if judgement.never_ran:
        named = join([code(name) for name in judgement.never_ran[:2]])
        more = len(judgement.never_ran) - 2
        named += f" and {more} more" if more > 0 else ""
        return (
            "Whether it fits is not known until the first tasks of "
            f"{named} have run; {needs} so far, and the workers have room for "
            f"{format_bytes(capacity)}."
        )
    if judgement.minimum + judgement.uncertainty > capacity:
        return (
            f"Whether it fits is not known yet: {needs} ± "
            f"{format_bytes(judgement.uncertainty)}, since not all sizes have been "
            f"measured, and the workers have room for {format_bytes(capacity)}."
        )
    if has is not None and need is not None and not need.ran:
        needs_at_most = need.bytes + need.doubt
        if needs_at_most > has:
            return (
                f"Whether it fits is not known yet: one task of {code(need.prefix)} "
                f"needs {format_bytes(need.bytes)} ± {format_bytes(need.doubt)}, and "
                f"the largest worker has {format_bytes(has)} for it."
            )
    return ""


def _fits_nowhere(need: Need, has: int) -> str:
    more = format_bytes(LIMIT_FOR_ROOM * (need.bytes - has))
    what, how = "at once", "Use smaller chunks"
    if need.inputs > need.bytes / 2:
        what, how = "of inputs at once", "Combine its inputs in steps"
    size = need.inputs if need.inputs > has else need.bytes
    what = what if size == need.inputs else "at once"
    return (
        f"{code(need.prefix)} needs {format_bytes(size)} {what}, and the largest "
        f"worker has {format_bytes(has)} for it. {how}, or raise the "
        f"workers' memory limit by {more}."
    )


def _is_ahead(judgement: Judgement) -> bool:
    ahead = judgement.surely_held - judgement.surely_needed
    capacity = judgement.snapshot.capacity
    least = LEAST_AHEAD if capacity is None else SHARE_OF_CAPACITY * capacity
    return ahead >= least and ahead > SHARE_ABOVE * judgement.surely_needed


def _did_fit(judgement: Judgement, capacity: int) -> str:
    """Say of a graph that has run that it has, whatever its order needs."""
    return (
        f"It has run, though its order needs {format_bytes(judgement.minimum)} of "
        f"storage even one task at a time and the workers have room for "
        f"{format_bytes(capacity)}{_held(judgement)}: what did not fit was on disk, or "
        "the cluster kept to another order."
    )


def _cannot_fit(judgement: Judgement, capacity: int) -> str:
    snapshot, room = judgement.snapshot, judgement.snapshot.room
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
    spilling = ["spilling to disk"] if room.unspilling or not room.processes else []
    remedies = [*spilling, "more or bigger workers", *smaller, *steps, *unpinned]
    return (
        f"The order needs {format_bytes(judgement.minimum)} of storage at task "
        f"{judgement.minimum_position:,} of {snapshot.total:,}, even one task at a "
        f"time, and the workers have room for {format_bytes(capacity)}. What helps: "
        f"{', '.join(remedies[:-1])} or {remedies[-1]}."
    )


def _runs_ahead(judgement: Judgement) -> str:
    by = judgement.run_ahead_by
    share = by[0][1] / max(1, judgement.run_ahead or 0)
    mostly = (
        f"nearly all of the difference is {code(by[0][0])}"
        if share >= NEARLY_ALL
        else f"most of the difference is {join([code(name) for name, _ in by[:2]])}"
    )
    return (
        f"The cluster stored {format_bytes(judgement.surely_held)} where the order "
        f"needs at most {format_bytes(judgement.surely_needed)} "
        f"({count(judgement.snapshot.threads, 'task')} at a time, "
        f"{judgement.surely_position:,} of {judgement.snapshot.total:,} done)"
        f"; {mostly}. {_slow_down(judgement, by[0][0])}."
    )


def _slow_down(judgement: Judgement, prefix: str) -> str:
    roots = [root for root in judgement.snapshot.roots if root.prefix == prefix]
    if not roots:
        return (
            "These are no root tasks, so the scheduler does not hold them back. "
            "Give the tasks that consume them a higher priority"
        )
    root = roots[0]
    if root.rootish and root.saturation is None:
        return (
            "Lower `distributed.scheduler.worker-saturation` (now inf; Dask's default "
            "is 1.1), so that these root tasks wait on the scheduler"
        )
    if root.queued and (root.saturation or 0) > 1:
        return (
            "Lower `distributed.scheduler.worker-saturation` "
            f"(now {root.saturation:g}) to 1.0, or give the workers fewer threads"
        )
    if root.queued:
        return "The scheduler queues them already. Give the workers fewer threads"
    return (
        "The scheduler does not queue them, because it does not take them for root "
        f"tasks ({_why_not(root)}). Split the graph, or use fewer and larger chunks "
        "there"
    )


def _needs(judgement: Judgement) -> str:
    threads = count(judgement.snapshot.threads, "task")
    needs = format_bytes(judgement.minimum_threads)
    return f"its order needs {needs} ({threads} at a time)"


def _held(judgement: Judgement) -> str:
    if judgement.actual_peak is None:
        return ""
    so_far = "" if judgement.snapshot.finished else " so far"
    most = format_bytes(judgement.actual_peak)
    return f", and the cluster stored at most {most}{so_far}"


def _fits(judgement: Judgement) -> Verdict:
    snapshot, need = judgement.snapshot, judgement.need
    room, capacity = snapshot.room, snapshot.capacity or 0
    held = _held(judgement)
    if judgement.minimum_threads > capacity:
        # Workers that cannot spill are paused where it does not fit, and may stay so.
        ran = snapshot.done >= snapshot.total
        return Verdict(
            "unknown" if room.unspilling and not ran else "fits",
            f"Fits only with fewer tasks at a time: {_needs(judgement)}, one at a time "
            f"{format_bytes(judgement.minimum)}, and the workers have room for "
            f"{format_bytes(capacity)}{held}.",
        )
    text = f"Fits: {_needs(judgement)} of the workers' {format_bytes(capacity)}{held}."
    if need is not None and room.task is not None and not need.ran:
        text += (
            f" Its largest task, {code(need.prefix)}, needs "
            f"{format_bytes(need.bytes)} of the {format_bytes(room.task)} that one "
            "worker has for it."
        )
    if room.guessed:
        text += (
            f" {count(room.guessed, 'worker')} of {room.processes:,} "
            f"{'has' if room.guessed == 1 else 'have'} not been idle yet; this assumes "
            "that an idle process takes as much there as elsewhere."
        )
    return Verdict("fits", text)


def why_rootish(root: RootGroup) -> str:
    """Say by the scheduler's own rule how it takes a group of root tasks."""
    if not root.rootish:
        return f"The scheduler does not take it for root tasks: {_why_not(root)}."
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


def _why_not(root: RootGroup) -> str:
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
