"""The list of recorded runs as a page and as JSON: searched, sorted, read-only.

The page is whole without scripts; ``static/runs.js`` searches while one types, keeps
the list up to date and adds keys.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from dask_memdash.boundary import Boundary
from dask_memdash.errors import RunError
from dask_memdash.runs.listing import SORTS, RunRow, select
from dask_memdash.runs.living import STATES
from dask_memdash.runs.remote import Runs
from dask_memdash.text import (
    count,
    format_bytes,
    format_duration,
    format_instant,
    plain,
    shorten,
)
from dask_memdash.views.assets import asset_url
from dask_memdash.web.readonly import RUNS, ReadOnly

#: Characters of what is asked for, and rows that are written, at most.
LONGEST = 200
MOST_ROWS = 2_000

#: Columns of the list: name in addresses → its head.
COLUMNS = {
    "name": "Run",
    "began": "Began",
    "length": "Length",
    "workers": "Workers",
    "failures": "Failures",
    "deaths": "Deaths",
    "memory": "Worker peak",
    "size": "Size",
    "state": "State",
}

_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,100}")


@dataclass(frozen=True, slots=True)
class Asked:
    """What a list is asked for."""

    q: str = ""
    tags: tuple[str, ...] = ()
    sort: str = "began"
    reverse: bool = False
    #: Address of the run that another one is to be compared with.
    compare: str = ""

    @property
    def address(self) -> str:
        """The query of the list that is asked for so; empty for the plain list."""
        pairs = [("q", self.q)] if self.q else []
        pairs += [("tag", tag) for tag in self.tags]
        pairs += [("sort", self.sort)] if self.sort != "began" else []
        pairs += [("reverse", "1")] if self.reverse else []
        pairs += [("compare", self.compare)] if self.compare else []
        return f"./?{urlencode(pairs)}" if pairs else "./"

    def by(self, sort: str) -> Asked:
        """Return the same list by a column: the other way round if it is already."""
        again = sort == self.sort
        return replace(self, sort=sort, reverse=again and not self.reverse)

    def comparing(self, run: str = "") -> Asked:
        """Return the same list to choose what a run is compared with; or no more."""
        return replace(self, compare=run)

    def with_tag(self, tag: str) -> Asked:
        """Return the runs of this list that have a tag."""
        return replace(self, tags=(*(t for t in self.tags if t != tag), tag))

    def without_tag(self, tag: str) -> Asked:
        """Return this list whether or not a run has a tag."""
        return replace(self, tags=tuple(t for t in self.tags if t != tag))


class RunsList:
    """The runs of some places, for a server.

    Parameters
    ----------
    places
        Directories and URLs.
    """

    def __init__(self, places: Sequence[Runs]) -> None:
        self.places = list(places)
        self._home: dict[str, tuple[Runs, str]] = {}
        self._turn = asyncio.Lock()

    async def rows(self) -> tuple[list[RunRow], list[str]]:
        """Return all runs, and what is wrong with a place."""
        async with self._turn:
            return await asyncio.to_thread(self._rows)

    def _rows(self) -> tuple[list[RunRow], list[str]]:
        rows: list[RunRow] = []
        wrong: list[str] = []
        home: dict[str, tuple[Runs, str]] = {}
        for place in self.places:
            try:
                found = place.rows()
            except RunError as error:
                wrong.append(plain(str(error), 500))
                continue
            # Of two runs of one name the first place's counts.
            new = {address_of(row.id): row for row in found}
            rows += [row for name, row in new.items() if name not in home]
            home = {name: (place, row.id) for name, row in new.items()} | home
        self._home = home
        return rows, wrong

    def find(self, address: str) -> Path | None:
        """Return the directory of a run by its address, fetched if need be.

        Raises
        ------
        RunError
            It cannot be fetched.
        """
        if address not in self._home:
            self._rows()
        found = self._home.get(address)
        return None if found is None else found[0].fetch(found[1])


def address_of(run: str) -> str:
    """Return what a run is called in addresses: its id, where that is a plain name."""
    if _PLAIN_NAME.fullmatch(run):
        return run
    digest = hashlib.sha256(run.encode("utf-8", "surrogateescape")).hexdigest()
    return f"run-{digest[:16]}"


class ListHandler(ReadOnly):
    """The list, or, with ``part=rows``, what changes of it."""

    policy = RUNS

    def initialize(self, runs: RunsList, boundary: Boundary) -> None:
        """Take what the route was made with."""
        self.runs = runs
        self.boundary = boundary

    def set_default_headers(self) -> None:
        """Say that no answer may be kept."""
        super().set_default_headers()
        self.set_header("Cache-Control", "no-store")

    def get_template_path(self) -> str:
        """Say where the templates are; Tornado escapes what it fills in."""
        return str(Path(__file__).parent / "templates")

    def log_exception(self, *args: Any) -> None:
        """Keep a visitor's mistakes out of the log."""

    async def get(self) -> None:
        """Write the list."""
        guarded = self.boundary.guarded(self.runs.rows, "listing runs", None)
        found = await guarded()
        if found is None:
            self.send_error(500)
            return
        rows, wrong = found
        asked = self.asked()
        first = _called(asked.compare, rows)
        if not first:  # it may have been removed since
            asked = asked.comparing()
        shown = select(
            rows,
            search=asked.q,
            tags=asked.tags,
            sort=asked.sort,
            reverse=asked.reverse,
        )
        part = self.get_query_argument("part", "") == "rows"
        self.render(
            "runs_rows.html" if part else "runs.html",
            asset=asset_url,
            asked=asked,
            columns=COLUMNS,
            rows=[told(row, asked) for row in shown[:MOST_ROWS]],
            summary=_summary(shown, rows),
            n_all=len(rows),
            wrong=wrong,
            first=first,
            places=[place.place for place in self.runs.places],
            descending=SORTS[asked.sort][0] is not asked.reverse,
        )

    def asked(self) -> Asked:
        """Return what the address asks for; what makes no sense is left out."""
        sort = self.get_query_argument("sort", "began")
        compare = self.get_query_argument("compare", "")
        return Asked(
            q=self.get_query_argument("q", "")[:LONGEST],
            tags=tuple(t[:LONGEST] for t in self.get_query_arguments("tag"))[:10],
            sort=sort if sort in SORTS else "began",
            reverse=bool(self.get_query_argument("reverse", "")),
            compare=compare if _PLAIN_NAME.fullmatch(compare) else "",
        )


