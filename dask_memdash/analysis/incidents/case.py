"""The case: all evidence on one incident, frozen, as the diagnosis takes it.

A rule looks at nothing else, so that it can be tried on a case written by hand.  What
the parts of the breakdown mean stands in DESIGN.md; here they are put into accounts
that add up to the process:

    process = idle + managed + transfer + actors + retained + graph
              + counted + in_use + unexplained + grown

`idle` is what the process needed when it had done nothing, `grown` is by how much the
baseline has grown since, `counted` is what the running tasks are known to hold,
`in_use` is what was spilled and is in RAM all the same because something uses it, and
`unexplained` is what is in execution beside these.

A case speaks of one instant, that of its breakdown: figures that were read at another
(a task's count after the last look at the process) are scaled down to it, so that no
part is larger than its whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from dask_memdash.model.breakdown import EMPTY, Breakdown, scale
from dask_memdash.model.event_parts import TaskInfo, Thresholds
from dask_memdash.model.evidence import Evidence, Expected, HostFacts, OrderFacts
from dask_memdash.model.incidents import Exit, StoredAtDeath, Suspect

__all__ = ["Attempt", "Case", "Earlier", "HostFacts", "OrderFacts", "SpillFailure"]

#: Nothing was known.
NOTHING = Evidence(nthreads=0, thresholds=Thresholds())

#: Most of the limit that a Dask worker keeps in RAM by default before it spills.
USUAL_TARGET = 0.6

#: With less to explain than this share of the limit, there is nothing to explain.
LEAST_ABOVE = 0.2

#: Where the nanny terminates by default.
USUAL_TERMINATE = 0.95

#: What a worker process needs that has imported little but Dask, in bytes.
BARE_WORKER = 80 * 2**20

#: What a worker process needs once tasks have loaded what they use and outputs have
#: been sent and spilled, in bytes: 69 MiB at first, 149 after a while (measured, tasks
#: on arrays).
SETTLED_WORKER = 150 * 2**20

#: Least share of an idle worker's room to plan with.
LEAST_ROOM = 0.4

#: A sample of the process within so many seconds of a task's begin tells what the
#: process had then.
NEAR = 0.3


#: Share of a worker's room up to which what came with tasks is taken to be modules.
MOST_LOADED = 0.5


@dataclass(frozen=True, slots=True)
class Attempt:
    """An earlier death at which the same task was running."""

    incident: str
    kind: str
    #: What the task held then; None where not measured.
    bytes: int | None


@dataclass(frozen=True, slots=True)
class Earlier:
    """What an earlier death of the same tasks was found to be."""

    incident: str
    cause: str
    prefix: str | None


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
    #: By how much the process grew after the last look at its tasks.
    unseen: int = 0
    suspects: tuple[Suspect, ...] = ()
    storage: tuple[StoredAtDeath, ...] = ()
    timeline: tuple[tuple[float, int], ...] = ()
    facts: Evidence = NOTHING
    #: Key of a suspect → its earlier attempts, oldest first.
    attempts: Mapping[str, tuple[Attempt, ...]] = field(default_factory=dict)
    spill_failures: tuple[SpillFailure, ...] = ()
    #: When a task ran out of memory: 'running', 'refused', 'receiving' or 'child' (a
    #: process that it had started was killed); else empty.
    stage: str = ""
    #: Tasks that raised ``MemoryError``, or whose outputs could not be spilled.
    tasks: tuple[TaskInfo, ...] = ()
    #: Tasks that were assigned to the worker and had not begun, with their inputs.
    assigned: tuple[TaskInfo, ...] = ()
    #: What was said of it: the text of the error.
    detail: str = ""
    #: Why the worker said that it closes, if it did.
    closing: str = ""
    #: Address of the worker; empty where it is not known.
    address: str = ""
    #: Number of the incident; empty where it has none.
    id: str = ""
    #: Unix time of the breakdown: the instant that the case speaks of.
    instant: float | None = None
    #: Seconds without an answer when the scheduler gave it up (``worker-ttl``); None
    #: where that is not why it is gone.
    unresponsive: float | None = None
    #: Prefix → the most that one of its tasks held at an earlier death: a lower bound
    #: of what such a task needs.
    at_least: Mapping[str, int] = field(default_factory=dict)
    #: What earlier deaths of the same tasks were found to be.
    earlier: tuple[Earlier, ...] = ()

    # -- accounts --------------------------------------------------------------

    @property
    def parts(self) -> Breakdown:
        """The breakdown; all zero where none is known."""
        return EMPTY if self.breakdown is None else self.breakdown

    @property
    def baselines(self) -> list[int]:
        """The baseline over time, up to the incident."""
        sizes = [size for _, size in self.facts.baseline]
        if not sizes and self.facts.base is not None:
            sizes = [self.facts.base]  # it died before its first heartbeat
        return sizes if self.breakdown is None else [*sizes, self.breakdown.baseline]

    @property
    def risen(self) -> int:
        """By how much the baseline is above that of the worker's first idle moment.

        It was no more then than the whole process had at any instant: where no
        heartbeat told that moment, the least that was seen of it bounds it.
        """
        if self.breakdown is None:
            return 0  # nothing is known of the instant
        return max(0, self.parts.baseline - self._first - self.loaded)

    @property
    def loaded(self) -> int:
        """How much of `idle` came with the tasks: modules that they import.

        An idle worker that runs them has it too, and nobody has left it behind.  What
        is more than half of a worker's room is hardly modules: whose the rest is, is
        not known.
        """
        if self.breakdown is None:
            return 0
        came = max(0, self.facts.loaded - self.facts.loaded_before)
        if self.ceiling is not None:
            came = min(came, int(MOST_LOADED * max(0, self.ceiling - self._first)))
        return max(0, min(came, self.parts.baseline - self._first))

    @property
    def _first(self) -> int:
        """What the process needed at its first idle moment."""
        first = self.baselines[0]
        if not self.facts.baseline:
            least = min((size for _, size in self.timeline), default=first)
            # A process that is just starting has less, and is no idle worker yet.
            first = min(first, max(least, BARE_WORKER))
        return first

    @property
    def grown(self) -> int:
        """How much of that is no spilled output in use."""
        return self.risen - self._places_in_use[1]

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
    def running(self) -> tuple[Suspect, ...]:
        """The suspects with what each held at the instant of the breakdown.

        A count that was read later, or counts what was reserved and never touched,
        may exceed what the process had in execution: all are scaled down then.
        """
        if self.breakdown is None or self.counted == self._tallies:
            return self.suspects
        sizes = {str(n): s.bytes or 0 for n, s in enumerate(self.suspects)}
        fitted = scale(sizes, self.counted)
        return tuple(
            s if s.bytes is None else _at(s, fitted[str(n)], self.limit)
            for n, s in enumerate(self.suspects)
        )

    @property
    def counted(self) -> int:
        """What the running tasks are known to hold, at most what is in execution."""
        return min(self.parts.executing, self._tallies)

    @property
    def _tallies(self) -> int:
        return sum(max(0, suspect.bytes or 0) for suspect in self.suspects)

    @property
    def in_use(self) -> int:
        """What was spilled and is in RAM all the same, as something refers to it.

        A running task or, as with views of arrays, another output.
        """
        return sum(self._places_in_use)

    @property
    def _places_in_use(self) -> tuple[int, int]:
        """How much of that is in execution, and in the baseline where nothing runs."""
        inputs = max(self.parts.inputs or 0, sum(self.read_back.values()))
        in_execution = min(self.parts.executing - self.counted, inputs)
        return in_execution, min(self.risen, inputs - in_execution)

    @property
    def read_back(self) -> dict[str, int]:
        """What was read back from disk for tasks that were about to begin, by key.

        A worker reads all inputs of a task in one go and counts nothing meanwhile.  It
        is at most those inputs, what was on disk, and what the process grew by since.
        """
        read = {}
        for suspect in self.suspects:
            grown = self.grown_since(suspect)
            if suspect.gathering and suspect.inputs is not None and grown is not None:
                read[suspect.key] = min(suspect.inputs.size, grown)
        on_disk = min(self.parts.spilled or 0, sum(read.values()))
        return scale(read, on_disk)

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
    def room(self) -> int | None:
        """What of that to plan with: a worker that has run for a while needs more.

        It grows after its first idle moment, and so will the next one, however young
        those were that died.
        """
        if self.ceiling is None or self.usable is None:
            return None
        settled = self.ceiling - max(self.idle, SETTLED_WORKER)
        return max(settled, int(LEAST_ROOM * self.usable))

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

    def learnt(self, suspect: Suspect) -> int:
        """Return the most that a task, or one of its prefix, held at earlier deaths.

        It needs at least as much, in bytes; 0 where none is known.
        """
        own = [attempt.bytes or 0 for attempt in self.attempts.get(suspect.key, ())]
        return max([self.at_least.get(suspect.prefix, 0), *own])

    def grown_since(self, suspect: Suspect) -> int | None:
        """Return by how much the process grew since a task began, in bytes.

        None where what the process had at its begin is not known.
        """
        if suspect.grown is not None:
            return max(0, suspect.grown)
        if self.breakdown is None or not self.timeline:
            return None
        begin = self.timeline[-1][0] - suspect.seconds
        before = [size for time, size in self.timeline if time <= begin]
        if not before and self.timeline[0][0] <= begin + NEAR:
            before = [self.timeline[0][1]]
        return max(0, self.parts.process - before[-1]) if before else None

    @property
    def inputs_in_use(self) -> int:
        """How much of `in_use` the running tasks have as their inputs."""
        inputs = sum(s.inputs.size for s in self.suspects if s.inputs is not None)
        return min(self._places_in_use[0], inputs)

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
        """Return what is stored in RAM by prefix, spilled outputs in use among it.

        But not those that running tasks have as their inputs: they are the tasks'.
        """
        stored = self.stored()
        spilled = self._spilled(stored)
        kept = self.in_use - self.inputs_in_use
        used = scale(spilled, min(kept, sum(spilled.values())))
        sizes = {p: stored.get(p, 0) + used.get(p, 0) for p in {**stored, **used}}
        return {prefix: size for prefix, size in sizes.items() if size}

    def _spilled(self, stored: Mapping[str, int]) -> dict[str, int]:
        """Return what is on disk by prefix.

        What no heartbeat has told yet is what is stored and not in RAM.
        """
        spilled = {row.prefix: max(0, row.spilled) for row in self.storage}
        beyond = {
            row.prefix: max(0, row.managed - stored.get(row.prefix, 0))
            for row in self.storage
        }
        missing = max(0, (self.parts.spilled or 0) - sum(spilled.values()))
        more = scale(beyond, min(missing, sum(beyond.values())))
        return {prefix: size + more[prefix] for prefix, size in spilled.items()}

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


def most_held(suspect: Suspect) -> int | None:
    """Return the most that a task is known to have held; None if not measured."""
    known = [size for size in (suspect.bytes, suspect.peak) if size is not None]
    return max(known, default=None)


def _at(suspect: Suspect, size: int, limit: int | None) -> Suspect:
    """Return a suspect that holds another size."""
    share = size / limit if limit and suspect.share is not None else suspect.share
    return replace(suspect, bytes=size, share=share)
