"""Which tasks' small objects are counted one by one, and not as arenas.

Arenas tell of a task's small objects what it costs nothing to know: they come and go in
pieces of 1 MiB.  They mislead where others have left room, and where several tasks
share them.  Counting one by one (``native/small_objects.c``) costs a task that does
nothing but make objects some of its time.  So the first tasks of each prefix are
counted so, and later ones now and then; all, if arenas were seen to mislead.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

#: So many first tasks of a prefix are counted one by one.
FIRST = 3

#: Arenas mislead where they are off by so many bytes, and by such a part of the peak.
OFF, OFF_PART = 2**20, 0.01

#: Prefixes that are known at most.
MAX_PREFIXES = 10_000


@dataclass(slots=True)
class _Known:
    """What is known of a prefix's tasks."""

    begun: int = 0
    misled: bool = False


class SmallObjects:
    """Says of each task whether, and learns from those that were.

    Parameters
    ----------
    objects
        Gives what small objects the last task in this thread had at most, in bytes: one
        by one, and as arenas say.
    """

    def __init__(self, objects: Callable[[], tuple[int, int]]) -> None:
        self._objects = objects
        self._known: dict[str, _Known] = {}
        self._lock = threading.Lock()

    def wanted(self, prefix: str) -> bool:
        """Whether a task that begins now should be counted one by one."""
        known = self._known.get(prefix)
        if known is None:
            with self._lock:
                if len(self._known) >= MAX_PREFIXES:
                    self._known.clear()
                known = self._known.setdefault(prefix, _Known())
        known.begun += 1
        begun = known.begun
        return known.misled or begun <= FIRST or begun & (begun - 1) == 0

    def learn(self, prefix: str, peak: int) -> None:
        """Learn from a task that was, in its own thread, right after its end.

        Parameters
        ----------
        peak
            The most that it held, in bytes.
        """
        objects, arenas = self._objects()
        known = self._known.get(prefix)
        if known is not None and abs(objects - arenas) > max(OFF, OFF_PART * peak):
            known.misled = True
