"""What the JSON API says, laid out for a terminal: pure functions.

The sentences themselves are MemDash's own (``diagnosis.text``); this sets them in
lines, and adds the figures that a person compares.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from dask_memdash.demos.advice import taken_apart
from dask_memdash.terms import KINDS, PARTS, label
from dask_memdash.text import (
    UNKNOWN,
    code,
    count,
    format_bytes,
    format_clock,
    format_parts,
)

#: Characters in a line of text.
WIDTH = 79

INDENT = "    "

#: Characters that the name of a run is given.
NAME = 30


def workers(number: int, threads: int, memory_limit: int) -> str:
    """Write the size of a cluster; the limit in bytes."""
    return (
        f"{count(number, 'worker')} of {count(threads, 'thread')} and "
        f"{format_bytes(memory_limit)}"
    )


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Set rows in columns; numbers stand to the right, but in the first column."""
    columns = list(zip(header, *rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    right = [all(map(_is_number, column[1:])) for column in columns]
    right[0] = False

    def line(cells: Sequence[str]) -> str:
        laid = (
            cell.rjust(width) if is_right else cell.ljust(width)
            for cell, width, is_right in zip(cells, widths, right, strict=True)
        )
        return "  ".join(laid).rstrip()

    return "\n".join([line(header), line(["-" * w for w in widths]), *map(line, rows)])


def _is_number(cell: str) -> bool:
    return cell[:1].isdecimal() or cell in ("", UNKNOWN)


def failure(found: dict[str, Any], apart: int = 0) -> list[str]:
    """Tell of a failure: what happened, why, and the one thing to change.

    Parameters
    ----------
    found
        A failure as the JSON API has it.
    apart
        Deaths of the same run that MemDash does not count to this failure.
    """
    text = found["text"]
    if apart:
        text += f" {count(apart, 'more death')} may be for another reason."
    lines = ["What happened", *paragraph(text, INDENT)]
    diagnosis = found["diagnosis"]
    lines += ["", "Why", *paragraph(diagnosis["text"], INDENT)]
    who = found["responsible"]["prefix"]
    if who is not None:
        lines += ["", "Responsible", *paragraph(code(who), INDENT)]
    first = next(iter(diagnosis["advice"]), "Nothing is known that would help here.")
    return [*lines, "", "What to change", *advice(first, INDENT)]


def advice(text: str, indent: str) -> list[str]:
    """Set an advice in lines; what is to be pasted stands on one of its own."""
    apart = taken_apart(text)
    if apart is None:
        return paragraph(text, indent)
    return [
        *paragraph(apart.lead, indent),
        f"{indent}{INDENT}{apart.line}",
        *paragraph(f"{apart.figures}.", indent),
    ]


def death(incident: dict[str, Any]) -> list[str]:
    """Tell how a worker died, what was running on it, and where its memory was."""
    when = format_clock(incident["time"])
    head = f"#{incident['id']}  {when}  {label(KINDS, incident['kind'])}"
    lines = [head, *paragraph(incident["diagnosis"]["text"], "    ")]
    breakdown = incident["breakdown"]
    if breakdown is not None and breakdown["process"] is not None:
        sizes = {name: breakdown[name] for name in PARTS}
        written = format_parts(sizes, breakdown["process"])
        parts = " + ".join(
            f"{PARTS[name].label} {written[name]}" for name in PARTS if sizes[name]
        )
        lines += paragraph(f"{format_bytes(breakdown['process'])} = {parts}", "    ")
    return lines


def paragraph(text: str, indent: str = "", rest: str | None = None) -> list[str]:
    """Set a text in lines, the first and the rest of them indented."""
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=indent,
        subsequent_indent=indent if rest is None else rest,
        break_long_words=False,
        break_on_hyphens=False,
    )
