"""``memdash/runs``: the runs that the record directory of a living scheduler holds.

A page without scripts.  Nothing of a run is opened here: a scheduler has other work.
Where a server of runs is configured (``memdash.record.server``) each run is a link to
it; else the page has the command that opens it.
"""

from __future__ import annotations

import asyncio
import shlex
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dask_memdash.boundary import Boundary
from dask_memdash.config import Settings
from dask_memdash.errors import MemDashError
from dask_memdash.redact import without_secrets
from dask_memdash.runs.directory import entry_of
from dask_memdash.runs.listing import LocalRuns, RunRow, select
from dask_memdash.runs.living import STATES, WRITTEN
from dask_memdash.text import format_duration, format_instant, plain, shorten
from dask_memdash.views.assets import asset_url
from dask_memdash.web.making import Page
from dask_memdash.web.readonly import RUNS, ReadOnly
from dask_memdash.web.runs_list import address_of

#: Path beneath the page, and runs that are listed at most, the newest.
PATH = "runs"
MOST = 50

#: Seconds for which a list is kept, and longest that one is waited for: a directory on
#: a network may not answer for a while.
KEPT = 10.0
PATIENCE = 5.0


@dataclass(frozen=True, slots=True)
class Found:
    """What is known of a place."""

    rows: tuple[RunRow, ...] = ()
    #: How many there are in all; None where they were not listed.
    number: int | None = None
    #: What is wrong, in a sentence.
    wrong: str = ""


class EarlierRuns:
    """The runs of the place that a scheduler records to.

    Parameters
    ----------
    settings
        Where that is, and the address of a server of runs.
    boundary
        What a fault is told to.
    scheduler
        Id of the scheduler, whose own run is not an earlier one.
    """

    path = PATH

    def __init__(self, settings: Settings, boundary: Boundary, scheduler: str) -> None:
        self._scheduler = scheduler
        to = str(settings.record_to)
        self.remote = "://" in to and not to.startswith("file://")
        #: The directory or URL, as a command takes it; keys in it are left out.
        self.place = (
            without_secrets(to)
            if self.remote
            else _absolute(to.removeprefix("file://"))
        )
        #: Address of a server of runs, without a slash at its end; None without one.
        server = without_secrets(settings.record_server or "")
        self.server = server.rstrip("/") or None
        self._runs = None if self.remote else LocalRuns(self.place)
        self._list = boundary.guarded(
            self._rows, "listing earlier runs", Found(wrong="They could not be listed.")
        )
        self._found: Found | None = None
        self._due = 0.0
        self._asked: asyncio.Future[Found] | None = None

    async def found(self) -> Found:
        """Return what there is, listed in a thread: one at a time, ever."""
        if self._found is not None and time.monotonic() < self._due:
            return self._found
        if self._asked is None or self._asked.done():
            self._asked = asyncio.ensure_future(asyncio.to_thread(self._list))
        done, _ = await asyncio.wait([self._asked], timeout=PATIENCE)
        if not done:
            return Found(wrong="The directory does not answer. Try again later.")
        self._found, self._due = self._asked.result(), time.monotonic() + KEPT
        return self._found

    def _rows(self) -> Found:
        if self._runs is None:
            return Found()
        try:
            rows = self._runs.rows()
        except MemDashError as error:
            return Found(wrong=plain(str(error), 500))
        earlier = [row for row in rows if not self._own(row)]
        return Found(tuple(select(earlier)[:MOST]), len(earlier))

    def _own(self, row: RunRow) -> bool:
        """Say whether a run is the one that this scheduler writes."""
        if row.state != WRITTEN:
            return False
        manifest = entry_of(Path(row.path)).manifest
        return manifest is not None and manifest.scheduler.get("id") == self._scheduler

    @property
    def handler(self) -> type[ReadOnly]:
        """What answers at :attr:`path`."""
        return EarlierRunsHandler

    def told(self, row: RunRow) -> dict[str, Any]:
        """Return what the page says of a run."""
        link = f"{self.server}/runs/{address_of(row.id)}/memdash"
        return {
            "id": plain(row.id, 200),
            "name": shorten(row.name, 100),
            "began": format_instant(row.began),
            "length": format_duration(row.seconds),
            "failures": "–" if row.failures is None else f"{row.failures:,}",
            "bad": bool(row.failures or row.deaths),
            "state": STATES[row.state],
            "link": link if self.server else None,
            "command": f"dask memdash runs open {shlex.quote(plain(row.path, 1_000))}",
        }


class EarlierRunsHandler(ReadOnly):
    """Writes the list."""

    policy = RUNS

    def initialize(self, runs: EarlierRuns) -> None:
        """Take what the route was made with."""
        self.runs = runs

    def get_template_path(self) -> str:
        """Say where the template is; Tornado escapes what it fills in."""
        return str(Path(__file__).parent / "templates")

    async def get(self) -> None:
        """Write the page."""
        found = await self.runs.found()
        self.set_header("Cache-Control", "no-store")
        self.render(
            "earlier_runs.html",
            asset=lambda name: f"../{asset_url(name)}",
            place=self.runs.place,
            server=self.runs.server,
            serve=f"dask memdash runs serve {shlex.quote(self.runs.place)}",
            found=found,
            rows=[self.runs.told(row) for row in found.rows],
        )


class LinkedPage:
    """The living page, with a link to the earlier runs."""

    def __init__(self, page: Page) -> None:
        self._page = page

    def opening(self, doc: Any) -> Iterator[None]:
        """Put it into a document, a piece a step."""
        doc.template_variables["earlier_runs"] = f"memdash/{PATH}"
        yield from self._page.opening(doc)


def _absolute(directory: str) -> str:
    return str(Path(directory).absolute())
