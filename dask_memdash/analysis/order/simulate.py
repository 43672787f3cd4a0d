"""In which order a graph's tasks run, one or several at a time: :class:`Shape`.

By priority among those that are ready, which needs a heap over the dependencies:
tasks sorted by priority alone are no valid order where keys are shared with an older
graph.  Where they are one (which is looked up), nothing has to be simulated for one
task at a time.  The order says nothing of sizes; those are
:mod:`dask_memdash.analysis.order.storage_curve`'s.
"""

from __future__ import annotations

import subprocess
import sys
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dask_memdash.analysis.order import ready_heap
from dask_memdash.model.graph_columns import GIVEN, PINNED

Ints = npt.NDArray[np.int32]

#: Tasks up to which the heap runs in this process.
HERE = 20_000

#: Longest that the heap may take in a process of its own, in seconds.
LONGEST_RUN = 120.0


class Shape:
    """A graph's tasks and dependencies, by rank, without sizes.

    Parameters
    ----------
    offsets, dependencies
        Where each task's dependencies begin, and their ranks.
    flags
        ``PINNED`` and ``GIVEN`` for each task.
    """

    def __init__(
        self,
        offsets: npt.ArrayLike,
        dependencies: npt.ArrayLike,
        flags: bytes | npt.NDArray[Any],
    ) -> None:
        self.offsets = np.asarray(offsets).astype(np.int64)
        self.dependencies = np.asarray(dependencies).astype(np.int64)
        marks = np.frombuffer(flags, np.uint8) if isinstance(flags, bytes) else flags
        self.n = len(marks)
        self.pinned = (marks & PINNED) > 0
        self.given = (marks & GIVEN) > 0
        #: Number of tasks that run.
        self.total = self.n - int(self.given.sum())
        degrees = np.diff(self.offsets)
        #: For each dependency, the task that needs it.
        self.needed_by = np.repeat(np.arange(self.n), degrees)
        by_dependency = np.argsort(self.dependencies, kind="stable")
        #: The tasks that need each task, and where they begin.
        self.dependents = self.needed_by[by_dependency]
        counts = np.bincount(self.dependencies, minlength=self.n)
        self.dependent_offsets = np.concatenate(([0], np.cumsum(counts)))

    def finish(self, at_a_time: int) -> Ints:
        """Return for each task the number of tasks that have finished with it.

        1 for the first one, 0 for one that does not run.
        """
        runs = ~self.given
        sorted_already = (self.dependencies < self.needed_by) | self.given[
            self.dependencies
        ]
        if at_a_time == 1 and sorted_already[runs[self.needed_by]].all():
            finished: Ints = np.where(runs, np.cumsum(runs), 0).astype(np.int32)
            return finished
        order = self._run(at_a_time)
        finished = np.zeros(self.n, np.int32)
        finished[order] = np.arange(1, len(order) + 1, dtype=np.int32)
        return finished

    def last_use(self, finished: Ints, *, pinned: bool = True) -> Ints:
        """Return for each task the number of finished tasks when its output is let go.

        That is when the last task that needs it has finished; when it has finished
        itself where nothing needs it; never, one more than there are tasks, where a
        client wants it.

        Parameters
        ----------
        finished
            As :meth:`finish` gives it.
        pinned
            Whether clients keep what they want.
        """
        last: Ints = finished.copy()
        needed = np.flatnonzero(np.diff(self.dependent_offsets))
        if len(needed):
            begins = self.dependent_offsets[needed]
            latest = np.maximum.reduceat(finished[self.dependents], begins)
            last[needed] = np.maximum(last[needed], latest)
        if pinned:
            last[self.pinned] = self.total + 1
        return last

    def _run(self, at_a_time: int) -> npt.NDArray[np.int32]:
        runs = ~self.given
        open_edges = runs[self.dependencies]
        waiting = np.bincount(self.needed_by[open_edges], minlength=self.n)
        waiting[self.given] = -1
        columns = (
            waiting.astype(np.int32).tobytes(),
            self.dependent_offsets.astype(np.uint32).tobytes(),
            self.dependents.astype(np.uint32).tobytes(),
        )
        if self.n > HERE:
            order = _elsewhere(self.n, len(self.dependents), at_a_time, columns)
            if order is not None:
                return order
        return np.array(
            ready_heap.run(
                array("i", columns[0]),
                array("I", columns[1]),
                array("I", columns[2]),
                at_a_time,
            ),
            dtype=np.int32,
        )


def _elsewhere(
    tasks: int, edges: int, at_a_time: int, columns: tuple[bytes, ...]
) -> npt.NDArray[np.int32] | None:
    """Run the heap in a process of its own; None where that cannot be."""
    script = Path(ready_heap.__file__)
    if not sys.executable or not script.is_file():
        return None
    head = np.array([tasks, edges, at_a_time], np.int64).tobytes()
    run: Callable[..., subprocess.CompletedProcess[bytes]] = subprocess.run
    try:
        done = run(
            [sys.executable, "-I", "-S", str(script)],
            input=b"".join((head, *columns)),
            capture_output=True,
            timeout=LONGEST_RUN,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return np.frombuffer(done.stdout, np.int32)
