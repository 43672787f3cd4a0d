"""The verdict on a graph's order, in words.

All sizes in bytes.
"""

from __future__ import annotations

from typing import NamedTuple

from dask_memdash.analysis.order.comparison import Judgement
from dask_memdash.analysis.order.need import Need
from dask_memdash.analysis.order.roots import why_not
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


class Verdict(NamedTuple):
    """A kind of ``terms.ORDER_VERDICTS`` and what is said: what was judged, in words.

    'fits' is said only where storage, one task, and the tasks that run at once on a
    worker all are known to fit; 'storage-fits' where nothing is known of the latter.
    """

    kind: str
    text: str


def verdict(judgement: Judgement) -> Verdict:
    """Say whether the graph fits, ran ahead, or cannot fit.

    It fits only where that is known: of every prefix at least one task has run, what
    sizes may be off by would not change the answer, and no worker died of it.
    """
    snapshot = judgement.snapshot
    if not judgement.measured and not snapshot.usual:
        nothing = (
            "No output has been stored yet, so that nothing is known of their sizes."
        )
        return Verdict("unknown", f"{nothing}{_deaths(judgement)}")
    need, has = judgement.need, snapshot.room.task
    if has is not None and need is not None and not need.ran:  # what ran did fit
        needs_at_least = need.bytes - need.doubt
        if needs_at_least > has:
            return Verdict("cannot-fit", _fits_nowhere(need, has))
    capacity = snapshot.capacity
    if capacity is not None and judgement.minimum - judgement.uncertainty > capacity:
        if _is_over(judgement):
            return Verdict(
                "fits", f"{_did_fit(judgement, capacity)}{_deaths(judgement)}"
            )
        return Verdict("cannot-fit", _cannot_fit(judgement, capacity))
    too_many = _is_too_many(judgement)
    if too_many and snapshot.deaths:  # that comes before what they stored
        return Verdict("too-many-at-once", _too_many(judgement))
    if _is_ahead(judgement):
        return Verdict("runs-ahead", _runs_ahead(judgement))
    if too_many:
        return Verdict("too-many-at-once", _too_many(judgement))
    why_not = "" if _is_over(judgement) else _not_known(judgement)
    if why_not:
        return Verdict("unknown", f"{why_not}{_deaths(judgement)}")
    return _fits(judgement)


def _deaths(judgement: Judgement) -> str:
    """Say that workers died meanwhile; empty where none did."""
    deaths = judgement.snapshot.deaths
    if not deaths:
        return ""
    named = f"incident {deaths[0]}" + (" and others" if len(deaths) > 1 else "")
    return (
        f" {count(len(deaths), 'worker')} died for memory while it ran: {named} "
        f"{'says' if len(deaths) == 1 else 'say'} why."
    )


def _is_too_many(judgement: Judgement) -> bool:
    """Say whether tasks that run together surely need more than a worker has.

    If as many as there are threads have run and no worker died, their peaks do not come
    together: then it is not known.
    """
    together, snapshot = judgement.at_once, judgement.snapshot
    return (
        together is not None
        and together.tasks > 1
        and together.surely > together.has
        and not _is_over(judgement)
        and (bool(snapshot.deaths) or together.ran < snapshot.threads)
    )


def _too_many(judgement: Judgement) -> str:
    """Say which tasks do not fit together, how many do, what helps, and what fits."""
    together = judgement.at_once
    assert together is not None
    least, most = ("at least ", "at most ") if together.at_least else ("", "")
    # With fewer threads, as many tasks as fit; one fits, or it "cannot fit".
    fit = max(1, together.fit)
    more = format_bytes(LIMIT_FOR_ROOM * (together.surely - together.has))
    return (
        f"{count(together.tasks, 'task')} at once do not fit on a worker: each of "
        f"{code(together.prefix)} needs {least}{format_bytes(together.each)} beside "
        f"its inputs, and there is room for {format_bytes(together.has)}."
        f"{_deaths(judgement)} Start the workers with {most}{count(fit, 'thread')} "
        f"each, use smaller chunks, or raise their memory limit by {more}. "
        f"{_of_storage(judgement)}"
    )


