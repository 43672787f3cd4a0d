"""What one browser shows, as ``static/memdash.js`` tells it: tab, choice, time, tables.

The browser keeps it (part of it in its address, so that it can be shared) and tells
it as one JSON text; the server keeps nothing beyond the session.  The text comes from
outside: whatever is wrong with it, :func:`read` gives something that can be shown.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

#: The tabs, in the order of the page, with their titles.
TABS = {
    "overview": "Overview",
    "workers": "Workers",
    "tasks": "Tasks",
    "incidents": "Failures",
    "order": "Order",
    "limits": "Limits",
}

#: Most characters of what is chosen or searched for.
LONGEST = 1000

#: Latest instant that can be chosen, in Unix time.
LAST = 1e11

#: Highest page of a table.
MAX_PAGE = 10**6


@dataclass(frozen=True, slots=True)
class TableQuery:
    """What a reader asked of a table; by default its own order, from the start."""

    #: Name of the column to sort by, empty for the table's own order.
    sort: str = ""
    descending: bool = False
    search: str = ""
    #: Number of the page, from 0.
    page: int = 0
    #: Whether the rows that are set apart are among the others.
    apart: bool = False


@dataclass(frozen=True, slots=True)
class Shown:
    """What a browser shows."""

    tab: str = "overview"
    #: What is chosen on that tab: a worker's address, a prefix, an incident's or a
    #: graph's id; empty for nothing.
    chosen: str = ""
    #: What its address begins with, where one tab shows more than one kind: 'prefix' or
    #: 'other'.
    kind: str = ""
    #: A finer choice within it: a position of the order's curve.
    point: int | None = None
    #: Length of the time axis in seconds; None for all there is.
    window: float | None = None
    #: The moment that tables show: begin and end of a span in Unix time, the same for
    #: an instant; None for now.
    at: tuple[float, float] | None = None
    paused: bool = False
    #: Whether nobody sees it, for another tab of the browser is in front.
    hidden: bool = False
    #: Grows when the reader asks to leave a zoom, and to zoom into the chosen span.
    follow: int = 0
    zoom: int = 0
    tables: Mapping[str, TableQuery] = field(default_factory=dict)

    def chosen_on(self, tab: str) -> str:
        """Return what is chosen on a tab, empty while another tab is shown."""
        return self.chosen if tab == self.tab else ""

    def table(self, name: str) -> TableQuery:
        """Return what was asked of a table."""
        return self.tables.get(name, TableQuery())


def read(text: str) -> Shown:
    """Read what a browser tells; what cannot be read is left at its default."""
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        return Shown()
    if not isinstance(told, dict):
        return Shown()
    tab = told.get("tab")
    point = told.get("point")
    tables = told.get("tables")
    return Shown(
        tab=tab if isinstance(tab, str) and tab in TABS else "overview",
        chosen=_text(told.get("chosen")),
        kind=_text(told.get("kind"))[:20],
        point=_natural(point, 10**12) if isinstance(point, int) else None,
        window=_window(told.get("window")),
        at=_moment(told.get("at")),
        paused=told.get("paused") is True,
        hidden=told.get("hidden") is True,
        follow=_natural(told.get("follow"), 10**9),
        zoom=_natural(told.get("zoom"), 10**9),
        tables={
            str(name)[:40]: _query(query)
            for name, query in list(tables.items())[:20]
            if isinstance(query, dict)
        }
        if isinstance(tables, dict)
        else {},
    )


def _query(told: Mapping[str, Any]) -> TableQuery:
    return TableQuery(
        sort=_text(told.get("sort")),
        descending=told.get("descending") is True,
        search=_text(told.get("search")),
        page=_natural(told.get("page"), MAX_PAGE),
        apart=told.get("apart") is True,
    )


def _text(value: Any) -> str:
    return value[:LONGEST] if isinstance(value, str) else ""


def _window(value: Any) -> float | None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return float(value) if 1 <= value <= 10**9 else None


def _moment(value: Any) -> tuple[float, float] | None:
    if not isinstance(value, list) or len(value) != 2:
        return None
    if not all(isinstance(one, int | float) and 0 <= one <= LAST for one in value):
        return None
    start, end = sorted(float(one) for one in value)
    return start, end


def moment_of(text: str | None) -> tuple[float, float] | None:
    """Read an address's ``at``: an instant in Unix time, or 'begin..end'.

    None for now, and for what is neither.
    """
    begin, _, end = (text or "").partition("..")
    try:
        return _moment([float(begin), float(end or begin)])
    except ValueError:
        return None


def _natural(value: Any, most: int) -> int:
    return min(max(value, 0), most) if isinstance(value, int) else 0
