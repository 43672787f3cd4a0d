"""Incidents: what is kept of each, and the bounded log of them.

What kinds there are stands in ``terms.py``; what an incident says in words is
:mod:`dask_memdash.analysis.incidents.describe`'s.

Imports the standard library only.
"""

from __future__ import annotations

from bisect import insort
from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from dask_memdash.model.breakdown import Breakdown
from dask_memdash.model.event_parts import Executing, LargestBlock, TaskInfo, TaskInputs
from dask_memdash.model.events import DeathReported
from dask_memdash.model.evidence import Evidence
from dask_memdash.model.exactness import method_shown
from dask_memdash.model.graph_index import GraphIndex
from dask_memdash.model.stall import Stall

#: Kinds that are the death of a worker.
DEATHS = frozenset({"terminated", "oom-killed", "killed", "crashed", "exited", "lost"})

#: How long a nanny's report is waited for before an incident counts as settled, in
#: seconds; it may still come later.
REPORT_OVERDUE = 5.0

#: Earlier attempts of one task that a suspect names, the last ones.
MAX_ATTEMPTS = 20

#: Incidents that are remembered for one key, the last ones: more than are named, as
#: evidence on an older one may come late.
MAX_REMEMBERED = 2 * MAX_ATTEMPTS

#: No process can address more, in bytes.
ADDRESSES = 2**47

#: Largest status that a process can end with, and the largest signal that Linux has.
MAX_STATUS, MAX_SIGNAL = 255, 64

#: Assigned tasks that an incident names; the others are counted.
NAMED_INNOCENT = 20


