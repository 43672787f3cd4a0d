"""What the tasks that run at once would have taken.

Pure.  `k` tasks at once take at most what the `k` largest tasks take; they take at
least what was seen of so many at once.  All sizes are integers in bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dask_memdash.counterfactual.evidence import MEASURED, Evidence, TaskSizes
from dask_memdash.counterfactual.interval import Interval
from dask_memdash.counterfactual.storage import WARM
from dask_memdash.text import code

#: What a count may miss of a task beside the error that was told, as a share.
NOT_COUNTED = 0.02


@dataclass(frozen=True, slots=True)
class Execution:
    """What running tasks would have taken, and why it is not known better."""

    size: Interval
    #: Tasks at once.
    tasks: int
    #: The prefix that takes most; empty without any.
    prefix: str
    #: Why nothing bounds it, in words; empty where something does.
    unknown: str = ""


def execution(evidence: Evidence, threads: int, chunks: float) -> Execution:
    """Return what running tasks would take on the worst worker."""
    at_once, before = threads, evidence.threads
    total = sum(t.finished for t in evidence.tasks)
    if evidence.complete and total:
        # As many as there are can run, no more; halves are twice as many.
        at_once = min(threads, max(1, round(total / min(1.0, chunks))))
        before = min(before, total)
    known = sorted(evidence.tasks, key=_largest, reverse=True)
    theirs = [t for t in known if t.prefix not in evidence.cut_elsewhere]
    largest = theirs[0].prefix if theirs and _largest(theirs[0]) else ""
    unknown = _unknown(known, evidence)
    low = round(_at_least(evidence, at_once, before) * _lower(known, chunks))
    if unknown:
        return Execution(Interval(low, None), at_once, largest, unknown)
    high = _top(known, at_once, chunks) * _missed(evidence, at_once, before)
    return Execution(Interval(min(low, round(high)), round(high)), at_once, largest)


def _largest(task: TaskSizes) -> int:
    return max(task.most or 0, task.at_least or 0)


def _unknown(known: Sequence[TaskSizes], evidence: Evidence) -> str:
    """Say why nothing bounds what tasks take."""
    for task in known:
        if task.prefix in evidence.elsewhere and task.finished:
            return (
                f"tasks of {code(task.prefix)} that finished may be those of another "
                "computation, of other sizes"
            )
        if task.censored and task.prefix not in evidence.cut_elsewhere:
            return (
                f"{code(task.prefix)} was cut short, so that nobody knows what it "
                "would have come to"
            )
        if task.finished and task.most is None:
            return f"no peak of {code(task.prefix)} was measured"
        if task.finished and (task.method not in MEASURED or task.error is None):
            return f"peaks of {code(task.prefix)} are only estimated"
    if not known:
        return "no task was seen to run"
    if not evidence.complete and not any(task.finished for task in known):
        return "no task finished"
    if evidence.cut_elsewhere:
        prefix = code(evidence.cut_elsewhere[0])
        return (
            f"{prefix} was cut short in another failure, and it is not known whether "
            "tasks of it were to run here"
        )
    return ""


def _at_least(evidence: Evidence, at_once: int, before: int) -> int:
    """Return what so many tasks at once surely take, by what was seen of them."""
    seen = max((s.executing for s in evidence.seen), default=0)
    seen = max(seen, sum(evidence.suspects))
    if at_once >= before:
        each = max((s.each for s in evidence.seen), default=0)
        if evidence.left_behind > WARM or (evidence.suspects and not evidence.complete):
            each = 0  # it was not theirs; or how they went on is not known
        return seen + (at_once - before) * each
    if evidence.suspects and sum(evidence.suspects) >= seen:
        return sum(evidence.suspects[:at_once])
    return seen * at_once // max(1, before)


def _lower(known: Sequence[TaskSizes], chunks: float) -> float:
    """Return by what factor tasks take less at least."""
    if chunks <= 1:
        return chunks
    return chunks if known and all(task.root for task in known[:1]) else 1.0


def _top(known: Sequence[TaskSizes], at_once: int, chunks: float) -> float:
    """Return the most that so many tasks take, in bytes: the largest of all."""
    sizes: list[float] = []
    for task in known:
        sizes += _largest_of(task, at_once, chunks)
    return sum(sorted(sizes, reverse=True)[:at_once])


def _largest_of(task: TaskSizes, number: int, chunks: float) -> list[float]:
    """Return upper bounds of the largest tasks of a prefix, largest first."""
    factor = chunks if task.root else max(1.0, chunks)
    count = max(1, round(task.finished / min(1.0, factor)))
    error = task.error or 0
    bounds = []
    for rank in range(min(number, count)):
        share = rank / max(1, task.finished)
        size = task.most if share < 0.05 else task.p95 if share < 0.5 else task.p50
        bounds.append((size or 0) * (1 + NOT_COUNTED) * factor + error)
    return bounds


def not_theirs(evidence: Evidence) -> int:
    """Return what was in tasks that ran beyond all that is counted of them, in bytes.

    While tasks run what a leak left behind is taken for theirs, and so are outputs that
    are larger than Dask believes.  It may as well be memory of theirs that nobody
    counts.  A trifle, and what is of a run that ended well, is none.
    """
    if evidence.complete or not evidence.tasks:
        return 0
    known = sorted(evidence.tasks, key=_largest, reverse=True)
    counted = max(_top(known, evidence.threads, 1.0), sum(evidence.suspects))
    seen = max((s.executing for s in evidence.seen), default=0)
    beyond = seen - round(counted)
    return beyond if beyond > WARM else 0


def _missed(evidence: Evidence, at_once: int, before: int) -> float:
    """Return by what factor more was seen than tasks account for: 1 or more."""
    if evidence.left_behind > WARM:
        return 1.0  # what was left behind was taken for theirs
    if at_once <= before and not_theirs(evidence):
        return 1.0  # it is taken for what was left behind, which may come to more
    counted = _top(sorted(evidence.tasks, key=_largest, reverse=True), before, 1.0)
    seen = max((s.executing for s in evidence.seen), default=0)
    return max(1.0, seen / counted) if counted > 0 else 1.0
