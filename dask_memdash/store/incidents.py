"""Incidents as plain data: the shapes of the JSON API.

Diagnoses are worked out when somebody asks, and kept until their evidence changes.
"""

from __future__ import annotations

import operator
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any, NamedTuple

from dask_memdash.analysis.incidents import memory_errors
from dask_memdash.analysis.incidents.case import Case, Earlier
from dask_memdash.analysis.incidents.describe import describe
from dask_memdash.analysis.incidents.diagnose import UNKNOWN_CAUSE, diagnose
from dask_memdash.analysis.incidents.finding import Diagnosis, Finding
from dask_memdash.analysis.incidents.gathering import attempts_of, case_of, earlier_of
from dask_memdash.analysis.incidents.retention_reasons import reasons
from dask_memdash.analysis.incidents.rules.stuck import diagnose_stuck
from dask_memdash.analysis.incidents.together import diagnose_together
from dask_memdash.boundary import boundary
from dask_memdash.model.breakdown import UNKNOWN
from dask_memdash.model.cluster import ClusterModel
from dask_memdash.model.event_parts import TaskInfo
from dask_memdash.model.evidence import Expected, OrderFacts
from dask_memdash.model.exactness import method_shown
from dask_memdash.model.incidents import Incident, Suspect
from dask_memdash.model.stall import Stall
from dask_memdash.store.block_shapes import block_shape
from dask_memdash.store.children import children_of_tasks
from dask_memdash.store.last_seconds import last_seconds

#: Diagnoses kept, and those of several incidents together.
KEPT = 2_000
JOINED = 100


class Judged(NamedTuple):
    """The evidence on an incident, and what it says."""

    case: Case
    diagnosis: Diagnosis


class IncidentReader:
    """Gives a model's incidents as dicts.  Not thread-safe."""

    def __init__(
        self,
        model: ClusterModel,
        order: Callable[[str, float], OrderFacts | None] = lambda incident, time: None,
    ) -> None:
        self._model = model
        self._order = order
        # Incident → (what was made of it, and of which evidence).
        self._made: OrderedDict[str, tuple[object, Judged]] = OrderedDict()
        # Several incidents → (what was made of each, and of all of them together).
        self._joined: OrderedDict[
            tuple[str, ...], tuple[tuple[Judged, ...], Diagnosis]
        ] = OrderedDict()

    def diagnosis(self, incident: Incident) -> Diagnosis:
        """Return why an incident happened, as far as is known now."""
        return self._read(incident).diagnosis

    def _read(self, incident: Incident) -> Judged:
        """Return case and diagnosis of an incident; made again if its evidence grew."""
        log = self._model.incidents
        deaths = [d for n in incident.attempts if (d := log.get(n)) is not None]
        before = earlier_of(incident, log)
        made_of = tuple(
            (i.id, i.revision, self._order(i.id, i.time))
            for i in (incident, *deaths, *before)
        )
        known = self._made.get(incident.id)
        if known is not None and known[0] == made_of:
            return known[1]
        case = self._case(incident, before)
        if incident.stall is not None:
            diagnosis = self._of_stall(incident, deaths, case)
        elif incident.kind == "killed-worker":
            diagnosis = _together([self._read(death).case for death in deaths])
        else:
            diagnosis = _of(case)
        reading = Judged(case, diagnosis)
        self._made[incident.id] = (made_of, reading)
        while len(self._made) > KEPT:
            self._made.popitem(last=False)
        return reading

    def _of_stall(
        self, incident: Incident, deaths: list[Incident], case: Case
    ) -> Diagnosis:
        """Say who would have to let go for a cluster that is stuck to move."""
        order = self._order(incident.id, incident.time)
        behind = [self.diagnosis(death) for death in deaths]
        fullest = None if case.breakdown is None else case
        return _stuck(incident.stall, order, behind, fullest)

    def _case(self, incident: Incident, before: Sequence[Incident] = ()) -> Case:
        """Gather the evidence, with storage against the order where it is known.

        Parameters
        ----------
        before
            Earlier deaths of the same tasks: what they were found to be, each by
            itself, is part of the evidence.
        """
        log = self._model.incidents
        told = [(death.id, _of(self._case(death))) for death in before]
        earlier = tuple(Earlier(number, d.cause, d.prefix) for number, d in told)
        case = case_of(incident, log, earlier)
        order = case.facts.order or self._order(incident.id, incident.time)
        return replace(case, facts=replace(case.facts, order=order))

    def brief(self, incident: Incident) -> dict[str, Any]:
        """Return an incident as it stands in a list."""
        case, diagnosis = self._read(incident)
        breakdown = incident.breakdown
        failure = self._model.failures.of(incident.id)
        return {
            "id": incident.id,
            "time": incident.time,
            "until": incident.until,
            "kind": incident.kind,
            "worker": asdict(incident.worker),
            "exit": None if incident.exit is None else asdict(incident.exit),
            "limit": incident.limit,
            "breakdown": dict(UNKNOWN) if breakdown is None else breakdown.to_dict(),
            "diagnosis": {
                "cause": diagnosis.cause,
                "relief": diagnosis.relief,
                "confidence": diagnosis.confidence,
                "responsible": {"prefix": diagnosis.prefix, "key": diagnosis.key},
                "text": describe(incident, diagnosis, case.running),
                "advice": list(diagnosis.advice),
                "instant": diagnosis.instant,
            },
            "evidence": incident.evidence,
            "failure": None if failure is None else failure.id,
            "settled": self._model.incidents.settled(incident, self._model.time),
        }

    def whole(self, incident: Incident) -> dict[str, Any]:
        """Return an incident with suspects, storage, findings, cost and timeline."""
        log = self._model.incidents
        case, diagnosis = self._read(incident)
        because = reasons(case)
        details = self.brief(incident) | {
            "suspects": [
                {
                    **_suspect(suspect),
                    "attempts": [
                        {"incident": attempt.incident, "kind": attempt.kind}
                        for attempt in attempts_of(suspect, log)
                    ],
                    "expected": _expected(case.expected(suspect.prefix)),
                }
                for suspect in case.running
            ],
            "innocent": {
                "count": incident.n_innocent,
                "keys": [task.key for task in incident.innocent],
            },
            "storage": [
                {
                    **asdict(row),
                    "because": [asdict(reason) for reason in because[row.prefix]],
                }
                for row in incident.storage
            ],
            "spill": _spill(case),
            "thresholds": asdict(case.facts.thresholds),
            "children": children_of_tasks(case.facts.children),
            "findings": [_finding(finding) for finding in diagnosis.findings],
            "cost": {
                "keys_lost": incident.keys_lost,
                "bytes_lost": incident.bytes_lost,
                "seconds_recomputed": incident.seconds_lost,
                "keys_stored": incident.keys_stored,
                "bytes_stored": incident.bytes_stored,
                "seconds_away": incident.seconds_away,
                "nanny_closed_after": incident.nanny_closed_after,
            },
            "timeline": {
                "time": [time for time, _ in incident.timeline],
                "process": [size for _, size in incident.timeline],
                "clock_offset": incident.clock_offset,
            },
            "last_seconds": last_seconds(incident),
        }
        if incident.tasks:
            details["tasks"] = [self._task(task) for task in incident.tasks]
            details["n_tasks"] = incident.n_tasks
            details["task"] = details["tasks"][0]
        if incident.stall is not None:
            details["stuck"] = _stall(incident.stall)
        if incident.kind == "memory-error":
            details |= memory_errors.details(incident)
        if incident.kind == "killed-worker":
            details["attempts"] = list(incident.attempts)
        return details

    def together(self, incidents: Sequence[Incident]) -> Diagnosis:
        """Return why several incidents happened, as one: oldest first.

        Of a cluster that is stuck, who would have to let go says more than what filled
        one of its workers.
        """
        if incidents and all(incident.stall is not None for incident in incidents):
            return self.diagnosis(incidents[-1])
        readings = tuple([self._read(incident) for incident in incidents])
        ids = tuple([incident.id for incident in incidents])
        known = self._joined.get(ids)
        if known is None or not all(map(operator.is_, known[0], readings)):
            known = (readings, _together([reading.case for reading in readings]))
            self._joined[ids] = known
            while len(self._joined) > JOINED:
                self._joined.popitem(last=False)
        return known[1]

    def _task(self, task: TaskInfo) -> dict[str, Any]:
        place = self._model.graphs.position(task.group, task.priority)
        return {
            "key": task.key,
            "prefix": task.prefix,
            "priority": None if task.priority is None else list(task.priority),
            "order_position": place[0] if place else None,
            "order_total": place[1] if place else None,
            "inputs": None if task.inputs is None else asdict(task.inputs),
        }


