"""What would have been stored, and what workers keep of their own.

Pure.  All sizes are integers in bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

from dask_memdash.counterfactual.change import Change
from dask_memdash.counterfactual.evidence import Evidence
from dask_memdash.counterfactual.interval import NOTHING, Interval

#: By how much two runs of the same differ in what they store at most, and what that is
#: of nothing: a share, and bytes.
SPREAD = 0.1
TRIFLE = 4_000_000

#: Own memory that a worker gains and that is no leak: modules, pools, caches.
WARM = 12_000_000

#: Run-ahead that is none, as a share of what the order needs.
NO_RUN_AHEAD = 0.1


@dataclass(frozen=True, slots=True)
class Bound:
    """A size, and why nothing bounds it; empty where something does."""

    size: Interval
    unknown: str = ""


def storage(evidence: Evidence, change: Change, workers: int, threads: int) -> Bound:
    """Return what the worst worker would have stored at most, in RAM and on disk."""
    worst = max((s.stored for s in evidence.seen), default=0)
    low, high, why = _whole(evidence, change, threads)
    if workers == evidence.workers:
        # What was seen of one worker has its spread over all of them in it already.
        uneven = worst / max(1, evidence.stored / workers)
        part_low = low / workers * min(uneven, 1.25) if workers > 1 else low
        if evidence.complete and not _other_order(evidence, change, threads):
            part_low = worst * (1 - SPREAD)
        part_high = None if high is None else max(worst, high / workers * uneven)
    else:
        if evidence.order is not None:  # fewer or more of them run ahead otherwise
            low = min(low, float(evidence.order.minimum or 0))
        part_low = low / workers
        part_high = None if high is None else high / workers * 1.5
        if workers < evidence.workers and part_high is not None:
            part_high = max(part_high, float(worst))
    if part_high is None:
        return Bound(Interval(round(part_low), None), why)
    most = part_high * (1 + SPREAD) + (TRIFLE if part_high else 0)
    return Bound(Interval(round(min(part_low, most)), round(most)), why)


def _other_order(evidence: Evidence, change: Change, threads: int) -> bool:
    """Whether tasks come in another order than they did."""
    return threads != evidence.threads or change.chunks != 1.0


def _whole(
    evidence: Evidence, change: Change, threads: int
) -> tuple[float, float | None, str]:
    """Return least and most that all workers store together, and why it is not known.

    Of a run that was cut short its order tells what there would have been.
    """
    order, seen = evidence.order, float(evidence.stored)
    if order is not None and evidence.complete:
        seen = max(seen, float(order.actual_peak or 0))
    outputs = seen < TRIFLE
    if evidence.complete:
        if not _other_order(evidence, change, threads) or outputs:
            return seen * (1 - SPREAD), seen, ""
        least = seen if order is None else min(seen, float(order.minimum or 0))
        if order is None:
            return least * 0.5, None, evidence.no_order
        if threads > evidence.threads or change.chunks > 1:
            ahead = (order.run_ahead or 0) > NO_RUN_AHEAD * max(1, order.minimum or 0)
            factor = max(1.0, threads / evidence.threads, change.chunks)
            most = seen * factor if ahead else seen + (factor - 1) * (seen - least)
            return min(least, seen), max(most, seen), ""
        return least * min(1.0, change.chunks), seen, ""
    if order is None:
        return seen, None, evidence.no_order
    minimum = float(max(order.minimum_threads or 0, order.minimum or 0))
    if order.done * 20 < order.tasks and not minimum:
        return seen, None, "no output had been stored when it ended"
    ahead = (order.run_ahead or 0) > NO_RUN_AHEAD * max(1.0, minimum) + TRIFLE
    least = float(order.minimum or 0) * (1 - SPREAD)
    if threads == evidence.threads and change.chunks == 1.0:
        least = max(least, seen if workers_same(change) else 0.0)
    if ahead:
        return (
            least,
            None,
            "it ran ahead of its order, and how far it would have is open",
        )
    return least, max(minimum * (1 + SPREAD), seen), ""


def workers_same(change: Change) -> bool:
    """Whether there are as many workers as there were."""
    return change.workers == 0


def own(evidence: Evidence, change: Change, workers: int, beyond: int = 0) -> Bound:
    """Return what the worst worker has of its own, with what tasks left behind in it.

    What they leave behind goes with the tasks: with fewer of them on a worker there is
    less.

    Parameters
    ----------
    evidence, change, workers
        What is known, what is asked, and how many workers there would have been.
    beyond
        What was in running tasks and is in no count of theirs, in bytes.  Some or all
        of it was left behind by those before.
    """
    if not evidence.seen:
        return Bound(NOTHING, "no worker has told of its memory")
    idle = min(s.own_least for s in evidence.seen)
    grown = [s.own_most - s.own_least for s in evidence.seen]
    most = max(s.own_most for s in evidence.seen) - idle
    if most <= WARM and not beyond:
        return Bound(Interval(idle, idle + most + TRIFLE))
    # Modules and caches come once to each worker; a leak goes with its tasks. Which it
    # was is open, so that both are within the interval.
    low, high = most * (1 - SPREAD), (most + beyond) * (1 + SPREAD)
    if workers != evidence.workers:
        low = min(low, sum(grown) / workers)
        high *= max(1.0, evidence.workers / workers)
    if evidence.complete:
        return Bound(Interval(idle + round(low), idle + round(high)))
    if beyond and "unaccounted" in evidence.deaths:
        why = "memory that nobody counted grew, and what it would have come to is open"
        return Bound(Interval(idle + round(low), None), why)
    order = evidence.order
    if order is None or not order.done:
        why = "memory was left behind, and how many tasks were to come is open"
        return Bound(Interval(idle + round(low), None), why)
    # A task may leave as much if its chunk is smaller, and there are more of them.
    high *= order.tasks / order.done * max(1.0, 1 / change.chunks)
    return Bound(Interval(idle + round(low), idle + round(high)))
