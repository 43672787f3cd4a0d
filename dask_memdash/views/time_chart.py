"""The breakdown over time, of the cluster or of one worker, on the page's time axis.

The parts are stacked areas above the axis, outputs spilled to disk hang beneath it.
The browser stacks them; it is sent the points that are new, and all of them only when
another stretch of time or another worker is to be shown.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from bokeh.models import (
    ColumnDataSource,
    HoverTool,
    Line,
    Quad,
    Range1d,
    Span,
    Stack,
    VArea,
)

from dask_memdash import terms
from dask_memdash.store.cluster_shapes import History
from dask_memdash.views import theme
from dask_memdash.views.base import sync, tooltip
from dask_memdash.views.time_axis import POINTS, TimeAxis

NAMES = ("time", "process", *(part.name for part in terms.PARTS.values()), "spilled")

#: How much of the chart's height marks take.
EDGE = 0.99

#: Pauses drawn at most, the newest.
MAX_BANDS = 200

#: Asks for the history since an instant, in at most so many points.
Ask = Callable[[float | None, int], History]


def columns(history: History) -> dict[str, list[float]]:
    """Turn a store's history into columns: times in milliseconds, sizes in bytes."""
    data: dict[str, list[float]] = {
        name: list(history[name])  # type: ignore[literal-required]
        for name in NAMES
    }
    data["time"] = [time * 1000 for time in data["time"]]
    data["beneath"] = [-size for size in data["spilled"]]
    return data


def bands(history: History, start: float, end: float) -> dict[str, list[float]]:
    """Turn pauses into columns, as far as they lie within a stretch of time.

    Parameters
    ----------
    history
        Whose pauses are drawn, the newest `MAX_BANDS`.
    start, end
        Of what is shown, in seconds since the epoch; a pause that lasts ends with it.
    """
    spans = [
        (max(since or 0.0, start), end if until is None else min(until, end))
        for since, until in history["pauses"]
    ]
    shown = [(since, until) for since, until in spans if since < until][-MAX_BANDS:]
    return {
        "start": [since * 1000 for since, _ in shown],
        "end": [until * 1000 for _, until in shown],
    }


