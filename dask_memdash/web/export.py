"""What can be taken along: tables as CSV, and the page as one file.

Handlers that parse, call a pure function of :mod:`dask_memdash.views` and write what it
gives.  Tables need neither Bokeh nor Panel; the report needs Bokeh.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any

from dask_memdash.boundary import Boundary
from dask_memdash.store.base import Store
from dask_memdash.views.browser_state import LONGEST, TableQuery
from dask_memdash.views.table_columns import TABLES
from dask_memdash.views.tabular import select, to_csv
from dask_memdash.web.api import read_arguments
from dask_memdash.web.query import BadRequestError, Query
from dask_memdash.web.readonly import METHODS, REPORT, ReadOnly
from dask_memdash.web.turns import Turns, gone

#: Rows of a file at most.
MOST_ROWS = 100_000


def table_as_csv(store: Store, name: str, arguments: dict[str, str]) -> str | None:
    """Write a table as CSV, searched and sorted; None where there is none so called."""
    table = TABLES.get(name)
    if table is None:
        return None
    query = TableQuery(
        sort=arguments.get("sort", "")[:LONGEST],
        descending=bool(arguments.get("descending")),
        search=arguments.get("search", "")[:LONGEST],
        apart=True,
    )
    return to_csv(table, select(table, store, query, MOST_ROWS).rows)


async def report(store: Store) -> str:
    """Write the report: the store is read here, the rest is made in a thread.

    Raises
    ------
    ImportError
        Without Bokeh and Panel there are no charts.
    """
    from dask_memdash.views.report import render_report
    from dask_memdash.views.snapshot import Snapshot

    return await asyncio.to_thread(render_report, Snapshot(store))


class ExportHandler(ReadOnly):
    """A request for a file to take along."""

    def initialize(self, store: Store, boundary: Boundary, turns: Turns) -> None:
        """Take what the route was made with."""
        self.store = store
        self.boundary = boundary
        self.turns = turns

    def set_default_headers(self) -> None:
        """Say that no answer may be kept."""
        super().set_default_headers()
        self.set_header("Cache-Control", "no-store")

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Write an error in one sentence."""
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        if status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            self.set_header("Allow", ", ".join(METHODS))
        self.finish(kwargs.get("text") or HTTPStatus(status_code).phrase.lower())

    def log_exception(self, *args: Any) -> None:
        """Keep a client's mistakes out of the scheduler's log."""


class TableHandler(ExportHandler):
    """``tables/<name>.csv``."""

    async def get(self, name: str) -> None:
        """Answer with the table, when it is this request's turn."""
        try:
            arguments = read_arguments(self)
            Query(arguments).accept("sort", "descending", "search")
        except BadRequestError as error:
            self.send_error(HTTPStatus.BAD_REQUEST, text=str(error))
            return
        failed = object()
        async with self.turns.turn():
            if gone(self):
                return
            text: Any = self.boundary.guarded(table_as_csv, "writing a table", failed)(
                self.store, name, arguments
            )
        if text is failed:
            self.send_error(HTTPStatus.INTERNAL_SERVER_ERROR)
        elif text is None:
            self.send_error(HTTPStatus.NOT_FOUND)
        else:
            self.set_header("Content-Type", "text/csv; charset=utf-8")
            self.set_header(
                "Content-Disposition", f'attachment; filename="memdash-{name}.csv"'
            )
            self.finish(text)


class ReportHandler(ExportHandler):
    """``report.html``."""

    policy = REPORT

    async def get(self) -> None:
        """Answer with the report."""
        if self.request.method == "HEAD":
            self.set_header("Content-Type", "text/html; charset=utf-8")
            return
        # One at a time: threads that work for others take the scheduler's time too.
        async with self.turns.turn():
            if gone(self):
                return
            text = await self.boundary.guarded(report, "writing the report", None)(
                self.store
            )
        if text is None:
            self.send_error(HTTPStatus.INTERNAL_SERVER_ERROR)
        else:
            self.set_header("Content-Type", "text/html; charset=utf-8")
            self.finish(text)


#: Path beneath the page and what answers it.
routes: list[tuple[str, type[ExportHandler]]] = [
    (r"tables/([a-z]+)\.csv", TableHandler),
    (r"report\.html", ReportHandler),
]