class ListAsJSON(ListHandler):
    """``runs.json``: the same, as ``dask memdash runs ls --json`` writes it."""

    async def get(self) -> None:
        """Write the list."""
        found = await self.boundary.guarded(self.runs.rows, "listing runs", None)()
        if found is None:
            self.send_error(500)
            return
        self.set_header("Content-Type", "application/json; charset=utf-8")
        self.finish(
            {
                "time": time.time(),
                "runs": [asdict(row) for row in select(found[0])],
                "errors": found[1],
            }
        )


def told(row: RunRow, asked: Asked) -> dict[str, Any]:
    """Return what the page says of a run."""
    address = address_of(row.id)
    return {
        "href": f"runs/{address}/memdash",
        "address": address,
        "id": plain(row.id, LONGEST),
        "compare": _compare(address, asked),
        "name": row.name,
        "began": format_instant(row.began),
        "length": format_duration(row.seconds),
        "workers": _number(row.workers),
        "failures": _number(row.failures),
        "deaths": _number(row.deaths),
        "bad": bool(row.failures or row.deaths),
        "memory": format_bytes(row.most_worker),
        "size": format_bytes(row.size),
        "state": STATES[row.state],
        "state_name": row.state,
        "note": row.note,
        "tags": [_tag(name, text, asked) for name, text in list(row.tags.items())],
    }


def _compare(run: str, asked: Asked) -> dict[str, str] | None:
    """Return the link that compares a run; None for the one that was chosen first."""
    if not asked.compare:
        return {
            "said": "Compare",
            "whole": "Choose the run that is held against this one",
            "href": asked.comparing(run).address,
        }
    if run == asked.compare:
        return None
    return {
        "said": "Compare",
        "whole": "Hold this run against the one that was chosen",
        "href": f"runs/{asked.compare}/diff/{run}",
    }


def _called(address: str, rows: Sequence[RunRow]) -> str:
    """Return what a run is called, by its address; empty where there is none."""
    found = (row for row in rows if address and address_of(row.id) == address)
    row = next(found, None)
    return "" if row is None else shorten(plain(row.name or row.id, LONGEST), 60)


def _tag(name: str, text: str, asked: Asked) -> dict[str, str]:
    tag = f"{name}={text}" if text else name
    said = f"{name}: {text}" if text else name
    return {
        "said": shorten(said, 40),
        "whole": said,
        "href": asked.with_tag(tag).address,
    }


def _summary(shown: Sequence[RunRow], rows: Sequence[RunRow]) -> str:
    size = format_bytes(sum(row.size or 0 for row in shown))
    if len(shown) < len(rows):
        return f"{len(shown):,} of {count(len(rows), 'run')}, {size}"
    more = f"; the first {MOST_ROWS:,} are shown" if len(shown) > MOST_ROWS else ""
    return f"{count(len(rows), 'run')}, {size}{more}"


def _number(number: int | None) -> str:
    return "–" if number is None else f"{number:,}"
