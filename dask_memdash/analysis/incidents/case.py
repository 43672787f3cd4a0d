"""The case: all evidence on one incident, frozen, as the diagnosis takes it.

A rule looks at nothing else, so that it can be tried on a case written by hand.  What
the parts of the breakdown mean is DESIGN's section 2; here they are put into accounts
that add up to the process:

    process = idle + managed + transfer + retained
              + counted + in_use + unexplained + grown

`idle` is what the process needed when it had done nothing, `grown` is by how much the
baseline has grown since, `counted` is what the running tasks are known to hold,
`in_use` is what was spilled and is in RAM all the same because something uses it, and
`unexplained` is what is in execution beside these.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from dask_memdash.model.breakdown import EMPTY, Breakdown, scale
from dask_memdash.model.event_parts import TaskInfo, Thresholds
from dask_memdash.model.evidence import Evidence, Expected, HostFacts, OrderFacts
from dask_memdash.model.incidents import (
    Exit,
    Incident,
    IncidentLog,
    StoredAtDeath,
    Suspect,
)

__all__ = ["Attempt", "Case", "HostFacts", "OrderFacts", "SpillFailure", "case_of"]

#: Nothing was known.
NOTHING = Evidence(nthreads=0, thresholds=Thresholds())

#: Most of the limit that a Dask worker keeps in RAM by default before it spills.
USUAL_TARGET = 0.6

#: With less to explain than this share of the limit, there is nothing to explain.
LEAST_ABOVE = 0.2

#: Where the nanny terminates by default.
USUAL_TERMINATE = 0.95


@dataclass(frozen=True, slots=True)
class Attempt:
    """An earlier death at which the same task was running."""

    incident: str
    kind: str
    #: What the task held then; None where not measured.
    bytes: int | None


@dataclass(frozen=True, slots=True)
class SpillFailure:
    """Outputs that this worker could not spill."""

    #: 'max-spill', 'disk-full', 'disk-error' or 'unpicklable'.
    reason: str
    prefix: str
    #: How often it failed.
    count: int


@dataclass(frozen=True, slots=True)
class Case:
    """The evidence on one incident; sizes in bytes, None where not known."""

    kind: str
    limit: int | None
    breakdown: Breakdown | None
    #: 'flight-recorder', 'heartbeat' or 'scheduler'.
    evidence: str
    exit: Exit | None = None
    suspects: tuple[Suspect, ...] = ()
    storage: tuple[StoredAtDeath, ...] = ()
    timeline: tuple[tuple[float, int], ...] = ()
    facts: Evidence = NOTHING
    #: Key of a suspect → its earlier attempts, oldest first.
    attempts: Mapping[str, tuple[Attempt, ...]] = field(default_factory=dict)
    spill_failures: tuple[SpillFailure, ...] = ()
    #: Tasks that raised ``MemoryError``, or whose outputs could not be spilled.
    tasks: tuple[TaskInfo, ...] = ()
    #: What was said of it: the text of the error.
    detail: str = ""
    #: Why the worker said that it closes, if it did.
    closing: str = ""

    # -- accounts --------------------------------------------------------------

    @property
    def parts(self) -> Breakdown:
        """The breakdown; all zero where none is known."""
        return EMPTY if self.breakdown is None else self.breakdown

    @property
    def baselines(self) -> list[int]:
        """The baseline over time, up to the incident."""
        sizes = [size for _, size in self.facts.baseline]
        return sizes if self.breakdown is None else [*sizes, self.breakdown.baseline]

    @property
    def risen(self) -> int:
        """By how much the baseline is above that of the worker's first idle moment."""
        sizes = self.baselines
        return max(0, sizes[-1] - sizes[0]) if sizes else 0

    @property
    def grown(self) -> int:
        """How much of that is no spilled output in use."""
        return self.risen - self._places_in_use[1]

    @property
    def growing(self) -> int:
        """How much of that came bit by bit, beside its one largest step.

        Modules that are imported and caches that are filled once make the baseline
        grow too, but not with every task.
        """
        steps = [after - before for before, after in pairwise(self.baselines)]
        return max(0, min(self.grown, self.grown - max(steps, default=0)))

    @property
    def idle(self) -> int:
        """What the process needed with nothing stored and nothing running, at first."""
        return self.parts.baseline - self.risen

    @property
    def above(self) -> int:
        """What it used beyond that: what there is to explain."""
        least = int(LEAST_ABOVE * (self.limit or 0))
        return max(1, least, self.parts.process - self.idle)

    @property
    def counted(self) -> int:
        """What the running tasks are known to hold, at most what is in execution."""
        held = sum(suspect.bytes or 0 for suspect in self.suspects)
        return min(self.parts.executing, held)

    @property
    def in_use(self) -> int:
        """What was spilled and is in RAM all the same, as something refers to it.

        A running task or, as with views of arrays, another output.
        """
        return sum(self._places_in_use)

    @property
    def _places_in_use(self) -> tuple[int, int]:
        """How much of that is in execution, and in the baseline where nothing runs."""
        inputs = self.parts.inputs or 0
        in_execution = min(self.parts.executing - self.counted, inputs)
        return in_execution, min(self.risen, inputs - in_execution)

    @property
    def unexplained(self) -> int:
        """What is in execution and no running task is known to hold."""
        return self.parts.executing - self.counted - self._places_in_use[0]

    @property
    def ceiling(self) -> int | None:
        """What the process may reach before it is terminated; None without a limit."""
        terminate = self.facts.thresholds.terminate
        if terminate is not None:
            return terminate
        return int(self.limit * USUAL_TERMINATE) if self.limit else None

    @property
    def usable(self) -> int | None:
        """What an idle worker has for storage and tasks together."""
        return None if self.ceiling is None else max(1, self.ceiling - self.idle)

    @property
    def pressure(self) -> float | None:
        """Process as a share of the limit."""
        if self.breakdown is None or not self.limit:
            return None
        return self.breakdown.process / self.limit

    # -- what is known of others -----------------------------------------------

    def expected(self, prefix: str) -> Expected | None:
        """Return what tasks of a prefix usually need; None where none has finished."""
        expected = self.facts.expected.get(prefix)
        return expected if expected is not None and expected.finished else None

    def stored(self) -> dict[str, int]:
        """Return the stored bytes in RAM by prefix; they sum to `managed`.

        Prefixes come from the last heartbeat, the sum from the flight recorder: what
        is more by now has come back from disk.
        """
        known = {row.prefix: max(0, row.managed) for row in self.storage}
        spilled = {row.prefix: max(0, row.spilled) for row in self.storage}
        more = max(0, self.parts.managed - sum(known.values()))
        back = scale(spilled, min(more, sum(spilled.values())))
        known = {prefix: size + back[prefix] for prefix, size in known.items()}
        return {p: size for p, size in scale(known, self.parts.managed).items() if size}

    def in_memory(self) -> dict[str, int]:
        """Return what is stored in RAM by prefix, spilled outputs in use among it."""
        spilled = {row.prefix: max(0, row.spilled) for row in self.storage}
        used = scale(spilled, min(self.in_use, sum(spilled.values())))
        stored = self.stored()
        sizes = {p: stored.get(p, 0) + used.get(p, 0) for p in {**stored, **used}}
        return {prefix: size for prefix, size in sizes.items() if size}

    @property
    def spilling(self) -> bool | None:
        """Whether Dask spills on this worker; None where that is not known."""
        if self.evidence == "scheduler":
            return None
        if self.parts.spilled:
            return True
        thresholds = self.facts.thresholds
        if thresholds == Thresholds() and not self.facts.baseline:
            return None  # it died before its first heartbeat, which tells them
        return thresholds.target is not None or thresholds.spill is not None

    @property
    def target(self) -> int | None:
        """Stored bytes in RAM at which Dask spills, or would by its defaults."""
        thresholds = self.facts.thresholds
        known = thresholds.target or thresholds.spill
        if known is not None:
            return known
        return int(self.limit * USUAL_TARGET) if self.limit else None


