"""A heat strip for each worker, beneath the cluster's chart and on its time axis.

The darker a strip, the fuller the process; a thin line beneath it is what it spilled,
hatching is a pause, a cross a death.  Which workers have strips, and the density of the
rest, is :mod:`dask_memdash.store.strips`'s.

What is sent is bounded whatever the cluster's size: `ALL` strips or `MOST` and a
density, of `BINS` bins, one byte for each and as much for what is spilled.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import panel as pn
from bokeh.models import (
    ColumnDataSource,
    CustomJSHover,
    CustomJSTickFormatter,
    FixedTicker,
    HoverTool,
    Image,
    LinearColorMapper,
    Quad,
    Range1d,
    Scatter,
)

from dask_memdash import terms
from dask_memdash.store.base import Store
from dask_memdash.store.strip_shapes import Strip, Strips
from dask_memdash.text import count, format_bytes, shorten
from dask_memdash.views import theme
from dask_memdash.views.bar_rows import lead
from dask_memdash.views.base import Context, Text, View, sync, tooltip
from dask_memdash.views.tabular import address

#: Height of a strip and of what is around them, in CSS pixels.
ROW = 18
AROUND = 10

#: Height of the density, in strips.
DENSE = 5

#: Where a strip, and the line of what is spilled, begins and how high it is, from the
#: middle of its row.
STRIP = (-0.42, 0.66)
LINE = (0.27, 0.15)

#: Shades of a strip, up to the limit and for all above it.
SHADES = 100

#: Shades of the density: the square root of the share of workers, so that one is seen.
SHADES_OF_REST = 100

#: Characters of a name beside its strip.
NAME = 9

#: Pauses drawn at most, the newest of each strip.
MAX_PAUSES = 200

Cells = npt.NDArray[np.uint8]


def palette(colour: str, shades: int) -> list[str]:
    """Return nothing at all, then shades of a colour from faint to opaque."""
    steps = range(shades + 1)
    alphas = [round(255 * (0.07 + 0.93 * step / shades)) for step in steps]
    return ["#00000000", *(f"{colour}{alpha:02x}" for alpha in alphas)]


def cells(shares: list[int | None]) -> Cells:
    """Turn per cent into cells: 0 is nothing known, 1 is empty, 101 full."""
    known = [0 if share is None else 1 + min(share, SHADES) for share in shares]
    return np.array([known], np.uint8)


def rest_cells(density: list[list[int]], rest: int) -> Cells:
    """Turn the density into cells, its fullest level first."""
    found = np.array(density[::-1], np.float64).reshape(len(density), -1)
    shades = 1 + np.round(SHADES_OF_REST * np.sqrt(found / max(1, rest)))
    return np.where(found > 0, shades, 0).astype(np.uint8)


def short_name(strip: Strip) -> str:
    """Name a strip in the little room beside it: its end tells it from others."""
    if strip["others"]:
        return f"{strip['others'] + 1} in one"
    name = strip["name"]
    if name.isdigit() and len(name) <= 2:
        return f"worker {name}"
    return name if len(name) <= NAME else f"…{name[1 - NAME :]}"


def full_name(strip: Strip) -> str:
    """Name a strip where there is room."""
    name = strip["name"]
    called = f"worker {name}" if name.isdigit() else shorten(name, 60)
    if strip["others"]:
        return f"{called} and {count(strip['others'], 'other')} in its process"
    return called if strip["there"] else f"{called} (left)"


def _limit(strip: Strip) -> str:
    if strip["limit"] is None:
        return f"none; shades are of {format_bytes(strip['of'])}, the most of any"
    return format_bytes(strip["limit"])


def rows(strips: Strips) -> dict[str, list[Any]]:
    """Turn strips into the columns of their images."""
    known = strips["rows"]
    number = range(len(known))
    wide = strips["bins"] * strips["step"] * 1000
    return {
        "image": [cells(strip["process"]) for strip in known],
        "line": [cells(strip["spilled"]) for strip in known],
        "x": [strips["start"] * 1000 for _ in known],
        "dw": [wide for _ in known],
        "y": [n + STRIP[0] for n in number],
        "line_y": [n + LINE[0] for n in number],
        "name": [full_name(strip) for strip in known],
        "short": [short_name(strip) for strip in known],
        "limit": [_limit(strip) for strip in known],
        "of": [strip["of"] for strip in known],
    }


def hits(strips: Strips) -> dict[str, list[Any]]:
    """Return what is clicked upon: each row over the whole width."""
    known = strips["rows"]
    end = strips["start"] + strips["bins"] * strips["step"]
    return {
        "left": [strips["start"] * 1000 for _ in known],
        "right": [end * 1000 for _ in known],
        "top": [n - 0.5 for n in range(len(known))],
        "bottom": [n + 0.5 for n in range(len(known))],
        "link": [address("worker", strip["address"]) for strip in known],
    }


def rest(strips: Strips) -> dict[str, list[Any]]:
    """Turn the density into the columns of its image; none where all have strips."""
    if not strips["rest"]:
        return {name: [] for name in ("image", "number", "x", "dw", "y", "rest")}
    density = strips["density"]
    return {
        "image": [rest_cells(density, strips["rest"])],
        "number": [np.array(density[::-1], np.int32)],
        "x": [strips["start"] * 1000],
        "dw": [strips["bins"] * strips["step"] * 1000],
        "y": [len(strips["rows"]) - 0.3],
        "rest": [strips["rest"]],
    }


def pauses(strips: Strips, until: float) -> dict[str, list[Any]]:
    """Turn pauses into the columns of their hatching."""
    found = [
        (number, since or 0.0, until if ended is None else ended, strip)
        for number, strip in enumerate(strips["rows"])
        for since, ended in strip["pauses"]
    ]
    found = sorted(found, key=lambda pause: pause[1])[-MAX_PAUSES:]
    return {
        "left": [since * 1000 for _, since, _, _ in found],
        "right": [ended * 1000 for _, _, ended, _ in found],
        "top": [number + STRIP[0] for number, *_ in found],
        "bottom": [number + STRIP[0] + STRIP[1] for number, *_ in found],
        "name": [full_name(strip) for *_, strip in found],
    }


def deaths(strips: Strips) -> dict[str, list[Any]]:
    """Turn deaths into the columns of their marks."""
    found = [
        (number, strip, death)
        for number, strip in enumerate(strips["rows"])
        for death in strip["deaths"]
    ]
    return {
        "time": [death["time"] * 1000 for _, _, death in found],
        "row": [float(number) for number, _, _ in found],
        "name": [full_name(strip) for _, strip, _ in found],
        "what": [terms.label(terms.KINDS, death["kind"]) for _, _, death in found],
        "link": [address("incident", death["incident"]) for _, _, death in found],
    }


def in_words(strips: Strips) -> str:
    """Say what the strips show, for who cannot see them."""
    known = strips["rows"]
    if not known:
        return ""
    died = sum(len(strip["deaths"]) for strip in known)
    paused = sum(bool(strip["pauses"]) for strip in known)
    peaks = {
        full_name(strip): max((s for s in strip["process"] if s is not None), default=0)
        for strip in known
    }
    fullest = max(peaks, key=lambda name: peaks[name])
    said = f"Fullest: {fullest}, up to {peaks[fullest]} % of its limit."
    if died:
        said += f" {count(died, 'death')}."
    if paused:
        said += f" {count(paused, 'worker was', 'workers were')} paused."
    if strips["rest"]:
        said += (
            f" Strips: the dead and the fullest {len(known)}. Beneath them: how many "
            f"of the other {strips['rest']:,} were how full."
        )
    return said


class WorkerStripsView(View):
    """Heat strips of the workers.

    Parameters
    ----------
    store
        What it shows.
    context
        What it shares with the other views of its page.
    """

    def __init__(self, store: Store, context: Context) -> None:
        super().__init__(store, context)
        nothing: Strips = {
            "start": 0.0,
            "step": 1.0,
            "bins": 0,
            "rows": [],
            "rest": 0,
            "density": [],
        }
        self.strips = ColumnDataSource(rows(nothing))
        self.hits = ColumnDataSource(hits(nothing))
        self.rest = ColumnDataSource(rest(nothing))
        self.pauses = ColumnDataSource(pauses(nothing, 0.0))
        self.deaths = ColumnDataSource(deaths(nothing))
        self.y_range = Range1d(0.5, -0.5)
        self.ticker = FixedTicker(ticks=[0], minor_ticks=[])
        self.said = Text("strips.html", context.stylesheet)
        self._shown: Strips | None = None
        self.figure = self._chart()
        self.root = pn.Column(
            pn.pane.Bokeh(self.figure, sizing_mode="stretch_width", margin=0),
            self.said.pane,
            sizing_mode="stretch_width",
            margin=0,
        )

    def _chart(self) -> Any:
        plot = theme.chart("strips", AROUND + ROW, y_range=self.y_range)
        self.context.axis.put_under(plot)
        plot.xaxis.visible = False
        plot.grid.visible = False
        plot.min_border_top = plot.min_border_bottom = 4
        plot.yaxis.ticker = self.ticker
        plot.yaxis.major_label_text_font_size = "11px"
        plot.yaxis.formatter = CustomJSTickFormatter(
            args={"strips": self.strips, "rest": self.rest},
            code="return memdash.strip_label(strips, rest, tick)",
        )
        strips = plot.add_glyph(
            self.strips, _image("image", "y", STRIP[1], theme.FULL, SHADES)
        )
        plot.add_glyph(
            self.strips,
            _image("line", "line_y", LINE[1], terms.BESIDE["spilled"].colour, SHADES),
        )
        rest = plot.add_glyph(
            self.rest,
            _image("image", "y", float(DENSE), theme.FULL, SHADES_OF_REST),
        )
        paused, died = self._draw_events(plot)
        plot.add_tools(
            HoverTool(
                renderers=[strips],
                tooltips=tooltip(
                    [
                        ("process", "@{image}{share}"),
                        ("spilled", "@{line}{share}"),
                        ("limit", "@{limit}"),
                        ("at", "$x{clock}"),
                    ],
                    head="@{name}",
                    words="Click to see this worker at this moment."
                    if self.context.live
                    else "",
                ),
                formatters={
                    "@{image}": _share(self.strips),
                    "@{line}": _share(self.strips),
                    "$x": theme.clock_hover(),
                },
                attachment="below",
            ),
            HoverTool(
                renderers=[rest],
                tooltips=tooltip(
                    [("how full", "@{image}{level}"), ("workers", "@{number}{rest}")],
                    head="$x{clock}",
                    words="Workers without a strip of their own.",
                ),
                formatters={
                    "@{image}": CustomJSHover(
                        code="return memdash.strip_level(special_vars)"
                    ),
                    "@{number}": CustomJSHover(
                        args={"rest": self.rest},
                        code="return `${value} of ${rest.data.rest[0]}`",
                    ),
                    "$x": theme.clock_hover(),
                },
                attachment="above",
            ),
            HoverTool(
                renderers=[paused],
                tooltips=tooltip(
                    [("from", "@{left}{clock}"), ("until", "@{right}{clock}")],
                    head="@{name} was paused",
                    words="Its memory was above its pause threshold: it started no "
                    "task.",
                ),
                formatters={
                    "@{left}": theme.clock_hover(),
                    "@{right}": theme.clock_hover(),
                },
                attachment="above",
            ),
            HoverTool(
                renderers=[died],
                tooltips=tooltip(
                    [("worker", "@{name}"), ("time", "@{time}{clock}")],
                    head="@{what}",
                    words="Click to read why." if self.context.live else "",
                ),
                formatters={"@{time}": theme.clock_hover()},
                attachment="above",
            ),
        )
        return plot

    def _draw_events(self, plot: Any) -> tuple[Any, Any]:
        """Draw pauses, what a click upon a row opens, and deaths upon all of it."""
        paused = plot.add_glyph(
            self.pauses,
            Quad(
                left="left",
                right="right",
                top="top",
                bottom="bottom",
                fill_alpha=0,
                line_color=theme.CAUTION,
                line_width=1.5,
                hatch_pattern="/",
                hatch_color="#ffffff",
                hatch_alpha=0.9,
                hatch_scale=9,
                hatch_weight=1,
            ),
        )
        row = Quad(left="left", right="right", top="top", bottom="bottom", fill_alpha=0)
        row.line_alpha = 0
        plot.add_glyph(self.hits, row)
        plot.add_glyph(  # so that a cross is seen on any shade
            self.deaths,
            Scatter(
                x="time",
                y="row",
                marker="circle",
                size=14,
                fill_color="#ffffff",
                line_alpha=0,
            ),
        )
        died = plot.add_glyph(
            self.deaths,
            Scatter(
                x="time",
                y="row",
                marker="x",
                size=9,
                line_color=theme.ALARM,
                line_width=3,
            ),
        )
        if self.context.live:
            lead(plot, self.deaths, self.hits)
        return paused, died

    def draw(self) -> None:
        """Bring the strips up to date."""
        axis = self.context.axis
        found = self.store.strips(axis.start, axis.end)
        self.figure.visible = bool(found["rows"])
        self.said.write(words=in_words(found))
        if found == self._shown:
            return
        self._shown = found
        number, dense = len(found["rows"]), DENSE if found["rest"] else 0
        height = AROUND + ROW * (number + dense)
        levels = (0.05, DENSE / 2 - 0.3, DENSE - 0.65) if dense else ()
        ticks = [*range(number), *(number + level for level in levels)]
        if self.ticker.ticks != ticks:
            self.ticker.ticks = ticks
            self.y_range.start = number + dense - 0.5
            self.figure.height = height
        drawn = self.once(
            ("drawn of the strips", axis.start, axis.end),
            lambda: (
                *(rows(found), rest(found), hits(found)),
                *(pauses(found, axis.end), deaths(found)),
            ),
        )
        images, sources = drawn[:2], (self.hits, self.pauses, self.deaths)
        for source, data in zip((self.strips, self.rest), images, strict=True):
            source.data = {name: list(column) for name, column in data.items()}
        for source, data in zip(sources, drawn[2:], strict=True):
            sync(source, data)


def _image(column: str, y: str, height: float, colour: str, shades: int) -> Image:
    """Draw cells in shades: there are as many as values, so that each has its own."""
    known = palette(colour, shades)
    mapper = LinearColorMapper(palette=known, low=-0.5, high=len(known) - 0.5)
    return Image(image=column, x="x", y=y, dw="dw", dh=height, color_mapper=mapper)


def _share(source: ColumnDataSource) -> CustomJSHover:
    return CustomJSHover(
        args={"source": source},
        code="return memdash.strip_share(source, special_vars, value)",
    )
