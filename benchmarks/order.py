"""What the order analysis costs: growth with the graph, bytes a task, loop's stalls.

Each size runs in a process of its own.  The graph is one of a rechunk (a quarter of the
tasks are roots, half of them cut pieces out of those, a quarter put pieces together,
and a client keeps the last one); its tasks are stand-ins with the attributes that are
read of the scheduler's, since the scheduler's own would take minutes and gigabytes to
make and are no part of what is measured.  An event loop runs meanwhile, and a coroutine
on it notes by how much it is ever late.

`taking` is from the graph's arrival until the model has it (its processor time for each
task stands beside it), `moves` the processor time for each task's output to be stored
and to leave, `curve` from the first look to the result: in a thread and, for several
tasks at a time, a process of its own.  `late` is the longest stall of the loop in each.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import subprocess
import sys
import time
import tracemalloc
from types import SimpleNamespace
from typing import Any

from common import header, parser, row, sized

from dask_memdash.model.cluster import ClusterModel
from dask_memdash.model.events import GraphArrived, WorkerAdded
from dask_memdash.plugins.scheduler.graph_watch import GraphWatch
from dask_memdash.store.graph_orders import Orders

SIZES = (10_000, 100_000, 1_000_000)
QUICK = (10_000, 100_000)
TINY = (5_000,)

#: Threads of the cluster that is made up, and outputs moved between two ticks.
THREADS = 16
PER_TICK = 2_000

#: Bytes of each output.
SIZE = 2**20


class Task:
    """A stand-in for the scheduler's task."""

    __slots__ = (
        *("dependencies", "group", "host_restrictions", "key", "nbytes", "prefix"),
        *("resource_restrictions", "run_spec", "state", "who_wants"),
        "worker_restrictions",
    )

    def __init__(self, key: Any, group: Any, dependencies: set[Any]) -> None:
        self.key, self.group, self.prefix = key, group, group.prefix
        self.dependencies = dependencies
        self.state, self.nbytes, self.who_wants, self.run_spec = (
            "released",
            -1,
            None,
            None,
        )
        self.worker_restrictions = self.host_restrictions = None
        self.resource_restrictions = None


class Group:
    """A stand-in for the scheduler's task group."""

    def __init__(self, name: str, size: int) -> None:
        self.name, self.size = f"{name}-0123456789abcdef", size
        self.prefix = SimpleNamespace(name=name)
        self.dependencies: set[Any] = set()

    def __len__(self) -> int:
        return self.size