@dataclass(frozen=True, slots=True)
class WorkerRef:
    """The worker that an incident is about."""

    address: str
    name: str
    host: str
    pid: int


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended: by a status or by a signal, and through whom."""

    code: int | None
    signal: int | None
    #: 'nanny', 'kernel' or 'unknown'.
    by: str


@dataclass(frozen=True, slots=True)
class Suspect:
    """A task that was executing (not merely assigned) at a death."""

    key: str
    prefix: str
    #: What it held, and held at most, in bytes; None where not measured.
    bytes: int | None
    peak: int | None
    #: `bytes` as a share of the worker's limit.
    share: float | None
    #: How long it had been running.
    seconds: float
    thread: int | None
    priority: tuple[float, ...] | None
    order_position: int | None
    order_total: int | None
    #: Earlier deaths at which the same task was executing, oldest first.
    attempts: tuple[str, ...]
    method: str
    #: By how much the worker's RSS had grown since this task began, in bytes: the most
    #: that it can be charged with.  None where that is not known.
    grown: int | None = None
    #: RSS of the worker when it began, in bytes.
    rss_at_begin: int | None = None
    #: Its inputs; None where not known.
    inputs: TaskInputs | None = None
    #: Its arguments and closures, in bytes; None where not known.
    arguments: int | None = None
    #: Whether it had not begun: its worker was reading inputs of it back from disk.
    gathering: bool = False
    #: What it may have held beside `bytes`: of blocks that it had just made, or was
    #: filling when they were looked at last, in bytes.
    filling: int = 0
    #: Its largest block; None where it has none that is large, or it is not known.
    block: LargestBlock | None = None


@dataclass(frozen=True, slots=True)
class StoredAtDeath:
    """Storage of one prefix on a worker when it died, in bytes."""

    prefix: str
    managed: int
    spilled: int
    count: int


def with_lost(
    storage: tuple[StoredAtDeath, ...], lost: Mapping[str, tuple[int, int]]
) -> tuple[StoredAtDeath, ...]:
    """Add what a worker had stored since its last report, as its death shows.

    Parameters
    ----------
    lost
        Prefix → keys and bytes that were lost with the worker.
    """
    rows = {row.prefix: row for row in storage}
    for prefix, (count, size) in lost.items():
        row = rows.get(prefix, StoredAtDeath(prefix, 0, 0, 0))
        more = max(0, size - row.managed - row.spilled)
        if more:
            rows[prefix] = StoredAtDeath(
                prefix, row.managed + more, row.spilled, max(count, row.count)
            )
    return tuple(rows.values())


@dataclass(slots=True)
class Incident:
    """Something bad about memory, or the death of a worker.

    It grows as evidence arrives: what the scheduler saw, then the nanny's report.
    """

    id: str
    #: Unix time by the scheduler's clock.
    time: float
    kind: str
    worker: WorkerRef
    limit: int | None
    breakdown: Breakdown | None
    #: 'flight-recorder', 'heartbeat' or 'scheduler'.
    evidence: str
    exit: Exit | None = None
    #: By how much the process grew after the last look at its tasks, in bytes: whose
    #: that is, is not known.
    unseen: int = 0
    #: When it was over.
    until: float | None = None
    suspects: tuple[Suspect, ...] = ()
    #: Tasks assigned to the worker, by priority: the first of them, and how many.
    assigned: tuple[TaskInfo, ...] = ()
    n_assigned: int = 0
    storage: tuple[StoredAtDeath, ...] = ()
    keys_lost: int | None = None
    bytes_lost: int | None = None
    #: Of these, what is loaded from the cluster's memory of intermediates instead.
    keys_stored: int | None = None
    bytes_stored: int | None = None
    #: RSS in the last minute: (Unix time, bytes).
    timeline: tuple[tuple[float, int], ...] = ()
    #: What it was made of then, and whose execution was, packed by
    #: :mod:`dask_memdash.model.last_seconds`; None where that is not known.
    last_seconds: bytes | None = field(default=None, repr=False)
    #: Tasks that were given up (kind 'killed-worker'): the first ones, and how many.
    tasks: tuple[TaskInfo, ...] = ()
    n_tasks: int = 0
    #: Deaths behind a 'killed-worker', oldest first.
    attempts: tuple[str, ...] = ()
    #: Why the worker said that it closes, if it did.
    closing: str = ""
    #: What was said of it: the error of a task, or why spilling failed.
    detail: str = ""
    #: When a task ran out of memory: 'running', 'refused' or 'receiving', as in
    #: :class:`MemoryErrorRaised`; empty for other kinds.
    stage: str = ""
    #: Limits of all workers together then; None where one has none.
    cluster_limit: int | None = None
    #: Whether a nanny's report is to be expected, and whether it has arrived.
    nanny: bool = False
    reported: bool = False
    #: Seconds that were added to the report's instants, as the clocks differ.
    clock_offset: float = 0.0
    #: For how many seconds it had not been heard of when the scheduler gave it up
    #: (``worker-ttl``); None where that is not why it is gone.
    unresponsive: float | None = None
    #: Seconds of work to repeat for the keys lost; None where not known.
    seconds_lost: float | None = None
    #: When a worker was back in its place; None until then.
    back: float | None = None
    #: Who waits for whom (kind 'stuck'), as last seen.
    stall: Stall | None = None
    #: When its nanny closed without having a worker again; None where it did not.
    given_up: float | None = None
    #: What was known of the cluster when it happened.
    facts: Evidence | None = field(default=None, repr=False)
    #: Hashes of the assigned keys, good within the scheduler's process.
    hashes: frozenset[int] = field(default=frozenset(), repr=False)
    #: Grows with every change, so that what is worked out of it can be kept.
    revision: int = field(default=0, init=False, repr=False)

    #: Where its log takes note that it has changed; None outside of a log.
    changes: dict[str, Incident] | None = field(default=None, init=False, repr=False)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set a field, and count that as a change."""
        object.__setattr__(self, name, value)
        if name in ("revision", "changes"):
            return
        object.__setattr__(self, "revision", getattr(self, "revision", 0) + 1)
        changes = getattr(self, "changes", None)
        if changes is not None:
            changes[self.id] = self

    def settled(self, now: float) -> bool:
        """Whether all evidence that can be expected of it alone has arrived.

        Parameters
        ----------
        now
            Unix time by the scheduler's clock, in seconds.
        """
        if self.kind not in DEATHS or self.reported or not self.nanny:
            return True
        return now > self.time + REPORT_OVERDUE

    @property
    def seconds_away(self) -> float | None:
        """How long it took until a worker was back in its place, in seconds."""
        return None if self.back is None else max(0.0, self.back - self.time)

    @property
    def nanny_closed_after(self) -> float | None:
        """How long its nanny waited for another worker and then closed, in seconds."""
        return None if self.given_up is None else max(0.0, self.given_up - self.time)

    @property
    def innocent(self) -> tuple[TaskInfo, ...]:
        """Tasks that were assigned and not executing, the first of them."""
        guilty = {suspect.key for suspect in self.suspects}
        return tuple(t for t in self.assigned if t.key not in guilty)[:NAMED_INNOCENT]

    @property
    def n_innocent(self) -> int:
        """How many tasks were assigned and not executing."""
        return max(0, self.n_assigned - len(self.suspects))


