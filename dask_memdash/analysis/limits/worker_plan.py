"""How to start workers on a machine: how many, with what threads and memory.

Pure: from what was read on the machine, and from measured peaks of tasks where there
are any, to a :class:`Plan` with its reasons.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dask_memdash.analysis.limits.context import meets, option, whose
from dask_memdash.analysis.limits.limit_environment import IN_MEMORY, SCRATCH_LITTLE
from dask_memdash.model.limit_facts import Cap, LimitFacts, MiB
from dask_memdash.text import count, format_bytes, with_capital

#: Dask's own pause threshold: tasks that run together should stay below it.
PAUSE = 0.8

#: What Dask sets for workers under a nanny, so that freed memory goes back.
ENVIRONMENT = {"MALLOC_TRIM_THRESHOLD_": "65536"}


@dataclass(frozen=True, slots=True)
class Peak:
    """What the largest tasks that were measured need, in bytes."""

    prefix: str
    #: Of 95 in 100 tasks of this prefix, and of the largest one.
    p95: int
    largest: int


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the user has settled already; None for what is to be worked out."""

    nworkers: int | None = None
    nthreads: int | None = None
    #: Memory to leave to others, beside what they use now, in bytes.
    reserve: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """How to start workers on a machine; sizes in bytes."""

    nworkers: int
    nthreads: int
    memory_limit: int
    #: What all workers may have together.
    budget: int
    #: What limits that: the name of a cap or 'MemAvailable'.
    source: str
    #: Threads of which all may run the largest task at once; None without a profile.
    threads_that_fit: int | None
    environment: Mapping[str, str]
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def fits(self) -> bool:
        """Whether the largest task that was measured fits at all."""
        return self.threads_that_fit is None or self.threads_that_fit >= 1

    @property
    def options(self) -> str:
        """The options of ``dask worker``."""
        return (
            f"--nworkers {self.nworkers} --nthreads {self.nthreads} "
            f"--memory-limit {option(self.memory_limit)}"
        )


def divide(cpus: int) -> tuple[int, int]:
    """Divide processors into workers and threads as Dask does by default.

    As ``distributed.deploy.utils.nprocesses_nthreads``: up to 4 processors, a worker
    each; beyond, about as many workers as each has threads.
    """
    if cpus <= 4:
        return max(1, cpus), 1
    factors = [n for n in range(1, cpus + 1) if cpus % n == 0]
    workers = min(n for n in factors if n * n >= cpus)
    return workers, cpus // workers


def largest_peak(prefixes: Sequence[Mapping[str, object]]) -> Peak | None:
    """Return the largest measured peak of a list of prefixes as the API gives it.

    What does not have the API's shape is left out.  None where no peak was measured.
    """
    peaks = []
    for row in prefixes:
        execution = row.get("execution")
        sizes = execution.get("peak") if isinstance(execution, Mapping) else None
        if not isinstance(sizes, Mapping):
            continue
        p95, largest = _size(sizes.get("p95")), _size(sizes.get("max"))
        if p95 is not None and largest is not None:
            peaks.append(Peak(str(row.get("prefix")), p95, max(p95, largest)))
    return max(peaks, key=lambda peak: (peak.p95, peak.largest), default=None)


def make_plan(
    facts: LimitFacts,
    cpus: int,
    own: int,
    wishes: Wishes,
    peak: Peak | None = None,
    baseline: int | None = None,
) -> Plan | None:
    """Work out how to start workers; None where no memory can be read at all.

    Parameters
    ----------
    facts
        What was read in the surroundings that the workers will have.
    cpus
        Processors that Dask counts.
    own
        What a process with Dask in it takes, in bytes: the nanny's, and a worker's
        before it has done anything.
    wishes
        What is settled.
    peak
        The largest measured tasks.
    baseline
        What an idle worker was measured to take, in bytes; `own` without it.
    """
    budget, source, reasons = _budget(facts, own, wishes.reserve)
    if budget is None or source is None:
        return None
    baseline = own if baseline is None else max(own, baseline)
    most = _per_process(facts)
    choices = _choices(cpus, wishes)
    fitting = None
    if peak is None:
        workers, threads = choices[0]
        reasons.append(_why_divided(cpus, workers, threads, wishes))
    else:
        scored = [
            (min(t, _fit(_limit(budget, n, most), peak, baseline)), n, t)
            for n, t in choices
        ]
        best = max(fit * n for fit, n, _ in scored)
        fitting, workers, threads = next(s for s in scored if s[0] * s[1] == best)
        if wishes.nthreads is None:
            threads = max(1, fitting)
        reasons.append(_why_fits(peak, fitting, workers, baseline))
    limit = _limit(budget, workers, most)
    if most is not None and limit == most // MiB * MiB:
        reasons.append(f"No process may have more than {format_bytes(most)} (rlimit).")
    return Plan(
        nworkers=workers,
        nthreads=threads,
        memory_limit=limit,
        budget=budget,
        source=source.name,
        threads_that_fit=fitting,
        environment=ENVIRONMENT,
        reasons=tuple(reasons),
        warnings=tuple(_warnings(facts, source, limit, own, peak, fitting)),
    )


# -- parts ---------------------------------------------------------------------