def make(n: int) -> tuple[Any, dict[Any, Any]]:
    """Make a scheduler that knows a graph of `n` tasks, and their priorities."""
    roots, merges = n // 4, n // 4
    splits = n - roots - merges
    groups = [Group("random", roots), Group("split", splits), Group("merge", merges)]
    made = [Task((groups[0].name, i), groups[0], set()) for i in range(roots)]
    made += [
        Task((groups[1].name, i), groups[1], {made[i * roots // splits]})
        for i in range(splits)
    ]
    for i in range(merges):
        pieces = {made[roots + i * 2 * splits // n], made[roots + (i * 2) % splits]}
        pieces |= {made[roots + (i * 2 + 1) % splits]}
        made.append(Task((groups[2].name, i), groups[2], pieces))
    made[-1].who_wants = {"client"}
    # roots first by blocks, each with what comes of it: as Dask's own order has it
    priorities = {
        task.key: (0, 1, rank)
        for rank, task in enumerate(
            sorted(made, key=lambda task: task.key[1] * 64 // len(task.group))
        )
    }
    scheduler = SimpleNamespace(
        tasks={task.key: task for task in made},
        task_groups={group.name: group for group in groups},
        WORKER_SATURATION=1.1,
        total_nthreads=THREADS,
        is_rootish=lambda task: not task.dependencies,
    )
    return scheduler, priorities


class Lateness:
    """Notes by how much the loop is ever late, in seconds."""

    def __init__(self) -> None:
        self.worst = 0.0
        self._task = asyncio.ensure_future(self._watch())

    async def _watch(self) -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.001)
            self.worst = max(self.worst, time.perf_counter() - before - 0.001)

    def take(self) -> float:
        """Return the worst so far, and begin anew."""
        worst, self.worst = self.worst, 0.0
        return worst

    def stop(self) -> None:
        """End the watch."""
        self._task.cancel()


async def measure(n: int) -> dict[str, float]:
    """Measure one size."""
    scheduler, priorities = make(n)
    model = ClusterModel()
    model.handle(
        WorkerAdded(
            0.0, "a", "a", "host", 1, THREADS, 2**34, nanny=True, status="running"
        )
    )
    gc.collect()
    gc.freeze()
    late = Lateness()
    await asyncio.sleep(1)
    idle = late.take()

    arrived = asyncio.Event()

    def handle(event: Any) -> None:
        model.handle(event)
        if isinstance(event, GraphArrived):
            arrived.set()

    watch = GraphWatch(scheduler, handle)
    begun, worked = time.perf_counter(), time.process_time()
    watch.arrived(priorities, (), time.time())
    hook = time.perf_counter() - begun
    await arrived.wait()
    await asyncio.sleep(0.01)
    taking, taking_late = time.perf_counter() - begun, late.take()
    taking_work = time.process_time() - worked
    (record,) = model.orders.graphs.values()
    assert record.tasks is not None, record.uncovered

    worked = time.process_time()
    keys = list(priorities)
    for first in range(0, n, PER_TICK):
        for key in keys[first : first + PER_TICK]:
            watch.moves += (key, SIZE)
            watch.moves += (key, None)
        watch.step(time.time())
        await asyncio.sleep(0)
    while record.done < n or record.held:
        await asyncio.sleep(0.01)
    moving, moving_late = time.process_time() - worked, late.take()

    orders = Orders(model)
    begun = time.perf_counter()
    while (graph := orders.list(1, 0)[0])["minimum"] is None:
        await asyncio.sleep(0.01)
    curve, curve_late = time.perf_counter() - begun, late.take()
    begun = time.perf_counter()
    orders.point(record.id, graph["minimum_position"] or 0)
    point = time.perf_counter() - begun
    late.stop()
    return {
        "tasks": n,
        "edges": len(record.tasks.dependencies) / n,
        "hook": hook,
        "taking": taking,
        "taking late": taking_late,
        "take": taking_work / n,
        "move": moving / n,
        "moving late": moving_late,
        "curve": curve,
        "curve late": curve_late,
        "point": point,
        "idle late": idle,
    }


async def weigh(n: int) -> dict[str, float]:
    """Measure the bytes a task that stay, all in: the model with the graph."""
    scheduler, priorities = make(n)
    model = ClusterModel()
    arrived = asyncio.Event()

    def handle(event: Any) -> None:
        model.handle(event)
        arrived.set()

    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    watch = GraphWatch(scheduler, handle)
    watch.arrived(priorities, (), time.time())
    await arrived.wait()
    await asyncio.sleep(0.5)
    gc.collect()
    now, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return {"bytes": (now - before) / n, "peak": (peak - before) / n}


def in_a_process(*arguments: str) -> dict[str, float]:
    """Run one measurement in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    """Measure, and print a table."""
    arguments = parser(__doc__)
    arguments.add_argument("--sizes", type=int, nargs="+", help="numbers of tasks")
    arguments.add_argument(
        "--one", choices=["measure", "weigh"], help=argparse.SUPPRESS
    )
    options = arguments.parse_args()
    if options.one:
        function = measure if options.one == "measure" else weigh
        print(json.dumps(asyncio.run(function(options.sizes[0]))))
        return
    header(
        *("tasks", "edges a task", "bytes a task (peak)"),
        *("hook", "taking", "late", "processor a task"),
        *("moves: processor a task", "late", "curve", "late", "point", "idle: late"),
    )
    for size in options.sizes or sized(options, SIZES, QUICK, TINY):
        timed = in_a_process("--one", "measure", "--sizes", str(size))
        weighed = in_a_process("--one", "weigh", "--sizes", str(size))
        row(
            f"{size:,}",
            f"{timed['edges']:.2f}",
            f"{weighed['bytes']:.1f} ({weighed['peak']:.0f})",
            f"{1e3 * timed['hook']:.0f} ms",
            f"{timed['taking']:.2f} s",
            f"{1e3 * timed['taking late']:.0f} ms",
            f"{1e6 * timed['take']:.1f} µs",
            f"{1e6 * timed['move']:.1f} µs",
            f"{1e3 * timed['moving late']:.0f} ms",
            f"{timed['curve']:.2f} s",
            f"{1e3 * timed['curve late']:.0f} ms",
            f"{1e3 * timed['point']:.0f} ms",
            f"{1e3 * timed['idle late']:.0f} ms",
        )


if __name__ == "__main__":
    main()
