"""Tables as lines of text that fit a width: what every command's tables are made of.

Pure: takes rows, gives lines.  A line is a row of pieces of text with a *tone* each, a
word for how it looks, which a screen turns into colour and plain output leaves out.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from dask_memdash.text import plain

#: A piece of text and its tone: empty, 'dim', 'strong', 'alarm', 'caution', 'good',
#: 'chosen', or a family of memory ('storage', 'execution', 'overhead', 'free').
Piece = tuple[str, str]
Line = tuple[Piece, ...]

#: Between two columns.
GAP = 2

#: Highest rank of the columns that are cut rather than left out.
MATTERS = 2

#: What stands in place of text that was cut off.
CUT = "…"


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table.

    `cell` gives what stands there of a row: text, or pieces of it.
    """

    head: str
    cell: Callable[[Any], str | Line]
    #: Whether it is written at the right, as numbers are.
    right: bool = False
    #: Where there is no room, columns of the highest rank are left out first.
    rank: int = 0
    #: Cells on the screen that it can be cut to, 0 where it cannot.
    least: int = 0


def cells(text: str) -> int:
    """Return how many cells of a terminal a text takes."""
    if text.isascii():
        return len(text)
    return sum(_cells(letter) for letter in text)


def _cells(letter: str) -> int:
    if unicodedata.combining(letter):
        return 0
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1


def length(line: Iterable[Piece]) -> int:
    """Return how many cells a line takes."""
    return sum(cells(text) for text, _ in line)


def cut(line: Iterable[Piece], width: int) -> Line:
    """Cut a line to a width; where something is cut off the end says so."""
    line = tuple(line)
    if length(line) <= width:
        return line
    kept: list[Piece] = []
    room = width - 1
    for text, tone in line:
        part = ""
        for letter in text:
            room -= _cells(letter)
            if room < 0:
                break
            part += letter
        if room < 0:
            kept.append((f"{part}{CUT}", tone))
            return tuple(kept) if width > 0 else ()
        kept.append((part, tone))
    return tuple(kept)


def padded(line: Iterable[Piece], width: int, *, right: bool = False) -> Line:
    """Fill a line with blanks up to a width, cutting it where it is longer."""
    line = cut(line, width)
    blanks = (" " * (width - length(line)), "")
    return (blanks, *line) if right else (*line, blanks)


def written(lines: Iterable[Line]) -> str:
    """Write lines as text alone."""
    return "\n".join("".join(text for text, _ in line).rstrip() for line in lines)


def table(
    columns: Sequence[Column], rows: Sequence[Any], width: int | None = None
) -> list[Line]:
    """Write rows under a head; columns with nothing in them are left out.

    Parameters
    ----------
    columns
        From left to right.
    rows
        What the columns' cells are made from.
    width
        Cells that there are; None for as many as it takes.  What has no room is cut,
        then left out, as the columns say; the first column always stays.

    Returns
    -------
    list of Line
        The head, then one line a row.
    """
    body = [[_line(column.cell(row)) for column in columns] for row in rows]
    filled = [
        i
        for i in range(len(columns))
        if i == 0 or any(length(made[i]) for made in body)
    ]
    columns = [columns[i] for i in filled]
    body = [[made[i] for i in filled] for made in body]
    natural = [
        max([cells(column.head), *(length(made[i]) for made in body)])
        for i, column in enumerate(columns)
    ]
    widths = natural if width is None else _fit(columns, natural, width)
    shown = [i for i in range(len(columns)) if widths[i]]
    head: list[Line] = [((column.head, "head"),) for column in columns]
    return [
        _joined(padded(made[i], widths[i], right=columns[i].right) for i in shown)
        for made in (head, *body)
    ]


def _line(cell: str | Line) -> Line:
    return ((plain(cell), ""),) if isinstance(cell, str) else cell


def _joined(parts: Iterable[Line]) -> Line:
    line: list[Piece] = []
    for part in parts:
        if line:
            line.append((" " * GAP, ""))
        line += part
    return tuple(line)


def _fit(columns: Sequence[Column], natural: Sequence[int], width: int) -> list[int]:
    """Return the columns' widths, 0 for what is left out.

    Long names in the first column give way first, then columns of high rank, then the
    length of those that matter, and at last these too.
    """
    widths = list(natural)

    def over() -> int:
        shown = [each for each in widths if each]
        return sum(shown) + GAP * (len(shown) - 1) - width

    def shrink(i: int, least: int) -> None:
        widths[i] -= max(0, min(over(), widths[i] - least))

    ranked = sorted(range(1, len(columns)), key=lambda i: -columns[i].rank)
    shrink(0, max(columns[0].least or natural[0], width // 3))
    for i in ranked:
        if over() > 0 and columns[i].rank > MATTERS:
            shrink(i, columns[i].least or natural[i])
            widths[i] = 0 if over() > 0 else widths[i]
    for i in sorted(range(len(columns)), key=lambda i: -widths[i]):
        if widths[i] and columns[i].least:
            shrink(i, columns[i].least)
    for i in ranked:
        widths[i] = 0 if over() > 0 else widths[i]
    shrink(0, 1)
    widths[0] += max(0, min(-over(), natural[0] - widths[0]))
    return widths


def bar(parts: Sequence[tuple[str, int]], whole: int | None, width: int) -> Line:
    """Draw parts of a whole as a bar.

    Parameters
    ----------
    parts
        Tone and size of each; what is left of the whole is free.
    whole
        None where it is not known: the parts are the whole then.
    """
    total = sum(size for _, size in parts)
    whole = max(whole or total, total)
    if not whole:
        return (("·" * width, "free"),)
    line: list[Piece] = []
    done = drawn = 0
    for tone, size in parts:
        done += size
        upto = round(done / whole * width)
        line.append((MARKS[tone] * (upto - drawn), tone))
        drawn = upto
    return (*line, (MARKS["free"] * (width - drawn), "free"))


#: How bars show each family, told apart without colour too.
MARKS = {"storage": "█", "execution": "▓", "overhead": "▒", "free": "·"}
