"""One computation on a demo's cluster, and what MemDash has seen of it.

Covers running, waiting with a progress bar, and gathering the figures.  What is
computed stands in the modules of the demos.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from distributed import Client, Future

from dask_memdash.demos import terminal
from dask_memdash.demos.api import Api, deaths, worst
from dask_memdash.demos.cluster import START_TIMEOUT, Running
from dask_memdash.demos.progress import Progress, bar, progress
from dask_memdash.terms import DEATHS
from dask_memdash.text import count, format_duration

#: How long the last reports of a death may take to arrive, in seconds.
SETTLE = 20.0

#: Between two looks at the progress, in seconds.
TICK = 0.25

#: How long nothing may run and nothing get finished, in seconds: Dask itself would
#: wait for ever.  Workers that spill much may take a while over it.
STUCK = 120.0

#: Incidents whose findings are asked for, and their kinds.
MAX_FINDINGS = 100
SERIOUS = ("killed-worker", *DEATHS)

Say = Callable[[str], None]
Futures = Sequence["Future[Any]"]


@dataclass(frozen=True, slots=True)
class Session:
    """What a computation gets to work with."""

    client: Client
    api: Api
    #: When it began.
    start: float
    #: For what the demo alone wants to tell; sizes in bytes, times in seconds.
    figures: dict[str, Any] = field(default_factory=dict)


#: Futures to wait for, step by step; what the generator holds meanwhile is held.
Steps = Generator[Futures, None, None]
Work = Callable[[Session], Steps]


@dataclass(frozen=True, slots=True)
class Case:
    """A computation."""

    name: str
    work: Work
    #: Size of the data, and of one partition of it, in bytes.
    data_bytes: int
    partition_bytes: int
    parameters: Mapping[str, int | str | None] = field(default_factory=dict)
    #: How long it took in 2017, and how it ended; empty where it was not run.
    seed: tuple[str, str] = ("", "")


@dataclass(slots=True)
class Result:
    """How a computation ended."""

    case: Case
    #: In seconds.
    runtime: float = 0.0
    #: ``ok``, ``stuck`` (nothing runs any more), ``timed out``, or the name of the
    #: exception.
    outcome: str = "running"
    incidents: list[dict[str, Any]] = field(default_factory=list)
    failures: list[dict[str, Any]] = field(default_factory=list)
    #: How often workers were paused.
    pauses: int = 0
    #: Incident → what speaks for which cause; of those that stopped something.
    findings: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    #: Most that each part of the cluster's breakdown reached, in bytes.
    peaks: dict[str, int] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)

    @property
    def deaths(self) -> int:
        """Number of workers that died."""
        return deaths(self.incidents)

    @property
    def failure(self) -> dict[str, Any] | None:
        """The failure that says most; None where it went well without a death."""
        well = self.outcome == "ok" and not self.deaths
        return None if well else worst(self.failures)

    @property
    def cause(self) -> str | None:
        """The cause in one word; None where it went well without a death."""
        return None if self.failure is None else str(self.failure["diagnosis"]["cause"])

    @property
    def responsible(self) -> str | None:
        """The prefix that is to blame; None where there is none."""
        if self.failure is None:
            return None
        prefix: str | None = self.failure["responsible"]["prefix"]
        return prefix

    def found(self, cause: str, prefix: str) -> bool:
        """See whether any incident has this cause of this prefix among its findings."""
        return any(
            finding["cause"] == cause and finding["responsible"]["prefix"] == prefix
            for findings in self.findings.values()
            for finding in findings
        )

    @property
    def known(self) -> bool:
        """Whether it ran to an end, and MemDash knows the cause of what went wrong."""
        return self.outcome != "timed out" and self.cause != "unknown"

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data."""
        case = self.case
        diagnosis = self.failure["diagnosis"] if self.failure else None
        return {
            "case": case.name,
            "parameters": dict(case.parameters),
            "data_bytes": case.data_bytes,
            "partition_bytes": case.partition_bytes,
            "seconds": round(self.runtime, 2),
            "outcome": self.outcome,
            "deaths": self.deaths,
            "pauses": self.pauses,
            "cause": self.cause,
            "responsible": self.responsible,
            "confidence": diagnosis["confidence"] if diagnosis else None,
            "advice": diagnosis["advice"] if diagnosis else [],
            "peaks": self.peaks,
            "figures": self.figures,
            "incidents": [
                {
                    "id": incident["id"],
                    "time": incident["time"],
                    "kind": incident["kind"],
                    "cause": incident["diagnosis"]["cause"],
                    "text": incident["diagnosis"]["text"],
                    "findings": self.findings.get(incident["id"], []),
                }
                for incident in self.incidents
            ],
            "seed": {"runtime": case.seed[0], "outcome": case.seed[1]},
        }


