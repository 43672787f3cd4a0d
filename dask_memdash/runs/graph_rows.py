"""Rows of graphs: each against its own order, how far it got, what it held for whom."""

from __future__ import annotations

import time
from itertools import islice
from typing import Any

from dask_memdash.model.cluster import ClusterModel
from dask_memdash.runs.rows import row
from dask_memdash.runs.waiting import Row
from dask_memdash.store.live import LiveStore

#: Seconds between two rows of a graph that goes on; graphs looked at.
EACH = 10.0
NEWEST = 20
AT_END = 5

UNKNOWN: tuple[Any, ...] = (None, False, None)


class GraphRows:
    """What changed of the graphs since the last look: one graph each time."""

    def __init__(self, store: LiveStore, model: ClusterModel) -> None:
        self._store = store
        self._model = model
        # Graph → when it was last written, and what it was then.
        self._known: dict[str, tuple[float, tuple[Any, ...]]] = {}

    def step(self, now: float, rows: list[Row]) -> None:
        """Record the one that has waited longest."""
        moment = time.monotonic()
        due = [
            (before, record.id)
            for record, before, mark, known in self._newest()
            if mark != known
            and (moment - before >= EACH or (record.finished and not known[1]))
        ]
        if due:
            self._write(min(due)[1], now, rows)
        if len(self._known) > 1000:
            graphs = self._model.orders.graphs
            self._known = {k: v for k, v in self._known.items() if k in graphs}

    def all(self, now: float, rows: list[Row]) -> None:
        """Record the newest as they are, at the end."""
        due = [r.id for r, _, mark, known in self._newest() if mark != known]
        for graph in due[:AT_END]:
            self._write(graph, now, rows)

    def _newest(self) -> list[tuple[Any, float, Any, Any]]:
        found = []
        for record in islice(reversed(self._model.orders.graphs.values()), NEWEST):
            before, known = self._known.get(record.id, (float("-inf"), UNKNOWN))
            found.append((record, before, self._mark(record), known))
        return found

    def _mark(self, record: Any) -> tuple[Any, ...]:
        """Return what changes when what is said of a graph may have."""
        last = next(iter(self._model.incidents), None)
        if last is not None and record.finished:
            ended = record.ended if record.ended is not None else record.time
            last = last if last.time <= ended else None
        incident = None if last is None else last.id
        return (record.version, record.finished, record.done, incident)

    def _write(self, name: str, now: float, rows: list[Row]) -> None:
        record = self._model.orders.graphs[name]
        answer: Any = self._store.graph(name)
        self._known[name] = (time.monotonic(), self._mark(record))
        rows.append(
            row(
                "graphs",
                id=answer["id"],
                arrived=answer["time"],
                changed=now,
                name=answer["name"],
                tasks=answer["tasks"],
                done=answer["done"],
                minimum=answer["minimum"],
                actual_peak=answer["actual_peak"],
                run_ahead=answer["run_ahead"],
                verdict=answer["verdict"]["kind"],
                answer=answer,
            )
        )
        done, curve = answer["done"], answer["curve"]
        if done is None:
            return
        held = [size for size in curve["actual"] if size is not None]
        rows.append(
            row(
                "graph_progress",
                time=now,
                graph=answer["id"],
                done=done,
                held=held[-1] if held else None,
            )
        )
        if curve["position"]:
            point: Any = self._store.order_point(name, done)
            rows.append(
                row(
                    "order_points",
                    graph=answer["id"],
                    position=point["position"],
                    answer=point,
                )
            )
