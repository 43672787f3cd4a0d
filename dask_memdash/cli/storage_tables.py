"""What ``dask memdash storage`` writes: tables for people, and the same as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from dask_memdash.intermediates.inventory import (
    Inventory,
    NamedSet,
    Problem,
    Removal,
)
from dask_memdash.text import (
    UNKNOWN,
    count,
    format_bytes,
    format_instant,
    join,
    shorten,
)

#: Characters of a name and of a description in a table; problems and functions listed.
MAX_NAME = 40
MAX_ABOUT = 50
MOST_LISTED = 20

HEAD = ("name", "state", "chunks", "size", "written", "by", "holds")


def stock_text(stock: Inventory) -> str:
    """Write what a store holds as a table, and a line for what no name needs."""
    rows = [HEAD, *map(_row, stock.sets)]
    lines = _table(rows) if stock.sets else ["Nothing here has a name."]
    lines += [
        "",
        f"{count(stock.objects, 'chunk')}, {format_bytes(stock.bytes)} in all.",
    ]
    if stock.unpinned:
        size = sum(entry.size for entry in stock.unpinned)
        lines[-1] += (
            f" {count(len(stock.unpinned), 'chunk')}, {format_bytes(size)}, belong to "
            "no name: dask memdash storage gc deletes old ones."
        )
    return "\n".join(lines)


def _row(found: NamedSet) -> tuple[str, ...]:
    facts = found.facts
    if facts is None:
        return (shorten(found.name, MAX_NAME), "damaged", *[UNKNOWN] * 5)
    complete = found.stored == found.objects
    return (
        shorten(found.name, MAX_NAME),
        _state(found),
        f"{found.stored:,}" if complete else f"{found.stored:,} of {found.objects:,}",
        format_bytes(found.bytes),
        format_instant(facts.finished or facts.started),
        shorten(f"{facts.user}@{facts.host}"),
        shorten(", ".join(facts.collections), MAX_ABOUT),
    )


def _state(found: NamedSet) -> str:
    if found.facts is None:
        return "damaged"
    if not found.finished:
        return "unfinished"
    return "stored" if found.stored == found.objects else "incomplete"


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def sets_text(found: Sequence[NamedSet]) -> str:
    """Write all that is known of what stands under a name."""
    return "\n\n".join(map(_set_text, found))


def _set_text(found: NamedSet) -> str:
    facts = found.facts
    if facts is None:
        return f"{found.name}: {found.error}"
    versions = [f"{name} {version}" for name, version in facts.versions.items()]
    functions = sorted(facts.functions)
    more = len(functions) - MOST_LISTED
    rows = [
        ("name", found.name),
        ("state", _state(found)),
        ("holds", "; ".join(facts.collections)),
        ("chunks", f"{found.stored:,} of {found.objects:,} are there"),
        ("size", format_bytes(found.bytes)),
        ("written by", f"{facts.user}@{facts.host}, process {facts.pid}"),
        ("began", format_instant(facts.started)),
        ("finished", format_instant(facts.finished)),
        ("version", facts.version or UNKNOWN),
        ("with", ", ".join(versions)),
        ("functions", join(functions[:MOST_LISTED]) or UNKNOWN),
    ]
    if more > 0:
        rows[-1] = ("functions", f"{rows[-1][1]} and {more} more")
    return "\n".join(_table(rows))


def removal_question(removal: Removal) -> str:
    """Ask whether to delete."""
    return f"Delete {_what(removal)}?"


def removal_text(removal: Removal, dry_run: bool) -> str:
    """Say what was deleted, or would be."""
    if not (removal.names or removal.objects or removal.leftovers):
        return "There is nothing to delete."
    return f"{'Would delete' if dry_run else 'Deleted'} {_what(removal)}."


def _what(removal: Removal) -> str:
    parts = [f"the name {shorten(name, MAX_NAME)}" for name in removal.names[:1]]
    if len(removal.names) > 1:
        parts = [count(len(removal.names), "unfinished name")]
    parts.append(count(removal.objects, "chunk"))
    if removal.leftovers:
        parts.append(count(removal.leftovers, "file") + " of killed writes")
    return f"{join(parts)} ({format_bytes(removal.bytes)})"


def problems_text(read: int, problems: Sequence[Problem]) -> str:
    """Say what a verification found."""
    if not problems:
        return f"{count(read, 'chunk')} read; nothing is damaged."
    lines = [f"{count(read, 'chunk')} read; {count(len(problems), 'problem')}:"]
    lines += [f"  {one.set_name}: {one.message}" for one in problems[:MOST_LISTED]]
    if len(problems) > MOST_LISTED:
        lines.append(f"  and {len(problems) - MOST_LISTED} more; --json lists all")
    return "\n".join(lines)


# -- JSON ------------------------------------------------------------------------


def stock_json(stock: Inventory) -> dict[str, Any]:
    """Return what a store holds; sizes in bytes, instants as Unix time."""
    return {
        "sets": [set_json(found) for found in stock.sets],
        "objects": stock.objects,
        "bytes": stock.bytes,
        "unpinned_objects": len(stock.unpinned),
        "unpinned_bytes": sum(entry.size for entry in stock.unpinned),
    }


def set_json(found: NamedSet) -> dict[str, Any]:
    """Return one set; `facts` is null where its manifest cannot be read."""
    facts = asdict(found.facts) if found.facts else None
    if facts is not None:
        del facts["objects"], facts["name"]
    return {
        "name": found.name,
        "state": _state(found),
        "objects": found.objects,
        "stored_objects": found.stored,
        "bytes": found.bytes,
        "error": found.error,
        "facts": facts,
    }


def removal_json(removal: Removal, dry_run: bool) -> dict[str, Any]:
    """Return what was deleted, or would be."""
    return {
        "names": list(removal.names),
        "objects": removal.objects,
        "leftovers": removal.leftovers,
        "bytes": removal.bytes,
        "deleted": not dry_run,
    }


def problems_json(read: int, problems: Sequence[Problem]) -> dict[str, Any]:
    """Return what a verification found."""
    return {
        "read_objects": read,
        "problems": [
            {"name": p.set_name, "object": p.object_name, "message": p.message}
            for p in problems
        ],
    }