class TimeChart:
    """Stacked areas of a breakdown over time.

    Parameters
    ----------
    name
        Name of the chart.
    axis
        The page's time axis.
    height
        In CSS pixels.
    """

    def __init__(self, name: str, axis: TimeAxis, height: int) -> None:
        self.axis = axis
        self.source = ColumnDataSource({name: [] for name in (*NAMES, "beneath")})
        self.pauses = ColumnDataSource(
            {name: [] for name in ("start", "end", "low", "high")}
        )
        self.y_range = Range1d(0, 2**30)
        self._subject: tuple[Any, ...] | None = None
        #: Instant of the last point drawn.
        self._last = 0.0
        self.figure = theme.chart(name, height, y_range=self.y_range)
        axis.put_under(self.figure)
        self.figure.yaxis.ticker = theme.bytes_ticker()
        self.figure.yaxis.formatter = theme.bytes_formatter()
        self.figure.ygrid.ticker = self.figure.yaxis[0].ticker
        self.limit = Span(
            dimension="width",
            location=0,
            line_color=theme.NEUTRAL,
            line_dash="dashed",
            line_width=1.5,
            visible=False,
        )

    def draw_parts(self) -> None:
        """Draw pauses, areas, what is spilled, limit and hover, in this order."""
        plot = self.figure
        plot.add_glyph(
            self.pauses,
            Quad(
                left="start",
                right="end",
                bottom="low",
                top="high",
                fill_color=theme.CAUTION,
                fill_alpha=0.16,
                line_alpha=0,
            ),
        )
        names = [part.name for part in terms.PARTS.values()]
        for number, part in enumerate(terms.PARTS.values()):
            plot.add_glyph(
                self.source,
                VArea(
                    x="time",
                    y1={"expr": Stack(fields=names[:number])} if number else 0,
                    y2={"expr": Stack(fields=names[: number + 1])},
                    fill_color=part.colour,
                    fill_alpha=0.9,
                    hatch_pattern=part.pattern,
                    hatch_color="#ffffff",
                    hatch_alpha=0.35,
                ),
            )
        plot.add_glyph(
            self.source,
            VArea(
                x="time",
                y1=0,
                y2="beneath",
                fill_color=terms.BESIDE["spilled"].colour,
                fill_alpha=0.35,
                hatch_pattern=terms.BESIDE["spilled"].pattern,
                hatch_color=terms.BESIDE["spilled"].colour,
                hatch_alpha=0.8,
                hatch_scale=8,
            ),
        )
        outline = plot.add_glyph(
            self.source, Line(x="time", y="process", line_color=theme.NEUTRAL)
        )
        plot.add_layout(self.limit)
        drawn = [*reversed(list(terms.PARTS.values())), terms.BESIDE["spilled"]]
        sizes = theme.bytes_hover()
        plot.add_tools(
            HoverTool(
                renderers=[outline],
                mode="vline",
                line_policy="nearest",
                point_policy="snap_to_data",
                tooltips=tooltip(
                    [
                        ("process", "@{process}{bytes}"),
                        *((p.label, f"@{{{p.name}}}{{bytes}}") for p in drawn),
                    ],
                    head="@{time}{clock}",
                ),
                formatters={
                    "@{time}": theme.clock_hover(),
                    "@{process}": sizes,
                    "@{spilled}": sizes,
                    **{
                        f"@{{{name}}}": theme.part_hover(self.source, name)
                        for name in terms.PARTS
                    },
                },
            ),
        )

    def draw(self, ask: Ask, subject: str, newest: float) -> bool:
        """Bring the points up to date; give whether there are any.

        Parameters
        ----------
        ask
            Gives the history.
        subject
            Whose history it is; another one is drawn anew.
        newest
            Instant of the newest reading.
        """
        now = (subject, *self.axis.subject)
        if now != self._subject or not self._go_on(ask):
            history = ask(self.axis.since(newest), POINTS)
            self.source.data = columns(history)
            self._last = max(history["time"], default=0.0)
            self._subject = now
        return bool(len(self.source.data["time"]))

    def _go_on(self, ask: Ask) -> bool:
        """Add the points that are new, if those that are drawn still stand."""
        times = self.source.data["time"]
        if not times or len(times) > 2 * POINTS:  # then it is thinned out again
            return False
        # The last point drawn is asked for again: its size may have grown since.
        history = ask(math.nextafter(self._last, 0), POINTS)
        if not history["time"] or history["time"][0] != self._last:
            return False
        new = columns(history)
        self._last = history["time"][-1]
        last = len(times) - 1
        changed = {
            name: [(last, column[0])]
            for name, column in new.items()
            if column[0] != self.source.data[name][last]
        }
        if changed:
            self.source.patch(changed)
        if len(new["time"]) > 1:
            self.source.stream({name: column[1:] for name, column in new.items()})
        return True

    def peaks(self) -> tuple[float, float]:
        """Return largest process and the most spilled of what is drawn, in bytes."""
        times = np.asarray(self.source.data["time"], dtype="f8")
        seen = (times >= self.axis.start * 1000) & (times <= self.axis.end * 1000)
        if not seen.any():
            seen[:] = True
        return tuple(  # type: ignore[return-value]
            float(np.asarray(self.source.data[name], dtype="f8")[seen].max(initial=0))
            for name in ("process", "spilled")
        )

    def fit(self, top: float, spilled: float) -> float:
        """Set the vertical axis; give its lower bound, in bytes."""
        bottom = -theme.nice_ceiling(spilled * 1.04) if spilled else 0.0
        self.y_range.update(start=bottom, end=top)
        return bottom

    def mark_pauses(self, history: History) -> None:
        """Draw when workers were paused, over the whole height of the chart."""
        found = bands(history, self.axis.start, self.axis.end)
        number = len(found["start"])
        # Short of the edges: what BokehJS draws upon them, it does not clear.
        low, high = self.y_range.start * EDGE, self.y_range.end * EDGE
        sync(self.pauses, {**found, "low": [low] * number, "high": [high] * number})
