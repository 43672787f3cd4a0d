"""All workers of a large cluster at a glance: a map with one cell for each process.

The bars of :mod:`dask_memdash.views.worker_bars` name the fullest and sum the rest;
here nobody is summed.  Cells keep the order of names, so that a worker is found where
it was, and the darker a cell, the fuller its process.  Small clusters have no map:
their bars say more.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import panel as pn
from bokeh.models import ColumnDataSource, HoverTool, Range1d, Rect

from dask_memdash.store.base import Store
from dask_memdash.store.worker_shapes import Worker
from dask_memdash.text import count, format_bytes
from dask_memdash.views import theme
from dask_memdash.views.bar_rows import lead
from dask_memdash.views.base import Context, Text, View, sync, tooltip
from dask_memdash.views.tabular import address, states_of
from dask_memdash.views.worker_bars import MOST, fullness, label, least_limit, processes

#: Height of a cell and most of all rows together, in CSS pixels.
CELL = 16
TALLEST = 420

#: How many times as many columns as rows, and columns at least.
ASPECT = 2.4
NARROWEST = 40

#: Shades of a cell: a cell changes when its process has moved by a whole one.
SHADES = 20

#: States in which a worker takes no new tasks: its cell is crossed and framed.
_HELD_UP = {"paused", "closing_gracefully", "stale"}


def grid(number: int) -> tuple[int, int]:
    """Return the columns and rows of a map of so many cells."""
    columns = max(NARROWEST, math.ceil(math.sqrt(number * ASPECT)))
    return columns, max(1, math.ceil(number / columns))


def cells(groups: list[list[Worker]]) -> dict[str, list[Any]]:
    """Turn the workers of each process into the columns of the map."""
    wide, _ = grid(len(groups))
    states = [set().union(*map(states_of, group)) for group in groups]
    held_up = [not _HELD_UP.isdisjoint(found) for found in states]
    full = [(step(group), least_limit(group)) for group in groups]
    return {
        "column": [number % wide for number in range(len(groups))],
        "row": [number // wide for number in range(len(groups))],
        "shade": [shade(*known) for known in full],
        "hatch": ["x" if held else " " for held in held_up],
        "edge": [theme.CAUTION if held else theme.NEUTRAL for held in held_up],
        "edge_width": [2.5 if held else 0.5 for held in held_up],
        "name": [label(group) for group in groups],
        "status": [", ".join(sorted(found)) for found in states],
        "about": [_about(*known) for known in full],
        "link": [address("worker", group[0]["address"]) for group in groups],
    }


def step(group: list[Worker]) -> int | None:
    """Return how full a process is, in steps of its limit; None before it was read."""
    if group[0]["breakdown"]["process"] is None:
        return None
    return round(fullness(group) * SHADES)


@lru_cache(1024)
def shade(full: int | None, limit: int | None) -> float:
    """Return how dark a process's cell is: 0.06 for an empty one, 1 at its limit.

    Whoever has no limit, or has not been read yet, is as light as can be.
    """
    if full is None or limit is None:
        return 0.0
    return round(0.06 + 0.94 * min(full, SHADES) / SHADES, 3)


@lru_cache(1024)
def _about(full: int | None, limit: int | None) -> str:
    """Say how full a process is, in steps as coarse as its shade."""
    if full is None:
        return "not measured yet"
    if limit is None:
        return "no memory limit"
    return f"about {100 * full / SHADES:.0f} % of {format_bytes(limit)}"


def in_words(groups: list[list[Worker]]) -> str:
    """Say what the map shows, for who cannot see it."""
    known = [fullness(group) for group in groups if least_limit(group) is not None]
    if not known:
        return f"{len(groups):,} processes without a memory limit."
    full, half = sum(f >= 0.8 for f in known), sum(0.5 <= f < 0.8 for f in known)
    return (
        f"Of {count(len(known), 'process', 'processes')}, at 80 % of the limit "
        f"or more: {full:,}; at 50 to 80 %: {half:,}; "
        f"below: {len(known) - full - half:,}."
    )


class WorkerMapView(View):
    """Map of all workers, for the overview of a large cluster.

    Parameters
    ----------
    store
        What it shows.
    context
        What it shares with the other views of its page.
    """

    def __init__(self, store: Store, context: Context) -> None:
        super().__init__(store, context)
        self.source = ColumnDataSource(cells([]))
        self.x_range = Range1d(-0.5, NARROWEST - 0.5)
        self.y_range = Range1d(0.5, -0.5)
        self.figure = self._chart()
        self.said = Text("map.html", context.stylesheet)
        self.root = pn.Column(
            self.said.pane,
            pn.pane.Bokeh(self.figure, sizing_mode="stretch_width", margin=0),
            sizing_mode="stretch_width",
            margin=0,
        )

    def _chart(self) -> Any:
        plot = theme.chart("map", CELL, x_range=self.x_range, y_range=self.y_range)
        for axis in (*plot.axis, *plot.grid):
            axis.visible = False
        drawn = plot.add_glyph(
            self.source,
            Rect(
                x="column",
                y="row",
                width=0.86,
                height=0.86,
                fill_color=theme.FULL,
                fill_alpha="shade",
                line_color="edge",
                line_width="edge_width",
                hatch_pattern="hatch",
                hatch_color="#ffffff",
                hatch_alpha=0.9,
                hatch_scale=8,
            ),
        )
        plot.add_tools(
            HoverTool(
                renderers=[drawn],
                tooltips=tooltip(
                    [("process", "@{about}"), ("status", "@{status}")],
                    head="@{name}",
                    words="Click to see its memory over time."
                    if self.context.live
                    else "",
                ),
                attachment="below",
            )
        )
        if self.context.live:
            lead(plot, self.source)
        return plot

    def draw(self) -> None:
        """Bring the map up to date, where there are workers enough for one."""
        groups = self.once("processes", lambda: processes(self.store.workers()))
        shown = len(groups) > MOST
        self.figure.visible = shown
        if not shown:
            self.said.write(words="")
            return
        self.said.write(words=self.once("words of the map", lambda: in_words(groups)))
        wide, high = grid(len(groups))
        self.x_range.update(start=-0.5, end=wide - 0.5)
        self.y_range.update(start=high - 0.5, end=-0.5)
        self.figure.height = min(TALLEST, high * CELL)
        sync(self.source, self.once("cells of the map", lambda: cells(groups)))
