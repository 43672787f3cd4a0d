"""Panes: one thing of the page in a small frame, such as JupyterLab's side bar.

A pane has a head in words, which is its legend too, and beneath it either a chart of
the page, which fills what is left of the frame, or rows with a bar each.  Everything
can be read from 380 pixels of width and 300 of height on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import panel as pn

from dask_memdash import terms
from dask_memdash.store.all_rows import all_rows
from dask_memdash.store.base import Store
from dask_memdash.text import (
    format_bytes,
    format_parts,
    format_share,
)
from dask_memdash.views.base import Context, Text, View
from dask_memdash.views.cluster_history import HistoryView
from dask_memdash.views.order_tab import OrderView
from dask_memdash.views.tabular import state_of

#: Rows of a pane at most, and ticks on the axis beneath a narrow chart.
ROWS = 60
TICKS = 4

#: Failures that are looked through for open ones.
MOST_FAILURES = 20

Row = Mapping[str, Any]


def families(breakdown: Row) -> dict[str, int | None]:
    """Return the bytes of storage, execution and overhead."""
    sums: dict[str, int | None] = {}
    for name, part in terms.PARTS.items():
        size = breakdown[name]
        before = sums.get(part.family) or 0
        sums[part.family] = None if size is None else before + size
    return sums


class Head:
    """The words above a pane's figures.

    Parameters
    ----------
    title
        What the pane shows.
    stylesheet
        URL of the page's stylesheet.
    """

    def __init__(self, title: str, stylesheet: str) -> None:
        self._title = title
        self.text = Text("pane_head.html", stylesheet)

    def write(self, store: Store, *, legend: bool = True, say: str = "") -> None:
        """Say how much there is of what, and whether a failure is open.

        Parameters
        ----------
        say
            What is said of the figures, or in place of them.
        """
        cluster: Any = store.cluster()
        breakdown = cluster["breakdown"]
        process, limit = breakdown["process"], cluster["limit"]
        total = format_bytes(process) if process is not None else ""
        if total and limit:
            total += f" of {format_bytes(limit)}, {format_share(process, limit)}"
        written = format_parts(families(breakdown), process)
        spilled = breakdown["spilled"]
        self.text.write(
            title=self._title,
            total=total,
            families=written if legend and process is not None else {},
            spilled=format_bytes(spilled) if legend and spilled else "",
            failures=sum(f["closed"] is None for f in store.failures(MOST_FAILURES)),
            say=say,
        )


class ChartPane(View):
    """A chart of the page in a pane.

    Parameters
    ----------
    title
        What it shows.
    make
        Makes the page's view of it.
    empty
        Says what there is to wait for while nothing can be drawn.
    words
        Says in a sentence what is drawn, from the page's view; empty for nothing.
    legend
        Whether the colours are those of the parts of the memory.
    """

    def __init__(
        self,
        store: Store,
        context: Context,
        *,
        title: str,
        make: Callable[[Store, Context], Any],
        empty: Callable[[Any], str],
        words: Callable[[Store], str] = lambda store: "",
        legend: bool,
    ) -> None:
        super().__init__(store, context)
        self._head = Head(title, context.stylesheet)
        self._view = make(store, context)
        self._empty, self._words, self._legend = empty, words, legend
        self._nothing = Text("pane_empty.html", context.stylesheet)
        self.figure = self._view.figure
        self.figure.sizing_mode = "stretch_both"
        self.figure.min_height = 120
        self.figure.xaxis[0].ticker.desired_num_ticks = TICKS
        self.figure.min_border_right = 14
        self.root = pn.Column(
            self._head.text.pane,
            self._nothing.pane,
            pn.pane.Bokeh(self.figure, sizing_mode="stretch_both", margin=0),
            sizing_mode="stretch_both",
            margin=0,
        )

    def draw(self) -> None:
        """Draw what is new."""
        self._view.update()
        drawn = bool(self.figure.visible)
        self._head.write(
            self.store,
            legend=self._legend and drawn,
            say=self._words(self.store) if drawn else "",
        )
        cluster: Any = self.store.cluster()
        self._nothing.write(say="" if drawn else self._empty(cluster))


class RowsPane(View):
    """Rows with a bar each, in a pane.

    Parameters
    ----------
    title
        What it shows.
    columns
        What a row's figures are, in words.
    rows
        Gives the rows, largest first, how many there are in all, and a word for one.
    empty
        What is said where there are none.
    """

    def __init__(
        self,
        store: Store,
        context: Context,
        *,
        title: str,
        columns: str,
        rows: Callable[[Store], tuple[list[dict[str, Any]], int]],
        empty: str,
    ) -> None:
        super().__init__(store, context)
        self._head = Head(title, context.stylesheet)
        self._rows, self._empty, self._columns = rows, empty, columns
        self.rows = Text("pane_rows.html", context.stylesheet)
        self.root = pn.Column(
            self._head.text.pane,
            self.rows.pane,
            sizing_mode="stretch_width",
            margin=0,
        )

    def draw(self) -> None:
        """Write the rows anew."""
        rows, number = self.once(
            f"pane rows of {self._empty}", lambda: self._rows(self.store)
        )
        self._head.write(self.store, legend=bool(rows))
        more = number - len(rows)
        self.rows.write(rows=rows, more=more, empty=self._empty, columns=self._columns)


def worker_rows(store: Store) -> tuple[list[dict[str, Any]], int]:
    """Return the fullest workers, and how many there are."""
    workers: list[Any] = list(store.workers())
    chosen = sorted(workers, key=lambda worker: -_fullness(worker))[:ROWS]
    return [_worker(worker) for worker in chosen], len(workers)


def _fullness(worker: Row) -> float:
    process, limit = worker["breakdown"]["process"], worker["limit"]
    return process / limit if process is not None and limit else -1.0


def _worker(worker: Any) -> dict[str, Any]:
    process, limit = worker["breakdown"]["process"], worker["limit"]
    state = state_of(worker)
    whole = max(limit or 0, process or 0) or 1
    sizes = ((n, worker["breakdown"][n] or 0) for n in terms.PARTS)
    name = str(worker["name"])
    return {
        "name": f"worker {name}" if name.isdigit() else name,
        "state": "" if state == "running" else state,
        "figures": [
            format_bytes(process),
            *([format_share(process, limit)] if limit else []),
        ],
        "parts": [(terms.PARTS[n].colour, 100 * size / whole) for n, size in sizes],
    }


def prefix_rows(store: Store) -> tuple[list[dict[str, Any]], int]:
    """Return the largest prefixes and what belongs to no task, and how many."""
    rows: list[Any] = list(all_rows(store, ROWS))
    totals: Any = store.prefix_totals()
    number = totals["prefixes"] + len(store.cluster()["others"])
    largest = max((row["bytes"] or 0 for row in rows), default=0) or 1
    return [_prefix(row, largest) for row in rows], number


def _prefix(row: Any, largest: int) -> dict[str, Any]:
    executing = row["execution"]["executing"] or 0
    if row["kind"] != "task":
        colour = terms.PARTS["baseline"].colour
        return {
            "name": str(row["prefix"]),
            "state": "no task's",
            "figures": [format_bytes(row["bytes"])],
            "parts": [(colour, 100 * (row["bytes"] or 0) / largest)],
        }
    stored = row["storage"]["managed"] or 0
    told = row["execution"]["peak"]
    most = max((size for size in (told["max"], told["at_least"]) if size), default=None)
    least = "at least " if most is not None and most == told["at_least"] else ""
    peak = [] if most is None else [f"peak {least}{format_bytes(most)}"]
    whole = max(largest, stored + executing)
    return {
        "name": str(row["prefix"]),
        "state": "",
        "figures": [format_bytes(stored), format_bytes(executing), *peak],
        "parts": [
            (terms.PARTS["managed"].colour, 100 * stored / whole),
            (terms.PARTS["executing"].colour, 100 * executing / whole),
        ],
    }


def _order_in_words(store: Store) -> str:
    graphs: Iterable[Any] = store.order(1)
    graph = next(iter(graphs), None)
    return str(graph["verdict"]["text"]) if graph else ""


def history_pane(store: Store, context: Context) -> View:
    """Make the pane of the memory over time."""
    return ChartPane(
        store,
        context,
        title="Memory over time",
        make=HistoryView,
        empty=lambda cluster: (
            "Waiting for the first reading. Workers report every few seconds."
            if cluster["n_workers"]
            else "No worker is connected. Start one with dask worker, or scale the "
            "cluster up."
        ),
        legend=True,
    )


def order_pane(store: Store, context: Context) -> View:
    """Make the pane of the newest graph's order."""
    return ChartPane(
        store,
        context,
        title="Storage of the newest graph",
        make=OrderView,
        empty=lambda cluster: (
            "No graph yet. Compute a collection: this compares what its order needs "
            "with what is stored."
        ),
        words=_order_in_words,
        legend=False,
    )


def workers_pane(store: Store, context: Context) -> View:
    """Make the pane of the fullest workers."""
    return RowsPane(
        store,
        context,
        title="Workers",
        columns="memory, of limit",
        rows=worker_rows,
        empty="No worker is connected. Start one with dask worker, or scale the "
        "cluster up.",
    )


def prefixes_pane(store: Store, context: Context) -> View:
    """Make the pane of the largest prefixes."""
    return RowsPane(
        store,
        context,
        title="Task prefixes",
        columns="stored, executing, peak of a task",
        rows=prefix_rows,
        empty="No task has run yet. Compute something: this says who holds the memory.",
    )
