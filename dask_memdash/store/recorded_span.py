"""The store of a recorded run at the most of a span.

As at the span's end, but that each worker, each prefix and the cluster stand at their
own most.  Workers that left within the span are there.

Not thread-safe.
"""

from __future__ import annotations

from typing import Any, cast

from dask_memdash.runs.schema import CLUSTER
from dask_memdash.runs.tables import FIGURES
from dask_memdash.store.cluster_shapes import Cluster
from dask_memdash.store.natural_order import natural
from dask_memdash.store.recorded import LATER, RecordedStore
from dask_memdash.store.recorded_history import COLUMNS
from dask_memdash.store.worker_shapes import Worker

_MOST = (
    f"SELECT process, {FIGURES[0]}, {', '.join(FIGURES[1:])}, max(process_bytes) "
    "FROM breakdown WHERE time >= ? AND time <= ? GROUP BY process"
)
_PREFIX = (
    "SELECT max(managed), max(spilled), max(executing), max(running) "
    "FROM prefix_states WHERE prefix = ? AND time >= ? AND time <= ?"
)


class RecordedSpan(RecordedStore):
    """A recorded run at the most of a span.

    Parameters
    ----------
    store
        Of the run, at any instant.
    start, end
        The span, in Unix time.
    """

    def __init__(self, store: RecordedStore, start: float, end: float) -> None:
        super().__init__(store.reader, end, store.catalogue)
        self._start = start

    def _cluster(self) -> Cluster:
        known = super()._cluster()
        return cast(Cluster, self._at_most(cast(Any, known), CLUSTER))

    def _workers(self) -> list[Worker]:
        known = {w["address"]: w for w in super()._workers()}
        left = {
            w.id: w
            for w in self.catalogue.workers.values()
            if w.left is not None
            and self._start <= w.left <= self.instant
            and w.address not in known
        }
        for number, row in self._last_of("worker_states", set(left)).items():
            known[left[number].address] = cast(Worker, {**LATER, **row})
        processes = {w.address: w.process for w in self.catalogue.workers.values()}
        rows = [
            cast(Worker, self._at_most(cast(Any, worker), processes[address]))
            for address, worker in known.items()
        ]
        return sorted(rows, key=lambda w: natural(w["name"]))

    def _prefix(self, segment: Any, row: Any) -> Any:
        answer = super()._prefix(segment, row)
        if answer is None:
            return None
        storage, execution = dict(answer["storage"]), dict(answer["execution"])
        for file in self.reader.files("main", until=self.instant):
            for found in self.reader.ask(
                file, _PREFIX, (answer["prefix"], self._start, self.instant)
            ):
                for name, size in zip(("managed", "spilled"), found, strict=False):
                    storage[name] = _larger(storage[name], size)
                for name, size in zip(("executing", "running"), found[2:], strict=True):
                    execution[name] = _larger(execution[name], size)
        whole = (storage["managed"] or 0) + (execution["executing"] or 0)
        return {**answer, "bytes": whole, "storage": storage, "execution": execution}

    def _at_most(self, row: dict[str, Any], process: int) -> dict[str, Any]:
        """Return a row whose breakdown is the largest of the span."""
        figures = self._once("most of the span", self._read_most).get(process)
        before = row["breakdown"]
        if figures is None or figures["process"] <= (before["process"] or 0):
            return row
        beside = dict.fromkeys(
            ("error", "unmanaged", "unmanaged_old", "unmanaged_recent")
        )
        return {**row, "breakdown": {**before, **beside, **figures}}

    def _read_most(self) -> dict[int, dict[str, int]]:
        found: dict[int, dict[str, int]] = {}
        for segment in self.reader.files(until=self.instant):
            if segment.last is not None and segment.last < self._start:
                continue
            for process, *figures, _ in self.reader.ask(
                segment, _MOST, (self._start, self.instant)
            ):
                known = found.get(process)
                if known is None or (figures[0] or 0) > known["process"]:
                    found[process] = dict(
                        zip(COLUMNS, (size or 0 for size in figures), strict=True)
                    )
        return found


def _larger(one: int | None, other: int | None) -> int | None:
    known = [size for size in (one, other) if size is not None]
    return max(known, default=None)
