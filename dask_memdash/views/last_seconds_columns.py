"""The columns of an incident's last seconds, as its charts take them.

Pure functions; the charts are :mod:`dask_memdash.views.last_seconds`'s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from dask_memdash import terms
from dask_memdash.analysis.incidents.last_seconds import MOST, Band, look
from dask_memdash.text import format_bytes, format_duration, shorten
from dask_memdash.views import theme
from dask_memdash.views.tabular import address

#: Bands that can be drawn at once: of tasks, and of all else.
ROOM = MOST + len(terms.PARTS) + 3

#: Least distance of two names at the edge, and least height of what has one, in CSS
#: pixels.
LINE, LOWEST = 15, 5

#: Bands that a tooltip names, the largest.
NAMED = 5


def tints(suspects: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Return colours and patterns of the tasks, in their order; none after `MOST`."""
    return [look(place) for place in range(len(suspects))]


def bar(made: Sequence[Band]) -> dict[str, list[Any]]:
    """Return what the process was made of at the death: a column from the bottom up."""
    there = [band for band in made if band.end > 0]
    tops = list(accumulate(band.end for band in there))
    return {
        "bottom": [top - band.end for top, band in zip(tops, there, strict=True)],
        "top": tops,
        "colour": [band.colour or theme.NEUTRAL for band in there],
        "hatch": [band.hatch for band in there],
        "what": [band.what for band in there],
        "size": [format_bytes(band.end) for band in there],
        "link": [
            address("prefix", band.prefix) if band.prefix else "" for band in there
        ],
    }


def names(made: Sequence[Band], top: float, height: float) -> dict[float, str]:
    """Return what is written beside the bar: the largest bands for which there is room.

    Parameters
    ----------
    top, height
        Where the chart ends, in bytes, and how high that is, in CSS pixels.

    Returns
    -------
    dict
        The middle of a band, in bytes → its name and size.
    """
    there = [band for band in made if band.end > 0]
    tops = list(accumulate(band.end for band in there))
    found: dict[float, str] = {}
    for end, band in sorted(zip(tops, there, strict=True), key=lambda p: -p[1].end):
        middle = end - band.end / 2
        if band.end / top * height < LOWEST:
            break
        if all(abs(middle - other) / top * height >= LINE for other in found):
            found[middle] = f"{band.name} {format_bytes(band.end)}"
    return found


def layers(made: Sequence[Band], number: int) -> dict[str, list[Any]]:
    """Return the bands over time: columns of where each ends, the next upon it."""
    level = [0] * number
    columns: dict[str, list[Any]] = {"edge0": list(level)}
    for place in range(ROOM):
        if place < len(made) and made[place].sizes:
            level = [a + b for a, b in zip(level, made[place].sizes, strict=True)]
        columns[f"edge{place + 1}"] = list(level)
    return columns


def told(made: Sequence[Band], number: int) -> list[str]:
    """Return in words what each sample was made of: the largest, for a tooltip."""
    lines = []
    for place in range(number):
        sizes = [(b.sizes[place], b.name) for b in made if b.sizes and b.sizes[place]]
        sizes.sort(key=lambda pair: -pair[0])
        shown = [f"{name} {format_bytes(size)}" for size, name in sizes[:NAMED]]
        lines.append(", ".join(shown) or "not known")
    return lines


def lanes(suspects: Sequence[Mapping[str, Any]], start: float) -> dict[str, list[Any]]:
    """Return since when each task ran: columns of one strip for each."""
    shown = list(suspects[:MOST])
    return {
        "left": [max(start, -float(s["seconds"] or 0)) for s in shown],
        "right": [0.0 for _ in shown],
        "top": [row - 0.38 for row in range(len(shown))],
        "bottom": [row + 0.38 for row in range(len(shown))],
        "colour": [colour for colour, _ in tints(shown)],
        "hatch": [hatch for _, hatch in tints(shown)],
        "key": [shorten(s["key"], 60) for s in shown],
        "size": [format_bytes(s.get("bytes")) for s in shown],
        "ran": [format_duration(s["seconds"]) for s in shown],
        "link": [address("prefix", s["prefix"]) for s in shown],
    }
