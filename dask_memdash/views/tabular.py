"""Tables of what a store gives: rows and columns, searched, sorted, paged, as CSV.

Knows nothing of how a table is drawn: the page (:mod:`dask_memdash.views.table`), the
report and the CSV files are made from the same columns.  What the tables of the page
hold is :mod:`dask_memdash.views.table_columns`'s.
"""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from urllib.parse import quote

from dask_memdash.store.base import Store
from dask_memdash.store.worker_shapes import Worker
from dask_memdash.text import KEY_KEPT, format_duration, inert, plain
from dask_memdash.views.browser_state import TableQuery

#: Rows of one page.
PAGE_ROWS = 50

#: Characters of a text that a cell holds at most; the rest is cut off.
LONGEST = 300

#: Names longer than this get no link: no address should be as long as they may be.
LONGEST_LINK = 1000

#: What a spreadsheet would take for a formula.
_FORMULA = tuple("=+-@|%")


def _always(store: Store) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Column:
    """A column: where its values come from, and how they are written.

    ``kind`` is one of 'text', 'state' (a word that has a colour), 'names' (several,
    one a line), 'number', 'size' (bytes), 'share' (0 to 1), 'factor', 'seconds' (a
    length of time), 'instant' (Unix time) and 'curve' (whole numbers from 0 to 100, of
    which the page draws a line; in no file).
    """

    name: str
    label: str
    kind: str
    value: Callable[[Any], Any]
    #: Explains it to whoever hovers over its head.
    words: str = ""
    #: Columns that belong together stand beneath one head.
    group: str = ""
    #: A second line beneath the value, for texts.
    more: Callable[[Any], str] | None = None
    #: Whether a cluster has what it tells of, and the page shows it; files always do.
    shown: Callable[[Store], bool] = _always
    #: Addresses of what its value names: as many lines as there are names.
    link: Callable[[Any], str] | None = None
    #: Gives its value where that is asked of the store, for the rows of a page alone.
    ask: Callable[[Store, Any], Any] | None = None

    @property
    def is_text(self) -> bool:
        """Whether its values are words, which can be searched."""
        return self.kind in ("text", "state", "names")

    @property
    def is_drawn(self) -> bool:
        """Whether it is a drawing, which is on the page alone."""
        return self.kind == "curve"


@dataclass(frozen=True, slots=True)
class ColumnSet:
    """Columns that are looked at together; the first column is always among them."""

    label: str
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """A table of what a store gives."""

    name: str
    title: str
    columns: tuple[Column, ...]
    #: Gives all rows, in the table's own order.
    rows: Callable[[Store], Sequence[Any]]
    #: Gives the address of what a row is about, empty for none.
    link: Callable[[Any], str] = field(default=lambda row: "")
    #: Gives one page of rows in the table's own order, and how many there are, where
    #: that is cheaper than making them all.
    page: Callable[[Store, int, int], tuple[Sequence[Any], int]] | None = None
    #: Counts the rows that the table is there for, where it has others beside them:
    #: while there are none, what to do is said.
    counted: Callable[[Store], int] | None = None
    #: Which rows are searched and sorted, in words, where that is not all of them.
    searched: str = ""
    #: Columns that the page shows together, those that it opens with first; empty for
    #: all columns at once.
    sets: tuple[ColumnSet, ...] = ()
    #: Gives the row of totals: column → the cluster's figure.  What is in no sum is not
    #: in it.
    total: Callable[[Store], Mapping[str, Any]] | None = None
    #: Says whether a row is of something that is not there any more.
    faint: Callable[[Any], bool] | None = None
    #: Gives rows that stand among the others only where that is asked for.
    apart: Callable[[Store], Sequence[Any]] | None = None
    #: What these are, one and several of them: "worker that left", "workers that left".
    apart_words: tuple[str, str] = ("", "")

    def column(self, name: str) -> Column | None:
        """Return a column by its name."""
        return next((column for column in self.columns if column.name == name), None)


@dataclass(frozen=True, slots=True)
class TablePage:
    """Some rows of a table, and where among all they are."""

    rows: Sequence[Any]
    #: Number of the first one, from 0.
    first: int
    #: How many rows match the search, and how many there are.
    matching: int
    total: int


