"""Rows of a segment: made of names and values, and made fit for SQLite."""

from __future__ import annotations

from typing import Any

from dask_memdash.runs.packing import pack, to_json
from dask_memdash.runs.tables import BY_NAME

#: Characters of a text that are kept, where it is no answer.
LONGEST = 4_000

#: The largest integer that SQLite holds.
LARGEST = 2**63 - 1

_COLUMNS = {
    name: tuple(column.name for column in table.columns)
    for name, table in BY_NAME.items()
}
_TYPES = {
    name: tuple(column.type for column in table.columns)
    for name, table in BY_NAME.items()
}


def row(table: str, **values: Any) -> tuple[str, tuple[Any, ...]]:
    """Return a table's name and a row of it; columns that are not named are NULL."""
    made = tuple(map(values.get, _COLUMNS[table]))
    if values.keys() - set(_COLUMNS[table]):
        raise TypeError(f"{table} has no such columns: {sorted(values)}")
    return table, made


def fit(table: str, values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return a row as SQLite takes it: answers packed, texts and numbers bounded."""
    return tuple(map(_fit, values, _TYPES[table]))


def _fit(value: Any, type_: str) -> Any:
    if value is None or isinstance(value, float):
        return value
    if isinstance(value, int):
        return max(-LARGEST, min(int(value), LARGEST))
    if isinstance(value, dict | list):
        return pack(value) if type_ == "BLOB" else to_json(value)
    text = str(value)[:LONGEST]
    # Halves of surrogate pairs cannot be written as UTF-8.
    return text.encode("utf-8", "replace").decode()
