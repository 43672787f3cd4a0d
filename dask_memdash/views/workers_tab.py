"""The Workers tab: the table of all workers, and one worker over time.

Beneath a worker's breakdown stand the tasks that were seen to run, on the same time
axis, one lane for each thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import panel as pn
from bokeh.models import ColumnDataSource, FixedTicker, HoverTool, Quad, Range1d, Span

from dask_memdash.errors import UnknownWorkerError
from dask_memdash.store.base import Store
from dask_memdash.store.worker_shapes import PastTask, Worker
from dask_memdash.terms import TINTS
from dask_memdash.text import format_bytes, format_clock
from dask_memdash.views import theme
from dask_memdash.views.bar_rows import lead
from dask_memdash.views.base import Context, Text, View, sync, tooltip
from dask_memdash.views.selected_time import over_time
from dask_memdash.views.table import ServedTable
from dask_memdash.views.table_columns import WORKERS, worker_label
from dask_memdash.views.tabular import address
from dask_memdash.views.time_chart import TimeChart
from dask_memdash.views.worker_bars import THRESHOLDS

#: Lanes of tasks at most: what ran in further threads is left out.
MOST_LANES = 24

#: Height of a lane and of what is around the lanes, in CSS pixels.
LANE = 16
AROUND = 8


def lanes(ran: Sequence[PastTask], until: float) -> dict[str, list[Any]]:
    """Turn the tasks that ran into the columns of the strips.

    Parameters
    ----------
    ran
        Oldest first.
    until
        Where strips of tasks that are running end, in seconds since the epoch.
    """
    threads = sorted({task["thread"] for task in ran if task["thread"] is not None})
    lane: dict[int | None, int] = {t: number for number, t in enumerate(threads)}
    prefixes = list(dict.fromkeys(task["prefix"] for task in ran))
    tint = {name: TINTS[i % len(TINTS)] for i, name in enumerate(prefixes)}
    shown = [t for t in ran if lane.get(t["thread"], len(threads)) < MOST_LANES]
    ends = [until if task["running"] else task["seen"] for task in shown]
    rows = [lane.get(task["thread"], len(threads)) for task in shown]
    return {
        "start": [task["start"] * 1000 for task in shown],
        # Seen once, a task would have no length.
        "end": [
            max(end, task["start"] + 0.2) * 1000
            for task, end in zip(shown, ends, strict=True)
        ],
        "top": [row - 0.42 for row in rows],
        "bottom": [row + 0.42 for row in rows],
        "colour": [tint[task["prefix"]] for task in shown],
        "key": [task["key"] for task in shown],
        "prefix": [task["prefix"] for task in shown],
        "peak": [format_bytes(task["peak"]) for task in shown],
        "link": [address("prefix", task["prefix"]) for task in shown],
        "state": [
            "running" if task["running"] else f"seen until {format_clock(task['seen'])}"
            for task in shown
        ],
    }


class WorkerView(View):
    """Table of the workers, and the chosen one in full.

    Parameters
    ----------
    store
        What it shows.
    context
        What it shares with the other views of its page.
    """

    def __init__(self, store: Store, context: Context) -> None:
        super().__init__(store, context)
        self.table = ServedTable(WORKERS, context)
        self.about = Text("worker.html", context.stylesheet)
        self.running = Text("worker_tasks.html", context.stylesheet)
        self.chart = TimeChart("worker", context.axis, 300)
        self.chart.draw_parts()
        self.thresholds = {
            name: self._threshold(colour, dash)
            for name, (colour, dash) in THRESHOLDS.items()
        }
        self.lanes = ColumnDataSource(lanes([], 0))
        self.rows = Range1d(0.5, -0.5)
        self.strips = self._strips()
        self.root = pn.Column(
            self.about.pane,
            pn.pane.Bokeh(self.chart.figure, sizing_mode="stretch_width", margin=0),
            pn.pane.Bokeh(self.strips, sizing_mode="stretch_width", margin=0),
            self.running.pane,
            sizing_mode="stretch_width",
            margin=0,
        )

    def _threshold(self, colour: str, dash: str) -> Span:
        span = Span(
            dimension="width",
            location=0,
            line_color=colour,
            line_dash=dash,
            line_width=2,
            visible=False,
        )
        self.chart.figure.add_layout(span)
        return span

    def _strips(self) -> Any:
        plot = theme.chart("tasks-of-worker", AROUND + LANE, y_range=self.rows)
        self.context.axis.put_under(plot)
        plot.ygrid.visible = False
        plot.yaxis.visible = False
        plot.xaxis.visible = False
        self.ticker = FixedTicker(ticks=[0], minor_ticks=[])
        plot.yaxis.ticker = self.ticker
        strips = plot.add_glyph(
            self.lanes,
            Quad(
                left="start",
                right="end",
                top="top",
                bottom="bottom",
                fill_color="colour",
                line_color="#ffffff",
                line_alpha=0.5,
            ),
        )
        plot.add_tools(
            HoverTool(
                renderers=[strips],
                tooltips=tooltip(
                    [
                        ("prefix", "@{prefix}"),
                        ("began", "@{start}{clock}"),
                        ("state", "@{state}"),
                        ("peak so far", "@{peak}"),
                    ],
                    head="@{key}",
                ),
                formatters={"@{start}": theme.clock_hover()},
                attachment="above",
            )
        )
        if self.context.live:
            lead(plot, self.lanes)
        return plot

    def draw(self) -> None:
        """Bring the table up to date, and the chosen worker."""
        chosen = self.shown.chosen_on("workers")
        query = self.shown.table(WORKERS.name)
        self.table.draw(self.store, query, address("worker", chosen), self.once)
        worker = self._find(chosen)
        self.about.write(
            worker=worker, asked=chosen, name=worker_label(worker) if worker else ""
        )
        self.running.write(worker=worker)
        drawn = worker is not None and self._draw_memory(worker)
        self.chart.figure.visible = drawn
        self.strips.visible = drawn
        if worker is not None and drawn:
            self._draw_tasks(worker)

    def _find(self, chosen: str) -> Worker | None:
        if not chosen:
            return None
        known = (*self.store.workers(), *self.store.departed())
        return next((w for w in known if w["address"] == chosen), None)

    def _draw_memory(self, worker: Worker) -> bool:
        name, store = worker["address"], over_time(self.store)
        try:
            drawn = self.chart.draw(
                lambda since, points: store.history(name, since, points),
                name,
                store.cluster()["time"],
            )
        except UnknownWorkerError:
            return False
        peak, spilled = self.chart.peaks()
        limit = worker["limit"]
        top = theme.nice_ceiling(max(peak, float(limit or 0)) * 1.04)
        self.chart.fit(top, spilled)
        start = self.context.axis.start
        self.chart.mark_pauses(store.history(name, start, 2))
        self.chart.limit.update(location=float(limit or 0), visible=limit is not None)
        for name, span in self.thresholds.items():
            at = worker["thresholds"][name]  # type: ignore[literal-required]
            span.update(location=float(at or 0), visible=at is not None)
        return drawn

    def _draw_tasks(self, worker: Worker) -> None:
        ran = self.store.task_history(worker["address"])
        data = lanes(ran, worker["last_seen"])
        most = max(data["bottom"], default=0.42)
        self.rows.start = most + 0.08
        self.strips.height = round(AROUND + LANE * (most + 0.58))
        sync(self.lanes, data)
