"""One walk over a model's workers, and rounds over its prefixes: what a scrape costs.

A thousand workers' objects are seldom in the processor's caches when a scrape comes, so
each is touched once, and of prefixes some thousands a scrape.

Imports the standard library and the model only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from operator import attrgetter, itemgetter

from dask_memdash.model.breakdown import PARTS
from dask_memdash.model.cluster import ClusterModel
from dask_memdash.model.prefixes import Prefixes, PrefixState

#: Figures of which the largest of any worker process is told.
LARGEST = ("process", *PARTS)

#: Prefixes that one scrape looks at beside those shown: the newest, and some of the
#: others.  Of more, those that have become large again are found by one of the next.
NEWEST = 500
LOOKED_AT = 1_000

#: Seconds for which what MemDash costs is told as it was: it changes slowly.
COSTS_KEPT = 60.0

_breakdown = attrgetter("breakdown")
_largest_figures = attrgetter(*LARGEST)
_worker_figures = attrgetter("reading", "stale_for", "notices", "nanny_notices")
_costs = attrgetter("cost.cpu", "cost.bytes", "nanny_cost.cpu", "nanny_cost.bytes")


@dataclass(slots=True)
class Walked:
    """What a walk over the workers finds."""

    #: State → workers: ``measured``, ``silent`` and ``unmeasured``.
    states: dict[str, int]
    #: Part → the most of any process, in bytes; empty where none was read.
    most: dict[str, float | None]
    #: Shares of their limits of the processes that have one.
    shares: list[float]
    #: Sum of the limits in bytes; None where a process has none.
    limit: int | None
    #: Workers of which, or of whose nanny, it is said what is lacking.
    degraded: int
    #: Processor time and bytes of MemDash on all workers, and on all nannies.
    costs: list[float | None] = field(default_factory=list)


class Walk:
    """Walks over the workers of one cluster.

    Parameters
    ----------
    model
        Which is read only.
    """

    def __init__(self, model: ClusterModel) -> None:
        self._model = model
        self._known: tuple[list[object], list[object]] = ([], [])
        self._limits: list[int | None] = []
        self._costs: tuple[float, list[float | None]] = (-COSTS_KEPT, [])

    def walk(self) -> Walked:
        """Look at all workers and their processes as they are now."""
        processes, workers = self._model.processes, self._model.processes.workers
        limits = self._limits_now()
        breakdowns = list(map(_breakdown, processes.by_key.values()))
        figures = [_largest_figures(b) for b in breakdowns if b is not None]
        most = [max(column) for column in zip(*figures, strict=True)]
        limited = [n for n, b in zip(limits, breakdowns, strict=True) if b is not None]
        shares = [
            parts[0] / limit
            for parts, limit in zip(figures, limited, strict=True)
            if limit
        ]
        states = dict.fromkeys(("measured", "silent", "unmeasured"), 0)
        degraded = 0
        for reading, stale, said, by_nanny in map(_worker_figures, workers.values()):
            if reading is None:
                states["unmeasured"] += 1
            elif stale is not None:
                states["silent"] += 1
            else:
                states["measured"] += 1
            degraded += bool(said or by_nanny)
        known = [limit for limit in limits if limit is not None]
        return Walked(
            states,
            dict(zip(LARGEST, most, strict=True)) if most else {},
            shares,
            sum(known) if known and len(known) == len(limits) else None,
            degraded,
            self._costs_now(),
        )

    def _costs_now(self) -> list[float | None]:
        """Return the sums of what MemDash costs on workers and nannies."""
        now, workers = self._model.time, self._model.processes.workers
        if not 0 <= now - self._costs[0] < COSTS_KEPT:
            costs = [*map(_costs, workers.values())]
            sums = [_sum(list(map(itemgetter(n), costs))) for n in range(4)]
            # While nobody has told, it may be told soon.
            self._costs = (now if None not in sums else -COSTS_KEPT, sums)
        return self._costs[1]

    def _limits_now(self) -> list[int | None]:
        """Return the limit of every process, kept while the workers are the same."""
        processes = self._model.processes
        known: tuple[list[object], list[object]] = (
            list(processes.by_key),
            list(processes.workers),
        )
        if known != self._known:
            self._known = known
            self._limits = [process.limit for process in processes.by_key.values()]
        return self._limits


class PrefixRounds:
    """Goes through all prefixes, some at each scrape, and begins again.

    Parameters
    ----------
    prefixes
        Which are read only.
    """

    def __init__(self, prefixes: Prefixes) -> None:
        self._prefixes = prefixes
        self._left: Iterator[tuple[str, PrefixState]] = iter(())
        self._n_left = 0

    def larger(self, least: float) -> list[tuple[int, str]]:
        """Return weight in bytes and name of those that weigh more than the least.

        Of the newest prefixes and the next of the others, or of all where there are no
        more than these.
        """
        known = self._prefixes.by_name
        if self._n_left <= 0:
            everything = list(known.items())
            self._left, self._n_left = iter(everything), len(everything)
        self._n_left -= LOOKED_AT
        some = [
            *islice(self._left, LOOKED_AT),
            *islice(reversed(known.items()), NEWEST),
        ]
        # Written out, for this is most of what a scrape costs.
        found = {
            name: size
            for name, state in some
            if (size := state.managed + state.spilled + state.executing) > least
        }
        return [(size, name) for name, size in found.items() if name in known]


def _sum(figures: list[float | None]) -> float | None:
    known = [figure for figure in figures if figure is not None]
    return sum(known) if known else None
