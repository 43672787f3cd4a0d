"""Who holds it: a table of prefixes, storage and execution side by side as bars.

Its last row is what the cards above it say.  Which rows there are is
:mod:`dask_memdash.store.holders`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import panel as pn

from dask_memdash import terms
from dask_memdash.store.base import Store
from dask_memdash.store.cluster_shapes import Cluster
from dask_memdash.store.holders import Holder, Holders, holders
from dask_memdash.store.prefix_shapes import PrefixExecution, PrefixStorage
from dask_memdash.text import (
    count,
    format_bytes,
    format_inside,
    format_parts,
    shorten,
)
from dask_memdash.views.base import Context, Text, View
from dask_memdash.views.summary import families, groups
from dask_memdash.views.tabular import address

#: A row moves up only past one that is smaller by this factor, or rows would dance.
CALM = 1.25

#: Characters of a prefix, and of one that waits for another's outputs.
NAME, WAITER = 44, 22

#: What a row is called that is no prefix's, and what it is.
NO_TASK = {
    "transfer": (terms.PARTS["transfer"].label, terms.PARTS["transfer"].sentence),
    "actors": (terms.PARTS["actors"].label, terms.PARTS["actors"].sentence),
    "not counted": (
        terms.OTHERS["not counted"].label,
        terms.OTHERS["not counted"].sentence,
    ),
    "unknown": ("not told apart", "Outputs of which it is not known whose they are."),
}


@dataclass(frozen=True, slots=True)
class Row:
    """One row in words, its bars in per cent of the scale."""

    holder: Holder
    label: str
    #: Explains the row to whoever hovers over its name.
    words: str
    link: str
    stored: str
    spilled: str
    executing: str
    #: Who wants what is stored.
    wanted: str
    #: What the tasks that run are, and what one of them needs.
    tasks: str
    needs: tuple[str, str, str] | None
    bars: dict[str, float]


def rows(known: Holders, cluster: Cluster) -> list[Row]:
    """Write the rows so that they add up, as shown, to the cards' figures."""
    whole, process = groups(cluster), cluster["breakdown"]["process"]
    held = [h for h in known.rows if h.kind not in ("transfer", "actors")]
    managed = _written(whole, process, ("storage", "managed"), held, "managed")
    running = _written(whole, process, ("execution", "executing"), held, "executing")
    moved = {
        part: format_inside(whole, process, ("storage", part), [size or 0])[0]
        for part, size in whole["storage"].items()
    }
    on_disk = format_parts(
        {str(i): h.spilled for i, h in enumerate(known.rows)}, known.spilled
    )
    scale = max(
        (
            max(h.managed + h.spilled, h.executing)
            for h in known.rows
            if h.kind != "smaller"
        ),
        default=0,
    )
    return [
        Row(
            holder=holder,
            label=_label(holder),
            words=_words(holder),
            link=address("prefix", holder.name) if holder.kind == "task" else "",
            stored=managed.get(id(holder)) or moved[holder.kind],
            spilled=on_disk[str(i)] if holder.spilled else "",
            executing=running.get(id(holder), ""),
            wanted="" if holder.prefix is None else wanted(holder.prefix["storage"]),
            tasks=_tasks(holder),
            needs=None if holder.prefix is None else needs(holder.prefix["execution"]),
            bars=_bars(holder, scale),
        )
        for i, holder in enumerate(known.rows)
    ]


def _written(
    whole: dict[str, dict[str, int | None]],
    process: int | None,
    part: tuple[str, str],
    held: Sequence[Holder],
    name: str,
) -> dict[int, str]:
    texts = format_inside(whole, process, part, [getattr(h, name) for h in held])
    return {id(holder): text for holder, text in zip(held, texts, strict=True)}


