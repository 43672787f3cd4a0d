"""What a worker of `guard_world` stores and sends: a spill buffer, and requests."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, MutableMapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any


class Fast(OrderedDict[Any, Any]):
    """What is in memory; what was used last is at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.weights: dict[Any, int] = {}

    @property
    def total_weight(self) -> int:
        return sum(self.weights.values())

    def __getitem__(self, key: Any) -> Any:
        self.move_to_end(key)
        return super().__getitem__(key)


class SpillBuffer(MutableMapping[Any, Any]):
    """Stands in for Dask's own; takes no time.

    Parameters
    ----------
    weigh
        Returns the size of a key, in bytes.
    sticks
        Whether what is put on disk stays in memory, as something holds it.
    """

    def __init__(self, weigh: Callable[[Any], int], *, sticks: bool = False) -> None:
        self._weigh = weigh
        self._sticks = sticks
        self.fast = Fast()
        sizes: dict[Any, tuple[int, int]] = {}
        self.slow = SimpleNamespace(data=SimpleNamespace(weight_by_key=sizes), cache={})
        self._values: dict[Any, Any] = {}
        self.evicted = 0

    @property
    def _on_disk(self) -> dict[Any, tuple[int, int]]:
        found: dict[Any, tuple[int, int]] = self.slow.data.weight_by_key
        return found

    def __setitem__(self, key: Any, value: Any) -> None:
        self._on_disk.pop(key, None)
        self.slow.cache.pop(key, None)
        self._values[key] = value
        self.fast[key] = value
        self.fast.weights[key] = self._weigh(key)

    def __getitem__(self, key: Any) -> Any:
        if key in self._on_disk:
            self[key] = self._values[key]
        elif key in self.fast:
            self.fast.move_to_end(key)
        return self._values[key]

    def __contains__(self, key: object) -> bool:
        return key in self._values

    def __delitem__(self, key: Any) -> None:
        del self._values[key]
        self._on_disk.pop(key, None)
        self.slow.cache.pop(key, None)
        self.fast.weights.pop(key, None)
        self.fast.pop(key, None)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def evict(self) -> int:
        """Put what was used longest ago on disk; return its size in bytes."""
        key, value = self.fast.popitem(last=False)
        if self._sticks:
            self.slow.cache[key] = value
        size = self.fast.weights.pop(key)
        self._on_disk[key] = size, size
        self.evicted += 1
        return size


class Pause:
    """What a coroutine awaits until it is sent on."""

    def __await__(self) -> Iterator[None]:
        yield


@dataclass
class Request:
    """Another worker asks for an output, again and again while it is told ``busy``."""

    #: When it asks first, and for which task.
    instant: float
    number: int
    #: How often it was told to ask again.
    busy: int = 0
    sent_at: float | None = None
    coroutine: Any = field(default=None, repr=False)

    def ask(self, handler: Callable[..., Any], key: str) -> bool:
        """Ask; say whether it is being sent."""
        self.coroutine = handler(comm=None, keys=[key])
        try:
            self.coroutine.send(None)
        except StopIteration as ended:
            answer = ended.value
        else:
            return True
        assert answer == {"status": "busy"}
        self.busy += 1
        self.coroutine = None
        return False

    def end(self) -> None:
        """Receive it."""
        try:
            self.coroutine.send(None)
        except StopIteration:
            return
        raise AssertionError("it is still being sent")
