"""Running tasks by priority among those that are ready: the loop itself.

Used in this process for small graphs.  For large ones it is run as a script, in a
process of its own, so that its loop does not hold the interpreter's lock: then it reads
from its standard input and writes to its standard output (:func:`main`).

Imports the standard library only, and little of it.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Sequence
from heapq import heapify, heappop, heappush


def run(
    waiting: array[int],
    offsets: Sequence[int],
    dependents: Sequence[int],
    at_a_time: int,
) -> array[int]:
    """Return the ranks of tasks in the order in which they run.

    In each round the `at_a_time` best tasks that are ready run together; what they
    make ready can run in the next one.

    Parameters
    ----------
    waiting
        For each task, by rank, the number of dependencies that have yet to run;
        negative for one that is not to run at all.  Used up.
    offsets, dependents
        Where each task's dependents begin, and their ranks.
    at_a_time
        Number of tasks that run together.
    """
    ready = [rank for rank, number in enumerate(waiting) if number == 0]
    heapify(ready)
    order = array("i")
    append = order.append
    while ready:
        batch = [heappop(ready) for _ in range(min(at_a_time, len(ready)))]
        for rank in batch:
            append(rank)
            for dependent in dependents[offsets[rank] : offsets[rank + 1]]:
                left = waiting[dependent] - 1
                waiting[dependent] = left
                if left == 0:
                    heappush(ready, dependent)
    return order


def main() -> None:
    """Read a graph from the standard input, run it, and write the order.

    The input is native integers: number of tasks, of edges, and of tasks at a time
    (``q``), then the columns of :func:`run` (``i``, ``I``, ``I``).
    """
    source = sys.stdin.buffer
    numbers = array("q", source.read(24))
    tasks, edges, at_a_time = numbers
    columns = []
    for typecode, length in (("i", tasks), ("I", tasks + 1), ("I", edges)):
        columns.append(array(typecode, source.read(4 * length)))
    sys.stdout.buffer.write(run(columns[0], columns[1], columns[2], at_a_time))


if __name__ == "__main__":
    main()
