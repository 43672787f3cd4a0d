"""The Tasks tab: the table of all prefixes, and one prefix in full.

Of the chosen prefix: how large its outputs are, as a distribution, so that partitions
of 0 bytes beside others of 9 MB are seen at once; what is stored and for whom; what its
running tasks use against what they are expected to.  Beneath the table: the memory that
belongs to no task.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import panel as pn
from bokeh.models import ColumnDataSource, FixedTicker, HoverTool, Range1d, VBar

from dask_memdash import terms
from dask_memdash.errors import UnknownPrefixError
from dask_memdash.store.all_rows import other_named
from dask_memdash.store.base import Store
from dask_memdash.store.prefix_shapes import PrefixDetails, SizeBin
from dask_memdash.text import count, format_bytes, format_share
from dask_memdash.views import theme
from dask_memdash.views.base import Context, Text, TextView, View, sync, tooltip
from dask_memdash.views.guard_card import done_to, waiting_for
from dask_memdash.views.prefix_columns import TASKS
from dask_memdash.views.prefix_figures import place, projected, skew
from dask_memdash.views.table import ServedTable
from dask_memdash.views.tabular import address

#: Labels beneath the distribution at most.
LABELS = 8


def distribution(bins: Sequence[SizeBin]) -> dict[str, list[Any]]:
    """Turn the distribution of sizes into the columns of the bars.

    Bars stand side by side at 0, 1, 2…; empty outputs stand apart, left of them.
    """
    empty, sized = _apart(bins)
    total = sum(b["count"] for b in bins)
    ordered = [*empty, *sized]
    return {
        "at": [*(_place_of_empty(sized) for _ in empty), *range(len(sized))],
        "count": [b["count"] for b in ordered],
        "range": [
            "empty: at most 1 byte"
            if b["high"] <= 1
            else f"{format_bytes(b['low'])} to {format_bytes(b['high'])}"
            for b in ordered
        ],
        "share": [format_share(b["count"], total) for b in ordered],
    }


def labels(bins: Sequence[SizeBin]) -> dict[float, str]:
    """Return the labels beneath the bars: position → size at that edge."""
    empty, sized = _apart(bins)
    found: dict[float, str] = {}
    if empty:
        found[_place_of_empty(sized)] = "empty"
    step = max(1, -(-len(sized) // LABELS))
    for number in range(0, len(sized), step):
        if number == 0 or len(sized) - number >= 0.75 * step:
            found[number - 0.5] = format_bytes(sized[number]["low"])
    if sized:
        found[len(sized) - 0.5] = format_bytes(sized[-1]["high"])
    return found


def _apart(bins: Sequence[SizeBin]) -> tuple[list[SizeBin], list[SizeBin]]:
    """Part the bin of empty outputs, if there is one, from the others."""
    return [b for b in bins if b["high"] <= 1], [b for b in bins if b["high"] > 1]


def _place_of_empty(sized: Sequence[SizeBin]) -> int:
    """Return where the bar of empty outputs stands: so far off that labels fit."""
    return -max(2, round(0.1 * len(sized)))


def in_words(bins: Sequence[SizeBin]) -> str:
    """Say the distribution in one sentence, for who cannot see it."""
    total = sum(b["count"] for b in bins)
    if not total:
        return "No output of this prefix has been stored yet."
    empty = sum(b["count"] for b in bins if b["high"] <= 1)
    sized = [b for b in bins if b["high"] > 1 and b["count"]]
    said = count(total, "output")
    if sized:
        low, high = format_bytes(sized[0]["low"]), format_bytes(sized[-1]["high"])
        said += f", from {low} to {high}"
    if empty:
        said += f"; {format_share(empty, total)} ({empty:,}) are empty"
    return said + "."


class PrefixView(View):
    """Table of the prefixes, and the chosen one in full.

    Parameters
    ----------
    store
        What it shows.
    context
        What it shares with the other views of its page.
    """

    def __init__(self, store: Store, context: Context) -> None:
        super().__init__(store, context)
        self.table = ServedTable(TASKS, context)
        self.about = Text("prefix.html", context.stylesheet)
        self.source = ColumnDataSource(distribution([]))
        self.x_range = Range1d(-1, 1)
        self.y_range = Range1d(0, 1)
        self.ticker = FixedTicker(ticks=[], minor_ticks=[])
        self.figure = self._chart()
        self.root = pn.Column(
            self.about.pane,
            pn.pane.Bokeh(self.figure, sizing_mode="stretch_width", margin=0),
            sizing_mode="stretch_width",
            margin=0,
        )

    def _chart(self) -> Any:
        plot = theme.chart("outputs", 200, x_range=self.x_range, y_range=self.y_range)
        plot.xgrid.visible = False
        plot.min_border_left = 56
        plot.xaxis.ticker = self.ticker
        plot.yaxis.ticker.min_interval = 1
        plot.yaxis.minor_tick_line_alpha = 0
        bars = plot.add_glyph(
            self.source,
            VBar(
                x="at",
                top="count",
                width=0.92,
                fill_color=terms.PARTS["managed"].colour,
                line_alpha=0,
            ),
        )
        plot.add_tools(
            HoverTool(
                renderers=[bars],
                tooltips=tooltip([("outputs", "@{count} (@{share})")], head="@{range}"),
                attachment="above",
            )
        )
        return plot

    def draw(self) -> None:
        """Bring the table up to date, and the chosen prefix."""
        chosen = self.shown.chosen_on("tasks")
        query = self.shown.table(TASKS.name)
        no_task = self.shown.kind == "other"
        link = address("other" if no_task else "prefix", chosen)
        self.table.draw(self.store, query, link, self.once)
        prefix = None if no_task else self._find(chosen)
        bins = prefix["output_bins"] if prefix else []
        guard = self.store.cluster()["guard"]
        self.about.write(
            prefix=prefix,
            guard_mode=guard["mode"] if guard else "",
            waits=waiting_for(guard, chosen),
            guarded=done_to(guard, chosen),
            no_task=no_task,
            other=other_named(self.store, chosen) if no_task else None,
            asked=chosen,
            place=place,
            sizes=in_words(bins),
            skew=skew(prefix) if prefix else None,
            projected=projected(prefix) if prefix else None,
            widest=_widest(prefix) if prefix else 1,
        )
        self.figure.visible = bool(bins)
        if bins:
            self._draw_sizes(bins)

    def _find(self, chosen: str) -> PrefixDetails | None:
        if not chosen:
            return None
        try:
            return self.store.prefix(chosen)
        except UnknownPrefixError:
            return None

    def _draw_sizes(self, bins: Sequence[SizeBin]) -> None:
        data = distribution(bins)
        texts = labels(bins)
        sync(self.source, data)
        margin = 0.7 + 0.03 * len(data["at"])
        self.x_range.update(
            start=min(data["at"]) - margin, end=max(data["at"]) + margin
        )
        most = max(data["count"])
        self.y_range.end = max(1, most) * 1.05
        if self.ticker.ticks != list(texts):
            self.ticker.ticks = list(texts)
        self.figure.xaxis.major_label_overrides = texts


class OthersView(TextView):
    """What belongs to no task, and the scheduler's own memory, in words."""

    template = "others.html"

    def draw(self) -> None:
        """Bring the text up to date."""
        cluster = self.store.cluster()
        self.about.write(
            rows=cluster["others"],
            scheduler=cluster["scheduler"],
            linked=self.context.live,
        )


def _widest(prefix: PrefixDetails) -> int:
    """Return the length of the gauges' scale, in bytes."""
    execution = prefix["execution"]
    sizes = [
        execution["executing"],
        projected(prefix),
        *(
            (execution["peak"][name] or 0) + (execution["error"] or 0)
            for name in ("p50", "p95", "max")
        ),
    ]
    return max(1, *(int(size or 0) for size in sizes))