# The evidence is told rather than a fault in its interpretation.
_of: Callable[[Case], Diagnosis] = boundary.guarded(
    diagnose, "diagnosing an incident", UNKNOWN_CAUSE
)
_together: Callable[[Sequence[Case]], Diagnosis] = boundary.guarded(
    diagnose_together, "joining diagnoses", UNKNOWN_CAUSE
)


_stuck: Callable[..., Diagnosis] = boundary.guarded(
    diagnose_stuck, "diagnosing a cluster that is stuck", UNKNOWN_CAUSE
)


def _stall(stall: Stall) -> dict[str, Any]:
    """Say who waits and who holds, in bytes over the paused workers."""
    return {
        "since": stall.since,
        "waiting": [
            {"prefix": tasks.prefix, "queued": tasks.queued, "assigned": tasks.assigned}
            for tasks in stall.waiting
        ],
        "n_waiting": stall.n_waiting,
        "n_paused": stall.n_paused,
        "n_workers": stall.n_workers,
        "by_hand": stall.by_hand,
        "running": stall.running,
        "unreceived": stall.unreceived,
        "spilling": stall.spills,
        "holding": [
            {
                "prefix": holding.prefix,
                "bytes": holding.bytes,
                "because": dict(holding.because),
                "clients": dict(holding.clients),
                "awaited_by": dict(holding.awaited_by),
            }
            for holding in stall.holding
        ],
        "deaths": list(stall.deaths),
    }


def _suspect(suspect: Suspect) -> dict[str, Any]:
    data = asdict(suspect)
    data["priority"] = None if suspect.priority is None else list(suspect.priority)
    del data["block"]
    data["largest_block"] = block_shape(suspect.block)
    return data


def _spill(case: Case) -> dict[str, Any]:
    thresholds = case.facts.thresholds
    return {
        "on": case.spilling,
        "target": thresholds.target,
        "threshold": thresholds.spill,
        "spilled": None if case.breakdown is None else case.breakdown.spilled,
        "failures": [asdict(failure) for failure in case.spill_failures],
    }


def _expected(expected: Expected | None) -> dict[str, Any] | None:
    if expected is None or expected.p50 is None:
        return None
    return {
        "p50": expected.p50,
        "p95": expected.p95,
        "max": expected.max,
        "method": method_shown(expected.method, expected.p95, expected.error),
    }


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "cause": finding.cause,
        "weight": finding.weight,
        "text": finding.text,
        "responsible": {"prefix": finding.prefix, "key": finding.key},
    }
