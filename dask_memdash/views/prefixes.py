"""Task prefixes: what is stored of each, and what its running tasks use.

Two bars for each prefix on one scale: storage above, execution beneath.  Beyond
`MOST` prefixes the rest is summed in a row of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import pi
from typing import Any

import panel as pn
from bokeh.models import ColumnDataSource, HoverTool, Scatter

from dask_memdash.store.base import Prefix, Store
from dask_memdash.views import theme
from dask_memdash.views.base import Text, View, tooltip
from dask_memdash.views.rows import RowChart

#: Rows at most, the rest's not counted.
MOST = 12

#: A row moves up only past one that is smaller by this factor, or rows would dance.
CALM = 1.25

_PARTS = {part.name: part for part in (*theme.PARTS, theme.SPILLED)}


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


def _total(prefixes: Sequence[Prefix], kind: str, name: str) -> int | None:
    values = [p[kind][name] for p in prefixes]  # type: ignore[literal-required]
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def columns(shown: Sequence[Prefix], rest: Sequence[Prefix]) -> dict[str, list[Any]]:
    """Turn prefixes into the columns of the bars; the rest becomes the last row."""
    groups: list[Sequence[Prefix]] = [[prefix] for prefix in shown]
    labels = [theme.shorten(prefix["prefix"], 22) for prefix in shown]
    names = [prefix["prefix"] for prefix in shown]
    if rest:
        groups.append(rest)
        labels.append(f"{len(rest):,} smaller")
        names.append(f"{len(rest):,} smaller prefixes together")
    data: dict[str, list[Any]] = {
        name: []
        for name in (
            *("row", "label", "figures", "name", "above", "beneath"),
            *("from_managed", "to_managed", "from_spilled", "to_spilled"),
            *("from_executing", "to_executing", "p95", "stored", "spilled", "count"),
            *("pinned", "awaited", "replicas", "awaited_by", "sizes"),
            *("executing", "running", "finished", "peak", "method"),
        )
    }
    for row, (group, label, name) in enumerate(zip(groups, labels, names, strict=True)):
        single = group[0] if len(group) == 1 and group is not rest else None
        managed = _total(group, "storage", "managed")
        spilled = _total(group, "storage", "spilled")
        executing = _total(group, "execution", "executing")
        storage, execution = group[0]["storage"], group[0]["execution"]
        sizes, peak = storage["output_bytes"], execution["peak"]
        data["row"].append(row)
        data["above"].append(row - 0.19)
        data["beneath"].append(row + 0.19)
        data["label"].append(label)
        data["name"].append(name)
        data["figures"].append(_figures(managed, spilled, executing))
        data["from_managed"].append(0)
        data["to_managed"].append(managed or 0)
        data["from_spilled"].append(managed or 0)
        data["to_spilled"].append((managed or 0) + (spilled or 0))
        data["from_executing"].append(0)
        data["to_executing"].append(executing or 0)
        data["p95"].append(peak["p95"] if single else None)
        data["stored"].append(theme.size(managed))
        data["spilled"].append(theme.size(spilled))
        data["count"].append(_total(group, "storage", "count") or 0)
        data["executing"].append(theme.size(executing))
        data["running"].append(_total(group, "execution", "running") or 0)
        data["finished"].append(_total(group, "execution", "finished") or 0)
        for column in ("pinned", "awaited", "replicas"):
            data[column].append(theme.size(_total(group, "storage", column)))
        data["awaited_by"].append(
            ", ".join(
                f"{theme.shorten(a['prefix'], 30)} ({theme.size(a['bytes'])})"
                for a in storage["awaited_by"][:3]
            )
            if single and storage["awaited_by"]
            else theme.UNKNOWN
        )
        data["sizes"].append(
            f"{theme.size(sizes['min'])} / {theme.size(sizes['p50'])} / "
            f"{theme.size(sizes['max'])}"
            if single
            else theme.UNKNOWN
        )
        data["peak"].append(
            f"{theme.size(peak['p50'])} / {theme.size(peak['p95'])} / "
            f"{theme.size(peak['max'])}"
            if single
            else theme.UNKNOWN
        )
        method = execution["method"]
        error = execution["error"]
        data["method"].append(
            theme.METHODS.get(method, method)
            + (f", ± {theme.size(error)}" if error is not None else "")
            if single
            else theme.UNKNOWN
        )
    return data


def _figures(managed: int | None, spilled: int | None, executing: int | None) -> str:
    stored = None if managed is None and spilled is None else managed or 0
    if stored is not None:
        stored += spilled or 0
    return f"{theme.size(stored):>10}{theme.size(executing):>11}"


class PrefixesView(View):
    """Bars of the task prefixes, and the same as a table while it is open.

    Parameters
    ----------
    store
        What it shows.
    stylesheet
        URL of the page's stylesheet.
    """

    def __init__(self, store: Store, stylesheet: str) -> None:
        super().__init__(store)
        self.table_open = False
        self._order: list[str] = []
        self.empty = Text("prefixes_empty.html", stylesheet, ["md-empty"])
        self.table = Text("prefixes_table.html", stylesheet)
        self.source = ColumnDataSource(columns([], []))
        self.chart = RowChart(self.source)
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
            ("sizes, least / median / most", "@{sizes}"),
            ("awaited by tasks", "@{awaited}"),
            ("awaited by", "@{awaited_by}"),
            ("pinned by a client", "@{pinned}"),
            ("replicas", "@{replicas}"),
        ]
        for name in ("managed", "spilled"):
            part = _PARTS[name]
            bars = self.chart.bars(self.source, part, y="above", height=0.34)
            plot.add_tools(
                HoverTool(
                    renderers=[bars],
                    tooltips=tooltip(
                        storage, head="@{name}", words=part.words, swatch=part.colour
                    ),
                    attachment="above",
                )
            )
        part = _PARTS["executing"]
        execution = [
            ("executing now", "@{executing} in @{running} tasks"),
            ("peak per task, median / 95 % / most", "@{peak}"),
            ("finished tasks", "@{finished}"),
            ("measured", "@{method}"),
        ]
        bars = self.chart.bars(self.source, part, y="beneath", height=0.34)
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
                    execution, head="@{name}", words=part.words, swatch=part.colour
                ),
                attachment="below",
            ),
            HoverTool(
                renderers=[peaks],
                tooltips=tooltip(
                    execution,
                    head="@{name}",
                    words="The mark is the peak that 95 of 100 tasks stay below.",
                    swatch=theme.PEAK,
                ),
                attachment="above",
            ),
        )

    def draw(self) -> None:
        """Replace the columns; the table only where somebody has it open."""
        prefixes = self.store.prefixes()
        largest = {p["prefix"]: weight(p) for p in prefixes[:MOST]}
        self._order = settle(self._order, largest)
        by_name = {prefix["prefix"]: prefix for prefix in prefixes[:MOST]}
        shown = [by_name[name] for name in self._order]
        data = columns(shown, prefixes[MOST:])
        self.empty.write(
            empty=not prefixes, n_workers=self.store.cluster()["n_workers"]
        )
        self.chart.figure.visible = bool(prefixes)
        peaks = [peak for peak in data["p95"] if peak is not None]
        ends = [*data["to_spilled"], *data["to_executing"], *peaks]
        self.chart.fit(len(data["row"]), max(ends, default=0))
        self.source.data = data
        self.table.write(prefixes=shown if self.table_open else [])
