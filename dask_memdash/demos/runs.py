"""What a demo does from its first line to its last: the three ways that there are.

Each is asked what it needs before anything starts, and is then played: it starts its
clusters, says what it sees, and ends with whether it showed what it was to show.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

from dask_memdash.demos import kept, rechunk, shuffles, stages, tables, terminal
from dask_memdash.demos.cluster import Plan, running
from dask_memdash.demos.experiment import Case, Result, Say, series

#: Takes the results as plain data.
Write = Callable[[Any], None]

#: Called before a cluster is closed; may keep it up.
Hold = Callable[[], None]


class Run(Protocol):
    """A demo that is about to run."""

    @property
    def needs(self) -> Sequence[str]:
        """Modules that it cannot do without."""

    def largest(self, host: str, port: int) -> Plan:
        """Return the cluster of its that needs the most memory."""

    def play(self, host: str, port: int, say: Say, write: Write, hold: Hold) -> bool:
        """Run it; return whether it showed what it was to show."""


@dataclass(frozen=True, slots=True)
class UntilKilled:
    """Larger and larger arrays, until a task is given up; then as MemDash advises."""

    experiment: rechunk.Experiment
    workers: int
    #: Of each worker, in bytes.
    memory_limit: int
    needs: Sequence[str] = (shuffles.ARRAY.module,)

    def largest(self, host: str, port: int) -> Plan:
        """Return its first cluster; the second is as large unless advised."""
        return Plan(self.workers, self.memory_limit, host, port)

    def play(self, host: str, port: int, say: Say, write: Write, hold: Hold) -> bool:
        """Run array after array, say what MemDash knows of the deaths, and follow."""
        plan = self.largest(host, port)
        say(_starting(plan))
        with rechunk.session(plan, self.experiment, say) as explained:
            hold()
        return explained


@dataclass(frozen=True, slots=True)
class Series:
    """Cases one after another on one cluster, whatever becomes of each."""

    name: str
    cases: Sequence[Case]
    workers: int
    #: Of each worker, in bytes.
    memory_limit: int
    #: Longest that one case may take, in seconds.
    timeout: float
    needs: Sequence[str]

    def largest(self, host: str, port: int) -> Plan:
        """Return its one cluster."""
        return Plan(self.workers, self.memory_limit, host, port)

    def play(self, host: str, port: int, say: Say, write: Write, hold: Hold) -> bool:
        """Run all cases; return whether each ended and every death has a cause."""
        plan = self.largest(host, port)
        say(_starting(plan))
        with running(plan) as cluster:
            say(f"\nWatch it live: {cluster.page}\n")
            results = list(series(cluster, self.cases, self.timeout, say))
            say("\n" + "\n".join(_seen(results)) + "\n")
            write(tables.document(self.name, [plan] * len(results), results))
            hold()
        return len(results) == len(self.cases) and all(r.known for r in results)


@dataclass(frozen=True, slots=True)
class Stages:
    """A complaint and its remedies, each on a cluster of its own."""

    complaint: stages.Complaint

    @property
    def needs(self) -> Sequence[str]:
        """Modules that the complaint cannot do without."""
        return self.complaint.needs

    def largest(self, host: str, port: int) -> Plan:
        """Return the cluster of the stage that needs the most memory."""
        return self.complaint.largest(host, port)

    def play(self, host: str, port: int, say: Say, write: Write, hold: Hold) -> bool:
        """Run all stages, and conclude; return whether trouble and remedies showed."""
        complaint = self.complaint
        results = list(stages.play(complaint, host, port, say, hold))
        lessons = [terminal.paragraph(text) for text in complaint.conclude(results)]
        said = [*_seen(results), "", *("\n".join(lesson) for lesson in lessons)]
        say("\n" + "\n".join(said) + "\n")
        plans = complaint.plans(host, port)[: len(results)]
        write(tables.document(complaint.name, plans, results))
        return complaint.shown(results)


def until_killed(
    sizes: tuple[int, ...],
    method: str,
    workers: int,
    memory_limit: int,
    timeout: float,
    details: bool,
) -> UntilKilled:
    """Return the rechunk of arrays until workers die of it."""
    experiment = rechunk.Experiment(sizes, method, timeout, details)
    return UntilKilled(experiment, workers, memory_limit)


def shuffle(
    name: str,
    sizes: tuple[int, ...],
    method: str,
    scale: float,
    workers: int,
    memory_limit: int,
    timeout: float,
    **more: Any,
) -> Series:
    """Return one of the three shuffles of 2017, from size to size.

    What `more` says is for its cases, as far as it is not None.
    """
    kind = shuffles.KINDS[name]
    given = {key: value for key, value in more.items() if value is not None}
    cases = [kind.case(size, scale, method, **given) for size in sizes]
    return Series(name, cases, workers, memory_limit, timeout, (kind.module,))


def complaint(name: str) -> Stages:
    """Return the complaint of one of this package's modules."""
    return Stages(import_module(f"dask_memdash.demos.{name}").COMPLAINT)


def storage(workers: int, memory_limit: int) -> kept.Kept:
    """Return the story of a result that outlives its cluster."""
    return kept.Kept(workers, memory_limit)


def _starting(plan: Plan) -> str:
    size = terminal.workers(plan.workers, plan.threads, plan.memory_limit)
    return f"Starting {size} each …"


def _seen(results: Sequence[Result]) -> list[str]:
    """Return what was run, as tables, and what MemDash says of it."""
    return [
        tables.outcomes(results),
        "",
        tables.peaks(results),
        *tables.diagnoses(results),
    ]