def run(
    cluster: Running, case: Case, timeout: float, say: Say, stuck: float = STUCK
) -> Result:
    """Run a computation, and wait until MemDash knows how it ended.

    Parameters
    ----------
    timeout
        Longest that it may take, in seconds.
    stuck
        How long nothing may run and nothing get finished, in seconds.
    """
    result = Result(case)
    session = Session(cluster.client, Api(cluster.api), time.time(), result.figures)
    # weak, so that a step can let go of what an earlier one has asked for
    asked: list[weakref.ref[Future[Any]]] = []
    deadline = time.monotonic() + timeout
    with bar(case.name) as draw:
        steps = case.work(session)
        try:
            for futures in steps:
                asked += map(weakref.ref, futures)
                result.outcome = _wait(cluster, futures, deadline, stuck, draw)
                del futures
                if result.outcome != "ok":
                    break
        finally:
            held = [future for one in asked if (future := one()) is not None]
            cluster.client.cancel(held)
            steps.close()
    result.runtime = time.time() - session.start
    result.incidents = session.api.settled(session.start, SETTLE)
    result.failures = session.api.failures(session.start)
    result.findings = {
        incident["id"]: session.api.incident(incident["id"])["findings"]
        for incident in result.incidents[:MAX_FINDINGS]
        if incident["kind"] in SERIOUS
    }
    result.peaks = session.api.peaks(session.start)
    result.pauses = len(session.api.history(session.start)["pauses"])
    told = f"{case.name:<{terminal.NAME}}  {result.outcome} after "
    told += f"{format_duration(result.runtime)}, {count(result.deaths, 'death')}"
    say(f"{told}, cause: {result.cause}" if result.cause else told)
    return result


def series(
    cluster: Running, cases: Sequence[Case], timeout: float, say: Say
) -> Iterator[Result]:
    """Run case after case on one cluster, until one takes too long."""
    for case in cases:
        result = run(cluster, case, timeout, say)
        yield result
        if result.outcome == "timed out":
            return
        rest(cluster)


def rest(cluster: Running) -> None:
    """Wait until all workers are back and what was computed is gone, for a while."""
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        now = progress(cluster.client)
        if now.running >= cluster.workers and not now.total:
            return
        time.sleep(TICK)


def _wait(
    cluster: Running,
    futures: Futures,
    deadline: float,
    stuck: float,
    draw: Callable[[Progress], None],
) -> str:
    """Wait until all are done, one has failed, or nothing moves; say which."""
    moved, finished = time.monotonic(), -1
    while True:
        states = {future.status for future in futures}
        if "error" in states:
            failed = next(f for f in futures if f.status == "error")
            return type(failed.exception(timeout=10)).__name__
        if states <= {"finished"}:
            return "ok"
        if time.monotonic() > deadline:
            return "timed out"
        now = progress(cluster.client)
        draw(now)
        if now.busy or now.workers < cluster.workers or now.finished != finished:
            moved, finished = time.monotonic(), now.finished
        if time.monotonic() - moved > stuck:
            return "stuck"
        time.sleep(TICK)
