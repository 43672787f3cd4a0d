"""A worker's mapping of its outputs, of which stored ones have a share of RAM.

Stands around Dask's own mapping (a spill buffer, or a dict), in which everything that
is in RAM or spilled stays.  What is stored in the cluster's memory may be dropped from
there and is *away* then: still the worker's, and read back when it is asked for.
Whoever can wait has it read back before
(:mod:`dask_memdash.intermediates.shared.ram_share`), off the event loop; asking for a
value that is away reads it at once.

Not thread-safe: used on the event loop alone, as Dask uses its own.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from typing import Any

from distributed.spill import SpilledSize

from dask_memdash.intermediates.stored import Stored


class StoredData(MutableMapping[Any, Any]):
    """Outputs of a worker, of which stored ones take at most a share of RAM.

    Parameters
    ----------
    inner
        Dask's own mapping; what it offers beside is offered here too.
    limit
        Most bytes that stored values may take in RAM.
    size_of
        Returns what a key's value takes in RAM, in bytes.
    load
        Reads a value back.
    moved
        Called with a key and whether it is in RAM now, whenever that changes here.
    """

    def __init__(
        self,
        inner: MutableMapping[Any, Any],
        limit: int,
        size_of: Callable[[Any], int],
        load: Callable[[Stored], Any],
        moved: Callable[[Any, bool], object] = lambda key, in_ram: None,
    ) -> None:
        self.inner: Any = inner
        self.limit = limit
        self._size_of = size_of
        self._load = load
        self._moved = moved
        #: Keys whose values are in the store alone.
        self.away: dict[Any, Stored] = {}
        self._away_sizes: dict[Any, int] = {}
        # Stored keys that are here too, the one that was used longest ago first.
        self._here: OrderedDict[Any, tuple[Stored, int]] = OrderedDict()
        self._pinned: Counter[Any] = Counter()
        #: Bytes of stored values in RAM, and of those that are away.
        self.here_bytes = 0
        self.away_bytes = 0
        #: What was dropped so far: values, and bytes.
        self.dropped = 0
        self.dropped_bytes = 0

    def __getattr__(self, name: str) -> Any:
        # a spill buffer's own: fast, slow, memory, disk, spilled_total, …
        if name == "inner":
            raise AttributeError(name)
        return getattr(self.inner, name)

    @property
    def spilled_total(self) -> SpilledSize:
        """What is not in RAM: spilled or away, in memory and on this worker's disk."""
        spilled = getattr(self.inner, "spilled_total", None) or SpilledSize(0, 0)
        return spilled + SpilledSize(self.away_bytes, 0)

    def __repr__(self) -> str:
        return f"<StoredData: {len(self.away)} away, around {self.inner!r}>"

    # -- a mapping -----------------------------------------------------------------

    def __getitem__(self, key: Any) -> Any:
        stored = self.away.get(key)
        if stored is not None:
            value = self._load(stored)
            self.came(key, value)
            return value
        value = self.inner[key]
        if key in self._here:
            self._here.move_to_end(key)
        return value

    def __setitem__(self, key: Any, value: Any) -> None:
        self._forget(key)
        self.inner[key] = value

    def __delitem__(self, key: Any) -> None:
        if self._leave_away(key) is not None:
            return
        del self.inner[key]
        self._forget(key)

    def __contains__(self, key: object) -> bool:
        return key in self.away or key in self.inner

    def __iter__(self) -> Iterator[Any]:
        yield from self.inner
        yield from list(self.away)

    def __len__(self) -> int:
        return len(self.inner) + len(self.away)

    def _leave_away(self, key: Any) -> Stored | None:
        stored = self.away.pop(key, None)
        if stored is not None:
            self.away_bytes -= self._away_sizes.pop(key)
        return stored

    def _forget(self, key: Any) -> None:
        self._leave_away(key)
        here = self._here.pop(key, None)
        if here is not None:
            self.here_bytes -= here[1]

    # -- what is stored ------------------------------------------------------------

    def is_stored(self, key: Any, stored: Stored) -> None:
        """Take note that a key's value lies in the store too."""
        if key in self.away or key not in self.inner:
            return
        self._forget(key)
        size = self._size_of(key)
        self._here[key] = stored, size
        self.here_bytes += size
        if not self._is_in_ram(key):
            self._drop(key)  # it was spilled: once is enough
        self.make_room()

    def came(self, key: Any, value: Any) -> None:
        """Take a value that was read back."""
        stored = self._leave_away(key)
        if stored is None:  # released meanwhile
            return
        self.inner[key] = value
        size = self._size_of(key)
        self._here[key] = stored, size
        self.here_bytes += size
        self._moved(key, True)
        self._pinned[key] += 1
        self.make_room()
        self.unpin([key])

    def pin(self, keys: Iterable[Any]) -> None:
        """Keep values in RAM until they are unpinned, as often as they were pinned."""
        self._pinned.update(keys)

    def unpin(self, keys: Iterable[Any]) -> None:
        """Let go of pinned values."""
        for key in keys:
            self._pinned[key] -= 1
            if self._pinned[key] <= 0:
                del self._pinned[key]

    def make_room(self) -> None:
        """Drop stored values until they take no more than their share."""
        if self.here_bytes <= self.limit:
            return
        for key in list(self._here):
            if self._pinned[key] <= 0:
                self._drop(key)
                if self.here_bytes <= self.limit:
                    return

    def _drop(self, key: Any) -> int:
        stored, size = self._here.pop(key)
        self.here_bytes -= size
        del self.inner[key]
        self.away[key] = stored
        self._away_sizes[key] = size
        self.away_bytes += size
        self.dropped += 1
        self.dropped_bytes += size
        self._moved(key, False)
        return size

    def _is_in_ram(self, key: Any) -> bool:
        fast = getattr(self.inner, "fast", None)
        return fast is None or key in fast

    def drop_one(self) -> int:
        """Drop the stored value that was used longest ago; its size, 0 if none is."""
        for key in self._here:
            if self._pinned[key] <= 0:
                return self._drop(key)
        return 0


class StoredDataThatSpills(StoredData):
    """Around a spill buffer: what is stored is dropped before anything is spilled."""

    def evict(self) -> int:
        """Make room as Dask asks for it; see ``SpillBuffer.evict``."""
        size = self.drop_one()
        if size:
            return size
        evicted: int = self.inner.evict()
        return evicted


def around(inner: Any, *arguments: Any) -> StoredData:
    """Return a mapping around Dask's own; the rest as for :class:`StoredData`."""
    spills = hasattr(inner, "evict") and hasattr(inner, "fast")
    return (StoredDataThatSpills if spills else StoredData)(inner, *arguments)
