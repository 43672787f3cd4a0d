"""A recorded run as Parquet files, one a table.

Rows that are repeated in several segments come once, as they were last known.  Answers,
which are compressed in a segment, become JSON as text.  The breakdown of every kind of
segment is there, with the kind beside it.  Needs pyarrow.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dask_memdash.errors import MemDashError
from dask_memdash.runs.reading import RunReader, SegmentFile
from dask_memdash.runs.tables import BY_NAME, TABLES, Table

#: The table whose rows are in segments of every kind, and the column that says which.
HISTORY, KIND = "breakdown", "kind"

#: Tables that say what a segment is, and not what a run was.
LEFT_OUT = ("meta",)


@dataclass(frozen=True, slots=True)
class Exported:
    """One table that was written."""

    table: str
    path: str
    rows: int
    #: Of the file, in bytes.
    bytes: int


def table_names() -> list[str]:
    """Return the tables that can be exported."""
    return [table.name for table in TABLES if table.name not in LEFT_OUT]


def export(
    reader: RunReader, to: str | Path, tables: Sequence[str] = ()
) -> Iterator[Exported]:
    """Write tables of a run to ``<to>/<table>.parquet``, readable by their owner alone.

    Parameters
    ----------
    reader
        Of the run; what of it cannot be read is among its problems afterwards.
    to
        Directory; made if it is not there.
    tables
        Names; empty for all.

    Raises
    ------
    MemDashError
        pyarrow is missing, a table is unknown, a file is there already or cannot be
        written.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise MemDashError(
            "exporting to Parquet needs pyarrow, which is not installed here: "
            "pip install pyarrow, or conda install pyarrow"
        ) from None
    names = list(tables) or table_names()
    for name in names:
        if name not in table_names():
            known = ", ".join(table_names())
            raise MemDashError(f"there is no table {name!r}; there are {known}")
    folder = Path(to)
    paths = {name: folder / f"{name}.parquet" for name in names}
    if there := [path for path in paths.values() if path.exists()]:
        raise MemDashError(f"{there[0]} is there already: export to another directory")
    try:
        folder.mkdir(0o700, parents=True, exist_ok=True)
        for name, path in paths.items():
            yield _write(reader, BY_NAME[name], path, pyarrow, parquet)
    except OSError as error:
        why = error.strerror or str(error)
        raise MemDashError(f"cannot write to {folder}: {why}") from None


def _write(
    reader: RunReader, table: Table, path: Path, arrow: Any, parquet: Any
) -> Exported:
    types = {
        "INTEGER": arrow.int64(),
        "REAL": arrow.float64(),
        "TEXT": arrow.string(),
        "BLOB": arrow.string(),
    }
    fields = [arrow.field(c.name, types[c.type]) for c in table.columns]
    if table.name == HISTORY:
        fields.append(arrow.field(KIND, arrow.string()))
    schema = arrow.schema(fields)
    draft = path.with_name(f".{path.name}.part")
    written = 0
    os.close(os.open(draft, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600))
    try:
        with parquet.ParquetWriter(str(draft), schema, compression="zstd") as file:
            for rows in _parts(reader, table):
                columns = list(zip(*rows, strict=True)) or [()] * len(fields)
                arrays = [
                    arrow.array(column, type=field.type)
                    for column, field in zip(columns, fields, strict=True)
                ]
                file.write_table(arrow.Table.from_arrays(arrays, schema=schema))
                written += len(rows)
        draft.rename(path)
    finally:
        draft.unlink(missing_ok=True)
    return Exported(table.name, str(path), written, path.stat().st_size)


def _parts(reader: RunReader, table: Table) -> Iterator[list[tuple[Any, ...]]]:
    """Yield the rows of each segment that has any."""
    history = table.name == HISTORY
    segments = reader.files() if history else reader.files("main")
    if not table.key:
        segments = segments[::-1]
    seen: set[tuple[Any, ...]] = set()
    names = [column.name for column in table.columns]
    key = [names.index(name) for name in table.key]
    for segment in segments:
        rows = []
        # What was written again takes its place: the newest segments come first.
        for row in _rows(reader, segment, table):
            mark = tuple(row[n] for n in key)
            if key and mark in seen:
                continue
            if key:
                seen.add(mark)
            rows.append((*row, segment.kind) if history else row)
        if rows:
            yield rows


def _rows(
    reader: RunReader, segment: SegmentFile, table: Table
) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of one segment; a column that it does not have is None."""
    there = {
        row[0]
        for row in reader.ask(
            segment, "SELECT name FROM pragma_table_info(?)", (table.name,)
        )
    }
    if not there:
        return
    picked = [c.name if c.name in there else "NULL" for c in table.columns]
    query = f"SELECT {', '.join(picked)} FROM {table.name}"
    for row in reader.ask(segment, query):
        yield tuple(
            _cell(reader, segment, column.type, value)
            for column, value in zip(table.columns, row, strict=True)
        )


def _cell(reader: RunReader, segment: SegmentFile, kind: str, value: Any) -> Any:
    """Return a value as its column's type; SQLite itself holds columns to none."""
    if value is None:
        return None
    if kind == "BLOB":
        answer = reader.answer(segment, value)
        return None if answer is None else json.dumps(answer)
    if kind == "TEXT":
        return value if isinstance(value, str) else str(value)
    try:
        return int(value) if kind == "INTEGER" else float(value)
    except (TypeError, ValueError, OverflowError):
        return None
