"""Which objects a store holds, known in memory: nothing asks the store on the loop.

Filled by one listing, kept up by what is stored and found missing, and listed anew in a
thread from time to time, since other clusters store and delete too.  What it says may
be old: an object that has gone meanwhile is found out when it is loaded.
"""

from __future__ import annotations

import hashlib
import threading
import time
from typing import Any

from dask_memdash.intermediates.memory import OBJECTS, Memory, key_text

#: Seconds between two listings; longer where one takes long.
LISTED_EVERY = 60.0

#: A listing may take this share of the time, at most.
LISTING_SHARE = 0.05


class StoreIndex:
    """Names of the objects in a store, by the hash of their keys."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._lock = threading.Lock()
        # First 40 digits → whole names without their folder.
        self._names: dict[str, set[str]] = {}
        # What was added and taken out while a listing was under way.
        self._since: dict[str, bool] = {}
        self._next = 0.0

    def __len__(self) -> int:
        return len(self._names)

    def refresh(self) -> None:
        """List the store; called in a thread.

        Raises
        ------
        StorageError
            The store does not answer; what was known stays.
        """
        begun = time.monotonic()
        with self._lock:
            self._since = {}
        names: dict[str, set[str]] = {}
        share = 1.0  # a store that fails is asked again before long
        try:
            for entry in self._memory.list(OBJECTS):
                name = entry.name.removeprefix(OBJECTS)
                names.setdefault(name.partition("-")[0], set()).add(name)
            share = LISTING_SHARE
        finally:
            took = time.monotonic() - begun
            wait = max(LISTED_EVERY, took / share)
            self._next = time.monotonic() + wait
        with self._lock:
            since, self._names = self._since, names
            for name, is_there in since.items():
                self._set(name, is_there)

    def due(self) -> bool:
        """Return whether it is time to list again."""
        return time.monotonic() >= self._next

    def hurry(self) -> None:
        """Have the store listed as soon as that can be."""
        self._next = 0.0

    def add(self, object_id: str) -> None:
        """Take note of an object that was stored."""
        with self._lock:
            self._since[object_id] = True
            self._set(object_id, True)

    def discard(self, object_id: str) -> None:
        """Take note of an object that is missing or damaged."""
        with self._lock:
            self._since[object_id] = False
            self._set(object_id, False)

    def _set(self, object_id: str, is_there: bool) -> None:
        digest = object_id.partition("-")[0]
        if is_there:
            self._names.setdefault(digest, set()).add(object_id)
        elif digest in self._names:
            self._names[digest].discard(object_id)
            if not self._names[digest]:
                del self._names[digest]

    def may_have(self, key: Any) -> bool:
        """Return whether a key's value is stored, in whatever edition."""
        text = key_text(key).encode("utf-8", "surrogatepass")
        return hashlib.sha256(text).hexdigest()[:40] in self._names

    def __contains__(self, object_id: str) -> bool:
        return object_id in self._names.get(object_id.partition("-")[0], ())
