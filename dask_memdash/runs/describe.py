"""The part of ``docs/runs.md`` that is made of the tables.

``python -m dask_memdash.runs.describe docs/runs.md`` writes it anew.
"""

from __future__ import annotations

from collections.abc import Iterator

from dask_memdash.runs.schema import SCHEMA_VERSION, TABLES, VIEWS

#: Where the part begins.
HEADING = "## Tables"


def lines() -> Iterator[str]:
    """Yield tables and views, line by line."""
    yield f"{HEADING} (version {SCHEMA_VERSION})"
    for table in TABLES:
        yield from ("", f"### {table.name}", "", table.text, "")
        if table.key:
            key = ", ".join(f"`{name}`" for name in table.key)
            yield from (f"Key: {key}. What is written again takes its place.", "")
        yield from ("| column | type | meaning |", "|---|---|---|")
        for column in table.columns:
            text = column.text.replace("|", r"\|")
            yield f"| `{column.name}` | {column.type} | {text} |"
    yield from ("", "## Views", "")
    yield from ("| view | what it shows |", "|---|---|")
    for view in VIEWS:
        yield f"| `{view.name}` | {view.text} |"


def page(before: str) -> str:
    """Return the page as it should be, from what it is: the words stay."""
    words = before.split(f"{HEADING} ", maxsplit=1)[0]
    return words + "\n".join(lines()) + "\n"


if __name__ == "__main__":
    import sys
    from pathlib import Path

    path = Path(sys.argv[1])
    path.write_text(page(path.read_text(encoding="utf-8")), encoding="utf-8")