def needs(execution: PrefixExecution) -> tuple[str, str, str] | None:
    """Say what one task of a prefix needs: in words, as a size, and how it is known.

    None where nothing is known.
    """
    peak, error = execution["peak"], execution["error"]
    least, usual = peak["at_least"], peak["p95"]
    if least is not None and least > (peak["max"] or 0):
        why = (
            "A task of it held so much when its worker died, and may have needed more."
        )
        return "one task: at least", format_bytes(least), why
    if usual is None:
        return None
    beside = f" ± {format_bytes(error)}" if error else ""
    why = "95 of 100 of its finished tasks stayed below."
    return "one task:", f"{format_bytes(usual)}{beside}", why


def wanted(storage: PrefixStorage) -> str:
    """Say who wants most of what is stored; empty where nobody is known to."""
    pinned, waiters = storage["pinned"] or 0, storage["awaited_by"]
    if pinned and pinned >= (storage["awaited"] or 0):
        return "kept by a client"
    if not waiters:
        return ""
    more = f" and {len(waiters) - 1} more" if len(waiters) > 1 else ""
    return f"needed by {shorten(waiters[0]['prefix'], WAITER)}{more}"


def _label(holder: Holder) -> str:
    if holder.kind == "task":
        return shorten(holder.name, NAME)
    if holder.kind == "smaller":
        return f"{holder.number:,} smaller {'prefix' if holder.number == 1 else 'ones'}"
    return NO_TASK[holder.kind][0]


def _words(holder: Holder) -> str:
    if holder.kind == "task":
        return shorten(holder.name, 300)
    if holder.kind == "smaller":
        return f"{count(holder.number, 'prefix', 'prefixes')} without a row here."
    return NO_TASK[holder.kind][1]


def _tasks(holder: Holder) -> str:
    if holder.prefix is None:
        return ""
    execution = holder.prefix["execution"]
    if execution["running"]:
        return f"in {count(execution['running'], 'task')}"
    if not execution["finished"] and holder.blame is not None:
        return "none has finished"
    return ""


def _bars(holder: Holder, scale: int) -> dict[str, float]:
    """Return the lengths of bars in per cent; sums of many prefixes have none."""
    if holder.kind == "smaller" or not scale:
        return {}
    sizes = {
        holder.kind if holder.kind in terms.PARTS else "managed": holder.managed,
        "spilled": holder.spilled,
        "uncounted" if holder.kind == "not counted" else "executing": holder.executing,
    }
    return {name: round(100 * size / scale, 2) for name, size in sizes.items() if size}


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


class HoldersView(View):
    """The table of who holds the memory, for the Overview.

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
        self.table = Text("holders.html", context.stylesheet)
        self.root = pn.Column(
            self.empty.pane, self.table.pane, sizing_mode="stretch_width", margin=0
        )

    def draw(self) -> None:
        """Write the table."""
        cluster = self.store.cluster()
        known = self.once("who holds it", lambda: holders(self.store))
        known = replace(known, rows=self._calm(known.rows))
        tasks = self.store.prefix_totals()["prefixes"]
        past = self.shown.at is not None  # then what is not known of it is said
        self.empty.write(empty=not tasks and not past, n_workers=cluster["n_workers"])
        by_family = {str(f["name"]): f for f in families(cluster)}
        self.table.write(
            rows=rows(known, cluster) if tasks or past else [],
            families=by_family,
            spilled=known.spilled,
        )

    def _calm(self, known: Sequence[Holder]) -> tuple[Holder, ...]:
        """Order prefixes so that rows change places only where it matters."""
        tasks = {holder.name: holder for holder in known if holder.kind == "task"}
        weights = {
            name: h.managed + h.spilled + h.executing for name, h in tasks.items()
        }
        self._order = settle(self._order, weights)
        blamed = [name for name in self._order if tasks[name].blame is not None]
        others = [name for name in self._order if tasks[name].blame is None]
        rest = [holder for holder in known if holder.kind != "task"]
        return (*(tasks[name] for name in (*blamed, *others)), *rest)