def case_of(incident: Incident, log: IncidentLog) -> Case:
    """Put the evidence on an incident together."""
    return Case(
        kind=incident.kind,
        limit=incident.limit,
        breakdown=incident.breakdown,
        evidence=incident.evidence,
        exit=incident.exit,
        suspects=incident.suspects,
        storage=incident.storage,
        timeline=incident.timeline,
        facts=incident.facts or NOTHING,
        attempts={s.key: attempts_of(s, log) for s in incident.suspects if s.attempts},
        spill_failures=_spill_failures(incident, log),
        tasks=incident.tasks,
        detail=incident.detail,
        closing=incident.closing,
    )


def attempts_of(suspect: Suspect, log: IncidentLog) -> tuple[Attempt, ...]:
    """Return how each earlier attempt of a task ended, oldest first."""
    found = []
    for number in suspect.attempts:
        earlier = log.get(number)
        if earlier is not None:
            held = [s.bytes for s in earlier.suspects if s.key == suspect.key]
            found.append(Attempt(number, earlier.kind, held[0] if held else None))
    return tuple(found)


def _spill_failures(incident: Incident, log: IncidentLog) -> tuple[SpillFailure, ...]:
    return tuple(
        SpillFailure(
            other.detail.partition(":")[0],
            other.tasks[0].prefix if other.tasks else "",
            other.n_tasks,
        )
        for other in log
        if other.kind == "spill-failed" and other.worker == incident.worker
    )
