"""Task prefixes: what is stored of each, and what its running tasks use.

Two bars for each prefix on one scale: storage above, execution beneath.  Beyond
`MOST` prefixes the rest is summed in a row of its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from math import pi
from typing import Any

import panel as pn
from bokeh.models import ColumnDataSource, HoverTool, Scatter, Segment

from dask_memdash import terms
from dask_memdash.store.base import Store
from dask_memdash.store.prefix_shapes import Prefix, PrefixTotals
from dask_memdash.text import UNKNOWN, format_bytes, format_stored, shorten
from dask_memdash.views import theme
from dask_memdash.views.bar_rows import RowChart
from dask_memdash.views.base import Context, Text, View, sync, tooltip

#: Rows at most, the rest's not counted.
MOST = 12

#: Where a mark stands that is not drawn; BokehJS would draw None at 0.
UNDRAWN = math.nan

#: A row moves up only past one that is smaller by this factor, or rows would dance.
CALM = 1.25

#: What is summed in the row of the rest, by where a prefix has it.
_SUMMED = {
    "storage": ("managed", "spilled", "count"),
    "execution": ("executing", "running"),
}
_SUMS = [name for names in _SUMMED.values() for name in names]


def weight(prefix: Prefix) -> int:
    """Sum what a prefix takes in memory and on disk, in bytes."""
    storage = prefix["storage"]
    return (
        (storage["managed"] or 0)
        + (storage["spilled"] or 0)
        + (prefix["execution"]["executing"] or 0)
    )


def settle(before: Sequence[str], weights: dict[str, int]) -> list[str]:
    """Order names by weight, largest first, moving as few as a reader can bear.

    Parameters
    ----------
    before
        The order so far.
    weights
        Bytes of each name that is to be shown, largest first.
    """
    order = [name for name in before if name in weights]
    order += [name for name in weights if name not in set(order)]
    for end in range(1, len(order)):
        name = order[end]
        at = end
        while at and weights[name] > CALM * weights[order[at - 1]]:
            order[at] = order[at - 1]
            at -= 1
        order[at] = name
    return order


def smaller(shown: Sequence[Prefix], totals: PrefixTotals) -> dict[str, Any] | None:
    """Sum the prefixes that have no row; give None where all have one.

    Parameters
    ----------
    shown
        The prefixes that have rows.
    totals
        The sums over all.
    """
    number = totals["prefixes"] - len(shown)
    if number <= 0:
        return None
    left: dict[str, Any] = {"number": number}
    for kind, names in _SUMMED.items():
        for name in names:
            whole = totals[name]  # type: ignore[literal-required]
            column = [prefix[kind][name] for prefix in shown]  # type: ignore[literal-required]
            mine = sum(value or 0 for value in column)
            left[name] = None if whole is None else max(0, whole - mine)
    return left


def columns(
    shown: Sequence[Prefix], rest: Mapping[str, Any] | None
) -> dict[str, list[Any]]:
    """Turn prefixes into the columns of the bars; the rest becomes the last row."""
    rows = [_row(prefix) for prefix in shown]
    if rest is not None:
        rows.append(_row_of_rest(rest))
    names = rows[0] if rows else _row_of_rest(dict.fromkeys(("number", *_SUMS), 0))
    data = {name: [row[name] for row in rows] for name in names}
    data["row"] = list(range(len(rows)))
    data["above"] = [number - 0.19 for number in data["row"]]
    data["beneath"] = [number + 0.19 for number in data["row"]]
    return data


def _bars(
    managed: int | None, spilled: int | None, executing: int | None
) -> dict[str, Any]:
    return {
        "figures": _figures(managed, spilled, executing),
        "from_managed": 0,
        "to_managed": managed or 0,
        "from_spilled": managed or 0,
        "to_spilled": (managed or 0) + (spilled or 0),
        "from_executing": 0,
        "to_executing": executing or 0,
        "stored": format_bytes(managed),
        "spilled": format_bytes(spilled),
        "executing": format_bytes(executing),
    }


def _row(prefix: Prefix) -> dict[str, Any]:
    storage, execution = prefix["storage"], prefix["execution"]
    sizes, peak = storage["output_bytes"], execution["peak"]
    method, error = execution["method"], execution["error"]
    p95 = peak["p95"]
    low = UNDRAWN if p95 is None or error is None else max(0, p95 - error)
    high = UNDRAWN if p95 is None or error is None else p95 + error
    measured = terms.label(terms.METHODS, method)
    waiters = [
        f"{shorten(a['prefix'], 30)} ({format_bytes(a['bytes'])})"
        for a in storage["awaited_by"][:3]
    ]
    return {
        **_bars(storage["managed"], storage["spilled"], execution["executing"]),
        "label": shorten(prefix["prefix"], 22),
        "name": shorten(prefix["prefix"], 300),
        "count": storage["count"] or 0,
        "running": execution["running"],
        "finished": f"{execution['finished']:,}",
        "pinned": format_bytes(storage["pinned"]),
        "awaited": format_bytes(storage["awaited"]),
        "replicas": format_bytes(storage["replicas"]),
        "awaited_by": ", ".join(waiters) or UNKNOWN,
        "kept": format_stored(storage["stored"], storage["stored_pending"]),
        "sizes": _three(sizes["min"], sizes["p50"], sizes["max"]),
        "peak": _three(peak["p50"], p95, peak["max"]),
        "method": measured + ("" if error is None else f", ± {format_bytes(error)}"),
        "p95": UNDRAWN if p95 is None else p95,
        "p95_low": low,
        "p95_high": high,
    }


def _row_of_rest(rest: Mapping[str, Any]) -> dict[str, Any]:
    told = ("finished", "pinned", "awaited", "replicas", "awaited_by", "sizes", "peak")
    return {
        **_bars(rest["managed"], rest["spilled"], rest["executing"]),
        "label": f"{rest['number']:,} smaller",
        "name": f"{rest['number']:,} smaller prefixes together",
        "count": rest["count"] or 0,
        "running": rest["running"] or 0,
        **dict.fromkeys((*told, "method"), UNKNOWN),
        "kept": "",
        **dict.fromkeys(("p95", "p95_low", "p95_high"), UNDRAWN),
    }


def _three(low: int | None, middle: int | None, high: int | None) -> str:
    return f"{format_bytes(low)} / {format_bytes(middle)} / {format_bytes(high)}"


def _figures(managed: int | None, spilled: int | None, executing: int | None) -> str:
    stored = None if managed is None and spilled is None else managed or 0
    if stored is not None:
        stored += spilled or 0
    return f"{format_bytes(stored):>10}{format_bytes(executing):>11}"


class PrefixesView(View):
    """Bars of the task prefixes, for the overview.

    Parameters
    ----------
    store
        What it shows.
    context
        What it shares with the other views of its page.
    """

    def __init__(self, store: Store, context: Context) -> None:
        super().__init__(store, context)
        self._order: list[str] = []
        self.empty = Text("prefixes_empty.html", context.stylesheet, ["md-empty"])
        self.source = ColumnDataSource(columns([], None))
        self.chart = RowChart("prefixes", self.source)
        self._draw_bars()
        self.root = pn.Column(
            self.empty.pane,
            pn.pane.Bokeh(self.chart.figure, sizing_mode="stretch_width", margin=0),
            sizing_mode="stretch_width",
            margin=0,
        )

    def _draw_bars(self) -> None:
        plot = self.chart.figure
        storage = [
            ("stored in memory", "@{stored}"),
            ("spilled to disk", "@{spilled}"),
            ("outputs", "@{count}"),
            ("size, smallest / median / largest", "@{sizes}"),
            ("awaited by later tasks", "@{awaited}"),
            ("awaited by", "@{awaited_by}"),
            ("pinned by a client", "@{pinned}"),
            ("replicas", "@{replicas}"),
        ]
        for name in ("managed", "spilled"):
            part = terms.PARTS.get(name) or terms.BESIDE[name]
            bars = self.chart.bars(self.source, part, y="above", height=0.34)
            plot.add_tools(
                HoverTool(
                    renderers=[bars],
                    tooltips=tooltip(
                        storage,
                        head="@{name}",
                        words=f"{part.sentence} @{{kept}}",
                        swatch=part.colour,
                    ),
                    attachment="above",
                )
            )
        part = terms.PARTS["executing"]
        execution = [
            ("executing now", "@{executing} in @{running} tasks"),
            ("peak of a task, median / 95 % / largest", "@{peak}"),
            ("finished tasks", "@{finished}"),
            ("measured", "@{method}"),
        ]
        bars = self.chart.bars(self.source, part, y="beneath", height=0.34)
        plot.add_glyph(
            self.source,
            Segment(
                x0="p95_low",
                x1="p95_high",
                y0="beneath",
                y1="beneath",
                line_color=theme.PEAK,
                line_width=1.5,
            ),
        )
        peaks = plot.add_glyph(
            self.source,
            Scatter(
                x="p95",
                y="beneath",
                marker="dash",
                angle=pi / 2,
                size=14,
                line_width=3,
                line_color=theme.PEAK,
            ),
        )
        plot.add_tools(
            HoverTool(
                renderers=[bars],
                tooltips=tooltip(
                    execution, head="@{name}", words=part.sentence, swatch=part.colour
                ),
                attachment="below",
            ),
            HoverTool(
                renderers=[peaks],
                tooltips=tooltip(
                    execution,
                    head="@{name}",
                    words="95 of 100 tasks of this prefix stay below the mark.",
                    swatch=theme.PEAK,
                ),
                attachment="above",
            ),
        )

    def draw(self) -> None:
        """Bring the bars up to date."""
        prefixes = self.store.prefixes(MOST)
        largest = {prefix["prefix"]: weight(prefix) for prefix in prefixes}
        self._order = settle(self._order, largest)
        by_name = {prefix["prefix"]: prefix for prefix in prefixes}
        shown = [by_name[name] for name in self._order]
        data = columns(shown, smaller(shown, self.store.prefix_totals()))
        self.empty.write(
            empty=not prefixes, n_workers=self.store.cluster()["n_workers"]
        )
        self.chart.figure.visible = bool(prefixes)
        peaks = [
            size for size in (*data["p95"], *data["p95_high"]) if not math.isnan(size)
        ]
        ends = [*data["to_spilled"], *data["to_executing"], *peaks]
        self.chart.fit(len(data["row"]), max(ends, default=0))
        sync(self.source, data)
