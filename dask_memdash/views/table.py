"""A table on the page: a page of rows in a source that the browser draws as HTML.

Only the rows that are looked at are sent, and of them only the cells that changed;
``static/tables.js`` writes every cell as plain text, so a name is never anything
else.  Searching, sorting and paging are asked for by the browser and done here.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from bokeh.models import ColumnDataSource

from dask_memdash.store.base import Store
from dask_memdash.views.base import Context, sync
from dask_memdash.views.browser_state import TableQuery
from dask_memdash.views.tabular import Column, Table, TablePage, cut, select

T = TypeVar("T")

#: Gives what is worked out once for all pages that ask the same.
Once = Callable[[str, Callable[[], Any]], Any]


class ServedTable:
    """One page of a table, kept in step with what its reader asks for.

    Parameters
    ----------
    table
        What it holds.
    context
        Whose page it is on; there all tables of one name have one source.
    """

    def __init__(self, table: Table, context: Context) -> None:
        self.table = table
        self.source = context.tables.get(table.name) or ColumnDataSource(
            _cells(table, TablePage([], 0, 0, 0)), name=f"memdash-table-{table.name}"
        )
        context.tables[table.name] = self.source

    def draw(self, store: Store, query: TableQuery, chosen: str, once: Once) -> None:
        """Show the page that is asked for, with one row marked as chosen."""
        page: TablePage = once(
            f"{self.table.name} {query}", lambda: select(self.table, store, query)
        )
        sync(self.source, _cells(self.table, page))
        counted = self.table.counted
        # many columns ask the same, and a large cluster takes its time to answer
        asked = {column.shown for column in self.table.columns}
        told = {
            ask: once(f"columns {ask.__qualname__}", partial(ask, store))
            for ask in asked
        }
        about = json.dumps(
            {
                "title": self.table.title,
                "columns": [_describe(c) for c in self.table.columns if told[c.shown]],
                "first": page.first,
                "shown": len(page.rows),
                "matching": page.matching,
                "total": page.total,
                "sort": query.sort,
                "descending": query.descending,
                "chosen": chosen,
                "searched": self.table.searched,
                "empty": not (counted(store) if counted else page.total),
            }
        )
        if self.source.tags != [about]:
            self.source.tags = [about]


def _describe(column: Column) -> dict[str, str]:
    return {
        "name": column.name,
        "label": column.label,
        "kind": column.kind,
        "words": column.words,
        "group": column.group,
    }


def _cells(table: Table, page: TablePage) -> dict[str, list[Any]]:
    cells: dict[str, list[Any]] = {"_link": [table.link(row) for row in page.rows]}
    for column in table.columns:
        cells[column.name] = [cut(column.value(row)) for row in page.rows]
        if column.more is not None:
            cells[f"_more_{column.name}"] = [cut(column.more(r)) for r in page.rows]
    return cells
