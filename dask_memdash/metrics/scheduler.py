"""The cluster's figures, for the page of metrics that the scheduler's server has.

At most 200 series and 5 ms a scrape, however many workers and prefixes there are
(``benchmarks/metrics.py``): sums are the model's running ones, workers are walked once,
some thousands of prefixes are looked at, and only the largest have series of their own.

Runs on the scheduler's event loop, once a scrape.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from itertools import accumulate
from operator import attrgetter

import dask_memdash
from dask_memdash.metrics.counters import Counters
from dask_memdash.metrics.family import (
    Family,
    Samples,
    counter,
    counters,
    gauge,
    gauges,
    label_value,
)
from dask_memdash.metrics.largest_prefixes import LargestPrefixes
from dask_memdash.metrics.walk import PrefixRounds, Walk, Walked
from dask_memdash.model.breakdown import PARTS
from dask_memdash.model.cluster import ClusterModel
from dask_memdash.model.prefixes import PrefixState
from dask_memdash.store.scheduler_memory import scheduler_memory

#: Bounds of the shares of workers' limits.
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)

#: Label of all prefixes that have no series of their own; one that is called so is set
#: apart by the marks around it.
OTHER = "other"
CALLED_OTHER = "`other`"

_prefix_figures = attrgetter("managed", "spilled", "executing")


class SchedulerFigures:
    """Makes the metrics of one cluster from its model, which it only reads.

    Parameters
    ----------
    model
        What is known of the cluster.
    """

    def __init__(self, model: ClusterModel) -> None:
        self._model = model
        self._walk = Walk(model)
        self._largest = LargestPrefixes()
        self._rounds = PrefixRounds(model.prefixes)
        self.counters = Counters(model.incidents)

    def families(self) -> list[Family]:
        """Return all metrics as they are now."""
        walked = self._walk.walk()
        return [
            *self._sums(walked),
            *self._workers(walked),
            *self._prefixes(),
            *self._happened(),
            *self._own(walked),
        ]

    def _sums(self, walked: Walked) -> list[Family]:
        total = self._model.processes.total
        read = bool(walked.most)
        return [
            gauges(
                "memdash_memory_bytes",
                "Where the memory of all workers is; the types add up to their "
                "processes (RSS).",
                "type",
                {part: getattr(total, part) if read else None for part in PARTS},
            ),
            gauge(
                "memdash_memory_error_bytes",
                "By how much the type executing may be wrong.",
                total.error if read else None,
            ),
            gauge(
                "memdash_managed_claimed_bytes",
                "Stored outputs as Dask's sizeof has them, which may exceed what is "
                "resident.",
                total.managed_claimed if read else None,
            ),
            gauge(
                "memdash_spilled_bytes",
                "Outputs that are spilled, at their size in memory.",
                total.spilled if read else None,
            ),
            gauge(
                "memdash_spilled_disk_bytes",
                "Outputs that are spilled, at their size on disk.",
                total.spilled_disk if read else None,
            ),
            gauge(
                "memdash_limit_bytes",
                "Sum of the workers' memory limits; none where a worker has no limit.",
                walked.limit,
            ),
        ]

    def _workers(self, walked: Walked) -> list[Family]:
        return [
            gauges(
                "memdash_workers",
                "Workers that report, whose heartbeat is overdue, and of which MemDash "
                "has no reading.",
                "state",
                {**walked.states},
            ),
            gauges(
                "memdash_worker_memory_maximum_bytes",
                "The most that any one worker process has of each type; process is all "
                "of it.",
                "type",
                walked.most,
            ),
            gauge(
                "memdash_worker_limit_ratio_maximum",
                "The largest share of its limit that any worker process takes.",
                max(walked.shares, default=None),
            ),
            _distribution(
                "memdash_worker_limit_ratio",
                "Worker processes by the share of their limit that they take now.",
                walked.shares,
            ),
        ]

    def _prefixes(self) -> list[Family]:
        model, largest = self._model, self._largest
        known = model.prefixes.by_name

        def weight(name: str) -> int | None:
            state = known.get(name)
            return None if state is None else state.weight

        largest.fade(model.time, weight)
        shown = largest.admit(self._rounds.larger(largest.least))
        total = model.processes.total
        sums = [total.managed, total.spilled or 0, model.processes.counted]
        sizes: dict[tuple[str, ...], float] = {}
        peaks: dict[str, float | None] = {}
        for name in shown:
            state = known[name]
            label = label_value(name)
            label = CALLED_OTHER if label == OTHER else label
            for number, (kind, size) in enumerate(_sizes(_prefix_figures(state))):
                sizes[label, kind] = sizes.get((label, kind), 0) + size
                sums[number] -= size
            peak = _peak(state)
            if peak is not None:
                peaks[label] = max(peak, peaks.get(label) or 0)
        for kind, size in _sizes(sums):
            sizes[OTHER, kind] = max(0, size)
        return [
            Family(
                "memdash_prefix_memory_bytes",
                "gauge",
                "What the largest task prefixes store, have spilled, and hold in "
                "running tasks as far as these are counted.",
                ("task_prefix_name", "type"),
                sizes,
            ),
            gauges(
                "memdash_prefix_task_peak_bytes",
                "What a task of the prefix needs while it runs: 95 of 100 tasks stay "
                "below, and it is at least what one held whose worker died.",
                "task_prefix_name",
                peaks,
            ),
        ]

    def _happened(self) -> list[Family]:
        model, happened = self._model, self.counters
        happened.look(model.time)
        still = sum(failure.closed is None for failure in model.failures)
        return [
            gauge(
                "memdash_failures_open",
                "Failures of computations that are not over yet.",
                still,
            ),
            counter(
                "memdash_failures_opened",
                "Failures of computations that have opened.",
                happened.opened,
            ),
            counters(
                "memdash_failures",
                "Failures of computations that are over, by cause.",
                "cause",
                happened.failures,
            ),
            counters(
                "memdash_incidents",
                "Deaths of workers and other troubles about memory, by kind.",
                "kind",
                happened.incidents,
            ),
            counter(
                "memdash_pauses",
                "Times that a worker was above its pause threshold.",
                model.pauses.count,
            ),
        ]

    def _own(self, walked: Walked) -> list[Family]:
        model = self._model
        cpu_workers, size_workers, cpu_nannies, size_nannies = walked.costs
        seen = scheduler_memory(model.scheduler)
        version = dask_memdash.__version__
        return [
            gauge(
                "memdash_scheduler_memory_bytes",
                "The scheduler's own process (RSS).",
                None if seen is None else seen["rss"],
            ),
            gauge(
                "memdash_scheduler_limit_bytes",
                "The least that caps the scheduler's process: its cgroup, machine or "
                "rlimit.",
                None if seen is None else seen["limit"],
            ),
            gauge(
                "memdash_degraded_places",
                "Places where MemDash lacks something that its page names.",
                sum(bool(texts) for _, texts in model.notices.values())
                + walked.degraded,
            ),
            gauges(
                "memdash_self_cpu_cores",
                "Processor time of MemDash in all these places, in seconds a second.",
                "place",
                {
                    "scheduler": model.cost.cpu,
                    "workers": cpu_workers,
                    "nannies": cpu_nannies,
                },
            ),
            gauges(
                "memdash_self_memory_bytes",
                "What MemDash's own data weighs in all these places, about.",
                "place",
                {
                    "scheduler": model.cost.bytes,
                    "workers": size_workers,
                    "nannies": size_nannies,
                },
            ),
            gauges("memdash_info", "MemDash on this cluster.", "version", {version: 1}),
        ]


def _sizes(figures: Iterable[int]) -> list[tuple[str, int]]:
    return list(zip(("managed", "spilled", "executing"), figures, strict=True))


def _peak(state: PrefixState) -> float | None:
    """Return what a task needs as far as it is known, in bytes."""
    known = [
        peak
        for peak in (state.peaks.quantile(0.95), state.at_least)
        if peak is not None
    ]
    return max(known, default=None)


def _distribution(name: str, text: str, shares: list[float]) -> Family:
    """Return how many shares are at most each of the bounds."""
    counts = [0] * (len(SHARES) + 1)
    for share in shares:
        counts[bisect_left(SHARES, share)] += 1
    bounds = [*(f"{bound:g}" for bound in SHARES), "+Inf"]
    cumulated = accumulate(counts)
    samples: Samples = {(b,): float(n) for b, n in zip(bounds, cumulated, strict=True)}
    return Family(name, "gaugehistogram", text, ("le",), samples, sum(shares))
