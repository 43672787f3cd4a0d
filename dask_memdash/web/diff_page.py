"""The page that compares two recorded runs: ``/runs/<a>/diff/<b>``, and its JSON.

A plain page without a script.  ``?as=json`` gives what ``runs diff --json`` writes,
``?all=1`` lists what is the same, too.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tornado import template

from dask_memdash.compare.comparison import Comparison, compare
from dask_memdash.compare.verdicts import VERDICTS
from dask_memdash.compare.written import headline, listed, run_rows, to_dict
from dask_memdash.errors import RunError
from dask_memdash.runs.reading import RunReader
from dask_memdash.store.recorded import RecordedStore
from dask_memdash.text import plain
from dask_memdash.views.assets import asset_url
from dask_memdash.web.readonly import RUNS, ReadOnly, write_headers

#: Addresses of comparisons.
PATH = re.compile(r"/runs/([^/]+)/diff/([^/]+)/?")

#: Sentences on the page at most.
ROWS = 300

#: One comparison at a time: each reads two runs.
_TURN = asyncio.Semaphore(1)


class DiffHandler(ReadOnly):
    """Compares two runs."""

    policy = RUNS

    def initialize(
        self, find: Callable[[str], Path | None], names: tuple[str, str]
    ) -> None:
        """Take what finds a run by its address, and the two."""
        self._find = find
        self._names = names

    async def get(self) -> None:
        """Write the comparison; say on the page why there can be none."""
        found: Comparison | None = None
        wrong = ""
        try:
            async with _TURN:
                found = await asyncio.to_thread(_compared, self._find, self._names)
        except RunError as error:
            wrong = f"These runs cannot be compared. {plain(str(error), 1000)}"
        if found is None and not wrong:
            self.send_error(404)
            return
        if found is not None and self.get_argument("as", "") == "json":
            self.set_header("Content-Type", "application/json")
            self.finish(json.dumps(to_dict(found), allow_nan=False))
            return
        everything = bool(self.get_argument("all", ""))
        self.finish(page(found, wrong, self._names, everything))

    def set_default_headers(self) -> None:
        """Say what a browser may do with it."""
        write_headers(self, RUNS)


def page(
    found: Comparison | None, wrong: str, names: tuple[str, str], everything: bool
) -> bytes:
    """Write the page; Tornado escapes what it fills in."""
    rows: list[Any] = [] if found is None else listed(found, everything)
    groups = [(v, [one for one in rows[:ROWS] if one.verdict == v]) for v in VERDICTS]
    loader = template.Loader(str(Path(__file__).parent / "templates"))
    return loader.load("diff.html").generate(
        asset=asset_url,
        wrong=wrong,
        names=names,
        headline="" if found is None else headline(found),
        verdict="" if found is None else found.verdict,
        notes=() if found is None else found.notes,
        figures=() if found is None else list(run_rows(found)),
        groups=[(verdict, some) for verdict, some in groups if some],
        left=0 if found is None else len(found.differences) - min(ROWS, len(rows)),
        everything=everything,
    )


def _compared(
    find: Callable[[str], Path | None], names: tuple[str, str]
) -> Comparison | None:
    """Compare; None where there is no such run.  Runs in a thread of its own."""
    paths = [find(name) for name in names]
    if any(path is None for path in paths):
        return None
    readers: list[RunReader] = []
    try:
        readers += [RunReader(path) for path in paths if path is not None]
        first, second = (RecordedStore(reader) for reader in readers)
        return compare(first, second)
    finally:
        for reader in readers:
            reader.close()
