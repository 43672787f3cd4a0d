"""What has happened on a cluster, counted: figures that never go down.

An incident's kind and a failure's cause may change while evidence arrives, so each is
counted once, when it is settled.  Counts begin with MemDash.

Imports the standard library and the glossary only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dask_memdash import terms
from dask_memdash.model.incidents import IncidentLog


class Counters:
    """Counts the incidents and failures of one cluster.

    Parameters
    ----------
    incidents
        The incidents that are kept.  Of those that came since the last look as many
        are counted as are kept.
    """

    def __init__(self, incidents: IncidentLog) -> None:
        self._incidents = incidents
        self._seen = 0
        self._waiting: list[str] = []
        #: Kind → settled incidents so far.
        self.incidents = dict.fromkeys(terms.KINDS, 0)
        #: Cause → failures that are over, so far.
        self.failures = dict.fromkeys(terms.CAUSES, 0)
        #: Failures that users were told of, so far.
        self.opened = 0

    def look(self, now: float) -> None:
        """Count incidents that were settled since; `now` is Unix time in seconds."""
        newest = self._seen
        for incident in self._incidents:
            number = int(incident.id)
            if number <= self._seen:
                break
            newest = max(newest, number)
            self._waiting.append(incident.id)
        self._seen = newest
        waiting, self._waiting = self._waiting, []
        for incident_id in waiting:
            known = self._incidents.get(incident_id)
            if known is None:
                continue  # it was withdrawn: it never happened
            if not self._incidents.settled(known, now):
                self._waiting.append(incident_id)
            elif known.kind in self.incidents:
                self.incidents[known.kind] += 1

    def told(
        self, action: str, failure: Mapping[str, Any], page: str | None = None
    ) -> None:
        """Take note that users were told of a failure.

        Parameters
        ----------
        action
            ``failure-opened`` or ``failure-closed``.
        failure
            As the JSON API has it.
        page
            Its address, which does not matter here.
        """
        if action == "failure-opened":
            self.opened += 1
        elif failure["diagnosis"]["cause"] in self.failures:
            self.failures[failure["diagnosis"]["cause"]] += 1