def _of_storage(judgement: Judgement) -> str:
    """Say of storage alone whether it fits, as far as that is known."""
    capacity = judgement.snapshot.capacity
    most = judgement.minimum_threads + judgement.uncertainty
    if capacity is None or judgement.never_ran or most > capacity:
        return "Whether its storage fits is not known yet."
    return _storage_fits(judgement)


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
            f"{named} have finished; {needs} so far, and the workers have room for "
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
    together = judgement.at_once
    if together is None or together.at_most is None:
        if snapshot.deaths:
            return f"{_storage_fits(judgement)} Whether its tasks do is not known."
        return ""
    if together.at_most > together.has and together.tasks > 1:
        ran = ""
        if together.ran and not snapshot.deaths:
            ran = f"; {together.ran:,} of {code(together.prefix)} ran, and none died"
        return (
            f"{_storage_fits(judgement)} One task at a time fits too. Whether "
            f"{count(together.tasks, 'task')} at once fit is not known yet: they may "
            f"need up to {format_bytes(together.at_most)} with their inputs, and a "
            f"worker has {format_bytes(together.has)} for them{ran}."
        )
    if snapshot.deaths:
        return (
            f"{_storage_fits(judgement)} What is known of its tasks fits too, each by "
            "itself."
        )
    return ""


def _storage_fits(judgement: Judgement) -> str:
    capacity = judgement.snapshot.capacity or 0
    return (
        f"Storage fits: {_needs(judgement, '')} of the workers' "
        f"{format_bytes(capacity)}{_held(judgement)}."
    )


def _fits_nowhere(need: Need, has: int) -> str:
    more = format_bytes(LIMIT_FOR_ROOM * (need.bytes - has))
    what, how = "at once", "Use smaller chunks"
    if need.inputs > need.bytes / 2:
        what, how = "of inputs at once", "Combine its inputs in steps"
    size = need.inputs if need.inputs > has else need.bytes
    what = what if size == need.inputs else "at once"
    least = "at least " if need.at_least and size != need.inputs else ""
    return (
        f"{code(need.prefix)} needs {least}{format_bytes(size)} {what}, and the "
        f"largest worker has {format_bytes(has)} for it. {how}, or raise the "
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
        f"tasks ({why_not(root)}). Split the graph, or use fewer and larger chunks "
        "there"
    )


def _needs(judgement: Judgement, what: str = " of storage") -> str:
    threads = count(judgement.snapshot.threads, "task")
    needs = format_bytes(judgement.minimum_threads)
    return f"its order needs {needs}{what} ({threads} at a time)"


def _held(judgement: Judgement) -> str:
    if judgement.actual_peak is None:
        return ""
    so_far = "" if judgement.snapshot.finished else " so far"
    most = format_bytes(judgement.actual_peak)
    return f", and the cluster stored at most {most}{so_far}"


def _fits(judgement: Judgement) -> Verdict:
    snapshot, capacity = judgement.snapshot, judgement.snapshot.capacity or 0
    room, over = snapshot.room, _is_over(judgement)
    if judgement.minimum_threads > capacity:
        # Workers that cannot spill are paused where it does not fit, and may stay so.
        return Verdict(
            "unknown" if room.unspilling and not over else "fits",
            f"Storage fits only with fewer tasks at a time: {_needs(judgement, '')}, "
            f"one at a time {format_bytes(judgement.minimum)}, and the workers have "
            f"room for {format_bytes(capacity)}{_held(judgement)}."
            f"{_deaths(judgement)}",
        )
    text = _storage_fits(judgement)
    if over:
        text = f"It has run. {text}{_deaths(judgement)}"
        return Verdict("fits", f"{text}{_guessed(judgement)}")
    kind, of_tasks = _tasks_fit(judgement)
    return Verdict(kind, f"{text}{of_tasks}{_guessed(judgement)}")


def _tasks_fit(judgement: Judgement) -> tuple[str, str]:
    """Say what is known of the tasks of a graph whose storage fits."""
    need, has = judgement.need, judgement.snapshot.room.task
    together, text = judgement.at_once, ""
    if need is not None and has is not None and not need.ran:
        least = "at least " if need.at_least else ""
        text = (
            f" Its largest task, {code(need.prefix)}, needs {least}"
            f"{format_bytes(need.bytes)} of the {format_bytes(has)} that one worker "
            "has for it."
        )
    if together is None or together.at_most is None:
        return "storage-fits", (
            f"{text} What its tasks use while they run has not been measured, so that "
            "it is not known whether those that run at once fit."
        )
    if together.tasks > 1:
        text += (
            f" The {count(together.tasks, 'task')} that a worker runs at once need at "
            f"most {format_bytes(together.at_most)} of {format_bytes(together.has)}."
        )
    return "fits", text


def _guessed(judgement: Judgement) -> str:
    room = judgement.snapshot.room
    if not room.guessed:
        return ""
    return (
        f" {count(room.guessed, 'worker')} of {room.processes:,} "
        f"{'has' if room.guessed == 1 else 'have'} not been idle yet; this assumes "
        "that an idle process takes as much there as elsewhere."
    )