def _budget(
    facts: LimitFacts, own: int, reserve: int
) -> tuple[int | None, Cap | None, list[str]]:
    """Return what all workers may have together, what says so, and why."""
    shared = [cap for cap in facts.caps if cap.kind != "rlimit"]
    offers = [(cap.bytes - (cap.used or 0), cap) for cap in shared]
    available = facts.first.available
    if available is not None:
        scope = facts.machine or "this machine"
        where = "/proc/meminfo"
        cap = Cap("available", "MemAvailable", where, available, "kills", scope)
        offers.append((available, cap))
    if not offers:
        return None, None, []
    size, source = min(offers, key=lambda offer: offer[0])
    budget = max(0, size - own - reserve)
    if source.kind == "available":
        has = f"{format_bytes(source.bytes)} are available on this machine now"
    else:
        has = f"{whose(source)} allows {format_bytes(source.bytes)} ({source.where})"
    if source.used:
        has += f", of which {format_bytes(source.used)} are in use"
    kept = f"{format_bytes(own)}, what this process takes, are kept for the nanny"
    if reserve:
        kept += f" and {format_bytes(reserve)} for others"
    sentence = f"{has}; {kept}."
    return budget, source, [with_capital(sentence)]


def _per_process(facts: LimitFacts) -> int | None:
    """Return what the rlimits leave to one process, less what it maps unused."""
    left = [
        cap.bytes - max(0, (cap.used or 0) - (facts.rss or 0))
        for cap in facts.caps
        if cap.kind == "rlimit"
    ]
    return max(0, min(left)) if left else None


def _choices(cpus: int, wishes: Wishes) -> list[tuple[int, int]]:
    """Return the divisions to choose from: Dask's own first, then fewer workers."""
    if wishes.nworkers is not None:
        threads = wishes.nthreads or max(1, cpus // wishes.nworkers)
        return [(wishes.nworkers, threads)]
    if wishes.nthreads is not None:
        most = max(1, cpus // wishes.nthreads)
        return [(n, wishes.nthreads) for n in range(most, 0, -1)]
    first = divide(cpus)
    return [first, *((n, cpus // n) for n in range(first[0] - 1, 0, -1))]


def _limit(budget: int, workers: int, most: int | None) -> int:
    limit = budget // workers
    return (limit if most is None else min(limit, most)) // MiB * MiB


def _fit(limit: int, peak: Peak, baseline: int) -> int:
    """Return how many of the largest tasks fit at once below the pause threshold.

    One of them may be the largest that was ever seen.
    """
    pool = int(limit * PAUSE) - baseline - peak.largest
    return 0 if pool < 0 else 1 + pool // max(1, peak.p95)


def _why_divided(cpus: int, workers: int, threads: int, wishes: Wishes) -> str:
    if wishes.nworkers is not None or wishes.nthreads is not None:
        return f"{count(workers, 'worker')} of {count(threads, 'thread')}, as asked."
    return (
        f"{count(cpus, 'processor')}, divided as Dask does. Workers cannot share "
        "memory: if the tasks release the GIL, use fewer workers with more threads "
        "(--nworkers 1)."
    )


def _why_fits(peak: Peak, fitting: int, workers: int, baseline: int) -> str:
    return (
        f"The largest tasks measured, `{peak.prefix}`, need {format_bytes(peak.p95)} "
        f"(95 in 100) to {format_bytes(peak.largest)}, and an idle worker takes "
        f"{format_bytes(baseline)}: in each of {count(workers, 'worker')}, "
        f"{count(fitting, 'thread')} can run them at once below the pause threshold."
    )


def _warnings(
    facts: LimitFacts,
    source: Cap,
    limit: int,
    own: int,
    peak: Peak | None,
    fitting: int | None,
) -> list[str]:
    found = []
    if limit < 2 * own:
        found.append(
            f"A worker of {format_bytes(limit)} has too little left for tasks "
            f"beside Python and Dask themselves ({format_bytes(own)})."
        )
    if peak is not None and fitting == 0:
        found.append(
            f"The largest task of `{peak.prefix}` ({format_bytes(peak.largest)}) does "
            f"not fit below the pause threshold of {format_bytes(limit)}."
        )
    if facts.dask is not None and source.bytes < facts.dask:
        found.append(
            f"Without --memory-limit, a worker assumes {format_bytes(facts.dask)} "
            f"here, but {meets(source)} at {format_bytes(source.bytes)}."
        )
    if source.effect == "declared":
        found.append(
            f"{source.name} is what the job asked for. Nothing here shows whether the "
            "batch system enforces it."
        )
    if facts.swap_total and facts.swap_limit != 0:
        found.append(
            f"This machine has {format_bytes(facts.swap_total)} of swap: a worker that "
            "is swapped out becomes very slow instead of spilling."
        )
    scratch = facts.scratch
    if scratch is not None and scratch.filesystem in IN_MEMORY:
        found.append(
            f"{scratch.path} is a {scratch.filesystem}: what workers spill there stays "
            "in memory. Give --local-directory on a disk."
        )
    elif scratch is not None and (scratch.free or limit) < SCRATCH_LITTLE * limit:
        found.append(
            f"{scratch.path}, where workers spill to, has only "
            f"{format_bytes(scratch.free or 0)} left."
        )
    return found


def _size(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        return None
    return value
