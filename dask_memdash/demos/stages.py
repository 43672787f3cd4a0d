"""Demos that show a trouble and its remedies one after another.

Each stage has a cluster of its own, so that stages can differ in workers, threads and
configuration, and none inherits what another has left behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from dask_memdash.demos import terminal
from dask_memdash.demos.cluster import Plan, running
from dask_memdash.demos.experiment import Case, Result, Say, run

#: Longest that one stage may take, in seconds.
TIMEOUT = 180.0

#: How long nothing may run and nothing get finished, in seconds: longer than MemDash
#: takes to call that stuck (`memdash.stuck-after`, 10 s), so that it can say why.
STUCK = 15.0

#: What is done with a page before its cluster is closed.
Hold = Callable[[], None]

MB = 1_000_000


@dataclass(frozen=True, slots=True)
class Stage:
    """One computation on a cluster made for it."""

    case: Case
    #: What is different, in one sentence.
    different: str
    workers: int = 2
    threads: int = 1
    #: Of each worker, in bytes.
    memory_limit: int = 300 * MB
    #: Dask's configuration where it is not the default.
    config: Mapping[str, Any] = field(default_factory=dict)

    def plan(self, host: str, port: int) -> Plan:
        """Return the cluster that it asks for."""
        return Plan(
            self.workers, self.memory_limit, host, port, self.threads, self.config
        )


@dataclass(frozen=True, slots=True)
class Complaint:
    """A trouble that users have, with what helps."""

    name: str
    #: In one or two sentences.
    complaint: str
    stages: tuple[Stage, ...]
    #: Says from the figures what was seen.
    conclude: Callable[[Sequence[Result]], list[str]]
    #: Whether the trouble and its remedies showed, and MemDash named the cause.
    shown: Callable[[Sequence[Result]], bool]
    #: Modules that it cannot do without.
    needs: tuple[str, ...] = ("numpy",)

    def plans(self, host: str, port: int) -> list[Plan]:
        """Return the clusters of the stages."""
        return [stage.plan(host, port) for stage in self.stages]

    def largest(self, host: str, port: int) -> Plan:
        """Return the cluster that needs the most memory."""
        return max(self.plans(host, port), key=lambda plan: plan.needed)


def play(
    complaint: Complaint, host: str, port: int, say: Say, hold: Hold
) -> Iterator[Result]:
    """Run stage after stage, each on its cluster."""
    for paragraph in terminal.paragraph(complaint.complaint):
        say(paragraph)
    for number, stage in enumerate(complaint.stages, 1):
        plan = stage.plan(host, port)
        say(f"\n{number}. {stage.case.name}")
        for line in terminal.paragraph(stage.different, "   "):
            say(line)
        case = replace(stage.case, name=f"{number}. {stage.case.name}")
        size = terminal.workers(plan.workers, plan.threads, plan.memory_limit)
        with running(plan) as cluster:
            say(f"   {size}; watch it live: {cluster.page}")
            yield run(cluster, case, TIMEOUT, say, STUCK)
            hold()
