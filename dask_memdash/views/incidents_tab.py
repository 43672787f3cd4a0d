"""The Failures tab: failures, and their incidents, each of which opens to its story.

The address of the page says what is open (``#failure-1``, ``#incident-3``) and can be
shared.  Text is written by templates, which escape; the worker's last seconds are two
Bokeh charts (:mod:`dask_memdash.views.last_seconds`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

import panel as pn

from dask_memdash.analysis.incidents.failure_words import cost_in_words
from dask_memdash.analysis.incidents.last_seconds import Scene, scene
from dask_memdash.errors import UnknownFailureError, UnknownIncidentError
from dask_memdash.store.base import Store
from dask_memdash.views.base import Context, Text, View
from dask_memdash.views.issue_text import failure_text, incident_text
from dask_memdash.views.last_seconds import LastSeconds
from dask_memdash.views.last_seconds_columns import tints
from dask_memdash.views.table import ServedTable
from dask_memdash.views.table_columns import FAILURES, INCIDENTS
from dask_memdash.views.tabular import address
from dask_memdash.views.would_have_lived import WouldHaveLived

#: What the choice of a failure begins with; incidents are chosen by their id alone.
FAILURE = "failure-"

#: Rows of each table of a story at most.
MOST = 50

#: Incidents that the story of a failure tells at most, the newest.
TOLD = 10


class IncidentsView(View):
    """Table of incidents, and the story of the one that is open.

    Parameters
    ----------
    store
        What it shows.
    context
        What it shares with the other views of its page.
    """

    def __init__(self, store: Store, context: Context) -> None:
        super().__init__(store, context)
        self.failures = ServedTable(FAILURES, context)
        self.lived = WouldHaveLived(store)
        self.table = ServedTable(INCIDENTS, context)
        self.failure = Text("failure_story.html", context.stylesheet)
        self.story = Text("incident_story.html", context.stylesheet)
        self.more = Text("incident_more.html", context.stylesheet)
        self.failure_more = Text("failure_more.html", context.stylesheet)
        self.chart = LastSeconds(live=context.live)
        self.figure = self.chart.figure
        self.root = pn.Column(
            self.failure.pane,
            self.failure_more.pane,
            self.story.pane,
            pn.pane.Bokeh(self.figure, sizing_mode="stretch_width", margin=0),
            pn.pane.Bokeh(self.chart.strips, sizing_mode="stretch_width", margin=0),
            self.more.pane,
            sizing_mode="stretch_width",
            margin=0,
        )

    def draw(self) -> None:
        """Bring the table up to date, and the story of the open incident."""
        chosen = self.shown.chosen_on("incidents")
        failure_id = chosen.removeprefix(FAILURE) if chosen.startswith(FAILURE) else ""
        chosen = "" if failure_id else chosen
        self._draw_failures(failure_id)
        query = self.shown.table(INCIDENTS.name)
        self.table.draw(self.store, query, address("incident", chosen), self.once)
        incident = self._opened(chosen)
        suspects = incident["suspects"] if incident else []
        drawn = scene(incident) if incident else Scene()
        self.story.write(
            incident=incident,
            asked=chosen,
            most=MOST,
            tints=tints(suspects),
            scene=drawn,
            copied=incident_text(incident) if incident else "",
        )
        self.more.write(incident=incident, most=MOST)
        self.chart.draw(incident, drawn)

    def _draw_failures(self, chosen: str) -> None:
        query = self.shown.table(FAILURES.name)
        shown = address("failure", chosen)
        self.failures.draw(self.store, query, shown, self.once)
        failure = None
        if chosen:
            with suppress(UnknownFailureError):
                failure = self.store.failure(chosen)
        cost = "" if failure is None else cost_in_words(failure["cost"])
        told = self._told(failure)
        self.failure.write(
            failure=failure,
            asked=chosen,
            cost_text=cost,
            lived=self.lived.lines(failure),
            addresses=_addresses(told),
            copied=failure_text(failure, told) if failure else "",
            most=MOST,
        )
        self.failure_more.write(
            failure=failure, incidents=[(one, _largest(one)) for one in told]
        )

    def _told(self, failure: Mapping[str, Any] | None) -> list[dict[str, Any]]:
        """Return the newest incidents of a failure in full, oldest first."""
        found = []
        for incident_id in (failure or {}).get("incidents", [])[-TOLD:]:
            with suppress(UnknownIncidentError):
                found.append(self.store.incident(incident_id))
        return found

    def _opened(self, chosen: str) -> dict[str, Any] | None:
        if not chosen:
            return None
        try:
            return self.store.incident(chosen)
        except UnknownIncidentError:
            return None


def _addresses(incidents: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return where the workers of incidents listened, by name."""
    workers = [incident.get("worker") or {} for incident in incidents]
    return {str(w.get("name")): str(w.get("address") or "") for w in workers}


def _largest(incident: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the running task that had most; None where none ran."""
    suspects = incident.get("suspects") or []
    return max(suspects, key=lambda s: s["bytes"] or 0, default=None)
