"""From an incident to its case: the evidence that the log has on it, put together."""

from __future__ import annotations

from dataclasses import replace

from dask_memdash.analysis.incidents.case import (
    NOTHING,
    Attempt,
    Case,
    Earlier,
    SpillFailure,
    most_held,
)
from dask_memdash.model.event_parts import TaskInfo, TaskInputs, Thresholds
from dask_memdash.model.evidence import Evidence
from dask_memdash.model.incidents import DEATHS, Incident, IncidentLog, Suspect

#: Earlier deaths that a diagnosis starts from, the last ones.
MAX_EARLIER = 3


def case_of(
    incident: Incident, log: IncidentLog, earlier: tuple[Earlier, ...] = ()
) -> Case:
    """Put the evidence on an incident together."""
    return Case(
        kind=incident.kind,
        limit=incident.limit,
        breakdown=incident.breakdown,
        evidence=incident.evidence,
        exit=incident.exit,
        unseen=incident.unseen,
        suspects=_with_inputs(incident, log),
        storage=incident.storage,
        timeline=incident.timeline,
        facts=_with_thresholds(incident, log),
        attempts={s.key: attempts_of(s, log) for s in incident.suspects if s.attempts},
        spill_failures=_spill_failures(incident, log),
        stage=incident.stage,
        tasks=incident.tasks,
        assigned=_not_begun(incident),
        detail=incident.detail,
        closing=incident.closing,
        address=incident.worker.address,
        id=incident.id,
        instant=_instant(incident),
        unresponsive=incident.unresponsive,
        at_least=_at_least(incident, log),
        earlier=earlier,
    )


def earlier_of(incident: Incident, log: IncidentLog) -> list[Incident]:
    """Return the last deaths before this one that the same tasks had, oldest first.

    The same tasks are those of the same keys, or of the same prefixes.
    """
    if incident.kind not in DEATHS:
        return []
    own = {s.prefix for s in incident.suspects}
    found: list[Incident] = []
    for other in log:
        if len(found) == MAX_EARLIER or not own:
            break
        before = other.kind in DEATHS and int(other.id) < int(incident.id)
        if before and own & {s.prefix for s in other.suspects}:
            found.append(other)
    return found[::-1]


def attempts_of(suspect: Suspect, log: IncidentLog) -> tuple[Attempt, ...]:
    """Return how each earlier attempt of a task ended, oldest first."""
    found = []
    for number in suspect.attempts:
        earlier = log.get(number)
        if earlier is not None:
            held = [most_held(s) for s in earlier.suspects if s.key == suspect.key]
            found.append(Attempt(number, earlier.kind, held[0] if held else None))
    return tuple(found)


def _with_inputs(incident: Incident, log: IncidentLog) -> tuple[Suspect, ...]:
    """Return the suspects, each without known inputs with those of its like.

    Tasks that lost their inputs with other workers are cancelled before their own dies,
    and the scheduler has nothing on them any more.  Taken are those that tasks of the
    same prefix had at other deaths, if they were alike, and are stored here.
    """
    unknown = {s.prefix for s in incident.suspects if s.inputs is None}
    if not unknown or incident.breakdown is None:
        return incident.suspects
    known: dict[str, list[TaskInputs]] = {}
    for other in log:
        for suspect in other.suspects if other.kind in DEATHS else ():
            if suspect.prefix in unknown and suspect.inputs is not None:
                known.setdefault(suspect.prefix, []).append(suspect.inputs)
    there = incident.breakdown.managed + (incident.breakdown.inputs or 0)
    alike = {
        prefix: found[0]
        for prefix, found in known.items()
        if len({inputs.size for inputs in found}) == 1 and found[0].size <= there
    }
    return tuple(
        replace(s, inputs=alike.get(s.prefix)) if s.inputs is None else s
        for s in incident.suspects
    )


def _not_begun(incident: Incident) -> tuple[TaskInfo, ...]:
    running = {suspect.key for suspect in incident.suspects}
    return tuple(task for task in incident.assigned if task.key not in running)


def _instant(incident: Incident) -> float:
    """Return the Unix time at which the breakdown was read, as far as known."""
    if incident.evidence == "flight-recorder" and incident.timeline:
        return min(incident.time, incident.timeline[-1][0])
    baseline = () if incident.facts is None else incident.facts.baseline
    if incident.evidence == "heartbeat" and baseline:
        return min(incident.time, baseline[-1][0])
    return incident.time


def _with_thresholds(incident: Incident, log: IncidentLog) -> Evidence:
    """Return what was known, with thresholds that earlier deaths of its like showed.

    A worker that dies before its first heartbeat has told none; those of one limit in
    one cluster have the same.
    """
    facts = incident.facts or NOTHING
    if facts.thresholds != Thresholds() or facts.baseline:
        return facts
    for other in log:
        known = other.facts is not None and other.facts.thresholds != Thresholds()
        if known and other.facts is not None and other.limit == incident.limit:
            return replace(facts, thresholds=other.facts.thresholds)
    return facts


def _at_least(incident: Incident, log: IncidentLog) -> dict[str, int]:
    """Return by prefix the most that one task held at a death before this one."""
    wanted = {s.prefix for s in incident.suspects}
    wanted |= {task.prefix for task in incident.tasks}
    found: dict[str, int] = {}
    for other in log if wanted else ():
        if other.kind not in DEATHS or int(other.id) >= int(incident.id):
            continue
        for suspect in other.suspects:
            held = most_held(suspect) or 0
            if suspect.prefix in wanted and held > found.get(suspect.prefix, 0):
                found[suspect.prefix] = held
    return found


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
