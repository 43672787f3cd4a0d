"""A chart of lines and bands with axes, as numbers for a template: a notebook shows it.

Drawn for 400 units of width, so that its text is readable from 380 pixels on, and in
the colour of the text around it, so that it is at home on a light and on a dark ground.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from dask_memdash.text import UNITS, format_bytes

#: Size of the drawing, and what is left for labels at each side.
WIDTH, HEIGHT = 400, 220
LEFT, RIGHT, TOP, BOTTOM = 62, 14, 10, 42

#: What is left at the right where bands are named there, and room for a name.
NAMES = 118
LINE = 14

#: Bands lower than this are not drawn, and not named below the other, in units.
FAINT, LOWEST = 0.6, 6

#: Colour of a limit.
LIMIT = "#c8372d"

#: Share of a step that rounding may be off by.
SLIGHT = 1e-6

#: Most steps on each axis.
MOST_STEPS = 5


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a chart; `sizes` are in bytes, both have one value a point."""

    name: str
    colour: str
    places: Sequence[float]
    sizes: Sequence[float]
    #: Of SVG's ``stroke-dasharray``; empty for a whole line.
    dashes: str = ""


@dataclass(frozen=True, slots=True)
class Stripe:
    """One of the bands that stand upon each other; `sizes` are in bytes."""

    name: str
    #: The same at the edge, where there is little room.
    short: str
    #: Empty: room that nothing is drawn in.
    colour: str
    #: As Bokeh calls it; a blank for none.
    hatch: str
    sizes: Sequence[float]
    #: Said of it in the legend.
    note: str = ""


@dataclass(frozen=True, slots=True)
class Level:
    """A line across a chart, at a size in bytes."""

    name: str
    size: float
    colour: str
    dashes: str = "6 4"


@dataclass(frozen=True, slots=True)
class Chart:
    """What a chart shows."""

    title: str
    #: Says what the places are, with their unit.
    across: str
    series: Sequence[Series]
    levels: Sequence[Level] = ()
    #: First and last place; from the series unless given.
    span: tuple[float, float] | None = None
    #: From the bottom up, at the places of the first series.
    stripes: Sequence[Stripe] = ()
    #: What a mark across the chart at its right end is called; none where empty.
    mark: str = ""


def geometry(chart: Chart) -> dict[str, Any]:
    """Return where everything of a chart is, for ``templates/chart.html``.

    A level far above all that is shown is named beneath and not drawn, so that it does
    not press the lines flat.
    """
    places = [place for series in chart.series for place in series.places]
    sizes = [size for series in chart.series for size in series.sizes]
    start, end = chart.span or (min(places, default=0.0), max(places, default=1.0))
    top = max(sizes, default=0.0)
    drawn = [level for level in chart.levels if level.size <= 3 * top]
    top = max([top, 1.0, *(level.size for level in drawn)])
    step = size_step(top)
    top = step * -(-top // step)
    right = RIGHT if not chart.stripes else NAMES

    def across(place: float) -> float:
        share = (place - start) / (end - start) if end > start else 0.0
        share = max(0.0, share)
        return round(LEFT + share * (WIDTH - LEFT - right), 1)

    def up(size: float) -> float:
        return round(HEIGHT - BOTTOM - size / top * (HEIGHT - BOTTOM - TOP), 1)

    lines = [
        {
            "colour": series.colour,
            "dashes": series.dashes,
            "points": " ".join(
                f"{across(place)},{up(size)}"
                for place, size in zip(series.places, series.sizes, strict=True)
            ),
        }
        for series in chart.series
    ]
    drawn_stripes, named = _stripes(chart, [across(place) for place in places], up)
    return {
        "title": chart.title,
        "across": chart.across,
        "width": WIDTH,
        "height": HEIGHT,
        "left": LEFT,
        "right": WIDTH - right,
        "top": TOP,
        "bottom": HEIGHT - BOTTOM,
        "middle": (LEFT + WIDTH - right) / 2,
        "mark": chart.mark,
        "rows": [
            (up(index * step), format_bytes(index * step))
            for index in range(int(top / step) + 1)
        ],
        "columns": [(across(at), text) for at, text in number_ticks(start, end)],
        "stripes": drawn_stripes,
        "hatches": sorted(
            {(s["hatch"], s["colour"]) for s in drawn_stripes if s["hatch"] != " "}
        ),
        "names": named,
        "lines": lines,
        "levels": [(up(level.size), level.colour, level.dashes) for level in drawn],
        "swatches": [
            (stripe.colour, stripe.hatch, stripe.name, stripe.note)
            for stripe in chart.stripes
            if stripe.colour
        ],
        "legend": [
            *((series.colour, series.dashes, series.name) for series in chart.series),
            *(
                (level.colour, level.dashes, f"{level.name} {format_bytes(level.size)}")
                for level in chart.levels
            ),
        ],
    }


def _stripes(
    chart: Chart, xs: Sequence[float], up: Callable[[float], float]
) -> tuple[list[dict[str, str]], list[tuple[float, str]]]:
    """Return the bands' outlines, and where the largest are named: height and text."""
    level, made = [0.0] * len(xs), []
    middles: list[tuple[float, float, str]] = []
    for stripe in chart.stripes:
        above = [a + b for a, b in zip(level, stripe.sizes, strict=True)]
        low, high = [up(size) for size in level], [up(size) for size in above]
        thick = max(a - b for a, b in zip(low, high, strict=True)) if xs else 0.0
        if stripe.colour and thick >= FAINT:
            outline = [*zip(xs, high, strict=True)]
            outline += zip(reversed(xs), reversed(low), strict=True)
            points = " ".join(f"{x:g},{y:g}" for x, y in outline)
            made.append(
                {"points": points, "colour": stripe.colour, "hatch": stripe.hatch}
            )
        if xs and low[-1] - high[-1] >= LOWEST:
            said = f"{stripe.short} {format_bytes(stripe.sizes[-1])}"
            middles.append((low[-1] - high[-1], (low[-1] + high[-1]) / 2, said))
        level = above
    named: list[tuple[float, str]] = []
    for _, middle, said in sorted(middles, reverse=True):
        if all(abs(middle - other) >= LINE for other, _ in named):
            named.append((round(middle, 1), said))
    return made, named


def size_step(top: float) -> float:
    """Return a step between sizes that are round in their binary unit."""
    unit = next((factor for _, factor in UNITS if top >= factor), 1)
    step = float(unit)
    while top / step > MOST_STEPS:
        step *= 2
    while top / step < MOST_STEPS / 2 and step > 1:
        step /= 2
    return step


def number_ticks(start: float, end: float) -> list[tuple[float, str]]:
    """Return round places between two, and how they are written."""
    span = end - start
    if span <= 0:
        return [(start, f"{start:,.0f}")]
    power = math.floor(math.log10(span / MOST_STEPS))
    steps = [times * 10.0**power for times in (1, 2, 5, 10)]
    step = next(step for step in steps if span / step <= MOST_STEPS)
    places = 0 if step >= 1 else -power
    numbers = range(
        math.ceil(start / step - SLIGHT), math.floor(end / step + SLIGHT) + 1
    )
    return [(n * step, f"{n * step:,.{places}f}".replace("-", "−")) for n in numbers]
