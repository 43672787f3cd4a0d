"""What tasks do with stored values: put one, load one.

These functions and :class:`Stored` travel in graphs to workers, which load this module
and nothing else of MemDash.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dask_memdash.intermediates.memory import OBJECTS, Memory, address_of
from dask_memdash.intermediates.object_format import decode, encode


@dataclass(frozen=True, slots=True)
class Stored:
    """Where the value of one key lies, or will lie."""

    memory: Memory
    key: Any
    #: Name of the object without its folder, as ``memory.object_id`` makes it.
    object_id: str

    def __reduce__(self) -> tuple[Any, ...]:
        # dataclasses look their fields up for each one that is pickled: 0.2 ms
        return Stored, (self.memory, self.key, self.object_id)

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return ("dask_memdash.Stored", address_of(self.memory), self.object_id)

    @property
    def name(self) -> str:
        """Name of the object in its store."""
        return OBJECTS + self.object_id


def put_value(stored: Stored, value: Any) -> int:
    """Store a value; return how many bytes were written."""
    frames = encode(stored.key, value)
    stored.memory.put(stored.name, frames)
    return sum(len(frame) for frame in frames)


def load_value(stored: Stored, after: Any = None) -> Any:
    """Return a stored value.

    Parameters
    ----------
    after
        Result of the task that stores it, which has to end first.
    """
    content = stored.memory.get(stored.name)
    return decode(content, stored.key, stored.name, address_of(stored.memory))