class IncidentLog:
    """The newest incidents, by id; ids count up from 1 and are never used twice."""

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._incidents: OrderedDict[str, Incident] = OrderedDict()
        self._last = 0
        # Incidents that are new or have changed, and ids of those taken back.
        self._changes: dict[str, Incident] = {}
        self._withdrawn: list[str] = []
        # Key → the last incidents at which it ran; incident → its keys there.
        self._at: dict[str, list[int]] = {}
        self._keys: dict[str, tuple[str, ...]] = {}

    def __len__(self) -> int:
        return len(self._incidents)

    def __iter__(self) -> Iterator[Incident]:
        """Newest first."""
        return reversed(self._incidents.values())

    def get(self, incident_id: str | None) -> Incident | None:
        """Return an incident, None if it is not (or no longer) known."""
        return None if incident_id is None else self._incidents.get(incident_id)

    def add(
        self,
        kind: str,
        time: float,
        worker: WorkerRef,
        *,
        limit: int | None,
        breakdown: Breakdown | None,
        evidence: str,
    ) -> Incident:
        """Open a new incident."""
        self._last += 1
        incident = Incident(
            str(self._last), time, kind, worker, limit, breakdown, evidence
        )
        self._incidents[incident.id] = self._changes[incident.id] = incident
        incident.changes = self._changes
        while len(self._incidents) > self._keep:
            self._forget_keys(self._incidents.popitem(last=False)[0])
        return incident

    def withdraw(self, incident_id: str) -> None:
        """Take back an incident that turned out to be none."""
        self._drop(incident_id)
        for other in list(self._incidents.values()):
            if incident_id in other.attempts:
                other.attempts = tuple(a for a in other.attempts if a != incident_id)
                if not other.attempts:
                    self._drop(other.id)

    def take_changes(self) -> tuple[list[Incident], list[str]]:
        """Return what is new or has changed since the last call, and ids withdrawn."""
        changed = [i for i in self._changes.values() if i.id in self._incidents]
        withdrawn, self._withdrawn = self._withdrawn, []
        self._changes.clear()
        return changed, withdrawn

    def _drop(self, incident_id: str) -> None:
        self._forget_keys(incident_id)
        if self._incidents.pop(incident_id, None) is not None:
            self._withdrawn.append(incident_id)

    def settled(self, incident: Incident, now: float) -> bool:
        """Whether all evidence on an incident has arrived, or is overdue.

        A 'killed-worker' rests on the deaths behind it.
        """
        deaths = (self.get(incident_id) for incident_id in incident.attempts)
        behind = [death for death in deaths if death is not None]
        return all(one.settled(now) for one in (incident, *behind))

    def deaths_of(self, key_hash: int) -> list[str]:
        """Return the deaths of workers that a key was assigned to, oldest first."""
        return [
            i.id
            for i in self._incidents.values()
            if i.kind in DEATHS and key_hash in i.hashes
        ]

    def executing_at(self, key: str, before: str) -> tuple[str, ...]:
        """Return the last deaths before one at which a key ran, oldest first.

        At a cost that grows neither with incidents nor with suspects.
        """
        earlier = (str(n) for n in self._at.get(key, ()) if n < int(before))
        known = ((number, self._incidents.get(number)) for number in earlier)
        deaths = [n for n, i in known if i is not None and i.kind in DEATHS]
        return tuple(deaths[-MAX_ATTEMPTS:])

    def note_keys(self, incident_id: str, keys: Iterable[str]) -> None:
        """Remember which keys ran at an incident, for :meth:`executing_at`."""
        self._forget_keys(incident_id)
        if incident_id not in self._incidents:
            return
        self._keys[incident_id] = tuple(dict.fromkeys(keys))
        for key in self._keys[incident_id]:
            numbers = self._at.setdefault(key, [])
            insort(numbers, int(incident_id))
            if len(numbers) > MAX_REMEMBERED:
                del numbers[0]

    def _forget_keys(self, incident_id: str) -> None:
        for key in self._keys.pop(incident_id, ()):
            numbers = self._at.get(key, [])
            if int(incident_id) in numbers:
                numbers.remove(int(incident_id))
            if not numbers:
                self._at.pop(key, None)


