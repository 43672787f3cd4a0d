"""What ``dask memdash runs`` writes: tables for people, and the same as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from dask_memdash.runs.listing import RunRow
from dask_memdash.runs.living import DAMAGED, STATES
from dask_memdash.runs.parquet import Exported
from dask_memdash.runs.removal import Removal
from dask_memdash.text import (
    UNKNOWN,
    count,
    format_bytes,
    format_duration,
    format_instant,
    plain,
    shorten,
)

#: Characters of a name and of all tags in a table; notes that are told beneath it.
MAX_NAME = 30
MAX_TAGS = 40
MOST_NOTES = 10

#: Columns, and whether they are written at the right.
HEAD = {
    "id": False,
    "name": False,
    "began": False,
    "length": True,
    "workers": True,
    "failures": True,
    "deaths": True,
    "worker peak": True,
    "size": True,
    "state": False,
    "tags": False,
}


def runs_text(rows: Sequence[RunRow], place: str, all_rows: int) -> str:
    """Write a list of runs as a table.

    Parameters
    ----------
    place
        Where they were looked for.
    all_rows
        How many there are there, asked for or not.
    """
    if not rows and all_rows:
        return f"None of the {count(all_rows, 'run')} in {plain(place)} is like that."
    if not rows:
        return (
            f"There is no recorded run in {plain(place)}.\n"
            f'Record one: client.register_plugin(MemDash(record="{plain(place)}"))'
        )
    lines = _table([tuple(HEAD), *map(_row, rows)], list(HEAD.values()))
    lines += ["", f"{count(len(rows), 'run')}, {format_bytes(_size(rows))} in all."]
    noted = [row for row in rows if row.note]
    lines += [f"  {plain(row.id)}: {row.note}" for row in noted[:MOST_NOTES]]
    if len(noted) > MOST_NOTES:
        lines.append(f"  and {len(noted) - MOST_NOTES} more notes; --json has all")
    return "\n".join(lines)


def _row(row: RunRow) -> tuple[str, ...]:
    return (
        plain(row.id, 60),
        shorten(row.name, MAX_NAME) or UNKNOWN,
        format_instant(row.began),
        format_duration(row.seconds),
        _number(row.workers),
        _number(row.failures),
        _number(row.deaths),
        format_bytes(row.most_worker),
        format_bytes(row.size),
        STATES[row.state],
        shorten(tags_text(row), MAX_TAGS) or UNKNOWN,
    )


def tags_text(row: RunRow) -> str:
    """Write the tags of a run."""
    tags = [f"{name}={text}" if text else name for name, text in row.tags.items()]
    return ", ".join(tags)


def _number(number: int | None) -> str:
    return UNKNOWN if number is None else f"{number:,}"


def _table(rows: Sequence[tuple[str, ...]], right: Sequence[bool]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if at_right else cell.ljust(width)
            for cell, width, at_right in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in rows
    ]


def run_json(row: RunRow) -> dict[str, Any]:
    """Return a run as JSON: bytes, seconds and Unix times; null is not known."""
    return {**asdict(row), "damaged": row.state == DAMAGED}


def removal_text(removal: Removal) -> str:
    """List what would go, and what would stay although it was meant."""
    lines = []
    if removal.rows:
        lines += runs_text(removal.rows, "", len(removal.rows)).splitlines()
    for name, why in list(removal.kept.items())[:MOST_NOTES]:
        lines.append(f"  {plain(name)} stays: {plain(why)}")
    if len(removal.kept) > MOST_NOTES:
        lines.append(f"  and {len(removal.kept) - MOST_NOTES} more stay")
    return "\n".join(lines)


def removal_size(rows: Sequence[RunRow]) -> str:
    """Write how many runs these are, and their size."""
    return f"{count(len(rows), 'run')} ({format_bytes(_size(rows))})"


def _size(rows: Sequence[RunRow]) -> int:
    return sum(row.size or 0 for row in rows)


def exported_text(one: Exported) -> str:
    """Say what was written of a table."""
    size = format_bytes(one.bytes)
    return f"{plain(one.path)}: {count(one.rows, 'row')}, {size}"