@lru_cache(8192)
def address(kind: str, name: str) -> str:
    """Return fragment of the page's address that shows something, empty for none."""
    if not name or len(name) > LONGEST_LINK:
        return ""
    return f"{kind}-{quote(name, safe='')}"


def select(
    table: Table, store: Store, query: TableQuery, length: int = PAGE_ROWS
) -> TablePage:
    """Return the page of a table that a reader asks for; beyond the last, the last."""
    column = table.column(query.sort)
    words = query.search.casefold().split()
    if column is None and not words and table.page is not None:
        rows, total = table.page(store, length, query.page * length)
        if rows or not total:
            return TablePage(rows, query.page * length, total, total)
    found = table.rows(store)
    if query.apart and table.apart is not None:
        found = [*found, *table.apart(store)]
    total = len(found)
    if words:
        found = [row for row in found if _matches(table, row, words)]
    if column is not None:
        found = arrange(found, column, descending=query.descending)
    last = max(0, (len(found) - 1) // length)
    first = min(query.page, last) * length
    return TablePage(found[first : first + length], first, len(found), total)


def _matches(table: Table, row: Any, words: list[str]) -> bool:
    texts = [str(c.value(row) or "") for c in table.columns if c.is_text]
    texts += [c.more(row) for c in table.columns if c.more is not None]
    whole = "\n".join(texts).casefold()
    return all(word in whole for word in words)


def arrange(rows: Sequence[Any], column: Column, *, descending: bool) -> list[Any]:
    """Sort rows by a column; what is not known comes last either way."""
    keyed = [(column.value(row), row) for row in rows]
    known = [pair for pair in keyed if pair[0] not in (None, "")]
    unknown = [row for value, row in keyed if value in (None, "")]
    key = natural if column.is_text else _itself
    known.sort(key=lambda pair: key(pair[0]), reverse=descending)
    return [row for _, row in known] + unknown


def _itself(value: Any) -> Any:
    return value


def natural(text: Any) -> tuple[int, int, str]:
    """Return a key that puts worker 9 before worker 10."""
    word = str(text)
    number = word.rpartition("-")[2]
    if number.isascii() and number.isdigit() and len(number) < 16:
        return (0 if number == word else 1, int(number), word)
    return (2, 0, word.casefold())


def cut(value: Any) -> Any:
    """Return a value as a cell holds it: texts harmless, and no longer than is read."""
    if isinstance(value, str) and len(value) > LONGEST:
        value = value[: LONGEST - 1] + "…"
    return inert(value)


def to_csv(table: Table, rows: Sequence[Any]) -> str:
    """Write rows as CSV: sizes in bytes, instants in Unix time, nothing for unknown.

    Texts that a spreadsheet would take for a formula get an apostrophe before them.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    columns = [column for column in table.columns if not column.is_drawn]
    writer.writerow([_head(column) for column in columns])
    for row in rows:
        writer.writerow([_plain(_written(column, row)) for column in columns])
    return out.getvalue()


def _head(column: Column) -> str:
    unit = {"size": " (bytes)", "seconds": " (s)", "instant": " (Unix time)"}
    name = f"{column.group}: {column.label}" if column.group else column.label
    return name + unit.get(column.kind, "")


def _written(column: Column, row: Any) -> Any:
    """Return a cell's value; names of several lines in one."""
    value = column.value(row)
    return value.replace("\n", ", ") if column.kind == "names" else value


def _plain(value: Any) -> Any:
    """Return what a cell holds: one harmless line, which no spreadsheet works out.

    Spreadsheets skip blanks and control characters before a formula, and take signs
    of full width for signs.
    """
    if not isinstance(value, str):
        return "" if value is None else value
    line = plain(value, KEY_KEPT)
    first = unicodedata.normalize("NFKC", line.lstrip("\ufffd ")[:1])
    return f"'{line}" if first in _FORMULA and first else line


def states_of(worker: Worker) -> set[str]:
    """Return a worker's status as Dask says it; 'stale' too where it is silent."""
    stale = {"stale"} if worker.get("stale_for") is not None else set()
    return {worker["status"], *stale}


def state_of(worker: Worker) -> str:
    """Write a worker's status, and for how long it has been silent if it is."""
    silent = worker.get("stale_for")
    if silent is None:
        return worker["status"]
    return f"{worker['status']}, stale for {format_duration(silent)}"
