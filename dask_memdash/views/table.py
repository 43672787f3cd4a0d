"""A table on the page: a page of rows in a source that the browser draws as HTML.

Only the rows that are looked at are sent, and of them only the cells that changed;
``static/tables.js`` writes every cell as plain text, so a name is never anything
else.  Searching, sorting and paging are asked for by the browser and done here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

from bokeh.models import ColumnDataSource

from dask_memdash.store.base import Store
from dask_memdash.text import count
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
        #: The row of totals, where the table has one: as many columns, of one row.
        self.total = context.totals.get(table.name) or ColumnDataSource(
            _totals(table, {}), name=f"memdash-total-{table.name}"
        )
        context.totals[table.name] = self.total

    def draw(self, store: Store, query: TableQuery, chosen: str, once: Once) -> None:
        """Show the page that is asked for, with one row marked as chosen."""
        page: TablePage = once(
            f"{self.table.name} {query}", lambda: select(self.table, store, query)
        )
        cells = once(
            f"cells of {self.table.name} {query}",
            lambda: _cells(self.table, page, store),
        )
        sync(self.source, cells)
        if self.table.total is not None:
            total = once(
                f"total of {self.table.name}", partial(self.table.total, store)
            )
            sync(self.total, _totals(self.table, total))
        counted = self.table.counted
        # many columns ask the same, and a large cluster takes its time to answer
        asked = {column.shown for column in self.table.columns}
        told = {
            ask: once(f"columns {ask.__qualname__}", partial(ask, store))
            for ask in asked
        }
        apart = self.table.apart
        left = 0
        if apart is not None:
            left = len(once(f"apart of {self.table.name}", partial(apart, store)))
        about = json.dumps(
            {
                "title": self.table.title,
                "columns": [_describe(c) for c in self.table.columns if told[c.shown]],
                "sets": {one.label: list(one.columns) for one in self.table.sets},
                "totals": self.table.total is not None,
                "first": page.first,
                "shown": len(page.rows),
                "matching": page.matching,
                "total": page.total,
                "sort": query.sort,
                "descending": query.descending,
                "chosen": chosen,
                "searched": self.table.searched,
                "apart": count(left, *self.table.apart_words) if left else "",
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


def _cells(
    table: Table, page: TablePage, store: Store | None = None
) -> dict[str, list[Any]]:
    cells: dict[str, list[Any]] = {"_link": [table.link(row) for row in page.rows]}
    if table.faint is not None:
        cells["_faint"] = [table.faint(row) for row in page.rows]
    for column in table.columns:
        if column.ask is not None and store is not None:
            cells[column.name] = [cut(column.ask(store, row)) for row in page.rows]
        else:
            cells[column.name] = [cut(column.value(row)) for row in page.rows]
        if column.more is not None:
            cells[f"_more_{column.name}"] = [cut(column.more(r)) for r in page.rows]
        if column.link is not None:
            cells[f"_link_{column.name}"] = [column.link(row) for row in page.rows]
    return cells


def _totals(table: Table, total: Mapping[str, Any]) -> dict[str, list[Any]]:
    names = [column.name for column in table.columns]
    names += [f"_more_{name}" for name in names]
    return {name: [cut(total.get(name))] for name in names}
