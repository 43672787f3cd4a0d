"""Rows of task prefixes that changed: the largest more often than the others."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable
from itertools import islice
from typing import Any

from dask_memdash.model.cluster import ClusterModel
from dask_memdash.model.prefixes import PrefixState
from dask_memdash.runs.rows import row
from dask_memdash.runs.waiting import Row
from dask_memdash.store.live import LiveStore

#: Prefixes looked at in one look, and seconds between two rounds over all.
LOOKED_AT = 2_000
ROUND = 2.0

#: Seconds between two times that prefixes are written where there are many, and how
#: many are written then.
FEW = 50
EACH_OF_MANY = 5.0
WRITTEN = 20

#: Bins of the distribution of peaks, and prefixes that are written at the end.
BINS = 48
AT_END = 500


#: Gives the mean time of a prefix's tasks in seconds, None where it is not known.
Durations = Callable[[str], float | None]


class PrefixRows:
    """What changed of the prefixes since the last look."""

    def __init__(
        self, store: LiveStore, model: ClusterModel, durations: Durations
    ) -> None:
        self._store = store
        self._model = model
        self._durations = durations
        self._round: list[str] = []
        self._round_due = 0.0
        self._due = 0.0
        # Prefix → its state as it was last written; and those that differ from it.
        self._known: dict[str, tuple[Any, ...]] = {}
        self._changed: dict[str, None] = {}

    def step(self, now: float, rows: list[Row]) -> None:
        """Record some of those that changed."""
        self._look()
        moment, by_name = time.monotonic(), self._model.prefixes.by_name
        if moment < self._due or not self._changed:
            return
        self._due = moment + (ROUND if len(by_name) <= FEW else EACH_OF_MANY) - 0.1
        half = WRITTEN // 2
        oldest = list(islice(self._changed, half))
        largest = heapq.nlargest(
            half,
            islice(self._changed, LOOKED_AT),
            key=lambda name: by_name[name].weight if name in by_name else -1,
        )
        self._write(dict.fromkeys([*oldest, *largest]), now, rows)

    def all(self, now: float, rows: list[Row]) -> None:
        """Record those that are not recorded as they are, at the end."""
        self._round, self._round_due = [], 0.0
        self._look()
        self._write(dict.fromkeys(islice(self._changed, AT_END)), now, rows)

    def _look(self) -> None:
        """Find those that changed, a slice at a time."""
        moment, by_name = time.monotonic(), self._model.prefixes.by_name
        if not self._round and moment >= self._round_due:
            self._round, self._round_due = list(by_name), moment + ROUND - 0.1
            if len(self._known) > 2 * len(by_name) + 100:
                for gone in self._known.keys() - by_name.keys():
                    del self._known[gone]
        slice_, self._round = self._round[:LOOKED_AT], self._round[LOOKED_AT:]
        for name in slice_:
            state = by_name.get(name)
            if state is not None and self._known.get(name) != _mark(state):
                self._changed[name] = None

    def _write(self, names: dict[str, None], now: float, rows: list[Row]) -> None:
        for name in names:
            self._changed.pop(name, None)
            state = self._model.prefixes.by_name.get(name)
            if state is not None:
                self._known[name] = _mark(state)
                answer, took = self._store.prefix(name), self._durations(name)
                rows.append(prefix_row(answer, state, now, took))


def _mark(state: PrefixState) -> tuple[Any, ...]:
    return (
        *(state.count, state.managed, state.spilled, state.pinned, state.running),
        *(state.finished, state.executing, state.at_least),
    )


def prefix_row(
    answer: Any, state: PrefixState, now: float, duration: float | None = None
) -> Row:
    """Return the row of a prefix; `duration` is the mean of its tasks, in seconds."""
    storage, execution = answer["storage"], answer["execution"]
    sizes, peak = storage["output_bytes"], execution["peak"]
    bins = state.peaks.bins(BINS)
    return row(
        "prefix_states",
        time=now,
        prefix=answer["prefix"],
        count=storage["count"],
        managed=storage["managed"],
        spilled=storage["spilled"],
        pinned=storage["pinned"],
        running=execution["running"],
        finished=execution["finished"],
        executing=execution["executing"],
        peak_p50=peak["p50"],
        peak_p95=peak["p95"],
        peak_max=peak["max"],
        peak_at_least=peak["at_least"],
        peak_error=execution["error"],
        method=answer["method"],
        output_p50=sizes["p50"],
        output_p95=sizes["p95"],
        output_max=sizes["max"],
        duration=duration,
        peak_bins=[list(bin_) for bin_ in bins] or None,
        answer=answer,
    )