def exit_of(report: DeathReported) -> Exit:
    """Return how a process ended, without a signal or status that cannot be."""
    code, signal = report.code, report.signal
    return Exit(
        code if code is not None and 0 <= code <= MAX_STATUS else None,
        signal if signal is not None and 0 < signal <= MAX_SIGNAL else None,
        report.by,
    )


def kind_of_death(ended: Exit) -> str:
    """Name a death from how the process ended (kinds: ``terms.KINDS``)."""
    if ended.by == "nanny":
        return "terminated"
    if ended.by == "kernel":
        return "oom-killed"
    if ended.signal in (9, 15):
        return "killed"
    if ended.signal is not None:
        return "crashed"
    return "lost" if ended.code is None else "exited"


def rank_suspects(
    executing: tuple[Executing, ...],
    known: dict[str, TaskInfo],
    limit: int | None,
    graphs: GraphIndex,
    *,
    rss: int | None = None,
    actors: Collection[str] = (),
) -> tuple[Suspect, ...]:
    """Turn the tasks that were executing into suspects, largest first.

    Parameters
    ----------
    executing, known
        The tasks, and what the scheduler knows of some of them, by key.
    limit, rss
        The worker's limit, and its RSS at that instant, in bytes; None if not known.
    graphs
        Says the place of a task in its graph's order.
    actors
        Prefixes of the actors on the worker: a call of a method counts for its actor.
    """
    suspects = []
    for task in executing:
        task = _believable(task)
        info = known.get(task.key)
        priority = info.priority if info else None
        place = graphs.position(info.group, priority) if info else None
        suspects.append(
            Suspect(
                key=task.key,
                prefix=info.prefix if info else owner_of(task.prefix, actors),
                bytes=task.bytes,
                peak=task.peak,
                share=task.bytes / limit if limit and task.bytes is not None else None,
                seconds=task.seconds,
                thread=task.thread,
                priority=priority,
                order_position=place[0] if place else None,
                order_total=place[1] if place else None,
                attempts=(),
                method=method_shown(task.method, task.bytes, task.error),
                grown=_grown(task, rss),
                rss_at_begin=task.rss_at_begin,
                inputs=info.inputs if info else None,
                arguments=info.arguments if info else None,
                gathering=task.gathering,
                block=_plausible(task.block),
                filling=task.filling,
            )
        )
    return tuple(sorted(suspects, key=lambda s: (-(s.bytes or 0), s.key)))


def _believable(task: Executing) -> Executing:
    """Return a task without figures that no process can have: its slot was torn.

    One that says nothing at all of its memory was not written to its end.
    """
    sizes = (task.bytes or 0, task.peak or 0, task.filling)
    written = any(sizes) or task.rss_at_begin is not None or task.bytes is None
    if written and all(0 <= size < ADDRESSES for size in sizes):
        return task
    return replace(
        task, bytes=None, peak=None, error=None, method="unmeasured", filling=0
    )


def _plausible(block: LargestBlock | None) -> LargestBlock | None:
    """Return a block unless no process can have one of its size."""
    return block if block is not None and 0 < block.size < ADDRESSES else None


def owner_of(prefix: str, actors: Collection[str]) -> str:
    """Return the prefix of the actor whose method's call that is; else the same.

    Dask names a call ``<prefix of the actor>.<method>``.
    """
    owner = prefix.rpartition(".")[0]
    return owner if owner in actors else prefix


def _grown(task: Executing, rss: int | None) -> int | None:
    if rss is None or task.rss_at_begin is None:
        return None
    return max(0, rss - task.rss_at_begin)


def with_attempts(
    suspects: tuple[Suspect, ...], log: IncidentLog, incident_id: str
) -> tuple[Suspect, ...]:
    """Add to each suspect the earlier deaths at which it was executing."""
    log.note_keys(incident_id, [suspect.key for suspect in suspects])
    return tuple(
        replace(s, attempts=log.executing_at(s.key, incident_id)) for s in suspects
    )
