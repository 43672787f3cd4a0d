"""Whether what runs on a worker gets on.

A task that waits for another one (``get_client().gather`` without ``secede``, an
``Event``) uses no processor, allocates nothing and does not end.  One that reads from a
slow disk looks the same, so this is a reason to let one more start, not a finding.

Runs on the worker's event loop.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

#: Seconds of processor time, and bytes, below which a task has not got on.
LEAST_CPU = 0.02
LEAST_BYTES = 2**16


class Doing(NamedTuple):
    """What a running task has come to."""

    #: Identifier of its thread, 0 where it has none of its own.
    thread: int
    held: int
    peak: int


class Stillness:
    """Remembers since when nothing has got on.

    Parameters
    ----------
    cpu_of
        Seconds of processor time of threads, by native number; those that are gone are
        left out.
    """

    def __init__(
        self, cpu_of: Callable[[Iterable[int]], Mapping[int, float]] | None = None
    ) -> None:
        self._cpu_of = cpu_of or thread_cpu
        self._since: float | None = None
        self._seen: tuple[int, dict[Any, Doing]] | None = None
        self._cpu: Mapping[int, float] = {}

    def look(self, now: float, ended: int, running: Mapping[Any, Doing]) -> None:
        """Take in an instant.

        Parameters
        ----------
        now
            In seconds, on a clock that only goes forward.
        ended
            How many tasks have ended so far.
        running
            Tasks that count as running, by key.
        """
        native = _native({task.thread for task in running.values()} - {0})
        cpu = self._cpu_of(native)
        if self._moved(ended, running) or self._worked(cpu):
            self._since = now
            self._seen, self._cpu = (ended, dict(running)), cpu

    def lasts(self, now: float) -> float:
        """Return for how many seconds nothing has got on."""
        return 0.0 if self._since is None else max(0.0, now - self._since)

    def begin_anew(self, now: float) -> None:
        """Count from now on: something has just been done about it."""
        self._since = now

    def _moved(self, ended: int, running: Mapping[Any, Doing]) -> bool:
        if self._seen is None or self._seen[0] != ended:
            return True
        before = self._seen[1]
        return before.keys() != running.keys() or any(
            abs(task.held - before[key].held) > LEAST_BYTES
            or abs(task.peak - before[key].peak) > LEAST_BYTES
            for key, task in running.items()
        )

    def _worked(self, cpu: Mapping[int, float]) -> bool:
        before = self._cpu
        return before.keys() != cpu.keys() or any(
            used - before[thread] > LEAST_CPU for thread, used in cpu.items()
        )


def thread_cpu(threads: Iterable[int]) -> dict[int, float]:
    """Return the seconds of processor time of threads of this process."""
    found = {}
    ticks = os.sysconf("SC_CLK_TCK")
    for thread in threads:
        try:
            stat = Path(f"/proc/self/task/{thread}/stat").read_bytes()
            # behind the name, which may hold anything
            fields = stat.rpartition(b")")[2].split()
            found[thread] = (int(fields[11]) + int(fields[12])) / ticks
        except (OSError, IndexError, ValueError):  # it has ended
            continue
    return found


def _native(idents: set[int]) -> list[int]:
    return [
        thread.native_id
        for thread in threading.enumerate()
        if thread.ident in idents and thread.native_id is not None
    ]
