"""What the rules on memory limits look at, what they give, and their words.

The rules stand beside it: :mod:`~dask_memdash.analysis.limits.rules` (caps and
budgets), :mod:`~dask_memdash.analysis.limits.underused` and
:mod:`~dask_memdash.analysis.limits.limit_environment` (spilling, swap, allocator).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from dask_memdash.model.event_parts import Thresholds
from dask_memdash.model.incidents import Incident
from dask_memdash.model.limit_facts import Cap, LimitFacts, LiveFigures, MiB
from dask_memdash.model.memory_pools import (
    AVAILABLE,
    Machine,
    MemoryPool,
    WorkerProcess,
)
from dask_memdash.text import format_bytes, join, with_capital

#: Severities, worst first.
SEVERITIES = ("bad", "warning", "hint")

#: Workers of one process that are named.
NAMED = 3

#: What is known before the first report.
NOTHING = LimitFacts()

#: Swapped-out memory that counts, in bytes.
SUBSTANTIAL = 64 * MiB


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one rule found."""

    verdict: str
    severity: str
    text: str
    advice: str
    #: The numbers in the text, in bytes unless the name says otherwise.
    numbers: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LimitContext:
    """What the rules look at: one worker process on its machine; sizes in bytes."""

    process: WorkerProcess
    machine: Machine
    #: Its pools, the tightest first.
    pools: tuple[MemoryPool, ...]
    now: float
    #: Recent incidents of this machine in which memory ran out, newest first.
    incidents: tuple[Incident, ...] = ()

    @property
    def name(self) -> str:
        """The worker's name."""
        return self.process.worker.info.name

    @property
    def who(self) -> str:
        """The worker in a sentence; all of them where they share a process."""
        names = sorted(
            worker.info.name for worker in self.process.process.members.values()
        )
        if len(names) == 1:
            return f"worker {names[0]}"
        if len(names) > NAMED:
            names = [*names[:NAMED], f"{len(names) - NAMED} more"]
        return f"the process of workers {join(names)}"

    @property
    def subject(self) -> str:
        """The same at the beginning of a sentence."""
        return with_capital(self.who)

    @property
    def limit(self) -> int | None:
        """Its limit; None without one."""
        return self.process.limit

    @property
    def facts(self) -> LimitFacts:
        """What was read of its limit."""
        return NOTHING if self.process.facts is None else self.process.facts

    @property
    def live(self) -> LiveFigures:
        """What was read of it last."""
        return self.process.worker.live

    @property
    def thresholds(self) -> Thresholds:
        """Its thresholds."""
        return self.process.worker.thresholds

    @property
    def recommended(self) -> int | None:
        """A limit that fits beside the others; None where no cap is known."""
        return self.pools[0].share_of(self.process) if self.pools else None

    @property
    def least(self) -> Cap | None:
        """The least cap."""
        return self.facts.least()

    @property
    def stops_at(self) -> int | None:
        """Where Dask ends the worker, or where its limit is without a nanny."""
        return self.process.stops_at or self.limit


# -- words ---------------------------------------------------------------------


def meets(cap: Cap) -> str:
    """Say what happens at a cap."""
    return {
        "kills": "the kernel kills it",
        "throttles": "the kernel slows it down until it hardly moves",
        "fails": "its allocations fail with MemoryError",
        "declared": "the batch system may end it",
    }.get(cap.effect, "the system stops it")


def whose(cap: Cap, *, capital: bool = False) -> str:
    """Name what a cap belongs to."""
    text = {
        "host": "the machine",
        "cgroup": "its cgroup",
        "batch": "its batch job",
        "rlimit": "its rlimit",
    }.get(cap.kind, "its system")
    return with_capital(text) if capital else text


def within(pool: MemoryPool) -> str:
    """Say where the workers of a pool are."""
    return {
        "host": "on this machine",
        AVAILABLE: "on this machine",
        "cgroup": f"in {pool.cap.where.rpartition('/')[0]}",
        "batch": "of this batch job",
    }.get(pool.cap.kind, "there")


def offer(pool: MemoryPool) -> str:
    """Say what a pool has for its workers."""
    if pool.cap.kind != AVAILABLE:
        return f"{whose(pool.cap)} has {format_bytes(pool.cap.bytes)} ({pool.cap.name})"
    whom = "the workers'" if pool.shared else "the worker's"
    return (
        f"only {format_bytes(pool.budget)} were available when MemDash first looked, "
        f"{whom} own memory included"
    )


def option(size: int) -> str:
    """Write a size as Dask's options take it."""
    return f"{size // MiB}MiB"


def set_limit(context: LimitContext) -> str:
    """Say which limit to start the worker with."""
    size = context.recommended
    if not size:
        return "Leave less to other programs there, or run fewer workers."
    each = "each worker here" if len(context.machine.members) > 1 else "the worker"
    if len({process.nthreads for process in context.machine.members.values()}) > 1:
        each = context.who
    return f"Start {each} with --memory-limit {option(size)}."


def lower_first(text: str) -> str:
    """Begin with a small letter."""
    return text[:1].lower() + text[1:]
