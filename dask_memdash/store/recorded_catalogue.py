"""What a recorded run has, without its answers: workers, incidents, failures, graphs.

Each closed segment is read once, a live one again when it has grown.  An answer is
fetched from its segment when somebody asks for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dask_memdash.runs.reading import Row, RunReader, SegmentFile


@dataclass(slots=True)
class KnownWorker:
    """A worker of the run."""

    id: int
    address: str
    name: str
    process: int
    added: float
    left: float | None

    def there(self, time: float) -> bool:
        """Whether it was connected at an instant."""
        return self.added <= time and not self.gone(time)

    def gone(self, time: float) -> bool:
        """Whether it had left by an instant."""
        return self.left is not None and self.left <= time


@dataclass(slots=True)
class Entry:
    """One incident, failure or graph: where its newest answer lies."""

    id: str
    #: Unix times when it began and when its newest answer was written.
    began: float
    changed: float
    segment: SegmentFile
    #: More of its columns, as the query of its table says.
    more: Row


#: Table → what is read of it: id, began, changed and more.
QUERIES = {
    "incidents": "SELECT id, opened, changed, kind, failure, until FROM incidents",
    "failures": "SELECT id, opened, changed, closed, kind, text FROM failures",
    "graphs": "SELECT id, arrived, changed, tasks, done FROM graphs",
}


class Catalogue:
    """What a run has; brought up to date when the run's version moves on."""

    def __init__(self, reader: RunReader) -> None:
        self.reader = reader
        self.workers: dict[int, KnownWorker] = {}
        self._tables: dict[str, dict[str, Entry]] = {name: {} for name in QUERIES}
        self._read: set[Path] = set()
        self._version = -1

    def update(self) -> int:
        """Read what is new; give the version."""
        version = self.reader.refresh()
        if version != self._version:
            self._version = version
            for segment in reversed(self.reader.files("main")):
                if segment.path not in self._read:
                    self._take(segment)
                    if not segment.live:
                        self._read.add(segment.path)
        return version

    def newest(self, table: str, until: float) -> list[Entry]:
        """Return the entries that had begun by an instant, newest first."""
        known = [e for e in self._tables[table].values() if e.began <= until]
        return sorted(known, key=lambda e: (e.began, _number(e.id)), reverse=True)

    def entry(self, table: str, identity: str, until: float) -> Entry | None:
        """Return one entry that had begun by an instant."""
        found = self._tables[table].get(identity)
        return found if found is not None and found.began <= until else None

    def answers(self, table: str, entries: Iterable[Entry]) -> Iterator[Any]:
        """Yield what was recorded of some entries; what is damaged is left out."""
        for entry in entries:
            rows = self.reader.ask(
                entry.segment, f"SELECT answer FROM {table} WHERE id = ?", (entry.id,)
            )
            for (stored,) in rows[:1]:
                answer = self.reader.answer(entry.segment, stored)
                if answer is not None:
                    yield entry, answer

    def named(self, address: str, until: float) -> KnownWorker | None:
        """Return the worker of an address, the newest that had come by an instant."""
        found = [
            worker
            for worker in self.workers.values()
            if worker.address == address and worker.added <= until
        ]
        return max(found, key=lambda w: (not w.gone(until), w.added), default=None)

    def _take(self, segment: SegmentFile) -> None:
        for row in self.reader.ask(
            segment, "SELECT id, address, name, process, added, left FROM workers"
        ):
            self.workers[row[0]] = KnownWorker(*row)
        for table, query in QUERIES.items():
            known = self._tables[table]
            for identity, began, changed, *more in self.reader.ask(segment, query):
                before = known.get(identity)
                if before is None or (changed or 0) >= before.changed:
                    known[identity] = Entry(
                        identity, began or 0.0, changed or 0.0, segment, tuple(more)
                    )


def _number(identity: str) -> tuple[int, str]:
    return (int(identity) if identity.isdigit() else 0, identity)
