"""``WorkerMemory``: the RAM of workers, which Dask itself stores intermediates in.

The instance of :class:`~dask_memdash.intermediates.memory.Memory` that changes
nothing: a collection that is persisted into it is persisted as Dask does it, and its
name is a dataset that the scheduler knows (``client.publish_dataset``).  It survives
the client, and neither its workers nor the cluster.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, MutableMapping, Sequence
from typing import Any

from dask_memdash.errors import MissingError, NameTakenError
from dask_memdash.intermediates.memory import Buffer, Entry, check_object_name


class WorkerMemory:
    """Objects in the memory of this process.

    Parameters
    ----------
    data
        Where they are kept; a mapping of its own unless given.
    """

    outlives_workers = False
    address = "the workers' memory"

    def __init__(self, data: MutableMapping[str, Any] | None = None) -> None:
        self._data: MutableMapping[str, Any] = {} if data is None else data
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type[WorkerMemory], tuple[()]]:
        return WorkerMemory, ()

    def put(self, name: str, frames: Sequence[Buffer], new: bool = False) -> None:
        """Keep a copy of the frames under a name."""
        check_object_name(name)
        content = b"".join(frames)
        with self._lock:
            if new and name in self._data:
                raise NameTakenError(f"{name} is in {self.address} already")
            self._data[name] = (content, time.time())

    def get(self, name: str) -> Buffer:
        """Return an object's bytes."""
        check_object_name(name)
        try:
            content: bytes = self._data[name][0]
        except KeyError:
            raise MissingError(f"{name} is not in {self.address}") from None
        return bytearray(content)

    def exists(self, name: str) -> bool:
        """Return whether there is such an object."""
        check_object_name(name)
        return name in self._data

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """Return the objects whose names begin so."""
        with self._lock:
            kept = list(self._data.items())
        for name, (content, written) in kept:
            if name.startswith(prefix):
                yield Entry(name, len(content), written)

    def delete(self, name: str) -> None:
        """Forget an object."""
        check_object_name(name)
        with self._lock:
            self._data.pop(name, None)
