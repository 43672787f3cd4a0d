"""A worker's storage by task prefix, kept up to date key by key.

Covers what is stored and how much of it is spilled.  Knows nothing of
``distributed``: the worker plugin tells it of every key that is stored or released,
and hands it the spill buffer's own sizes.  Not thread-safe: it belongs to the
worker's event loop.
"""

from __future__ import annotations

import heapq
from collections.abc import Hashable, Mapping

from dask_memdash.model.event_parts import StorageRow

#: Prefixes that one heartbeat tells of at most, and the name under which the storage of
#: all others is summed.
MAX_ROWS = 1_000
OTHERS = "(other prefixes)"


def largest_rows(
    rows: Mapping[str, StorageRow], most: int = MAX_ROWS
) -> dict[str, StorageRow]:
    """Return the rows of the largest prefixes, with all others summed as one."""
    if len(rows) <= most:
        return dict(rows)

    def size(name: str) -> int:
        return rows[name].claimed + rows[name].spilled

    kept = {name: rows[name] for name in heapq.nlargest(most - 1, rows, key=size)}
    others = [row for name, row in rows.items() if name not in kept]
    kept[OTHERS] = StorageRow(*map(sum, zip(*others, strict=True)))
    return kept


class StorageLedger:
    """Running sums of a worker's storage, by prefix.

    ``sum(row.claimed) == claimed`` and so on hold at every moment.
    """

    #: Spilled keys looked at in one go, as a look at 100,000 costs 30 ms.
    SLICE = 5_000

    def __init__(self) -> None:
        # Prefix and size in bytes, by key.
        self._entries: dict[Hashable, tuple[str, int]] = {}
        self._stored: dict[str, list[int]] = {}
        self._spilled: dict[str, list[int]] = {}
        self._spilled_total = (0, 0)
        self._todo: list[tuple[Hashable, tuple[int, int]]] | None = None
        self._partial: dict[str, list[int]] = {}
        #: Grows with every change of the rows.
        self.version = 0
        #: Bytes of all that is stored, in RAM or spilled.
        self.total = 0

    def __contains__(self, key: Hashable) -> bool:
        return key in self._entries

    def store(self, key: Hashable, prefix: str, nbytes: int) -> None:
        """Count a key that is stored now (again: with its newest size)."""
        if key in self._entries:
            self.release(key)
        self._entries[key] = prefix, nbytes
        sums = self._stored.get(prefix)
        if sums is None:
            sums = self._stored[prefix] = [0, 0]
        sums[0] += 1
        sums[1] += nbytes
        self.total += nbytes
        self.version += 1

    def release(self, key: Hashable) -> None:
        """Stop counting a key; unknown keys are nothing to do."""
        entry = self._entries.pop(key, None)
        if entry is None:
            return
        prefix, nbytes = entry
        sums = self._stored[prefix]
        sums[0] -= 1
        sums[1] -= nbytes
        if sums[0] == 0:
            del self._stored[prefix]
        self.total -= nbytes
        self.version += 1

    def look_at_spilled(self, sizes: Mapping[Hashable, tuple[int, int]]) -> bool:
        """Bring the spilled bytes up to date, or a slice nearer to it.

        Parameters
        ----------
        sizes
            The spill buffer's ``{key: (bytes in memory, bytes on disk)}``.

        Returns
        -------
        bool
            Whether the spilled bytes are those of `sizes` as it was when the look
            began; call again if not.
        """
        if self._todo is None:
            if not sizes and not self._spilled:
                return True
            self._todo = list(sizes.items())
            self._partial = {}
        done, self._todo = self._todo[: self.SLICE], self._todo[self.SLICE :]
        for key, (memory, disk) in done:
            entry = self._entries.get(key)
            if entry is None:
                continue
            sums = self._partial.setdefault(entry[0], [0, 0])
            sums[0] += memory
            sums[1] += disk
        if self._todo:
            return False
        self._todo = None
        if self._partial != self._spilled:
            self._spilled = self._partial
            self.version += 1
        self._spilled_total = (
            sum(sums[0] for sums in self._spilled.values()),
            sum(sums[1] for sums in self._spilled.values()),
        )
        return True

    @property
    def spilled(self) -> tuple[int, int]:
        """Spilled bytes as last looked at: size in memory, size on disk."""
        return self._spilled_total

    @property
    def looking(self) -> bool:
        """Whether a look at the spilled bytes has begun and is not done."""
        return self._todo is not None

    @property
    def claimed(self) -> int:
        """Bytes in RAM by Dask's sizeof, at least 0: the sum over the rows."""
        return sum(row.claimed for row in self.rows().values())

    def rows(self) -> dict[str, StorageRow]:
        """Return the storage of every prefix that has any."""
        rows = {}
        for prefix, (count, total) in self._stored.items():
            spilled, disk = self._spilled.get(prefix, (0, 0))
            claimed = max(0, total - spilled)
            rows[prefix] = StorageRow(count, claimed, spilled, disk)
        return rows
