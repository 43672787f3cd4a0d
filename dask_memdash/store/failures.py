"""Failures as plain data: what people see of the incidents of one computation.

A failure's cause comes from all its incidents together, so that what was learnt at
one death corrects what was said of an earlier one.  Which incidents are one failure is
:mod:`dask_memdash.model.failures`'s.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Sequence
from typing import Any

from dask_memdash.analysis.incidents.failure_words import what_happened
from dask_memdash.analysis.incidents.finding import Diagnosis
from dask_memdash.model.cluster import ClusterModel
from dask_memdash.model.failure_parts import Failure
from dask_memdash.model.incidents import DEATHS, Incident
from dask_memdash.store.incidents import IncidentReader

#: Incidents that a diagnosis rests on at most, the newest.
MAX_TOGETHER = 30

#: Diagnoses of closed failures that are kept.
KEPT = 500

#: Names of workers that a failure lists.
MAX_WORKERS = 50


class FailureReader:
    """Returns a model's failures as dicts.  Not thread-safe."""

    def __init__(self, model: ClusterModel, incidents: IncidentReader) -> None:
        self._model = model
        self._incidents = incidents
        # Closed failure → (what its diagnosis was made of, the diagnosis).
        self._made: OrderedDict[str, tuple[object, Diagnosis]] = OrderedDict()

    def failure(self, failure: Failure) -> dict[str, Any]:
        """Return one failure."""
        log = self._model.incidents
        known = [i for i in map(log.get, failure.members) if i is not None]
        diagnosis = self._diagnosis(failure, known)
        kinds = failure.kinds
        tasks: Counter[str] = Counter()
        for incident in known:
            tasks[incident.kind] += incident.n_tasks
        loss = failure.loss
        happened = what_happened(kinds, tasks, len(failure.workers))
        return {
            "id": failure.id,
            "opened": failure.opened,
            "closed": failure.closed,
            "kind": failure.kind,
            "count": failure.count,
            "deaths": failure.deaths,
            "kinds": dict(kinds),
            "workers": len(failure.workers),
            "worker_names": sorted(failure.workers)[:MAX_WORKERS],
            "graph": failure.graph,
            "text": happened,
            "responsible": {"prefix": diagnosis.prefix, "key": diagnosis.key},
            "diagnosis": {
                "cause": diagnosis.cause,
                "relief": diagnosis.relief,
                "confidence": diagnosis.confidence,
                "text": diagnosis.text,
                "advice": list(diagnosis.advice),
            },
            "cost": {
                "keys_lost": loss.keys,
                "bytes_lost": loss.bytes,
                "seconds_recomputed": loss.seconds,
                "keys_stored": loss.keys_stored,
                "bytes_stored": loss.bytes_stored,
            },
            "killed_workers": [i.id for i in known if i.kind == "killed-worker"],
            "tasks_given_up": tasks["killed-worker"],
            "incidents": [incident.id for incident in known],
            "settled": all(log.settled(i, self._model.time) for i in known),
        }

    def _diagnosis(self, failure: Failure, known: Sequence[Incident]) -> Diagnosis:
        """Return why it happened, by all its incidents together."""
        evidence = evidence_of(known)[-MAX_TOGETHER:]
        if failure.closed is None:
            return self._incidents.together(evidence)
        made_of = tuple((incident.id, incident.revision) for incident in evidence)
        kept = self._made.get(failure.id)
        if kept is None or kept[0] != made_of:
            kept = (made_of, self._incidents.together(evidence))
            self._made[failure.id] = kept
            while len(self._made) > KEPT:
                self._made.popitem(last=False)
        return kept[1]


def evidence_of(incidents: Sequence[Incident]) -> list[Incident]:
    """Return the incidents that speak for a cause, oldest first.

    Deaths and errors where there are any; what led up to them only otherwise.  A task
    that was given up says nothing beyond its deaths.
    """
    own = [i for i in incidents if i.kind != "killed-worker"]
    worst = [i for i in own if i.kind in DEATHS or i.kind == "memory-error"]
    return worst or own or list(incidents)
