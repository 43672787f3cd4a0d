"""Task marks: begin and end of every task, in the task's own thread.

:class:`MarkedThreads` takes the place of a worker's ``active_threads``, a dict of
``{thread identifier: key}`` in which the host sets an entry in the task's thread
just before the task runs and deletes it just after.  Knows nothing else of
``distributed``.
"""

from __future__ import annotations

from collections.abc import Callable, ItemsView, Iterator, MutableMapping, ValuesView
from typing import Any


class MarkedThreads(MutableMapping[int, Any]):
    """A mapping that says when a task begins and ends in the current thread.

    Tasks that were running when it took its predecessor's place delete their
    entries from that one: until they have, this mapping shows them too.

    Parameters
    ----------
    before
        The dict whose place this mapping takes.
    begin, end
        Called in the task's thread with the thread's identifier (and the key).
        Must not raise.  A begin for a thread that has an entry already (a task
        that never said its end) is preceded by its end.
    """

    __slots__ = ("_before", "_begin", "_end", "_open", "_own")

    def __init__(
        self,
        before: dict[int, Any] | MarkedThreads,
        begin: Callable[[int, Any], None],
        end: Callable[[int], None],
    ) -> None:
        self._own: dict[int, Any] = {}
        self._before = before
        self._begin: Callable[[int, Any], None] | None = begin
        self._end = end
        #: Threads whose task's begin has been marked, and not its end.
        self._open: set[int] = set()

    def disarm(self) -> None:
        """Mark no further begin; the mapping goes on working as a mapping.

        The ends of tasks that have begun are still marked, in their threads.
        """
        self._begin = None

    def __setitem__(self, ident: int, key: Any) -> None:
        begin = self._begin  # may be disarmed at any moment
        self._close(ident)
        self._own[ident] = key
        if begin is not None:
            self._open.add(ident)
            begin(ident, key)

    def __delitem__(self, ident: int) -> None:
        if ident not in self._own:
            del self._before[ident]
            return
        del self._own[ident]
        self._close(ident)

    def _close(self, ident: int) -> None:
        if ident in self._open:
            self._open.discard(ident)
            self._end(ident)

    def __getitem__(self, ident: int) -> Any:
        try:
            return self._own[ident]
        except KeyError:
            return self._before[ident]

    def __iter__(self) -> Iterator[int]:
        return iter(self.copy())

    def __len__(self) -> int:
        return len(self.copy()) if self._before else len(self._own)

    def copy(self) -> dict[int, Any]:
        """Return a plain dict of all threads and keys, as they are now."""
        return {**self._before.copy(), **self._own}

    def items(self) -> ItemsView[int, Any]:
        """Return the threads and keys as they are now; later changes do not matter."""
        return self.copy().items()

    def values(self) -> ValuesView[Any]:
        """Return the keys as they are now."""
        return self.copy().values()
